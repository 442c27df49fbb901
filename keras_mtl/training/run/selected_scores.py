"""The scores by which weights are kept and training is stopped: of a task, or of all together."""

from collections.abc import Mapping, Sequence

import numpy as np

from keras_mtl import metrics
from keras_mtl.configuration.keeping import MACRO, WORST


class SelectedScores:
    """Computes one number from the scores of a validation.

    Args:
        metric: metric of the scores.
        validated: names of the validated tasks.
        baselines: baseline by task, in the unit of schedules; None without one.
    """

    def __init__(
        self,
        metric: str,
        validated: Sequence[str],
        baselines: Mapping[str, float | None] | None = None,
    ) -> None:
        self._metric = metric
        self.validated = tuple(validated)
        known = baselines or {}
        found = {name: known.get(name) for name in validated}
        self._baselines = {name: value for name, value in found.items() if value is not None}
        self._compares_ratios = len(self._baselines) == len(found) > 0

    def value(self, name: str, scores: Mapping[str, float]) -> float:
        """Returns a number.

        Args:
            name: `macro` (mean over the validated tasks), `worst` (score / baseline of the task
                where it is lowest; the worst score if a task has no baseline), or a task.
            scores: score by task.
        """
        if name == MACRO:
            return float(np.mean([scores[task] for task in self.validated]))
        if name != WORST:
            return float(scores[name])
        if self._compares_ratios:
            return min(self._ratio(task, scores[task]) for task in self.validated)
        values = [float(scores[task]) for task in self.validated]
        return min(values) if metrics.higher_is_better(self._metric) else max(values)

    def is_better(self, name: str, value: float, other: float) -> bool:
        """Returns whether a number is better than another; False if they are equal."""
        if name == WORST and self._compares_ratios:
            return value > other
        return metrics.is_better(self._metric, value, other)

    def improvement(self, name: str, value: float, other: float) -> float:
        """Returns by how much a number is better than another; negative if it is worse."""
        return abs(value - other) if self.is_better(name, value, other) else -abs(value - other)

    def title(self, name: str) -> str:
        """Returns what a number is, for the user."""
        if name == WORST:
            ratio = " / baseline" if self._compares_ratios else ""
            return f"{self._metric}{ratio} of the worst task"
        return (
            f"{self._metric} averaged over tasks" if name == MACRO else f"{self._metric} of {name}"
        )

    def _ratio(self, task: str, score: float) -> float:
        value = metrics.schedule_score(self._metric, score)
        baseline = self._baselines[task]
        if metrics.schedule_higher_is_better(self._metric):
            return value / baseline
        return baseline / max(value, 1e-6 * baseline)
