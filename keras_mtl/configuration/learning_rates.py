"""The learning rate schedules and their parameters: names, and what is wrong with them."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from keras_mtl.errors import nearest

# Parameters of each schedule.
SHAPES: dict[str, tuple[str, ...]] = {
    "transformer": (),
    "inverse_sqrt": (),
    "linear": (),
    "cosine": ("final",),
    "polynomial": ("power", "final"),
    "piecewise": ("steps", "factors"),
    "constant": (),
}
# A peak of 0.0102 costs the demo 7 chrF against one of 0.0051: docs/how-to/training.md.
_HIGH_FOR_ADAM = 0.008
_LIKE_ADAM = ("adam", "adamw")
_ENDING = ("linear", "cosine", "polynomial")  # They reach their last value at train_steps.


def problems(
    shape: str, warmup_steps: int, train_steps: int, parameters: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yields what is wrong with a learning rate schedule, as (field, text after it).

    Args:
        shape: its name.
        warmup_steps: steps of the warm-up.
        train_steps: steps of the run.
        parameters: its parameters.
    """
    if shape not in SHAPES:
        yield "learning_rate_schedule", f"= {shape!r} is unknown{nearest(str(shape), SHAPES)}"
        return
    if shape in _ENDING and warmup_steps >= train_steps:
        yield (
            "warmup_steps",
            f"= {warmup_steps}: with trainer.optimizer.learning_rate_schedule = {shape!r} it must "
            f"be below trainer.train_steps = {train_steps}",
        )
    for name, value in parameters.items():
        if name not in SHAPES[shape]:
            known = f"; known: {', '.join(SHAPES[shape])}" if SHAPES[shape] else ", which has none"
            yield (
                "learning_rate_parameters",
                f"has {name!r}, which is not a parameter of {shape!r}{known}",
            )
        elif name in ("final", "power") and not (_is_number(value) and value >= 0):
            yield f"learning_rate_parameters.{name}", f"= {value!r}: give a number >= 0"
        elif name == "final" and value > 1:
            yield "learning_rate_parameters.final", f"= {value!r}: it is a share; give at most 1"
    if shape == "piecewise":
        yield from _pieces(parameters.get("steps"), parameters.get("factors"))


def peak(shape: str, learning_rate: float, warmup_steps: int, hidden_dim: int) -> float:
    """Returns the learning rate at the end of the warm-up.

    Args:
        shape: name of a learning rate schedule.
        learning_rate: `trainer.optimizer.learning_rate`.
        warmup_steps: steps of the warm-up, >= 1.
        hidden_dim: width of the model, >= 1; `transformer` depends on it.
    """
    if shape != "transformer":
        return learning_rate
    return learning_rate * (hidden_dim * warmup_steps) ** -0.5


def notes(optimizer: str, highest: float) -> list[str]:
    """Returns a note if the peak of the learning rate is probably too high.

    Args:
        optimizer: name of the optimizer.
        highest: the peak.
    """
    if optimizer.lower() not in _LIKE_ADAM or highest <= _HIGH_FOR_ADAM:
        return []
    return [
        f"the learning rate rises to {highest:.3g}, which is high for {optimizer}: 0.0005 to 0.006 "
        "is usual. Lower trainer.optimizer.learning_rate"
    ]


def _pieces(steps: Any, factors: Any) -> Iterator[tuple[str, str]]:
    lists = all(isinstance(values, list) and values for values in (steps, factors))
    if not lists or len(steps) != len(factors):
        yield (
            "learning_rate_parameters",
            f"= {{steps: {steps}, factors: {factors}}}: give two lists of equal length, such as "
            "{steps: [10000, 20000], factors: [0.5, 0.1]}",
        )
        return
    if not all(_is_number(step) for step in steps) or steps != sorted(set(steps)) or steps[0] < 0:
        yield "learning_rate_parameters.steps", f"= {steps}: expected increasing steps >= 0"
    if not all(_is_number(factor) and factor > 0 for factor in factors):
        yield "learning_rate_parameters.factors", f"= {factors}: expected numbers > 0"


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)
