"""Baselines: the scores of models that are each trained on a single task."""

import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from keras_mtl.configuration.adapters import groups_of
from keras_mtl.configuration.files import save_params
from keras_mtl.configuration.keeping import MACRO, BestConfig
from keras_mtl.configuration.schema import (
    BalancingConfig,
    ExperimentConfig,
    PairConfig,
    TransformerConfig,
)
from keras_mtl.configuration.stack_sharing import StacksConfig
from keras_mtl.errors import ConfigError, DataError, KerasMtlError
from keras_mtl.evaluation.task_metrics import TaskMetrics
from keras_mtl.events import of_kind, read_events, task_curves
from keras_mtl.files import replace_file
from keras_mtl.interrupts import forwarded_to
from keras_mtl.metrics import higher_is_better, schedule_score
from keras_mtl.run_files import BASELINES_FILE
from keras_mtl.training.run.planning import validated_tasks
from keras_mtl.training.run.setup import prepare_task_data

# Exit codes of a training process that was stopped by a signal, whether or not it could save.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOPPED = {*(128 + number for number in _SIGNALS), *(-number for number in _SIGNALS)}


def measure_baselines(
    config: ExperimentConfig,
    model_dir: str | Path,
    train_steps: int | None = None,
    log: Callable[[str], None] = print,
) -> dict[str, float]:
    """Trains a model for each task with the same configuration and records its best score.

    The models use the prepared data of all tasks, so that their scores are comparable with those of
    the multi-task run. Each is trained in its own process, in `<model_dir>/<task>`. A finished task
    is not trained again; an interrupted one resumes.

    Args:
        config: the experiment with all tasks.
        model_dir: directory of the baselines, which will contain `baselines.json`.
        train_steps: training steps of each model; None means `trainer.train_steps`.
        log: function that receives lines for the user.

    Returns:
        The best validation score of each task by its metric, in the unit that schedules compare
        (`keras_mtl.metrics.schedule_score`).

    Raises:
        ConfigError, DataError: see `prepare_task_data`.
        ConfigError: the configuration is for several workers.
        KerasMtlError: a training failed; its message is printed before.
    """
    if config.runtime.distribution_strategy == "multi_worker_mirrored":
        raise ConfigError(
            "runtime.distribution_strategy is 'multi_worker_mirrored', but baselines are trained "
            "on one machine. Add --params_override runtime.distribution_strategy=mirrored; "
            "different tasks can be measured on different machines"
        )
    root = Path(model_dir)
    config = copy.deepcopy(config)
    prepared = prepare_task_data(config.task, root, log=log)
    config.task.data.data_dir = os.path.abspath(prepared.data_dir)
    validated = validated_tasks(config)
    found: dict[str, float] = {}
    for pair in config.task.pairs:
        if pair.name not in validated:
            log(f"no baseline for {pair.name}: trainer.evaluation.tasks does not include it")
            continue
        log(f"baseline for {pair.name}")
        own_config = single_task_config(config, pair)
        if train_steps is not None:
            own_config.trainer.train_steps = train_steps
        score = _train(own_config, root / pair.name, log)
        if score <= 0:
            log(
                f"warning: no baseline for {pair.name}: its best score is {score:g}, but a "
                "baseline must be > 0. Train longer (--train_steps)"
            )
            continue
        found[pair.name] = score
        _write(root / BASELINES_FILE, found)
    return found


def single_task_config(config: ExperimentConfig, pair: PairConfig) -> ExperimentConfig:
    """Returns the configuration for one task, without the settings for several tasks."""
    single = copy.deepcopy(config)
    unlimited = copy.deepcopy(pair)
    unlimited.introduce_at, unlimited.stop_at, unlimited.max_epochs = 0, None, None
    single.task.pairs = [unlimited]
    single.trainer.evaluation.tasks = []
    single.trainer.stopping.score = single.trainer.optimizer.plateau.score = MACRO
    single.trainer.best = BestConfig()
    single.trainer.schedule.name = "uniform"
    single.trainer.schedule.parameters = {}
    single.trainer.schedule.baselines_file = ""
    single.trainer.schedule.max_epochs, single.trainer.schedule.overfit_patience = None, 0
    single.trainer.balancing = BalancingConfig()
    # What names variables: a model of one task has others, and starts from random weights.
    single.task.pairs[0].train_only = []
    single.task.model.init = []
    single.trainer.freeze = []
    single.trainer.optimizer.learning_rate_factors = []
    _keep_own_groups(single.task.model, unlimited)
    return single


def _keep_own_groups(model: TransformerConfig, pair: PairConfig) -> None:
    """Reduces the groups of adapters and stacks to those of one task."""
    kept = []
    for adapters in model.adapters:
        grouped = bool(adapters.groups)
        adapters.groups = groups_of(adapters, pair)
        # Without groups, the set would give an adapter to a task that has none of this set.
        if adapters.groups or not grouped:
            kept.append(adapters)
    model.adapters = kept
    for name in StacksConfig.__dataclass_fields__:
        stack = getattr(model.stacks, name)
        stack.groups = groups_of(stack, pair)


def best_score(config: ExperimentConfig, directory: Path) -> float:
    """Returns the best validation score of a finished single-task run.

    Args:
        config: its configuration, from `single_task_config`.
        directory: its `model_dir`.

    Returns:
        The score, in the unit that schedules compare (`keras_mtl.metrics.schedule_score`).

    Raises:
        DataError: the log has no validation with the metric of the task.
    """
    (metric,) = TaskMetrics.of(config).names
    curves = task_curves(of_kind(read_events(directory), "evaluation"), "scores", metric)
    scores = [score for curve in curves.values() for score in curve.values()]
    if not scores:
        raise DataError(
            f"{directory}: training is finished, but no validation with {metric} was logged. "
            "Delete the directory and run the command again"
        )
    best = max(scores) if higher_is_better(metric) else min(scores)
    return schedule_score(metric, best)


def _train(config: ExperimentConfig, directory: Path, log: Callable[[str], None]) -> float:
    directory.mkdir(parents=True, exist_ok=True)
    params = directory / "single_task.yaml"
    save_params(config, str(params))
    # In a new process, because strategies and determinism can be set only once per process.
    command = [sys.executable, "-m", "keras_mtl.cli.main", "train"]
    command += ["--config_file", str(params), "--model_dir", str(directory)]
    # The child process saves before it ends, which it can do only after its current training step.
    with subprocess.Popen(command) as process, forwarded_to(process.send_signal):
        code = process.wait()
    if code in _STOPPED:
        log(
            f"the baseline for {directory.name} was interrupted. Run the same command again to "
            "resume it; finished tasks are not trained again"
        )
        raise SystemExit(code if code > 0 else 128 - code)
    if code:
        raise KerasMtlError(
            f"training in {directory} ended with exit code {code}. Fix the error that it reported "
            "and run the same command again; finished tasks are not trained again"
        )
    return best_score(config, directory)


def _write(path: Path, baselines: dict[str, float]) -> None:
    replace_file(path, json.dumps(baselines, indent=1, ensure_ascii=False) + "\n")
