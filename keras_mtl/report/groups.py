"""Groups of runs that differ only in their seed, with means and spreads."""

import dataclasses
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from keras_mtl.events import Curve
from keras_mtl.report.labels import compared, unique_labels, with_defaults
from keras_mtl.report.runs import Run


class Mean(NamedTuple):
    """A mean over seeds.

    Attributes:
        mean: mean of the values.
        spread: standard deviation of the values (n - 1); None if there is one value.
        low: lowest value.
        high: highest value.
        seeds: number of values.
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
        """Returns the mean of a number over the runs that have it; None if no run has it."""
        return mean(value for run in self.runs if (value := value_of(run)) is not None)

    def test(self, metric: str, task: str) -> Mean | None:
        """Returns the mean test score of a task; None if no run has it."""
        return self.mean_of(lambda run: run.test.get(metric, {}).get(task))

    def curve(self, curve_of: Callable[[Run], Curve | None]) -> "CurveMean | None":
        """Returns the mean of a curve over seeds, at the steps that its runs have in common."""
        curves = [curve for run in self.runs if (curve := curve_of(run))]
        if not curves:
            return None
        steps = sorted(set.intersection(*(set(curve) for curve in curves)))
        if not steps:  # If the runs were logged at different steps, the first one represents all.
            curves, steps = curves[:1], sorted(curves[0])
        values = np.array([[curve[step] for step in steps] for curve in curves])
        return CurveMean(np.array(steps), values.mean(0), values.min(0), values.max(0), len(curves))

    def baseline(self, task: str) -> float | None:
        """Returns the baseline of a task in the unit of the metric that drove the schedule."""
        return next((run.baselines[task] for run in self.runs if task in run.baselines), None)

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
    """Returns the mean and spread of numbers; None if there are none."""
    found = [float(value) for value in values]
    if not found:
        return None
    spread = statistics.stdev(found) if len(found) > 1 else None
    return Mean(statistics.fmean(found), spread, min(found), max(found), len(found))


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Groups runs whose configurations differ only in the seed.

    A run without a configuration, or with the same seed as an earlier one, is a separate group. A
    field that only newer runs have gets its default value in older runs.

    Args:
        runs: the runs; their order determines that of the groups.

    Returns:
        The groups, in the order of their first runs; labels are unique.
    """
    members: dict[str, list[Run]] = {}
    for run in with_defaults(runs):
        key = json.dumps(compared(run.params), sort_keys=True, default=str)
        if not run.params:
            key = str(run.directory)
        while any(other.seed == run.seed for other in members.get(key, ())):
            key += "'"
        members.setdefault(key, []).append(run)
    groups = [
        tuple(sorted(part, key=lambda run: -1 if run.seed is None else run.seed))
        for part in members.values()
    ]
    labels = unique_labels([group[0] for group in groups])
    return [Group(label, group) for label, group in zip(labels, groups, strict=True)]


def task_names(groups: Sequence[Group]) -> list[str]:
    """Returns all tasks of all runs, in order of appearance."""
    names: dict[str, None] = {}
    for group in groups:
        for run in group.runs:
            names.update(dict.fromkeys(run.tasks))
    return list(names)


def sizes_of(groups: Sequence[Group]) -> dict[str, int]:
    """Returns the training pairs by task, from the first run that has them."""
    sizes: dict[str, int] = {}
    for group in groups:
        for run in group.runs:
            sizes = {**run.sizes, **sizes}
    return sizes
