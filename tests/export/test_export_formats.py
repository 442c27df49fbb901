"""`keras-mtl export` in each format, from a model directory."""

import os
import subprocess
import sys

import pytest

from keras_mtl.cli import main
from keras_mtl.engine import open_model_file


@pytest.fixture(scope="module")
def model_dir(copy_trained_model, tmp_path_factory):
    return copy_trained_model(tmp_path_factory.mktemp("formats") / "model")


@pytest.mark.parametrize("weight_type", ["float32", "int8"])
def test_engine(model_dir, weight_type, tmp_path, capsys):
    output = tmp_path / "model.kmtl"
    arguments = ["export", "--model_dir", str(model_dir), "--output", str(output)]
    arguments += ["--format", "engine", "--weight_type", weight_type]
    assert main.main(arguments) == 0
    assert capsys.readouterr().out.strip() == str(output)
    file = open_model_file(output, verify=True)
    file.check_transformer()
    assert file.hyperparameters["weight_type"] == weight_type
    assert main.main(arguments) == 2
    assert "model.kmtl exists. Give --overwrite" in capsys.readouterr().err
    assert main.main([*arguments, "--overwrite"]) == 0


def test_ctranslate2(model_dir, tmp_path):
    output = tmp_path / "model"
    arguments = ["export", "--model_dir", str(model_dir), "--output", str(output)]
    assert main.main([*arguments, "--format", "ctranslate2", "--weight_type", "int8"]) == 0
    assert (output / "model.bin").is_file()


EXPORT = """
import sys
from keras_mtl.cli import main
for form in sys.argv[3:]:
    words = ["--model_dir", sys.argv[1], "--output", f"{sys.argv[2]}/{form}", "--format", form]
    assert main.main(["export", *words]) == 0
"""


@pytest.mark.nightly
def test_nothing_is_printed_but_where_the_model_is(model_dir, tmp_path):
    """What a library prints once in a process, it prints at one of these formats."""
    formats = ["saved_model", "saved_model_native", "engine", "ctranslate2"]
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", EXPORT, str(model_dir), str(tmp_path), *formats],
        capture_output=True,
        text=True,
        env=environment,
        timeout=200,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{tmp_path}/{form}" for form in formats]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weight_type", "int8"], "saved_model supports only float32"),
        (["--format", "engine", "--options", "beam_size=2"], "does not accept options"),
        (["--format", "engine", "--weight_type", "int4"], "weight_type='int4'"),
    ],
)
def test_what_does_not_fit(model_dir, arguments, message, tmp_path, capsys):
    start = ["export", "--model_dir", str(model_dir), "--output", str(tmp_path / "out")]
    assert main.main([*start, *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
