"""Checks of what a user writes as a parameter of a balancing method."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mtl.errors import ConfigError, nearest


def number(
    method: str,
    field: str,
    value: Any,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """A finite number in the given range.

    Args:
      method: name of the balancing method, for the message.
      field: name of the parameter.
      value: what the user gave.
      least: smallest value that is accepted.
      most: largest value that is accepted.
      above: the value must be larger than this.
      below: the value must be smaller than this.

    Returns:
      The number.

    Raises:
      ConfigError: if it is none or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise ConfigError(
            f"balancing {method!r}: {field} = {value!r} is not a number; write one, for example "
            "0.5 or 1.0e-3 (YAML reads 1e-3 as text)"
        )
    if math.isfinite(value) and least <= value <= most and above < value < below:
        return float(value)
    bounds = ((">", above), (">=", least), ("<=", most), ("<", below))
    rules = ["finite", *(f"{sign} {bound:g}" for sign, bound in bounds if math.isfinite(bound))]
    raise ConfigError(f"balancing {method!r}: {field} = {value} must be {' and '.join(rules)}")


def integer(method: str, field: str, value: Any, *, least: int) -> int:
    """A whole number >= least; raises ConfigError otherwise."""
    result = number(method, field, value, least=least)
    if result != int(result):
        raise ConfigError(f"balancing {method!r}: {field} = {value} must be a whole number")
    return int(result)


def choice(method: str, field: str, value: Any, known: Sequence[str]) -> str:
    """One of the known words; raises ConfigError otherwise."""
    if value not in known:
        raise ConfigError(
            f"balancing {method!r}: {field} = {value!r} is not known{nearest(str(value), known)}"
        )
    return value
