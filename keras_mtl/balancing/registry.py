"""The registry of balancing methods."""

from typing import Any

from keras_mtl.balancing.base import Balancer
from keras_mtl.configuration.components import Family
from keras_mtl.errors import ConfigError

METHODS = Family[Balancer]("balancing")

register = METHODS.register
available = METHODS.available
parameters_of = METHODS.parameters_of
number = METHODS.number
integer = METHODS.integer
choice = METHODS.choice


def create(name: str, num_tasks: int, seed: int = 0, /, **parameters: Any) -> Balancer:
    """Creates a balancing method by name.

    Args:
        name: a registered name; `available` lists them.
        num_tasks: number of tasks N, >= 1.
        seed: seed of its random draws.
        **parameters: the parameters of the method.

    Returns:
        The method.

    Raises:
        ConfigError: the name is unknown, or a parameter is unknown, missing or out of range.

    Example:
        ```python
        from keras_mtl import balancing

        method = balancing.create("cagrad", 3, c=0.4)
        method.uses  # "gradients"
        ```
    """
    if num_tasks < 1:
        raise ConfigError(f"balancing {name!r}: num_tasks = {num_tasks}; it must be at least 1")
    return METHODS.find(name, parameters)(num_tasks, seed, **parameters)
