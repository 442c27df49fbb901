"""`prepare`, `baselines`, and (nightly) `demo` and `benchmark`, from beginning to end."""

import copy
import json
import math
import shutil
import signal
import subprocess
import sys
import types

import pytest
import yaml

from keras_mtl.cli.main import main
from keras_mtl.training.run import baselines, loop
from tests import processes
from tests.training import tiny_run

TASKS = ["en-fr", "en-es", "en-gl"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A directory with `config.yaml` and, in `store`, what `prepare` makes of it."""
    directory = tmp_path_factory.mktemp("chain")
    values = copy.deepcopy(tiny_run.CONFIG)
    for pair in values["task"]["pairs"]:
        del pair["baseline"]
    # One bucket: each shape is traced in each process.
    values["task"]["data"] |= {"data_dir": "store", "bucket_lengths": [64]}
    trainer = values["trainer"]
    trainer["train_steps"] = 10
    trainer["checkpoint_interval"] = trainer["evaluation"]["interval"] = 5
    trainer["evaluation"]["tasks"] = TASKS[:2]
    # It does not exist before `baselines` has written it.
    trainer["schedule"] = {"name": "simple_adaptive", "baselines_file": "alone/baselines.json"}
    (directory / "config.yaml").write_text(yaml.safe_dump(values))
    return directory


def words(workplace, command, *more):
    return [command, "--config_file", str(workplace / "config.yaml"), *map(str, more)]


@pytest.fixture(scope="module")
def prepared(workplace):
    assert main(words(workplace, "prepare")) == 0
    return workplace / "store"


def run_command(words):
    """A command that trains needs a process of its own: determinism is set once in a process."""
    code, output, error = processes.keras_mtl(*words).finish()
    assert code == 0, output + error
    return output


def test_prepare(workplace, prepared, capsys):
    manifest = json.loads((prepared / "manifest.json").read_text())
    assert [task["name"] for task in manifest["tasks"]] == TASKS
    times = {path: path.stat().st_mtime_ns for path in prepared.iterdir()}
    assert main(words(workplace, "prepare", "--verify")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "all checksums are correct" in lines
    assert lines[-1].startswith("3 tasks, vocabulary of ")
    assert lines[-1].endswith(f" ids in {prepared}")
    # The second time nothing was written.
    assert {path: path.stat().st_mtime_ns for path in prepared.iterdir()} == times

    other = words(workplace, "prepare", "--params_override", "task.data.dev_pairs=8")
    assert main(other) == 2
    assert "dev_pairs" in capsys.readouterr().err
    copied = f"task.data.data_dir={workplace / 'other'}"
    assert main([*words(workplace, "prepare"), "--params_override", copied]) == 0
    changed = f"{copied},task.data.dev_pairs=8"
    assert main([*words(workplace, "prepare", "--overwrite"), "--params_override", changed]) == 0
    manifest = json.loads((workplace / "other/manifest.json").read_text())
    assert all(task["dev_size"] <= 8 for task in manifest["tasks"])


def test_prepare_finds_a_damaged_store(workplace, prepared, tmp_path, capsys):
    shutil.copytree(prepared, tmp_path / "data")
    path = max((tmp_path / "data").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    override = ["--params_override", f"task.data.data_dir={tmp_path / 'data'}"]
    assert main([*words(workplace, "prepare", "--verify"), *override]) == 2
    assert path.name in capsys.readouterr().err


@pytest.fixture
def trainings(monkeypatch):
    """Replaces the trainings: gives the scores of the test, and keeps the configurations.

    The tests of the first hour train baselines.
    """
    found = types.SimpleNamespace(scores={}, configs={})

    def train(config, path, log):
        found.configs[path.name] = config
        return found.scores[path.name]

    monkeypatch.setattr(baselines, "_train", train)
    return found


def test_baselines_train_each_validated_task_on_one_store(
    workplace, prepared, trainings, tmp_path, capsys
):
    trainings.scores.update({"en-fr": 12.5, "en-es": 20.0})
    command = words(workplace, "baselines", "--model_dir", tmp_path, "--train_steps", 5)
    assert main(command) == 0
    out = capsys.readouterr().out
    assert json.loads((tmp_path / "baselines.json").read_text()) == trainings.scores
    assert "no baseline for en-gl: trainer.evaluation.tasks does not include it" in out
    assert out.splitlines()[-1].endswith("use it as trainer.schedule.baselines_file")
    assert list(trainings.configs) == TASKS[:2]
    for task, config in trainings.configs.items():
        assert [pair.name for pair in config.task.pairs] == [task]
        assert config.trainer.train_steps == 5
        # The tasks share the store of the whole mix.
        assert config.task.data.data_dir == str(prepared)
    assert list(tmp_path.rglob("manifest.json")) == []


def test_a_score_of_zero_is_no_baseline(workplace, prepared, trainings, tmp_path, capsys):
    trainings.scores.update({"en-fr": 12.5, "en-es": 0.0})
    assert main(words(workplace, "baselines", "--model_dir", tmp_path)) == 0
    out = capsys.readouterr().out
    assert "warning: no baseline for en-es: its best score is 0, but a baseline must be > 0" in out
    assert json.loads((tmp_path / "baselines.json").read_text()) == {"en-fr": 12.5}


# Takes the place of `keras-mtl train`, in milliseconds: waits for a signal and saves, or resumes.
TRAIN = """#!{python}
import json, pathlib, sys, time
from keras_mtl.interrupts import stop_on_signals
run = pathlib.Path(sys.argv[-1])
with open(run.parent / "started.txt", "a") as file:
    print(run.name, file=file)
if (run / "saved").exists() and not (run / "metrics.jsonl").exists():
    print("resuming", run.name, flush=True)
    scores = {{"neg_log_perplexity": {{run.name: -2}}}}
    event = {{"event": "evaluation", "step": 5, "scores": scores}}
    (run / "metrics.jsonl").write_text(json.dumps(event))
elif not (run / "saved").exists():
    with stop_on_signals(lambda text: print(text, flush=True)) as stop:
        (run / "waits").touch()
        end = time.monotonic() + 30
        while not stop() and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(1)  # The end of the step.
        (run / "saved").touch()
        print("stopped by", stop.name, "and saved", flush=True)
        sys.exit(128 + stop.signal)
"""
# Starts `baselines` until it ends in another way than by a signal, which is sent to it only.
INTERRUPTED = """
import os, pathlib, signal, sys, threading, time
from keras_mtl.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.executable, directory, *words = sys.argv[1:]

def send(task, number):
    while not (pathlib.Path(directory) / task / "waits").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), number)

for task, number in (("en-fr", signal.SIGINT), ("en-es", signal.SIGTERM), ("", 0)):
    if task:
        threading.Thread(target=send, args=(task, number), daemon=True).start()
    try:
        code = main.main(words)
    except SystemExit as stop:
        code = stop.code
    print("== exit code", code, flush=True)
"""


def test_baselines_that_are_interrupted_save_and_resume(workplace, prepared, tmp_path):
    train, alone = tmp_path / "train", tmp_path / "alone"
    train.write_text(TRAIN.format(python=sys.executable))
    train.chmod(0o755)
    arguments = [train, alone, *words(workplace, "baselines", "--model_dir", alone)]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    first, second, third, _ = done.stdout.split("== exit code ")
    assert "Ctrl-C: saving at the end of the current step" in first
    assert "stopped by SIGINT and saved" in first
    assert "baseline for en-fr was interrupted. Run the same command again" in first
    assert second.startswith(f"{128 + signal.SIGINT}\n")
    assert "resuming en-fr" in second
    assert "SIGTERM: saving at the end of the current step" in second
    assert "stopped by SIGTERM and saved" in second
    assert "baseline for en-es was interrupted" in second
    assert third.startswith(f"{128 + signal.SIGTERM}\n")
    assert "resuming en-es" in third
    assert done.stdout.endswith("== exit code 0\n")
    assert done.stderr == ""
    started = (alone / "started.txt").read_text().split()
    assert started == ["en-fr", "en-fr", "en-es", "en-fr", "en-es"]
    assert list(json.loads((alone / "baselines.json").read_text())) == TASKS[:2]


@pytest.fixture(scope="module")
def demo(workplace, prepared):
    """What `demo` has printed."""
    overrides = "trainer.schedule={name: uniform, baselines_file: },trainer.evaluation.tasks=[]"
    more = ["--model_dir", workplace / "demo", "--params_override", overrides]
    return run_command(words(workplace, "demo", *more))


@pytest.mark.nightly  # first_hour has these steps one by one.
def test_the_demo_reaches_its_end(workplace, demo):
    out, run = demo, workplace / "demo"
    parts = ["== test", "== export", "== translate with", "== results on test sentences", "try:"]
    places = [out.index(part) for part in parts]
    assert places == sorted(places)
    table = out[places[3] :].splitlines()
    assert table[1].split()[:2] == ["task", "pairs"]
    assert [line.split()[0] for line in table[2:5]] == TASKS
    shares = [float(line.split()[-1].rstrip("%")) for line in table[2:5]]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    # What it tells a user to type can be typed, also if the environment is not active.
    program = out[out.index("try:") :].split()[1]
    assert shutil.which(program) is not None
    assert (run / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert (run / "export/saved_model.pb").is_file()
    report = json.loads((run / "evaluation-test.json").read_text())
    assert list(report["tasks"]) == TASKS


def test_only_the_first_of_several_workers_continues_after_training(
    workplace, prepared, monkeypatch, capsys
):
    result = loop.RunResult(5, {}, math.nan, -1, {}, 0, chief=False)
    monkeypatch.setattr(loop, "run_experiment", lambda *_: result)
    monkeypatch.chdir(workplace)
    overrides = "trainer.schedule={name: uniform, baselines_file: },trainer.evaluation.tasks=[]"
    more = ["--model_dir", "other", "--params_override", overrides]
    assert main(["demo", "--config_file", "config.yaml", *more]) == 0
    assert capsys.readouterr().out.splitlines() == ["== config.yaml in other"]


@pytest.mark.nightly
def test_benchmark_of_a_model_directory(workplace, demo, capsys):
    options = ["--seconds", "0.02", "--batch_sizes", "2", "--source_tokens", "5"]
    options += ["--target_tokens", "4"]
    assert main(["benchmark", "--model", str(workplace / "demo"), *options]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    measured = [row for row in rows if row[0] in ("float32", "int8")]
    assert {row[0] for row in measured} == {"float32", "int8"}
    assert all(float(row[3].replace(",", "")) > 0 for row in measured)
