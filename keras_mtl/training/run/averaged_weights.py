"""The averaged weights of an optimizer in the place of a model's own."""

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def averaged_weights(model: Any, optimizer: Any, step: int) -> Iterator[None]:
    """Puts the averages in place while the context lasts, if the optimizer keeps averages.

    Args:
        model: the model.
        optimizer: its optimizer.
        step: updates done; before the first one there is no average.
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
