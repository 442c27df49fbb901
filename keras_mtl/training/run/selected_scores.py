"""The scores by which weights are kept and training is stopped: of a task, or of all together."""

from collections.abc import Mapping, Sequence

import numpy as np

from keras_mtl import metrics
from keras_mtl.configuration.keeping import MACRO, WORST
from keras_mtl.evaluation.task_metrics import TaskMetrics


class SelectedScores:
    """Computes one number from the scores of a validation.

    Args:
        task_metrics: metrics of the tasks.
        validated: names of the validated tasks.
        baselines: baseline by task, in the unit of schedules; None without one.
    """

    def __init__(
        self,
        task_metrics: TaskMetrics,
        validated: Sequence[str],
        baselines: Mapping[str, float | None] | None = None,
    ) -> None:
        self._metrics = task_metrics
        self.validated = tuple(validated)
        known = baselines or {}
        found = {name: known.get(name) for name in validated}
        self._baselines = {name: value for name, value in found.items() if value is not None}
        self._compares_ratios = len(self._baselines) == len(found) > 0

    def value(self, name: str, scores: Mapping[str, float]) -> float:
        """Returns a number.

        Args:
            name: `macro` (mean over the validated tasks, of score / baseline if their metrics
                differ), `worst` (score / baseline of the task
                where it is lowest; the worst score if a task has no baseline), or a task.
            scores: score by task.
        """
        if name == MACRO:
            chosen = {task: scores[task] for task in self.validated}
            return self._metrics.average(chosen, self._baselines)
        if name != WORST:
            return float(scores[name])
        if self._compares_ratios:
            return min(
                self._metrics.ratio(task, scores[task], self._baselines[task])
                for task in self.validated
            )
        values = [float(scores[task]) for task in self.validated]
        return min(values) if self._metrics.average_higher_is_better else max(values)

    def is_better(self, name: str, value: float, other: float) -> bool:
        """Returns whether a number is better than another; False if they are equal."""
        if name == WORST and self._compares_ratios:
            return value > other
        if name in (MACRO, WORST):
            higher = self._metrics.average_higher_is_better
            return value > other if higher else value < other
        return metrics.is_better(self._metrics.by_task[name], value, other)

    def improvement(self, name: str, value: float, other: float) -> float:
        """Returns by how much a number is better than another; negative if it is worse."""
        return abs(value - other) if self.is_better(name, value, other) else -abs(value - other)

    def collect(self, tasks: Sequence[str]) -> dict[str, np.ndarray]:
        """Returns arrays for `other_scores`: what the numbers of a checkpoint are computed from.

        Args:
            tasks: names of all tasks, in the order of the checkpoint.
        """
        used = self._baselines if self._compares_ratios else {}
        return {
            "validated": np.array([name in self.validated for name in tasks]),
            "baselines": np.array([used.get(name, np.nan) for name in tasks], np.float64),
        }

    def other_scores(
        self, state: Mapping[str, np.ndarray], tasks: Sequence[str], index_map: np.ndarray
    ) -> tuple[frozenset[str], str]:
        """Returns which numbers of a checkpoint cannot be compared with those of this run.

        Args:
            state: the arrays of `collect`, possibly among others.
            tasks: names of all tasks.
            index_map: int64 [N], the saved index of each task, -1 for a new one.

        Returns:
            Of `macro` and `worst`, those that are computed from other tasks or baselines, and what
            has changed.
        """
        own = self.collect(tasks)
        # Older versions validated every task.
        was = (
            state["validated"] if "validated" in state else np.ones_like(state["book/steps"], bool)
        )
        same_tasks = sorted(index_map) == list(range(len(was)))
        if not same_tasks or (was[index_map] != own["validated"]).any():
            return frozenset((MACRO, WORST)), "tasks"
        if "baselines" in state and not np.array_equal(
            state["baselines"][index_map], own["baselines"], equal_nan=True
        ):
            return frozenset((MACRO, WORST) if self._metrics.differ else (WORST,)), "baselines"
        return frozenset(), ""

    def title(self, name: str) -> str:
        """Returns what a number is, for the user."""
        if name == WORST:
            ratio = " / baseline" if self._compares_ratios else ""
            return f"{self._metrics.title}{ratio} of the worst task"
        if name == MACRO:
            return f"{self._metrics.average_title} averaged over tasks"
        return f"{self._metrics.by_task[name]} of {name}"
