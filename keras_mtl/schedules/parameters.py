"""Checks of parameters that have a value for each task."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl.errors import ConfigError, nearest_task
from keras_mtl.schedules.registry import number
from keras_mtl.schedules.tasks import TaskInfo


def per_task(
    schedule: str,
    field: str,
    value: Any,
    tasks: Sequence[TaskInfo],
    *,
    least: float = 0.0,
    weights: bool = False,
) -> np.ndarray:
    """Returns one number for each task from {task name: number} or a list in task order.

    Args:
        schedule: name of the schedule, for the message.
        field: name of the parameter.
        value: the user's value.
        tasks: the tasks.
        least: smallest number that is accepted.
        weights: whether the numbers are weights, of which at least one must be above 0.

    Returns:
        float64[N], in the order of the tasks.

    Raises:
        ConfigError: if a task has no number, a name is unknown, a number is out of range, or all
            weights are 0.
    """
    names = [task.name for task in tasks]
    if isinstance(value, Mapping):
        for key in value:
            if key not in names:
                raise ConfigError(
                    f"schedule {schedule!r}: {field} names the unknown task {key!r}"
                    f"{nearest_task(str(key), names)}"
                )
        for name in names:
            if name not in value:
                raise ConfigError(
                    f"schedule {schedule!r}: {field} has no value for task {name!r}; give one for "
                    f"each of the {len(names)} tasks"
                )
        values = [value[name] for name in names]
    elif isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        if len(value) != len(names):
            raise ConfigError(
                f"schedule {schedule!r}: {field} has {len(value)} values for {len(names)} tasks; "
                f"give one for each, or write {{task name: value}}"
            )
        values = list(value)
    else:
        raise ConfigError(
            f"schedule {schedule!r}: {field} = {value!r} must be {{task name: number}} or a list"
        )
    found = np.array(
        [
            number(schedule, f"{field}[{name!r}]", item, least=least)
            for name, item in zip(names, values, strict=True)
        ]
    )
    if weights and not found.any():
        raise ConfigError(
            f"schedule {schedule!r}: {field} = {value!r} has no weight above 0, so no task would "
            "be drawn; give at least one task a weight above 0, or use the schedule 'uniform'"
        )
    return found


def sizes_of(schedule: str, tasks: Sequence[TaskInfo]) -> np.ndarray:
    """Returns the sizes of the tasks, for a schedule that weights tasks by size.

    Args:
        schedule: name of the schedule, for the message.
        tasks: the tasks.

    Returns:
        float64[N] >= 0, at least one above 0.

    Raises:
        ConfigError: if every size is 0.
    """
    sizes = np.array([task.size for task in tasks], np.float64)
    if not sizes.any():
        raise ConfigError(
            f"schedule {schedule!r} weights tasks by their numbers of training examples, but the "
            f"size of every task is 0 ({', '.join(task.name for task in tasks)}); give the sizes, "
            "or use the schedule 'uniform'"
        )
    return sizes
