"""Schedules by name."""

import inspect
from collections.abc import Sequence
from typing import Any, TypeVar

from keras_mtl.errors import ConfigError, nearest
from keras_mtl.schedules.base import Schedule, TaskInfo, check_tasks

_SCHEDULES: dict[str, type[Schedule]] = {}
_Class = TypeVar("_Class", bound=type[Schedule])


def register(cls: _Class) -> _Class:
    """Class decorator: makes a schedule known by its `name`.

    Raises:
      ConfigError: if another class has that name.
    """
    known = _SCHEDULES.get(cls.name)
    if known is not None and (known.__module__, known.__qualname__) != (
        cls.__module__,
        cls.__qualname__,
    ):
        raise ConfigError(
            f"schedule name {cls.name!r} of {cls.__qualname__} is taken by {known.__qualname__}; "
            "choose another name"
        )
    _SCHEDULES[cls.name] = cls
    return cls


def available() -> list[str]:
    """Names of all registered schedules, sorted."""
    return sorted(_SCHEDULES)


def parameters_of(name: str) -> dict[str, inspect.Parameter]:
    """The parameters of a schedule by name: what its constructor takes by keyword.

    Raises:
      ConfigError: if no schedule has that name.
    """
    if name not in _SCHEDULES:
        raise ConfigError(f"schedule name = {name!r} is not known{nearest(name, _SCHEDULES)}")
    result: dict[str, inspect.Parameter] = {}
    for cls in _SCHEDULES[name].__mro__:
        if "__init__" not in vars(cls):
            continue
        parameters = inspect.signature(vars(cls)["__init__"]).parameters.values()
        for parameter in parameters:
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                result.setdefault(parameter.name, parameter)
        # **shared hands the rest to the base class.
        if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            break
    return result


def create(name: str, tasks: Sequence[TaskInfo], **parameters: Any) -> Schedule:
    """Makes a schedule.

    Args:
      name: a registered name.
      tasks: the tasks, in the order of every array.
      **parameters: the schedule's own parameters, and `floor`.

    Returns:
      The schedule.

    Raises:
      ConfigError: if the name or a parameter is not known, missing or out of range.
    """
    known = parameters_of(name)
    check_tasks(tasks)
    for key in parameters:
        if key not in known:
            raise ConfigError(f"schedule {name!r} has no parameter {key!r}{nearest(key, known)}")
    for key, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and key not in parameters:
            raise ConfigError(
                f"schedule {name!r} needs the parameter {key!r}; known: {', '.join(known)}"
            )
    return _SCHEDULES[name](tasks, **parameters)
