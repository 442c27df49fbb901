"""Temporarily replaces a model's weights by the averages that its optimizer keeps."""

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def averaged_weights(model: Any, optimizer: Any, step: int) -> Iterator[None]:
    """Replaces the weights by their averages within the context, if the optimizer keeps averages.

    Args:
        model: the model.
        optimizer: its optimizer.
        step: number of updates so far; before the first one there is no average.
    """
    averages = optimizer.averages
    if not averages or step == 0:
        yield
        return
    variables = model.trainable_variables
    kept = [variable.numpy() for variable in variables]
    for variable, average in zip(variables, averages, strict=True):
        variable.assign(average.numpy())
    try:
        yield
    finally:
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)
