"""Reads the parts of an experiment that a simulation needs, without TensorFlow."""

import dataclasses
import math
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mtl.configuration import baselines, checks, files
from keras_mtl.configuration.other_tasks import DENOISING
from keras_mtl.configuration.reading import load_yaml
from keras_mtl.configuration.schema import DataConfig, ExperimentConfig
from keras_mtl.data.prepared import read_manifest
from keras_mtl.errors import ConfigError, DataError
from keras_mtl.evaluation.task_metrics import TaskMetrics
from keras_mtl.run_files import PARAMS_FILE, data_directory
from keras_mtl.schedules import Limits, TaskInfo
from keras_mtl.schedules.configured_limits import configured_limits


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The experiment that is simulated.

    Attributes:
        tasks: the tasks, with the known baselines.
        rows: float64[N], number of examples of a batch of each task.
        lengths: float64[N, 2], mean source and target length of a pair of each task, in tokens
            with tag and end of sentence.
        rows_known: whether `rows` and `lengths` come from prepared data; if not, sentences are
            assumed to be half as long as the longest.
        schedule: name and parameters of the experiment's schedule.
        steps: number of updates.
        interval: number of updates between validations.
        batches_per_step: number of batches of an update.
        metric: metric of validation; one of them if tasks have different ones.
        mixed: whether batches are mixed, so that a run counts examples.
        config: the configuration.
        limits: the limits of the tasks; None without any, or if they come from a list.
        dev_pairs: int64[N], number of dev pairs of each task; the largest possible one if the data
            is not prepared.
    """

    tasks: tuple[TaskInfo, ...]
    rows: np.ndarray
    lengths: np.ndarray
    rows_known: bool
    schedule: tuple[str, dict[str, Any]]
    steps: int
    interval: int
    batches_per_step: int
    metric: str
    mixed: bool
    config: ExperimentConfig
    dev_pairs: np.ndarray
    limits: Limits | None


def read_experiment(
    config_files: Sequence[str | os.PathLike[str]] = (),
    model_dir: str | os.PathLike[str] | None = None,
    tasks_file: str | os.PathLike[str] | None = None,
) -> Experiment:
    """Reads the experiment to simulate.

    Args:
        config_files: YAML files; each overrides those before it. If there are none, the
            `params.yaml` of the model directory is used, if it exists.
        model_dir: directory of a run, for its configuration and its prepared data.
        tasks_file: YAML or JSON list of `{name, size, baseline}` instead of the experiment's
            tasks.

    Returns:
        The experiment. Sizes are those of the prepared data, else each task's `max_pairs`.

    Raises:
        ConfigError: there are no tasks, a size is not known, or the configuration is wrong.
    """
    given = list(config_files)
    if not given and model_dir and (Path(model_dir) / PARAMS_FILE).exists():
        given = [Path(model_dir) / PARAMS_FILE]
    if not given and not tasks_file:
        raise ConfigError(
            "nothing to simulate; give --config_file, --model_dir of a run, or --tasks"
        )
    draft = files.read_experiment(None, given)
    config = checks.validate_simulation(draft, tasks_from_list=tasks_file is not None)
    return experiment_of(config, model_dir, tasks_file)


def experiment_of(
    config: ExperimentConfig,
    model_dir: str | os.PathLike[str] | None = None,
    tasks_file: str | os.PathLike[str] | None = None,
) -> Experiment:
    """Returns the experiment of a checked configuration; see `read_experiment`.

    Raises:
        ConfigError: a size is not known, or the list of tasks is wrong.
    """
    data, trainer = config.task.data, config.trainer
    manifest = _prepared(data.data_dir, model_dir)
    prepared = {task["name"]: task for task in manifest["tasks"]} if manifest else {}
    tasks = _listed_tasks(tasks_file) if tasks_file else _configured_tasks(config, prepared)
    denoising = {pair.name for pair in config.task.pairs if pair.kind == DENOISING}
    lengths = _lengths(tasks, prepared, data, denoising)
    known = lengths is not None
    if lengths is None:
        lengths = np.full((len(tasks), 2), max(1.0, data.max_length / 2))
    return Experiment(
        tasks=tuple(tasks),
        # The longer side determines the shape.
        rows=np.maximum(1.0, data.tokens_per_batch / lengths.max(axis=1)),
        lengths=lengths,
        rows_known=known,
        schedule=(trainer.schedule.name, trainer.schedule.parameters),
        steps=trainer.train_steps,
        interval=trainer.evaluation.interval,
        batches_per_step=trainer.optimizer.gradient_accumulation_steps,
        metric=trainer.evaluation.metric if tasks_file else TaskMetrics.of(config).main,
        mixed=data.granularity == "example",
        config=config,
        limits=None
        if tasks_file
        else configured_limits(
            config.task.pairs,
            trainer.schedule.max_epochs,
            trainer.schedule.overfit_patience,
            trainer.optimizer.gradient_accumulation_steps,
        ),
        dev_pairs=np.array(
            [prepared.get(task.name, {}).get("dev_size", data.dev_pairs) for task in tasks]
        ),
    )


def _prepared(data_dir: str, model_dir: Any) -> dict[str, Any] | None:
    if not data_dir and not model_dir:
        return None
    return read_manifest(data_directory(data_dir, model_dir))


def _configured_tasks(config: ExperimentConfig, prepared: Mapping[str, Any]) -> list[TaskInfo]:
    pairs = config.task.pairs
    known, _ = baselines.of_tasks(pairs, config.trainer.schedule.baselines_file)
    result = []
    for pair in pairs:
        size = prepared[pair.name]["train_size"] if pair.name in prepared else pair.max_pairs
        if size is None:
            raise ConfigError(
                f"task {pair.name!r}: its size is not known yet; run `keras-mtl prepare` and give "
                "--model_dir, or give all sizes with --tasks FILE"
            )
        result.append(_task(pair.name, size, known[pair.name]))
    return result


def _listed_tasks(path: str | os.PathLike[str]) -> list[TaskInfo]:
    entries = load_yaml(path)
    if not isinstance(entries, list):
        raise ConfigError(f"{path}: expected a list of {{name, size, baseline}}")
    result = []
    for index, entry in enumerate(entries):
        fields = set(entry) if isinstance(entry, Mapping) else set()
        if not {"name", "size"} <= fields <= {"name", "size", "baseline"}:
            raise ConfigError(
                f"{path}: entry {index + 1} is {entry!r}; write {{name: en-fr, size: 12000, "
                "baseline: 40.1}, where the baseline is optional"
            )
        result.append(_task(str(entry["name"]), entry["size"], entry.get("baseline")))
    return result


def _task(name: str, size: Any, baseline: Any) -> TaskInfo:
    for field, number in (("size", size), ("baseline", baseline)):
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        is_number = is_number and math.isfinite(number)
        if not is_number and not (number is None and field == "baseline"):
            raise ConfigError(f"task {name!r}: {field} = {number!r} is not a number")
    return TaskInfo(name, int(size), None if baseline is None else float(baseline))


def _lengths(
    tasks: Sequence[TaskInfo],
    prepared: Mapping[str, Any],
    data: DataConfig,
    denoising: Collection[str],
) -> np.ndarray | None:
    """Returns mean lengths, float64[N, 2]; None if a task is not prepared.

    The noisy source of a denoising task is not in the store; it is about as long as the target.
    """
    if not all(task.name in prepared for task in tasks):
        return None
    lengths = []
    for task in tasks:
        found = prepared[task.name]
        if found["train_size"]:
            source = found["target_tokens" if task.name in denoising else "source_tokens"]
            sides = np.array([source, found["target_tokens"]], np.float64)
            lengths.append(sides / found["train_size"] + 2)  # Tag and end of sentence.
        else:
            lengths.append(np.full(2, max(1.0, data.max_length / 2)))
    return np.array(lengths)


def recorded_events(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Returns the events of a recorded run; see `keras_mtl.events.read_events`.

    Raises:
        DataError: the run has no events.
    """
    from keras_mtl.events import read_events

    events = read_events(path)
    if not events:
        raise DataError(
            f"{path} has no recorded events; give the model_dir of a run that has been trained"
        )
    return events
