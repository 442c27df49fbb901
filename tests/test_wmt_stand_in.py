"""configs/wmt14_en_fr_de.yaml runs from its files to the table of the trade-off.

The files are those of `scripts/wmt_stand_in.py`.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from keras_mtl.cli.main import main
from keras_mtl.data import corpora
from keras_mtl.data.prepared import load_prepared

ROOT = Path(__file__).parents[1]
CONFIG = "configs/wmt14_en_fr_de.yaml"
SCALE = 20_000
# Enough to train in seconds; everything else is as the configuration has it.
SMALL = (
    *("task.data.vocabulary.size=600", "task.data.tokens_per_batch=512"),
    *("task.data.bucket_lengths=[128]", "task.model.size=tiny", "task.model.hidden_dim=32"),
    *("task.model.num_heads=2", "task.model.intermediate_dim=64"),
    *("task.model.encoder_layers=1", "task.model.decoder_layers=1"),
    *("task.decoding.max_length=8", "task.decoding.beam_size=2"),
    *("trainer.steps_per_loop=2", "trainer.checkpoint_interval=2"),
    *("trainer.evaluation.interval=2", "trainer.evaluation.max_pairs=4"),
    "trainer.evaluation.metric=chrf",  # BLEU is 0 after so few steps, and a baseline must not be.
    *("runtime.mixed_precision_dtype=float32", "runtime.jit_compile=false"),
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The stand-in at 1/20,000 of the real lines."""
    directory = tmp_path_factory.mktemp("wmt")
    command = [sys.executable, str(ROOT / "scripts/wmt_stand_in.py"), "--output", str(directory)]
    command += ["--scale", str(SCALE), "--evaluation_pairs", "12"]
    subprocess.run(command, check=True, capture_output=True)
    return directory


def test_the_configuration_is_the_real_one_except_for_one_number(tree):
    real = (ROOT / CONFIG).read_text(encoding="utf-8").splitlines()
    copied = (tree / CONFIG).read_text(encoding="utf-8").splitlines()
    changed = [pair for pair in zip(real, copied, strict=True) if pair[0] != pair[1]]
    assert changed == [("    max_pairs: 1000000", f"    max_pairs: {1_000_000 // SCALE}")]


def test_every_line_of_the_files_has_its_translation(tree):
    """Also in the files with characters that Unicode regards as line breaks."""
    for pair in yaml.safe_load((tree / CONFIG).read_text(encoding="utf-8"))["task"]["pairs"]:
        for number, corpus in enumerate(pair["corpora"]):
            options = {
                key: str(tree / "configs" / value) for key, value in corpus["options"].items()
            }
            reader = corpora.create_reader("parallel", pair["source"], pair["target"], options)
            found = [each for each in reader if isinstance(each, corpora.Pair)]
            # German has three corpora after the five of French.
            seed = 10 + number + (5 if pair["target"] == "de" else 0)
            clean = corpora.create_reader(
                "cldr", pair["source"], pair["target"], {"pairs": 2 * len(found), "seed": seed}
            )
            texts = {(each.source, each.target) for each in clean}
            known = [(each.source, each.target) in texts for each in found[-20:] if each.source]
            assert sum(known) >= len(known) - 1, options


def test_the_files_can_be_prepared_and_every_rule_of_cleaning_applies(tree, tmp_path, capsys):
    words = ["prepare", "--config_file", str(tree / CONFIG), "--model_dir", str(tmp_path)]
    assert main([*words, "--params_override", ",".join(SMALL)]) == 0
    capsys.readouterr()
    data = load_prepared(str(tmp_path / "data"))
    french, german = data.tasks
    assert (german.train_size, german.dev_size, german.test_size) == (1_000_000 // SCALE, 12, 12)
    assert french.train_size > 30 * german.train_size
    rules = {"bad lines", "control", "empty", "identical", "too long", "ratio", "duplicate"}
    assert rules <= {rule for rule, count in french.counts.items() if count}
    tests = [
        [source for source, _ in data.reader(task.name, "test").texts()] for task in data.tasks
    ]
    assert sorted(tests[0]) == sorted(tests[1])
    train = data.reader("en-fr", "train")
    decoded = data.vocabulary.decode_batch(train.source(i) for i in range(len(train)))
    assert len(set(decoded)) > 1000
    assert not set(decoded) & set(tests[0])


@pytest.mark.nightly  # Trains five models in processes of their own.
def test_one_command_makes_the_table_and_resumes(tree, tmp_path):
    runs = tmp_path / "runs"

    def compare(*settings):
        command = [sys.executable, str(ROOT / "benchmarks/compare_schedules.py")]
        command += [str(tree / "benchmarks/evidence/wmt14.yaml"), "--model_dir", str(runs)]
        command += ["--jobs", "1", "--settings", *settings]
        command += ["--params_override", ",".join([*SMALL, "trainer.train_steps=4"])]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    compare("proportional")
    names = ("metrics.jsonl", "ckpt-4.index")
    finished = {path: path.stat().st_mtime_ns for name in names for path in runs.rglob(name)}
    assert len(finished) >= 6
    # As if it was stopped there.
    (runs / "runs/base-encoder/proportional-1/evaluation-test.json").unlink()
    compare("proportional", "inverse_ratio_alpha_5", "implicit_learning_rate")
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    (model,) = json.loads((runs / "report/results.json").read_text(encoding="utf-8"))["models"]
    assert [setting["setting"] for setting in model["settings"]] == [
        "proportional",
        "inverse_ratio_alpha_5",
        "implicit_learning_rate",
    ]
    for setting in model["settings"]:
        assert set(setting["test_by_task"]) == {"en-fr", "en-de"}
        assert set(setting["against_baselines"]) >= {"en-fr", "en-de"}
    file = runs / "runs/base-encoder/inverse_ratio_alpha_5-1/params.yaml"
    params = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert params["task"]["model"]["sharing"] == "encoder"
    assert params["trainer"]["schedule"]["parameters"]["alpha"] == 5
