"""Baselines: the score of a model that is trained on only one task."""

import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from keras_mtl.configuration.files import save_params
from keras_mtl.configuration.schema import BalancingConfig, ExperimentConfig, PairConfig
from keras_mtl.errors import DataError, KerasMtlError
from keras_mtl.events import of_kind, read_events, task_curves
from keras_mtl.files import replace_file
from keras_mtl.interrupts import forwarded_to
from keras_mtl.metrics import higher_is_better, schedule_score
from keras_mtl.run_files import BASELINES_FILE
from keras_mtl.training.run.building import validated_tasks
from keras_mtl.training.run.setup import prepare_from_config

# Exit codes of a training that a signal has stopped, whether or not it could save.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOPPED = {*(128 + number for number in _SIGNALS), *(-number for number in _SIGNALS)}


def measure_baselines(
    config: ExperimentConfig,
    model_dir: str | Path,
    train_steps: int | None = None,
    log: Callable[[str], None] = print,
) -> dict[str, float]:
    """Trains a model for each task with the same configuration and records its best score.

    The models share the prepared data of the whole mix, so that their scores compare with those of
    the mixed run. Each is trained in its own process, in `<model_dir>/<task>`. A task that
    is done is not trained again; one that was interrupted resumes.

    Args:
        config: the experiment of all tasks.
        model_dir: directory of the baselines; gets `baselines.json`.
        train_steps: steps of each model; None takes `trainer.train_steps`.
        log: function that gets lines for the user.

    Returns:
        By task the best validation score of `trainer.evaluation.metric`, in the unit that
        schedules compare (`keras_mtl.metrics.schedule_score`).

    Raises:
        ConfigError, DataError: see `prepare_from_config`.
        KerasMtlError: a training failed; its message is printed before.
    """
    root = Path(model_dir)
    config = copy.deepcopy(config)
    config.task.data.data_dir = os.path.abspath(prepare_from_config(config, root, log=log).data_dir)
    validated = validated_tasks(config)
    found: dict[str, float] = {}
    for pair in config.task.pairs:
        if pair.name not in validated:
            log(f"no baseline of {pair.name}: trainer.evaluation.tasks leaves it out")
            continue
        log(f"baseline of {pair.name}")
        own_config = single_task_config(config, pair)
        if train_steps is not None:
            own_config.trainer.train_steps = train_steps
        score = _train(own_config, root / pair.name, log)
        if score <= 0:
            log(
                f"warning: the best score of {pair.name} is {score:g}, and a baseline must be > 0; "
                "it is left out. Train longer (--train_steps)"
            )
            continue
        found[pair.name] = score
        _write(root / BASELINES_FILE, found)
    return found


def single_task_config(config: ExperimentConfig, pair: PairConfig) -> ExperimentConfig:
    """Returns the configuration of one task, without what concerns several; the data is shared."""
    single = copy.deepcopy(config)
    single.task.pairs = [copy.deepcopy(pair)]
    single.trainer.evaluation.tasks = []
    single.trainer.schedule.name = "uniform"
    single.trainer.schedule.parameters = {}
    single.trainer.schedule.baselines_file = ""
    single.trainer.balancing = BalancingConfig()
    return single


def _train(config: ExperimentConfig, directory: Path, log: Callable[[str], None]) -> float:
    directory.mkdir(parents=True, exist_ok=True)
    params = directory / "single_task.yaml"
    save_params(config, str(params))
    # Its own process: strategies and determinism are set once in a process.
    command = [sys.executable, "-m", "keras_mtl.cli.main", "train"]
    command += ["--config_file", str(params), "--model_dir", str(directory)]
    # The child saves before it ends, which takes as long as a training step.
    with subprocess.Popen(command) as process, forwarded_to(process.send_signal):
        code = process.wait()
    if code in _STOPPED:
        log(
            f"the baseline of {directory.name} was interrupted; start the same command again: it "
            "resumes there, and finished tasks are not trained again"
        )
        raise SystemExit(code if code > 0 else 128 - code)
    if code:
        raise KerasMtlError(
            f"training in {directory} ended with exit code {code}; repair what its message "
            "names and start the same command again: finished tasks are not trained again"
        )
    metric = config.trainer.evaluation.metric
    curves = task_curves(of_kind(read_events(directory), "evaluation"), "scores", metric)
    scores = [score for curve in curves.values() for score in curve.values()]
    if not scores:
        raise DataError(
            f"{directory}: no validation by {metric} was logged, and nothing is left to train; "
            "delete the directory and start again"
        )
    best = max(scores) if higher_is_better(metric) else min(scores)
    return schedule_score(metric, best)


def _write(path: Path, baselines: dict[str, float]) -> None:
    replace_file(path, json.dumps(baselines, indent=1, ensure_ascii=False) + "\n")
