"""Balancing methods by name."""

from typing import Any

from keras_mtl.balancing.base import Balancer
from keras_mtl.configuration.components import Registry
from keras_mtl.errors import ConfigError

METHODS = Registry[Balancer]("balancing")

register = METHODS.register
available = METHODS.available
parameters_of = METHODS.parameters_of
number = METHODS.number
integer = METHODS.integer
choice = METHODS.choice


def create(name: str, num_tasks: int, seed: int = 0, /, **parameters: Any) -> Balancer:
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
    if num_tasks < 1:
        raise ConfigError(f"balancing {name!r}: {num_tasks} tasks; there must be at least one")
    return METHODS.create(name, parameters, num_tasks, seed)
