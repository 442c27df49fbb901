"""Which tasks train the adapters of a model."""

from collections.abc import Sequence
from typing import Any

from keras_mtl.configuration.adapters import AdapterSet
from keras_mtl.models.variables import variable_name


def both(
    rows: Sequence[Sequence[bool] | None], others: Sequence[Sequence[bool] | None]
) -> list[list[bool] | None]:
    """Returns for each variable the tasks that are in two lists; None stands for all tasks."""
    found: list[list[bool] | None] = []
    for row, other in zip(rows, others, strict=True):
        if row is None or other is None:
            one = other if row is None else row
            found.append(None if one is None else list(one))
        else:
            found.append([a and b for a, b in zip(row, other, strict=True)])
    return found


def with_adapter_users(
    variables: Sequence[Any],
    trained: Sequence[Sequence[bool] | None],
    sets: Sequence[AdapterSet],
    tasks: Sequence[Any],
) -> list[list[bool] | None]:
    """Returns which tasks train each variable; an adapter is trained only by tasks that use it.

    The gradient of an adapter that a batch does not use is exactly 0, but an optimizer with
    momentum would still move its variables.

    Args:
        variables: the trainable variables of a model.
        trained: from `keras_mtl.training.step.rate_factors.trained_by`.
        sets: the sets of adapters of the model.
        tasks: the tasks, with an `AdapterChoice` of each set in `adapters`.

    Returns:
        For each variable a list with an entry for each task; None if all tasks train it.
    """
    users = {
        f"{each.name}_{member}": [task.adapters[number].index == index for task in tasks]
        for number, each in enumerate(sets)
        for index, member in enumerate(each.members)
    }
    own = []
    for variable in variables:
        parts = variable_name(variable).split("/")
        is_adapter = len(parts) > 3 and parts[1].startswith("adapters_")
        own.append(users.get(parts[2]) if is_adapter else None)
    rows = both(trained, own)
    return [None if row is None or all(row) else row for row in rows]
