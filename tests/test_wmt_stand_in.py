"""configs/wmt14_en_fr_de.yaml runs from its files to the table of the trade-off.

The files are those of `scripts/wmt_stand_in.py`.
"""

import importlib
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


@pytest.fixture
def benchmark(monkeypatch):
    """A function that imports a module of benchmarks/."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")  # They import each other.
    return importlib.import_module


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


@pytest.fixture
def finished(tmp_path):
    """A directory with two schedules, of which one has two seeds, and single-task models."""

    def add(name, scores, batches, step=100):
        directory = tmp_path / name
        directory.mkdir(parents=True)
        tasks = {task: {"pairs": 9, "scores": {"bleu": score}} for task, score in scores.items()}
        report = {"step": step, "signatures": {"bleu": "nrefs:1"}, "tasks": tasks}
        (directory / "evaluation-test.json").write_text(json.dumps(report))
        event = {"event": "train", "step": step, "batches": batches}
        (directory / "metrics.jsonl").write_text(json.dumps(event) + "\n")

    add("proportional-1", {"en-fr": 30.0, "en-de": 10.0}, {"en-fr": 90, "en-de": 10})
    add("uniform-1", {"en-fr": 26.0, "en-de": 16.0}, {"en-fr": 50, "en-de": 50})
    add("uniform-2", {"en-fr": 28.0, "en-de": 18.0}, {"en-fr": 50, "en-de": 50})
    add("worse-1", {"en-fr": 26.0, "en-de": 17.0}, {"en-fr": 20, "en-de": 80})
    add("baselines/en-fr", {"en-fr": 29.5}, {"en-fr": 100})
    add("baselines/en-de", {"en-de": 17.5}, {"en-de": 100})
    return tmp_path


def test_the_table_has_differences_to_single_task_models(benchmark, finished):
    trade_off = benchmark("trade_off")
    table = trade_off.read(
        {"en-de": 1000, "en-fr": 40_000},
        {
            label: {seed: finished / f"{label}-{seed}" for seed in (1, 2)}
            for label in ("proportional", "uniform", "worse", "missing")
        },
        {task: finished / "baselines" / task for task in ("en-fr", "en-de")},
    )
    trade_off.write(table, finished)
    lines = (finished / "trade_off.md").read_text(encoding="utf-8").splitlines()
    assert lines[:8] == [
        "| BLEU | en-fr | Δ | en-de | Δ | batches of en-de |  |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
        "| training pairs | 40,000 |  | 1,000 |  |  |  |",
        "| single-task models | 29.5 |  | 17.5 |  |  |  |",
        "| `proportional` | 30.0 | +0.5 | 10.0 | −7.5 | 10.0% | ● |",
        "| `uniform` | 27.0 ± 1.4 | −2.5 | 17.0 ± 1.4 | −0.5 | 50.0% | ● |",
        "| `worse` | 26.0 | −3.5 | 17.0 | −0.5 | 80.0% |  |",
        "| `missing` | – | – | – | – | – |  |",
    ]
    found = json.loads((finished / "trade_off.json").read_text(encoding="utf-8"))
    assert found["front"] == {"bleu": ["proportional", "uniform"]}
    assert found["schedules"]["uniform"][1]["scores"] == {"bleu": {"en-fr": 28.0, "en-de": 18.0}}
    assert found["single_task"]["en-de"]["step"] == 100


@pytest.mark.nightly  # Trains five models in processes of their own.
def test_one_command_makes_the_table_and_resumes(tree, tmp_path):
    runs = tmp_path / "runs"

    def compare(*schedules):
        command = [sys.executable, str(ROOT / "benchmarks/compare_schedules.py")]
        command += ["--config_file", str(tree / CONFIG), "--model_dir", str(runs), "--seeds", "1"]
        command += ["--experiment", "translation/transformer_base", "--train_steps", "4"]
        command += ["--baseline_steps", "4", "--schedules", *schedules]
        command += ["--params_override", *SMALL]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "trade_off.md" in compare("proportional")
    names = ("params.yaml", "metrics.jsonl")
    finished = {path: path.stat().st_mtime_ns for name in names for path in runs.rglob(name)}
    assert len(finished) == 6
    (runs / "baselines/en-de/evaluation-test.json").unlink()  # As if it was stopped there.
    output = compare("proportional", "inverse_ratio_5", "implicit_learning_rate")
    assert "| single-task models |" in output
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    found = json.loads((runs / "trade_off.json").read_text(encoding="utf-8"))
    assert list(found["tasks"]) == ["en-fr", "en-de"]
    assert set(found["single_task"]) == {"en-fr", "en-de"}
    assert list(found["schedules"]) == ["proportional", "inverse_ratio_5", "implicit_learning_rate"]
    for of_label in found["schedules"].values():
        assert set(of_label[0]["scores"]["chrf"]) == {"en-fr", "en-de"}
    params = yaml.safe_load((runs / "inverse_ratio_5-1/params.yaml").read_text(encoding="utf-8"))
    assert params["task"]["model"]["sharing"] == "encoder"
    assert params["trainer"]["schedule"]["parameters"]["alpha"] == 5
