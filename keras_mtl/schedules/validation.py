"""Checks of schedule parameters; each message gives the field, the value and the remedy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl.errors import ConfigError, nearest
from keras_mtl.schedules.base import TaskInfo
from keras_mtl.schedules.registry import SCHEDULES

number = SCHEDULES.number
integer = SCHEDULES.integer
choice = SCHEDULES.choice


def per_task(
    schedule: str,
    field: str,
    value: Any,
    tasks: Sequence[TaskInfo],
    *,
    least: float = 0.0,
) -> np.ndarray:
    """One number a task, given as {task name: number} or as a list in the order of the tasks.

    Args:
      schedule: name of the schedule, for the message.
      field: name of the parameter.
      value: what the user gave.
      tasks: the tasks.
      least: smallest number that is accepted.

    Returns:
      float64[N].

    Raises:
      ConfigError: if a task has no number, a name is unknown or a number is out of range.
    """
    names = [task.name for task in tasks]
    if isinstance(value, Mapping):
        for key in value:
            if key not in names:
                raise ConfigError(
                    f"schedule {schedule!r}: {field} names the unknown task {key!r}"
                    f"{nearest(str(key), names)}"
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
    return np.array(
        [
            number(schedule, f"{field}[{name!r}]", item, least=least)
            for name, item in zip(names, values, strict=True)
        ]
    )
