"""Sections of a configuration about the optimizer, and their checks. Imports no TensorFlow."""

import dataclasses
from typing import Any

ADAM = "adam"
"""Name of our own optimizer; all others are those of Keras."""


@dataclasses.dataclass(slots=True)
class LearningRateFactorConfig:
    """A factor on the learning rate of some variables.

    Attributes:
        match: regular expression for the whole name of variables.
        factor: multiplies the learning rate; >= 0.
    """

    match: str = ""
    factor: float = 1.0


def is_adam(settings: Any) -> bool:
    """Returns whether an `OptimizerConfig` chooses our own Adam."""
    return settings.name.lower() == ADAM
