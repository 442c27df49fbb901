"""A run with asynchronous validation, stopped at each step between a snapshot and its effect.

`main` writes found.json into its directory. It needs a process of its own, because determinism is
set once. One `Run` resumes from one checkpoint after the other, so that its step is traced once;
what a killed process leaves behind is made of files only.
"""

import copy
import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from tiny_run import CONFIG

from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.files import load_experiment
from keras_mtl.errors import KerasMtlError
from keras_mtl.evaluation.background import BackgroundEvaluation
from keras_mtl.evaluation.evaluator import Evaluator
from keras_mtl.evaluation.stopping import raise_if_stopped
from keras_mtl.training.run.loop import Run
from keras_mtl.training.run.planning import plan_training
from keras_mtl.training.run.setup import prepare_task_data
from keras_mtl.training.step.distribution import configure_runtime
from keras_mtl.training.step.workers import Workers

INTERVAL, LAG, STEPS = 4, 3, 10


def configuration(directory: Path):
    config = copy.deepcopy(CONFIG)
    config["task"]["data"] |= {"data_dir": str(directory / "data"), "bucket_lengths": [64]}
    config["task"]["data"]["corpora"][0]["options"]["pairs"] = 300
    config["trainer"] |= {
        "train_steps": STEPS,
        "steps_per_loop": 2,
        "checkpoint_interval": 1,
        "max_to_keep": STEPS,
        "best": {"macro": 2, "worst": 1, "tasks": 1},
        "stopping": {"patience": 9},
    }
    config["trainer"]["evaluation"] = {
        "interval": INTERVAL,
        "lag": LAG,
        "metric": "chrf",
        "max_pairs": 8,
        "max_tasks": 2,
        "backend": "native",
        "workers": 1,
    }
    (directory / "config.json").write_text(json.dumps(config))
    return load_experiment(None, [directory / "config.json"])


def tensors(directory: Path) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(newest(directory)))
    names = reader.get_variable_to_shape_map()
    return {n: reader.get_tensor(n) for n in names if not n.startswith("_CHECKPOINTABLE")}


def newest(directory: Path) -> Path:
    steps = [int(path.stem.removeprefix("ckpt-")) for path in directory.glob("ckpt-*.index")]
    return directory / f"ckpt-{max(steps)}"


def traces(directory: Path) -> dict:
    """All that a run leaves behind but its times."""
    unlike = ("tokens_per_second", "seconds", "waited_seconds")
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    events = [
        {key: value for key, value in json.loads(line).items() if key not in unlike}
        for line in lines
    ]
    return {
        "batches": (directory / "batches.tsv").read_text(),
        "events": events,
        "last": tensors(directory),
        "best": tensors(directory / "best"),
        "best_step": newest(directory / "best").name,
        "best_lists": {
            str(path.relative_to(directory)): path.read_text() if path.suffix == ".json" else ""
            for path in sorted((directory / "best").rglob("*"))
            if path.is_file()
        },
    }


def differences(one: dict, other: dict) -> list[str]:
    found = [
        name
        for name in ("batches", "events", "best_step", "best_lists")
        if one[name] != other[name]
    ]
    for part in ("last", "best"):
        if one[part].keys() != other[part].keys() or len(one[part]) < 30:
            found.append(part)
        found += [
            f"{part}/{name}"
            for name, value in one[part].items()
            if not np.array_equal(value, other[part].get(name))
        ]
    return found


def stop_at(directory: Path, step: int, pending: str) -> None:
    """Leaves what a process leaves that was killed when it had saved a step."""
    for file in directory.glob("ckpt-*"):
        if int(file.name.split(".")[0].removeprefix("ckpt-")) > step:
            file.unlink()
    shutil.rmtree(directory / "best")
    for snapshot in (directory / "pending").iterdir():
        if snapshot.name != pending:
            shutil.rmtree(snapshot)


def main(directory: Path) -> None:
    config = configuration(directory)
    strategy = configure_runtime(config.runtime)
    prepared = prepare_task_data(config.task, directory, log=lambda line: None)
    model_dir = directory / "run"
    log: list[str] = []
    run = Run(plan_training(Draft(config)), model_dir, prepared, Workers(strategy), log.append)
    found: dict = {"differences": {}}

    # The first validation ends only after training has gone on: were training to wait for it,
    # neither would ever end.
    went_on = threading.Event()
    evaluate, take = Evaluator.evaluate, run.validation.run_due
    thread: list[bool] = []

    def evaluate_late(self, *arguments, **words):
        thread.append(threading.current_thread() is threading.main_thread())
        thread.append(went_on.wait(120))
        return evaluate(self, *arguments, **words)

    averages = {}

    def at(step, *arguments):
        if step > INTERVAL:
            went_on.set()
        averages[f"ckpt-{step}"] = [average.numpy() for average in run.parts.optimizer.averages]
        return take(step, *arguments)

    Evaluator.evaluate, run.validation.run_due = evaluate_late, at
    run.execute()
    Evaluator.evaluate = evaluate
    found["in_main_thread"], found["went_on"] = thread[0], all(thread[1::2])
    undisturbed = traces(model_dir)
    found["events"] = undisturbed["events"]
    found["best_step"] = undisturbed["best_step"]
    weights = list(undisturbed["best"].values())
    found["best_of"] = [
        name
        for name, values in averages.items()
        if all(any(np.array_equal(value, weight) for weight in weights) for value in values)
    ]
    found["pending"] = sorted(path.name for path in (model_dir / "pending").iterdir())

    complete = directory / "complete"
    shutil.copytree(model_dir, complete)
    for step in range(INTERVAL, INTERVAL + LAG + 1):
        shutil.rmtree(model_dir)
        shutil.copytree(complete, model_dir)
        stop_at(model_dir, step, f"{INTERVAL}-{INTERVAL + LAG}")
        if step == INTERVAL + LAG:
            # Its scores are in effect here, and its weights are the best.
            shutil.copytree(complete / "best", model_dir / "best")
        run.execute()
        found["differences"][step] = differences(undisturbed, traces(model_dir))

    # Without the weights that were being validated a checkpoint is not complete.
    stop_at(model_dir, INTERVAL + 1, "")
    run.execute()
    found["missing"] = [line for line in log if "is missing" in line]
    found["differences"]["missing"] = differences(undisturbed, traces(model_dir))

    # An error in the thread ends training where the result was due.
    def fail(self, *arguments, **words):
        raise KerasMtlError("no scores")

    Evaluator.evaluate = fail
    stop_at(model_dir, INTERVAL, f"{INTERVAL}-{INTERVAL + LAG}")
    try:
        run.execute()
    except KerasMtlError as error:
        found["error"] = [str(error), run.step]
    Evaluator.evaluate = evaluate
    for lag in (LAG, 0):
        config.trainer.evaluation.lag = lag
        found[f"stopped_with_lag_{lag}"] = stopped_in_validations(run, model_dir, complete)
    (directory / "found.json").write_text(json.dumps(found))


def stopped_in_validations(run: Run, model_dir: Path, complete: Path) -> list:
    """Stops by SIGTERM in each of a run's three validations, and resumes.

    Returns:
        For each: exit code, step of the checkpoint, and how the resumed run differs from one that
        was not stopped.
    """
    lag = run.plan.config.trainer.evaluation.lag
    start, pending = (INTERVAL, f"{INTERVAL}-{INTERVAL + LAG}") if lag else (INTERVAL - 1, "")
    evaluate, wait = Evaluator.evaluate, BackgroundEvaluation.wait
    calls = {"evaluate": 0, "stop in": 0}

    def begin(number):
        calls.update({"evaluate": 0, "stop in": number})
        shutil.rmtree(model_dir)
        shutil.copytree(complete, model_dir)
        stop_at(model_dir, start, pending)

    def evaluate_until_stopped(self, log=None, stopped=None, tasks=None):
        calls["evaluate"] += 1
        if calls["evaluate"] != calls["stop in"]:
            return evaluate(self, log, stopped, tasks)
        if not lag:
            os.kill(os.getpid(), signal.SIGTERM)
        while True:
            raise_if_stopped(stopped, "any")
            time.sleep(0.01)

    def wait_after_signal(self, seconds):
        if calls["evaluate"] == calls["stop in"]:
            os.kill(os.getpid(), signal.SIGTERM)
        return wait(self, seconds)

    begin(0)
    run.execute()
    undisturbed, found = traces(model_dir), []
    for number in (1, 2, 3):
        begin(number)
        Evaluator.evaluate, BackgroundEvaluation.wait = evaluate_until_stopped, wait_after_signal
        code = None
        try:
            run.execute()
        except SystemExit as error:
            code = error.code
        Evaluator.evaluate, BackgroundEvaluation.wait = evaluate, wait
        step = int(newest(model_dir).name.removeprefix("ckpt-"))
        run.execute()
        found.append([code, step, differences(undisturbed, traces(model_dir))])
    return found
