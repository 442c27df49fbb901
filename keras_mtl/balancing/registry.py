"""Balancing methods by name."""

import inspect
from typing import Any, TypeVar

from keras_mtl.balancing.base import Balancer
from keras_mtl.errors import ConfigError, nearest

_METHODS: dict[str, type[Balancer]] = {}
_Class = TypeVar("_Class", bound=type[Balancer])


def register(cls: _Class) -> _Class:
    """Class decorator: makes a method known by its `name`.

    Raises:
      ConfigError: if another class has that name.
    """
    known = _METHODS.get(cls.name)
    if known is not None and known.__qualname__ != cls.__qualname__:
        raise ConfigError(
            f"balancing name {cls.name!r} of {cls.__qualname__} is taken by {known.__qualname__}; "
            "choose another name"
        )
    _METHODS[cls.name] = cls
    return cls


def available() -> list[str]:
    """Names of all registered methods, sorted."""
    return sorted(_METHODS)


def parameters_of(name: str) -> dict[str, inspect.Parameter]:
    """The parameters of a method by name: what its constructor takes by keyword alone.

    Raises:
      ConfigError: if no method has that name.
    """
    if name not in _METHODS:
        raise ConfigError(f"balancing name = {name!r} is not known{nearest(str(name), _METHODS)}")
    parameters = inspect.signature(_METHODS[name]).parameters
    return {
        key: parameter
        for key, parameter in parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def create(name: str, num_tasks: int, seed: int = 0, **parameters: Any) -> Balancer:
    """Makes a balancing method.

    Args:
      name: a registered name.
      num_tasks: number of tasks, >= 1.
      seed: seed of its random draws.
      **parameters: the method's own parameters.

    Returns:
      The method.

    Raises:
      ConfigError: if the name or a parameter is not known, missing or out of range.
    """
    known = parameters_of(name)
    for key in parameters:
        if key not in known:
            remedy = nearest(key, known) or "; it takes none"
            raise ConfigError(f"balancing {name!r} has no parameter {key!r}{remedy}")
    for key, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and key not in parameters:
            raise ConfigError(
                f"balancing {name!r} needs the parameter {key!r}; known: {', '.join(known)}"
            )
    if num_tasks < 1:
        raise ConfigError(f"balancing {name!r}: {num_tasks} tasks; there must be at least one")
    return _METHODS[name](num_tasks, seed, **parameters)
