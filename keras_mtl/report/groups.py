"""Runs that differ by their seed alone, put together: means and spreads."""

import dataclasses
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_mtl.report.runs import Curve, Run

# Fields that may differ between runs that are told as one: chance, and where things lie.
_NOT_COMPARED = ("runtime.seed", "task.data.data_dir", "trainer.schedule.baselines_file")


class Mean(NamedTuple):
    """A mean over seeds.

    Attributes:
      mean: of the values there are.
      spread: their standard deviation (n - 1), None for one value.
      low: the lowest.
      high: the highest.
      seeds: how many there are.
    """

    mean: float
    spread: float | None
    low: float
    high: float
    seeds: int


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of one configuration.

    Attributes:
      label: unique among the groups.
      runs: the runs, by seed.
    """

    label: str
    runs: tuple[Run, ...]

    def mean_of(self, value_of: Callable[[Run], float | None]) -> Mean | None:
        """Mean of a number over the runs that have it; None when none has."""
        return mean(value for run in self.runs if (value := value_of(run)) is not None)

    def test(self, metric: str, task: str) -> Mean | None:
        """Test score of a task."""
        return self.mean_of(lambda run: run.test.get(metric, {}).get(task))

    def curve(self, curve_of: Callable[[Run], Curve | None]) -> "CurveMean | None":
        """Mean of a curve over seeds, at the steps that all runs have which have the curve."""
        curves = [curve for run in self.runs if (curve := curve_of(run))]
        if not curves:
            return None
        steps = sorted(set.intersection(*(set(curve) for curve in curves)))
        if not steps:  # runs that were logged at other steps: the first one stands for all
            curves, steps = curves[:1], sorted(curves[0])
        values = np.array([[curve[step] for step in steps] for curve in curves])
        return CurveMean(np.array(steps), values.mean(0), values.min(0), values.max(0), len(curves))

    @property
    def seeds(self) -> list[int | None]:
        """Seeds of the runs."""
        return [run.seed for run in self.runs]


class CurveMean(NamedTuple):
    """A curve over seeds: int64[n] steps; float64[n] mean, lowest and highest; number of runs."""

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: int


def mean(values: Iterable[float]) -> Mean | None:
    """Mean and spread of numbers; None when there are none."""
    found = [float(value) for value in values]
    if not found:
        return None
    spread = statistics.stdev(found) if len(found) > 1 else None
    return Mean(statistics.fmean(found), spread, min(found), max(found), len(found))


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Puts runs together whose configurations differ by nothing but the seed.

    A run without a configuration, or with the same seed as one before, is a group of its own. A
    field that only some runs know, the others being older than it, has its default in these.

    Args:
      runs: in the order in which the groups are to be told.

    Returns:
      The groups, in the order of their first runs; labels are unique.
    """
    members: dict[str, list[Run]] = {}
    for run in _with_defaults(runs):
        key = json.dumps(_compared(run.params), sort_keys=True, default=str)
        if not run.params:
            key = str(run.folder)
        while any(other.seed == run.seed for other in members.get(key, ())):
            key += "'"
        members.setdefault(key, []).append(run)
    groups = [
        tuple(sorted(part, key=lambda run: -1 if run.seed is None else run.seed))
        for part in members.values()
    ]
    labels = _unique([group[0] for group in groups])
    return [Group(label, group) for label, group in zip(labels, groups, strict=True)]


def task_names(groups: Sequence[Group]) -> list[str]:
    """All tasks of all runs, in order of appearance."""
    names: dict[str, None] = {}
    for group in groups:
        for run in group.runs:
            names.update(dict.fromkeys(run.tasks))
    return list(names)


def sizes_of(groups: Sequence[Group]) -> dict[str, int]:
    """Training pairs by task, from the first run that knows them."""
    sizes: dict[str, int] = {}
    for group in groups:
        for run in group.runs:
            sizes = {**run.sizes, **sizes}
    return sizes


def differences(groups: Sequence[Group]) -> list[tuple[str, list[str]]]:
    """Fields in which the groups' configurations differ: (field, a value for each group)."""
    flat = [_flatten(_compared(group.runs[0].params)) for group in groups]
    fields = sorted({field for values in flat for field in values})
    result = []
    for field in fields:
        values = [values.get(field, "-") for values in flat]
        if len(set(values)) > 1:
            result.append((field, values))
    return result


def _unique(runs: Sequence[Run]) -> list[str]:
    """Labels of runs; of those with one schedule, with the other fields in which they differ."""
    labels = [run.label for run in runs]
    result = []
    for place, run in enumerate(runs):
        alike = [other for other, label in zip(runs, labels, strict=True) if label == run.label]
        label = run.label
        if len(alike) > 1:
            flat = [_flatten(_compared(other.params)) for other in alike]
            own = _flatten(_compared(run.params))
            differing = [
                field for field in sorted(own) if len({values.get(field) for values in flat}) > 1
            ]
            label += "".join(f" {_short(field)}={own[field]}" for field in differing[:3])
        if label in result or (len(alike) > 1 and label == run.label):
            label = f"{label} ({run.folder.name})"
        if label in result:
            label = f"{label} #{place + 1}"
        result.append(label)
    return result


def _with_defaults(runs: Sequence[Run]) -> list[Run]:
    """Fills in the fields that some of the runs know and others do not."""
    if len({_fields(run.params) for run in runs if run.params}) < 2:
        return list(runs)
    # Imports TensorFlow, so only where it is needed.
    from keras_mtl.config import ExperimentConfig

    defaults = ExperimentConfig().as_dict()
    return [
        dataclasses.replace(run, params=_filled(run.params, defaults)) if run.params else run
        for run in runs
    ]


def _fields(values: Mapping[str, Any], prefix: str = "") -> frozenset[str]:
    """Paths of a configuration's fields; those of a component's own parameters are not told."""
    found: set[str] = set()
    for key, child in values.items():
        if isinstance(child, Mapping) and key != "parameters":
            found |= _fields(child, f"{prefix}{key}.")
        else:
            found.add(prefix + key)
    return frozenset(found)


def _filled(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    result = {**defaults, **values}
    for key, child in result.items():
        default = defaults.get(key)
        if isinstance(child, Mapping) and isinstance(default, Mapping):
            result[key] = _filled(child, default)
    return result


def _short(field: str) -> str:
    """The last part of a field's path that says something by itself."""
    parts = [part for part in field.split(".") if part not in ("name", "parameters")]
    return parts[-1]


def _compared(params: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without the fields that are not compared."""

    def without(values: Any, prefix: str) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {
            key: without(child, f"{prefix}{key}.")
            for key, child in values.items()
            if f"{prefix}{key}" not in _NOT_COMPARED
        }

    return dict(without(params, ""))


def _flatten(values: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(values, Mapping) and values:
        return {
            path: text
            for key, child in values.items()
            for path, text in _flatten(child, f"{prefix}.{key}" if prefix else str(key)).items()
        }
    text = json.dumps(values, ensure_ascii=False, default=str).strip('"')
    return {prefix: text if len(text) <= 60 else text[:57] + "..."} if prefix else {}
