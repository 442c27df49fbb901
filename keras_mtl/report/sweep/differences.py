"""Differences between settings of a sweep, tested by a paired bootstrap over sentences."""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keras_mtl.evaluation.significance import SEED, bootstrap_scores, paired_p_value
from keras_mtl.metrics import TEXT_METRICS
from keras_mtl.report.groups import Group
from keras_mtl.report.runs import Run
from keras_mtl.report.significance import LEVEL

HIGH, LOW, ALL = "high", "low", "all"
Parts = Mapping[str, tuple[str, ...]]
"""Tasks by part: those of high resource, of low resource, and all of both lists."""


class Difference(NamedTuple):
    """The difference of the mean scores of two settings.

    Attributes:
        value: the difference of the means over seeds.
        p_value: of a paired bootstrap over sentences; None if it was not tested.
        spread: the larger standard deviation over seeds of the two; None with single seeds.
    """

    value: float
    p_value: float | None
    spread: float | None

    @property
    def significant(self) -> bool:
        """Whether the sentences tell that there is a difference between these models."""
        return self.p_value is not None and self.p_value < LEVEL

    @property
    def clear(self) -> bool:
        """Whether it is significant, and also larger than the spread over seeds."""
        return self.significant and self.spread is not None and abs(self.value) > self.spread


def test_mean(run: Run, metric: str, tasks: Sequence[str]) -> float | None:
    """Returns the mean test score over tasks; None if one of them was not scored."""
    scores = run.test.get(metric, {})
    if not tasks or any(task not in scores for task in tasks):
        return None
    return statistics.fmean(scores[task] for task in tasks)


def with_seeds_of(group: Group, other: Group) -> Group:
    """Returns the runs of a group whose seeds another group has, or all if there are none.

    Runs of one seed begin with the same weights and see the same data, so they have much of their
    deviation from the mean in common.
    """
    runs = tuple(run for run in group.runs if run.seed in other.seeds)
    return dataclasses.replace(group, runs=runs) if runs else group


class Bootstrap:
    """Differences between groups of runs, with a paired bootstrap over sentences.

    The score of a group is its mean over seeds, and over the tasks of a part. All systems of a task
    are scored on the same resamples; tasks are resampled independently.

    Args:
        metric: the metric. Metrics that are not of text are not tested.
        samples: number of resamples; 0 tests nothing.
    """

    def __init__(self, metric: str, samples: int) -> None:
        self._metric = metric
        self._samples = samples if metric in TEXT_METRICS else 0
        self._scores: dict[tuple[str, str], np.ndarray] = {}
        self._seeds: dict[str, int] = {}

    def differences(
        self, group: Group, other_of: Callable[[str], Group | None], parts: Parts
    ) -> dict[str, Difference]:
        """Returns the differences of a group to another one, by part and by task.

        Args:
            group: the group.
            other_of: function that returns the group to compare with on a task.
            parts: the tasks by part.
        """
        tested: dict[str, np.ndarray | None] = {}
        pairs: dict[str, tuple[list[float], list[float]]] = {}
        for task in parts[ALL]:
            other = other_of(task)
            if other is None:
                continue
            values = _by_seed(group, self._metric, [task]), _by_seed(other, self._metric, [task])
            if all(values):
                pairs[task] = values
                tested[task] = self._resampled(group, other, task)
        found = {task: _difference(*pairs[task], tested[task]) for task in pairs}
        for part, tasks in parts.items():
            if not tasks or any(task not in pairs for task in tasks):
                continue
            own = _by_seed(group, self._metric, tasks)
            others = [other for task in tasks if (other := other_of(task)) is not None]
            same = all(other is others[0] for other in others)
            compared = (
                _by_seed(others[0], self._metric, tasks)
                if same
                else [statistics.fmean(statistics.fmean(pairs[task][1]) for task in tasks)]
            )
            arrays = [array for task in tasks if (array := tested[task]) is not None]
            resampled = np.mean(arrays, axis=0) if len(arrays) == len(tasks) else None
            found[part] = _difference(own, compared, resampled)
        return found

    def means(self, group: Group, other: Group, tasks: Sequence[str]) -> np.ndarray | None:
        """Returns the means over seeds and tasks on the real test sets and on resamples.

        Args:
            group: the group.
            other: a group that it is compared with.
            tasks: the tasks.

        Returns:
            float64[1 + S]; None if nothing is tested, or if the groups have other test sets.
        """
        found = []
        for task in tasks:
            lines = self._common_references((*group.runs, *other.runs), task)
            if lines is None:
                return None
            found += [self._run(run, task, lines) for run in group.runs]
        return np.asarray(np.mean(found, axis=0)) if found else None

    def _resampled(self, group: Group, other: Group, task: str) -> np.ndarray | None:
        """Returns differences of means over seeds on resamples, float64[1 + S], if comparable."""
        runs = (*group.runs, *other.runs)
        references = self._common_references(runs, task)
        if references is None:
            return None
        arrays = [self._run(run, task, references) for run in runs]
        count = len(group.runs)
        return np.asarray(np.mean(arrays[:count], axis=0) - np.mean(arrays[count:], axis=0))

    def _common_references(self, runs: Sequence[Run], task: str) -> list[str] | None:
        """Returns the references of a task; None if they differ, or if nothing is tested."""
        references = [[row.reference for row in run.translations.get(task, ())] for run in runs]
        if not self._samples or not references[0]:
            return None
        return references[0] if all(lines == references[0] for lines in references) else None

    def _run(self, run: Run, task: str, references: Sequence[str]) -> np.ndarray:
        key = (str(run.directory), task)
        if key not in self._scores:
            lines = [row.hypothesis for row in run.translations[task]]
            seed = SEED + self._seeds.setdefault(task, len(self._seeds))
            self._scores[key] = bootstrap_scores(
                lines, references, self._metric, self._samples, seed
            )
        return self._scores[key]


def _by_seed(group: Group, metric: str, tasks: Sequence[str]) -> list[float]:
    values = (test_mean(run, metric, tasks) for run in group.runs)
    return [value for value in values if value is not None]


def _difference(
    own: Sequence[float], others: Sequence[float], resampled: np.ndarray | None
) -> Difference:
    spreads = [statistics.stdev(values) for values in (own, others) if len(values) > 1]
    return Difference(
        statistics.fmean(own) - statistics.fmean(others),
        None if resampled is None else paired_p_value(resampled),
        max(spreads) if spreads else None,
    )
