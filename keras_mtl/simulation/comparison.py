"""Several schedules on the same curves: given as text, played, told in tables and plain data."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from keras_mtl.errors import ConfigError
from keras_mtl.schedules import Schedule, TaskInfo, create
from keras_mtl.simulation.curves import Curves
from keras_mtl.simulation.player import PlaySettings, Simulation, simulate
from keras_mtl.yaml_loader import Loader

MOST_TASKS_IN_TABLE = 20
_GROUPS = ("large", "medium", "small")


@dataclasses.dataclass(frozen=True)
class ScheduleSpec:
    """A schedule to play.

    Attributes:
      label: what tables and pictures call it.
      name: registered name.
      parameters: its parameters.
    """

    label: str
    name: str
    parameters: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Played:
    """A schedule and what came of it."""

    spec: ScheduleSpec
    schedule: Schedule
    simulation: Simulation


def parse_schedule(text: str) -> ScheduleSpec:
    """Reads ``NAME``, ``NAME:key=value,key=value`` or a YAML mapping.

    Raises:
      ConfigError: it is none of them.
    """
    text = text.strip()
    if text.startswith("{"):
        try:
            return schedule_of(yaml.load(text, Loader))
        except yaml.YAMLError as error:
            raise ConfigError(f"--schedule {text!r} is not YAML: {error}") from error
    name, _, rest = text.partition(":")
    parameters: dict[str, Any] = {}
    for part in _split(rest):
        key, equals, value = part.partition("=")
        try:
            parameters[key.strip()] = yaml.load(value, Loader)
        except yaml.YAMLError as error:
            raise ConfigError(f"--schedule {text!r}: {part!r} is not YAML: {error}") from error
        if not equals or not key.strip():
            raise ConfigError(
                f"--schedule {text!r}: {part!r} has no '='; write NAME:key=value,key=value, for "
                "example inverse_ratio:alpha=5,max_change=0.1"
            )
    return ScheduleSpec(default_label(name.strip(), parameters), name.strip(), parameters)


def schedule_of(entry: Any) -> ScheduleSpec:
    """Reads ``{name, parameters, label}``, or a name alone.

    Raises:
      ConfigError: it is something else.
    """
    if isinstance(entry, str):
        return parse_schedule(entry)
    if not isinstance(entry, Mapping) or not {"name"} <= set(entry) <= {
        *("name", "parameters", "label"),
    }:
        raise ConfigError(
            f"schedule {entry!r}: write {{name: inverse_ratio, parameters: {{alpha: 5}}, label: "
            "mine}, of which parameters and label may be left out"
        )
    parameters = entry.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise ConfigError(f"schedule {entry['name']!r}: parameters = {parameters!r} is no mapping")
    label = entry.get("label") or default_label(str(entry["name"]), parameters)
    return ScheduleSpec(str(label), str(entry["name"]), dict(parameters))


def default_label(name: str, parameters: Mapping[str, Any]) -> str:
    """``inverse_ratio alpha=5 ema=0.5``, ``temperature 5``; nested parameters are left out."""
    shown = {k: v for k, v in parameters.items() if isinstance(v, int | float | str)}
    first = f"{name} {shown.pop(name)}" if name in shown else name
    return " ".join([first, *(f"{key}={value}" for key, value in shown.items())])


def play_all(
    specs: Sequence[ScheduleSpec], curves: Curves, rows: np.ndarray, settings: PlaySettings
) -> list[Played]:
    """Plays every schedule on the same curves.

    Raises:
      ConfigError: a schedule cannot be made, or two have one label.
    """
    labels = [spec.label for spec in specs]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"two schedules are called {label!r}; give one of them a label")
    schedules = [create(spec.name, curves.tasks, **spec.parameters) for spec in specs]
    return [
        Played(spec, schedule, simulate(schedule, curves, rows, settings))
        for spec, schedule in zip(specs, schedules, strict=True)
    ]


def size_groups(tasks: Sequence[TaskInfo]) -> dict[str, np.ndarray]:
    """Thirds of the tasks by size, largest first: {"large": int64[...], ...}; one task is large."""
    order = np.argsort([-task.size for task in tasks], kind="stable")
    parts = np.array_split(order, min(len(_GROUPS), len(order)))
    names = _GROUPS if len(parts) == 3 else ("large", "small")[: len(parts)]
    return dict(zip(names, parts, strict=True))


def group_table(played: Sequence[Played]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a schedule a row, final score / baseline and batches by size of task."""
    tasks = played[0].schedule.tasks
    groups = size_groups(tasks)
    header = ["schedule", "score/baseline: mean", "worst", *groups]
    header += [f"batches: {name}" for name in groups] + ["most passes"]
    rows = []
    for item in played:
        ratios = item.simulation.ratios[-1]
        shares = shares_of(item.simulation)
        worst, most = int(ratios.argmin()), int(item.simulation.passes.argmax())
        row = [item.spec.label, f"{ratios.mean():.3f}", f"{ratios[worst]:.3f} {tasks[worst].name}"]
        row += [f"{ratios[members].mean():.3f}" for members in groups.values()]
        row += [f"{shares[members].sum():.1%}" for members in groups.values()]
        row.append(f"{item.simulation.passes[most]:.1f} {tasks[most].name}")
        rows.append(row)
    return header, rows


def task_table(played: Sequence[Played]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a task a row; of each schedule score / baseline, batches and passes."""
    header = ["task", "examples", "baseline", *(item.spec.label for item in played)]
    rows = []
    for index, task in enumerate(played[0].schedule.tasks):
        row = [task.name, f"{task.size:,}", f"{task.baseline:.1f}"]
        for item in played:
            share = shares_of(item.simulation)[index]
            row.append(
                f"{item.simulation.ratios[-1, index]:.2f}  {share:6.1%}  "
                f"{item.simulation.passes[index]:6.1f}x"
            )
        rows.append(row)
    return header, rows


def shares_of(simulation: Simulation) -> np.ndarray:
    """Share of the batches that each task had, float64[N]."""
    batches = simulation.batches[-1]
    return batches / max(1.0, batches.sum())


def as_data(played: Sequence[Played]) -> dict[str, Any]:
    """Everything as plain data for JSON."""
    tasks = played[0].schedule.tasks
    return {
        "tasks": [dataclasses.asdict(task) for task in tasks],
        "schedules": [
            {
                "label": item.spec.label,
                "name": item.spec.name,
                "parameters": dict(item.spec.parameters),
                "steps": item.simulation.steps.tolist(),
                **{
                    field: np.round(getattr(item.simulation, field), 6).tolist()
                    for field in ("probabilities", "scales", "scores", "ratios", "batches")
                },
                "passes": np.round(item.simulation.passes, 4).tolist(),
                "beyond_the_record": [
                    task.name
                    for task, held in zip(tasks, item.simulation.held, strict=True)
                    if held
                ],
            }
            for item in played
        ],
    }


def _split(text: str) -> list[str]:
    """Splits at commas that stand in no bracket."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    parts.append(text[start:])
    return [part for part in parts if part.strip()]
