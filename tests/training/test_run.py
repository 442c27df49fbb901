"""A model directory over several runs: what may change between them, and what may not."""

import copy
import fcntl
import json
import os
import re
import types

import pytest
from tiny_run import CONFIG

from tests import processes


def settings(**changes):
    config = copy.deepcopy(CONFIG)
    config["trainer"] |= {"train_steps": 10, "checkpoint_interval": 5, "log_batches": False}
    config["trainer"]["schedule"] = {"name": "proportional"}
    config["trainer"]["balancing"] = {"name": "dwa", "parameters": {"interval": 2}}
    config["trainer"]["optimizer"]["gradient_accumulation_steps"] = 2
    for path, value in changes.items():
        *sections, name = path.split("__")
        place = config
        for section in sections:
            place = place[section]
        place[name] = value
    return config


def train(directory, config, *words, model_dir="run"):
    file = directory / "config.json"
    file.write_text(json.dumps(config))
    process = processes.keras_mtl(
        *("train", "--config_file", file, "--model_dir", directory / model_dir, *words), eager=True
    )
    return types.SimpleNamespace(
        **dict(zip(("returncode", "stdout", "stderr"), process.finish(), strict=True))
    )


@pytest.mark.slow
def test_runs_in_one_model_directory(tmp_path):
    """One test, because each part starts from what the parts before it left."""
    check_the_first_run(tmp_path)
    changed = check_a_run_with_another_schedule_and_one_task_more(tmp_path)
    check_that_validating_changes_no_file(tmp_path, changed)
    check_one_process_at_a_time(tmp_path, changed)
    check_refusals(tmp_path)


def check_the_first_run(tmp_path):
    first = train(tmp_path, settings())
    assert first.returncode == 0, first.stderr
    # What trains, and that it does, before the first loop is over.
    assert "device: CPU" in first.stdout
    progress = (
        r"compiling the training step\nstep 1 took [\d.]+ s, including compilation\nstep 1/10 "
    )
    assert re.match(progress, first.stderr), first.stderr
    run = tmp_path / "run"
    kept = {path.name for path in run.iterdir()}
    assert {"ckpt-5.index", "ckpt-10.index", "params.yaml", "vocabulary.model", "best"} <= kept
    events = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    assert sum(events[-2]["batches"].values()) == 20  # 10 updates of 2 batches.
    assert any(weight != 1 for weight in events[-2]["weights"].values())


def check_a_run_with_another_schedule_and_one_task_more(tmp_path):
    """The damaged checkpoint is skipped; the new task is too small for dev pairs."""
    run = tmp_path / "run"
    newest = run / "ckpt-10.data-00000-of-00001"
    newest.write_bytes(newest.read_bytes()[:1000])
    changed = settings(trainer__train_steps=12)
    changed["trainer"]["schedule"] = {"name": "round_robin"}
    changed["task"]["pairs"].append(
        {
            "name": "few",
            "source": "en",
            "target": "fr",
            "corpora": [{"reader": "cldr", "options": {"pairs": 12}}],
        }
    )
    changed["task"]["data"]["data_dir"] = str(tmp_path / "more_data")
    changed["task"]["data"]["vocabulary"]["model_file"] = str(run / "vocabulary.model")
    refused = train(tmp_path, changed)
    assert refused.returncode == 2
    assert "task 'few' has no dev pair" in refused.stderr
    changed["trainer"]["evaluation"]["tasks"] = validated = ["en-fr", "en-es", "en-gl"]
    second = train(tmp_path, changed)
    assert second.returncode == 0, second.stderr
    assert "ckpt-10 cannot be read" in second.stdout
    assert "ckpt-5 at step 5" in second.stdout
    assert "'proportional' -> 'round_robin'" in second.stdout
    assert (run / "damaged-ckpt-10.index").exists()
    events = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    steps = [event["step"] for event in events]
    assert steps == sorted(steps)
    assert steps[-1] == 12
    before, after = (
        next(e["batches"] for e in events if e["event"] == "train" and e["step"] == step)
        for step in (5, 12)
    )
    assert sum(after.values()) == 24
    assert all(after[task] >= count for task, count in before.items())
    assert after.keys() - before.keys() == {"few"}
    assert after["few"] > 0
    scores = [event["scores"] for event in events if event["event"] == "evaluation"][-1]
    assert list(scores["neg_log_perplexity"]) == validated
    return changed


def check_that_validating_changes_no_file(tmp_path, changed):
    """Also not the configuration of the run, if other settings are given."""
    run = tmp_path / "run"

    def files():
        return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    (run / "partial-ckpt-99.index").touch()  # What another process is writing.
    before = files()
    changed["trainer"]["evaluation"] = {
        "metric": "chrf",
        "max_pairs": 4,
        "beam_size": 1,
        "tasks": changed["trainer"]["evaluation"]["tasks"],
    }
    evaluated = train(tmp_path, changed, "--mode", "eval")
    assert evaluated.returncode == 0, evaluated.stderr
    assert "step 12: chrf" in evaluated.stdout
    assert files() == before


def check_one_process_at_a_time(tmp_path, changed):
    handle = os.open(tmp_path / "run", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    refused = train(tmp_path, changed)
    os.close(handle)
    assert refused.returncode == 2
    assert "another process is training in" in refused.stderr


def check_refusals(tmp_path):
    # Another model does not fit the checkpoints; nothing is touched.
    run = tmp_path / "run"
    before = (run / "params.yaml").read_text()
    refused = train(tmp_path, settings(task__model__hidden_dim=64))
    assert refused.returncode == 2
    assert "task.model.hidden_dim was 32 and is now 64" in refused.stderr
    assert (run / "params.yaml").read_text() == before

    # Nor does another vocabulary.
    other = settings(task__data__data_dir=str(tmp_path / "other_data"))
    other["task"]["data"]["vocabulary"]["size"] = 720
    refused = train(tmp_path, other)
    assert refused.returncode == 2
    assert "the vocabulary (" in refused.stderr

    # An adaptive schedule has to see scores.
    adaptive = settings()
    adaptive["trainer"]["schedule"] = {"name": "inverse_ratio"}
    refused = train(tmp_path, adaptive, "--mode", "train")
    assert refused.returncode == 2
    assert "train_and_eval" in refused.stderr
