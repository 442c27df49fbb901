"""Checks of schedule parameters; each message gives the field, the value and the remedy."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl.errors import ConfigError, nearest
from keras_mtl.schedules.base import TaskInfo


def number(
    schedule: str,
    field: str,
    value: Any,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    hint: str = "",
) -> float:
    """A finite number in [least, most] and in (above, below).

    Args:
      schedule: name of the schedule, for the message.
      field: name of the parameter.
      value: what the user gave.
      least: smallest value that is accepted.
      most: largest value that is accepted.
      above: the value must be larger than this.
      below: the value must be smaller than this.
      hint: what would be right, appended to the message.

    Returns:
      The number.

    Raises:
      ConfigError: if it is none or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        remedy = "write a number, for example 0.5 or 1.0e-5 (YAML reads 1e-5 as text)"
        raise ConfigError(f"schedule {schedule!r}: {field} = {value!r} is not a number; {remedy}")
    if math.isfinite(value) and least <= value <= most and above < value < below:
        return float(value)
    rules = ["finite"]
    if above > -math.inf:
        rules.append(f"> {above:g}")
    if least > -math.inf:
        rules.append(f">= {least:g}")
    if most < math.inf:
        rules.append(f"<= {most:g}")
    if below < math.inf:
        rules.append(f"< {below:g}")
    hint = f": {hint}" if hint else ""
    raise ConfigError(
        f"schedule {schedule!r}: {field} = {value} must be {' and '.join(rules)}{hint}"
    )


def integer(schedule: str, field: str, value: Any, *, least: int, hint: str = "") -> int:
    """A whole number >= least; raises ConfigError otherwise."""
    result = number(schedule, field, value, least=least, hint=hint)
    if result != int(result):
        raise ConfigError(f"schedule {schedule!r}: {field} = {value} must be a whole number")
    return int(result)


def choice(schedule: str, field: str, value: Any, known: Sequence[str]) -> str:
    """One of the known words; raises ConfigError otherwise."""
    if value not in known:
        raise ConfigError(
            f"schedule {schedule!r}: {field} = {value!r} is not known; write {' or '.join(known)}"
        )
    return value


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
