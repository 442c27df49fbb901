"""What a simulation takes from an experiment's YAML, without loading TensorFlow.

Only the fields below are read; `keras-mtl train` checks the whole file. Their defaults are those of
`keras_mtl.configuration.schema`, and a test compares them.
"""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from keras_mtl.configuration import paths as config_paths
from keras_mtl.configuration import plugins
from keras_mtl.configuration.reading import Loader
from keras_mtl.data.prepared import read_manifest
from keras_mtl.errors import ConfigError, DataError
from keras_mtl.run_files import DATA_DIRECTORY, PARAMS_FILE
from keras_mtl.schedules import TaskInfo

DEFAULTS: dict[str, Any] = {
    "trainer.train_steps": 100_000,
    "trainer.evaluation.interval": 1000,
    "trainer.evaluation.metric": "chrf",
    "trainer.schedule.name": "temperature",
    "trainer.schedule.baselines_file": "",
    "trainer.optimizer.gradient_accumulation_steps": 1,
    "task.data.data_dir": "",
    "task.data.tokens_per_batch": 4096,
    "task.data.max_length": 128,
    "task.data.granularity": "batch",
}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What is simulated.

    Attributes:
      tasks: the tasks; baselines where they are known.
      rows: float64[N], examples of a batch of each task.
      rows_known: whether `rows` comes from prepared data; else sentences are taken to be half as
        long as the longest.
      schedule: name and parameters of the experiment's own schedule.
      steps: updates.
      interval: updates between validations.
      batches_per_step: batches of an update.
      metric: of validation.
      mixed: whether batches are mixed, and a run therefore counts examples.
    """

    tasks: tuple[TaskInfo, ...]
    rows: np.ndarray
    rows_known: bool
    schedule: tuple[str, dict[str, Any]]
    steps: int
    interval: int
    batches_per_step: int
    metric: str
    mixed: bool


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """Reads a YAML file into plain values.

    Raises:
      ConfigError: it is missing or not YAML.
    """
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), Loader)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error


def read_experiment(
    config_files: Sequence[str | os.PathLike[str]] = (),
    model_dir: str | os.PathLike[str] | None = None,
    tasks_file: str | os.PathLike[str] | None = None,
) -> Experiment:
    """Reads what a simulation needs.

    Args:
      config_files: YAML files, each over the one before; none takes the model directory's
        ``params.yaml``, if there is one.
      model_dir: directory of a run, for its configuration and its prepared data.
      tasks_file: YAML or JSON list of ``{name, size, baseline}`` instead of the experiment's tasks.

    Returns:
      The experiment. Sizes are those of the prepared data, else each task's ``max_pairs``.

    Raises:
      ConfigError: no tasks, a size is not known, or a value is of another kind than it must be.
    """
    files = list(config_files)
    if not files and model_dir and (Path(model_dir) / PARAMS_FILE).exists():
        files = [Path(model_dir) / PARAMS_FILE]
    if not files and not tasks_file:
        raise ConfigError(
            "nothing to simulate; give --config_file, --model_dir of a run, or --tasks"
        )
    merged: dict[str, Any] = {}
    for path in files:
        values = read_yaml(path)
        if values is not None and not isinstance(values, Mapping):
            raise ConfigError(f"{path}: expected a mapping such as `trainer: {{train_steps: 10}}`")
        directory = os.path.dirname(os.path.abspath(path))
        plugins.load_named(values, directory, f"{plugins.FIELD} of {path}")
        config_paths.make_absolute(values, config_paths.base_directory(os.fspath(path)))
        merged = _merge(merged, values or {})
    value = {name: _get(merged, name, default) for name, default in DEFAULTS.items()}
    manifest = _prepared(str(value["task.data.data_dir"]), model_dir)
    prepared = {task["name"]: task for task in manifest["tasks"]} if manifest else {}
    tasks = (
        _listed_tasks(tasks_file)
        if tasks_file
        else _configured_tasks(merged, prepared, str(value["trainer.schedule.baselines_file"]))
    )
    rows, known = _rows(tasks, prepared, value)
    parameters = _get(merged, "trainer.schedule.parameters", {})
    return Experiment(
        tasks=tuple(tasks),
        rows=rows,
        rows_known=known,
        schedule=(str(value["trainer.schedule.name"]), dict(parameters)),
        steps=int(value["trainer.train_steps"]),
        interval=int(value["trainer.evaluation.interval"]),
        batches_per_step=int(value["trainer.optimizer.gradient_accumulation_steps"]),
        metric=str(value["trainer.evaluation.metric"]),
        mixed=value["task.data.granularity"] == "example",
    )


def _merge(under: Mapping[str, Any], over: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """`over` over `under`, as training's configuration takes files."""
    result = dict(under)
    # Another schedule's parameters would only be in the way.
    default = DEFAULTS.get(f"{path}name")
    if "name" in over and over["name"] != under.get("name", default):
        result.pop("parameters", None)
    for key, value in over.items():
        old = result.get(key)
        empties = key == "parameters" and value == {}
        if empties or not isinstance(old, Mapping):
            result[key] = value
        elif isinstance(value, Mapping):
            result[key] = _merge(old, value, f"{path}{key}.")
        elif value is not None:  # A section whose every line is commented out.
            result[key] = value
    return result


def _get(values: Mapping[str, Any], dotted: str, default: Any) -> Any:
    """The value of a field, or its default; of the default's kind."""
    found: Any = values
    for key in dotted.split("."):
        if not isinstance(found, Mapping):
            raise ConfigError(f"{dotted}: {found!r} stands where a mapping is expected")
        found = found.get(key)
        if found is None:
            return default
    number = isinstance(default, int) and not isinstance(default, bool)
    whole = isinstance(found, int) and not isinstance(found, bool)
    if isinstance(found, float) and found.is_integer():  # 1e5 is a fine number of steps.
        found, whole = int(found), True
    if number and whole and found >= 0:
        return found
    if not number and isinstance(found, type(default)):
        return found
    kinds = {int: "a whole number >= 0", str: "a text", dict: "a mapping", list: "a list"}
    kind = kinds[type(default)]
    raise ConfigError(f"{dotted} = {found!r}: {kind} is expected")


def _prepared(data_dir: str, model_dir: Any) -> dict[str, Any] | None:
    directory = data_dir or (
        os.path.join(os.fspath(model_dir), DATA_DIRECTORY) if model_dir else ""
    )
    return read_manifest(directory) if directory else None


def _configured_tasks(
    values: Mapping[str, Any], prepared: Mapping[str, Any], baselines_file: str
) -> list[TaskInfo]:
    pairs = _get(values, "task.pairs", [])
    if not pairs:
        raise ConfigError("task.pairs is empty; give a configuration with tasks, or --tasks")
    baselines: dict[str, float] = {}
    if baselines_file:
        try:
            baselines = json.loads(Path(baselines_file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"trainer.schedule.baselines_file {baselines_file!r} cannot be read: {error}"
            ) from error
        if not isinstance(baselines, Mapping):
            raise ConfigError(
                f"trainer.schedule.baselines_file {baselines_file!r} holds {baselines!r:.40}; "
                '{"en-fr": 40.1, ...} is expected'
            )
    result = []
    for index, pair in enumerate(pairs):
        try:
            name = str(pair.get("name") or f"{pair['source']}-{pair['target']}")
        except (AttributeError, KeyError) as error:
            raise ConfigError(f"task.pairs[{index}] = {pair!r} has no source and target") from error
        size = prepared[name]["train_size"] if name in prepared else pair.get("max_pairs")
        if size is None:
            raise ConfigError(
                f"task {name!r}: its size is not known yet; run `keras-mtl prepare` and give "
                "--model_dir, or give all sizes with --tasks FILE"
            )
        baseline = pair.get("baseline")
        result.append(_task(name, size, baselines.get(name) if baseline is None else baseline))
    return result


def _listed_tasks(path: str | os.PathLike[str]) -> list[TaskInfo]:
    entries = read_yaml(path)
    if not isinstance(entries, list):
        raise ConfigError(f"{path}: a list of {{name, size, baseline}} is expected")
    result = []
    for index, entry in enumerate(entries):
        fields = set(entry) if isinstance(entry, Mapping) else set()
        if not {"name", "size"} <= fields <= {"name", "size", "baseline"}:
            raise ConfigError(
                f"{path}: entry {index + 1} is {entry!r}; write {{name: en-fr, size: 12000, "
                "baseline: 40.1}, of which the baseline may be left out"
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


def _rows(
    tasks: Sequence[TaskInfo], prepared: Mapping[str, Any], value: Mapping[str, Any]
) -> tuple[np.ndarray, bool]:
    """Examples of a batch, float64[N], and whether they come from the data."""
    budget, longest = value["task.data.tokens_per_batch"], value["task.data.max_length"]
    known = all(task.name in prepared for task in tasks)
    lengths = []
    for task in tasks:
        found = prepared.get(task.name)
        if known and found and found["train_size"]:
            # The longer side, with its tag and end of sentence, decides the shape.
            tokens = max(found["source_tokens"], found["target_tokens"])
            lengths.append(tokens / found["train_size"] + 2)
        else:
            lengths.append(max(1.0, longest / 2))
    return np.maximum(1.0, budget / np.array(lengths)), known


def recorded_events(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The events of a recorded run; see `keras_mtl.events.read_events`.

    Raises:
      DataError: there are none.
    """
    from keras_mtl.events import read_events

    events = read_events(path)
    if not events:
        raise DataError(f"{path}: nothing was recorded there")
    return events
