"""`keras-mtl check-tpu` lowers the programs of a run for all replicas and reports on each."""

import json
import re
from pathlib import Path

import compiler_stub
import pytest

from keras_mtl.cli.main import main
from tests import processes
from tests.training import tiny_run

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "demo.yaml"
PACKED = {
    "task": {
        "data": {
            "packing": True,
            "bucket_lengths": [],
            "packed_lengths": [64, 96],
            "granularity": "example",
        }
    },
    "trainer": {"optimizer": {"gradient_accumulation_steps": 2}},
    "runtime": {"mixed_precision_dtype": "mixed_bfloat16"},
}


def refused(capsys, *words):
    assert main(["check-tpu", "--config_file", str(DEMO), *map(str, words)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    return error


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """The result of a check of packed, accumulated batches on four chips that are too small."""
    directory = tmp_path_factory.mktemp("check")
    config = directory / "config.json"
    config.write_text(json.dumps(tiny_run.CONFIG))
    packed = directory / "packed.json"
    packed.write_text(json.dumps(PACKED))
    python = compiler_stub.install(directory, compiler_stub.TOO_LARGE)
    command = processes.keras_mtl(
        *("check-tpu", "--config_file", config, "--config_file", packed),
        *("--topology", "v5e:2x2", "--python", python, "--no_cache"),
        *("--search", 1, "--json", directory / "out.json"),
    )
    code, output, error = command.finish()
    assert (directory / "out.json").exists(), output + error
    texts = [file.read_text() for file in sorted(directory.glob("*.hlo"))]
    return code, output, error, json.loads((directory / "out.json").read_text()), texts


def test_every_program_is_compiled_and_reported(checked):
    code, output, error, data, texts = checked
    assert code == 2, output + error
    assert [entry["program"] for entry in data["programs"]] == ["part", "update"]
    assert len(texts) == 2
    assert "error: 2 of 2 programs do not fit into the memory of a chip (part, update)" in error
    assert "vocabulary of 700 ids (as configured), mixed_bfloat16" in output
    assert re.search(r"^part +1 x \(64 \+ 96\) .* 30\.\d\d +178%", output, re.MULTILINE)
    assert "Nothing has run on a TPU" in output
    assert "largest batch: none found; 1 rows of 96 tokens" in output


def test_variables_of_other_programs_stay_in_memory(checked):
    part, update = checked[3]["programs"]
    # `part` reads weights and adds to sums of the same size; two moments and the average stay.
    weights = 4 * checked[3]["parameters"]
    assert 3 * weights <= part["other_variables"] <= 3.1 * weights
    assert update["other_variables"] < 0.1 * weights
    assert checked[3]["variables"] >= 5 * weights


def test_the_update_is_summed_over_all_chips(checked):
    part, update = checked[4]
    assert not re.search(r" all-reduce\(", part)
    groups = set(re.findall(r" all-reduce\(.*?replica_groups=(\{\{.*?\}\})", update))
    assert groups == {"{{0,1,2,3}}"}


def test_a_batch_is_that_of_one_chip(checked):
    part, _ = checked[4]
    arguments = re.findall(r"= s32\[([\d,]*)\]\S* parameter\(", part)
    # Tokens, segments and positions of both sides, and the task of each target token.
    assert arguments.count("1,64") == 3
    assert arguments.count("1,96") == 4


def test_a_topology_that_is_not_one(capsys):
    assert "expected the version" in refused(capsys, "--topology", "v5litepod-8")


def test_a_missing_environment(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_MTL_CACHE", str(tmp_path))
    error = refused(capsys, "--topology", "v5e:2x4")
    assert f"--python {tmp_path}/tpu_compiler/bin/python: no such program" in error
    assert "run scripts/tpu_compiler.sh" in error


def test_a_bad_configuration(capsys):
    words = ("--topology", "v5e:2x4", "--params_override", "task.model.size=bse")
    assert "did you mean 'base'" in refused(capsys, *words)


def test_a_configuration_that_no_tpu_can_run(capsys):
    words = ("--topology", "v5e:2x4", "--params_override")
    error = refused(capsys, *words, "runtime.mixed_precision_dtype=mixed_float16")
    assert "mixed_float16" in error
    assert "python" not in error


def test_a_topology_with_two_devices_in_a_chip(capsys, tmp_path):
    python = compiler_stub.install(tmp_path)
    error = refused(capsys, "--topology", "v5e:2x4", "--python", python)
    assert "reports 4 devices for 8 chips" in error


def test_packing_needs_lengths_or_data(capsys, tmp_path):
    python = compiler_stub.install(tmp_path)
    words = ("--topology", "v5e:2x2", "--python", python)
    error = refused(capsys, *words, "--params_override", "task.data.packing=true")
    assert "task.data.packed_lengths is empty" in error
    assert "keras-mtl prepare" in error


def test_the_file_of_figures_is_checked_first(capsys, tmp_path):
    error = refused(capsys, "--topology", "v5e:2x2", "--json", tmp_path)
    assert "this is a directory" in error
