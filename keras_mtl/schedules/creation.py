"""Schedules made by name."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_mtl.schedules.base import Schedule
from keras_mtl.schedules.registry import SCHEDULES
from keras_mtl.schedules.tasks import TaskInfo, check_tasks


def create(name: str, tasks: Sequence[TaskInfo], /, **parameters: Any) -> Schedule:
    """Makes a schedule.

    Args:
        name: a registered name.
        tasks: the tasks, in the order of every array.
        **parameters: the schedule's own parameters, and `floor`.

    Returns:
        The schedule.

    Raises:
        ConfigError: the name or a parameter is not known, missing or out of range.
    """
    check_tasks(tasks)
    return SCHEDULES.create(name, parameters, tasks)


def create_unsized(
    name: str, baselines: Mapping[str, float | None], /, **parameters: Any
) -> Schedule:
    """Makes a schedule before the sizes of its tasks are known.

    It checks its parameters and says what it needs, such as scores. Its probabilities mean nothing.

    Args:
        name: a registered name.
        baselines: the tasks in their order, each with its baseline, or None.
        **parameters: as of `create`.

    Raises:
        ConfigError: as of `create`.
    """
    # No schedule checks a parameter against a size.
    tasks = [TaskInfo(task, 1, baseline) for task, baseline in baselines.items()]
    return create(name, tasks, **parameters)
