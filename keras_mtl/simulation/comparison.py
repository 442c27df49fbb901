"""Plays several schedules on the same curves, and writes tables and plain data of the results."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from keras_mtl.configuration.reading import Loader
from keras_mtl.errors import ConfigError
from keras_mtl.schedules import (
    LimitedSchedule,
    Limits,
    Schedule,
    TaskInfo,
    create,
    parameters_of,
)
from keras_mtl.simulation.curves import GIVEN, MODELED, RECORDED, Curves
from keras_mtl.simulation.player import PlaySettings, Simulation, simulate

MOST_TASKS_IN_TABLE = 20
_GROUPS = ("large", "medium", "small")
# Marks in a table of baselines that were not given, and what they mean.
_MARKS = {
    MODELED: (
        "*",
        "modeled, not measured: no baseline is given for this task, so the learning curve gives "
        "the score that a model trained on only this task would reach",
    ),
    RECORDED: ("†", "the best score of the recorded run: no baseline is given for this task"),
}


@dataclasses.dataclass(frozen=True)
class ScheduleSpec:
    """A schedule to play.

    Attributes:
        label: name in tables and pictures.
        name: registered name of the schedule.
        parameters: parameters of the schedule.
    """

    label: str
    name: str
    parameters: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Played:
    """A schedule and the result of its simulation.

    Attributes:
        spec: specification of the schedule.
        schedule: the schedule.
        simulation: the result.
        baseline_sources: source of each task's baseline; see `Curves`.
    """

    spec: ScheduleSpec
    schedule: Schedule
    simulation: Simulation
    baseline_sources: tuple[str, ...]


def parse_schedule(text: str) -> ScheduleSpec:
    """Reads `NAME`, `NAME:key=value,key=value` or a YAML mapping.

    Raises:
        ConfigError: the text is none of these.
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
    """Reads a schedule from `{name, parameters, label}` or from a name.

    Raises:
        ConfigError: the entry is something else.
    """
    if isinstance(entry, str):
        return parse_schedule(entry)
    if not isinstance(entry, Mapping) or not {"name"} <= set(entry) <= {
        *("name", "parameters", "label"),
    }:
        raise ConfigError(
            f"schedule {entry!r}: write {{name: inverse_ratio, parameters: {{alpha: 5}}, label: "
            "mine}, where parameters and label are optional"
        )
    parameters = entry.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise ConfigError(
            f"schedule {entry['name']!r}: parameters = {parameters!r} must be a mapping"
        )
    label = entry.get("label") or default_label(str(entry["name"]), parameters)
    return ScheduleSpec(str(label), str(entry["name"]), dict(parameters))


def default_label(name: str, parameters: Mapping[str, Any]) -> str:
    """Returns a label such as `inverse_ratio alpha=5` or `temperature 5`, without nested values."""
    shown = {k: v for k, v in parameters.items() if isinstance(v, int | float | str)}
    with contextlib.suppress(ConfigError):  # An unknown schedule is reported when it is created.
        own = parameters_of(name).get(
            name
        )  # The parameter that gave the schedule its name is always shown.
        if own is not None and isinstance(own.default, int | float):
            shown.setdefault(name, f"{own.default:g}")
    first = f"{name} {shown.pop(name)}" if name in shown else name
    return " ".join([first, *(f"{key}={value}" for key, value in shown.items())])


def play_all(
    specs: Sequence[ScheduleSpec],
    curves: Curves,
    rows: np.ndarray,
    settings: PlaySettings,
    limits: Limits | None = None,
) -> list[Played]:
    """Plays every schedule on the same curves, under the same limits of the tasks.

    Raises:
        ConfigError: a schedule cannot be created, or two have the same label.
    """
    labels = [spec.label for spec in specs]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(
                f"two schedules have the label {label!r}; give one of them another label"
            )
    schedules: list[Schedule] = [
        create(spec.name, curves.tasks, **spec.parameters) for spec in specs
    ]
    if limits is not None:
        schedules = [LimitedSchedule(schedule, limits) for schedule in schedules]
    sources = curves.baseline_sources or (GIVEN,) * len(curves.tasks)
    return [
        Played(spec, schedule, simulate(schedule, curves, rows, settings), sources)
        for spec, schedule in zip(specs, schedules, strict=True)
    ]


def size_groups(tasks: Sequence[TaskInfo]) -> dict[str, np.ndarray]:
    """Returns thirds of the tasks by size: {"large": int64[...], ...}; a single task is large."""
    order = np.argsort([-task.size for task in tasks], kind="stable")
    parts = np.array_split(order, min(len(_GROUPS), len(order)))
    names = _GROUPS if len(parts) == 3 else ("large", "small")[: len(parts)]
    return dict(zip(names, parts, strict=True))


Table = tuple[list[str], list[list[str]]]
"""Header and rows of a table; a cell holds one value."""


def group_tables(played: Sequence[Played]) -> dict[str, Table]:
    """Returns {title: table} of the end of training by size of task, a row per schedule."""
    tasks = played[0].schedule.tasks
    groups = size_groups(tasks)
    reached, given = [], []
    for item in played:
        ratios, passes = item.simulation.ratios[-1], item.simulation.passes
        shares = shares_of(item.simulation)
        worst, most = int(ratios.argmin()), int(passes.argmax())
        row = [item.spec.label, f"{ratios.mean():.3f}"]
        row += [f"{ratios[members].mean():.3f}" for members in groups.values()]
        reached.append([*row, f"{ratios[worst]:.3f}", tasks[worst].name])
        row = [item.spec.label, *(f"{shares[members].sum():.1%}" for members in groups.values())]
        given.append([*row, f"{passes[most]:.1f}", tasks[most].name])
    return {
        "simulated score / baseline, mean over tasks": (
            ["schedule", "all", *groups, "worst", "worst task"],
            reached,
        ),
        "share of batches, and passes over the data": (
            ["schedule", *groups, "most passes", "task with most passes"],
            given,
        ),
    }


def baseline_table(played: Sequence[Played]) -> Table:
    """Returns a table of examples and baselines, a row per task; a mark means not measured."""
    rows = []
    marked = any(mark for mark in map(_mark, played[0].baseline_sources))
    for task, source in zip(played[0].schedule.tasks, played[0].baseline_sources, strict=True):
        mark = _mark(source) or (" " if marked else "")  # Keeps the numbers aligned.
        rows.append([task.name, f"{task.size:,}", f"{task.baseline:.1f}{mark}"])
    return ["task", "examples", "baseline"], rows


def baseline_notes(played: Sequence[Played]) -> list[str]:
    """Returns the meaning of the marks in `baseline_table`; empty without marks."""
    return [
        f"{mark} {text}"
        for source, (mark, text) in _MARKS.items()
        if source in played[0].baseline_sources
    ]


def task_tables(played: Sequence[Played]) -> dict[str, Table]:
    """Returns {title: table} with a row per task and a column per schedule."""
    simulations = [item.simulation for item in played]
    shares = [shares_of(simulation) for simulation in simulations]
    header = ["task", *(item.spec.label for item in played)]
    names = [task.name for task in played[0].schedule.tasks]

    def table(cells: Sequence[Sequence[str]]) -> Table:
        return header, [[name, *row] for name, row in zip(names, cells, strict=True)]

    places = range(len(names))
    return {
        "simulated score / baseline": table(
            [[f"{simulation.ratios[-1, i]:.2f}" for simulation in simulations] for i in places]
        ),
        "share of batches": table([[f"{share[i]:.1%}" for share in shares] for i in places]),
        "passes over the data": table(
            [[f"{simulation.passes[i]:.1f}" for simulation in simulations] for i in places]
        ),
    }


def _mark(source: str) -> str:
    return _MARKS[source][0] if source in _MARKS else ""


def shares_of(simulation: Simulation) -> np.ndarray:
    """Returns the share of the batches of each task, float64[N]."""
    batches = simulation.batches[-1]
    return batches / max(1.0, batches.sum())


def as_data(played: Sequence[Played]) -> dict[str, Any]:
    """Returns all results as plain data for JSON."""
    tasks = played[0].schedule.tasks
    return {
        "tasks": [
            {**dataclasses.asdict(task), "baseline_source": source}
            for task, source in zip(tasks, played[0].baseline_sources, strict=True)
        ],
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
    """Splits at commas that are not inside brackets."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    parts.append(text[start:])
    return [part for part in parts if part.strip()]
