"""What a schedule knows about a task, and the comparison of lists of tasks."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from keras_mtl.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class TaskInfo:
    """What a schedule knows about a task: its name, size and baseline.

    Args:
        name: unique name, not empty.
        size: number of training examples, finite and >= 0.
        baseline: score of a model trained on only this task, > 0, in the unit of the metric; None
            if it is not known.

    Raises:
        ConfigError: if a value is out of range.

    Example:
        ```python
        from keras_mtl import TaskInfo

        tasks = [TaskInfo("en-fr", size=200_000, baseline=41.2), TaskInfo("en-oc", size=400)]
        ```
    """

    name: str
    size: float
    baseline: float | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("a task has an empty name; give each task a unique name")
        if not 0 <= self.size < math.inf:
            raise ConfigError(f"task {self.name!r}: size = {self.size} must be finite and >= 0")
        if self.baseline is not None and not (math.isfinite(self.baseline) and self.baseline > 0):
            raise ConfigError(
                f"task {self.name!r}: baseline = {self.baseline} must be a finite number > 0: the "
                "score of a model trained on only this task (for a metric that is negative, such "
                "as a negated log-perplexity, use its positive form and say that lower is better)"
            )


def check_tasks(tasks: Sequence[TaskInfo]) -> None:
    """Raises ConfigError if there are no tasks or two tasks have the same name."""
    if not tasks:
        raise ConfigError("the list of tasks is empty; give at least one task")
    seen: set[str] = set()
    for task in tasks:
        if task.name in seen:
            raise ConfigError(
                f"two tasks have the name {task.name!r}; give each task a unique name"
            )
        seen.add(task.name)


def task_index_map(old_names: Sequence[str], new_names: Sequence[str]) -> np.ndarray:
    """Returns the index of each present task in an earlier list of tasks.

    Args:
        old_names: names of the tasks when the state was saved.
        new_names: names of the tasks now.

    Returns:
        int64[len(new_names)], -1 for a task that is not in `old_names`.
    """
    old = {name: index for index, name in enumerate(old_names)}
    return np.array([old.get(name, -1) for name in new_names], np.int64)
