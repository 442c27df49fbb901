"""Which tasks train the adapters of a model."""

from collections.abc import Sequence
from typing import Any

from keras_mtl.configuration.adapters import AdapterSet
from keras_mtl.models.variables import variable_name


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
    found: list[list[bool] | None] = []
    for variable, row in zip(variables, trained, strict=True):
        parts = variable_name(variable).split("/")
        own = users.get(parts[2]) if len(parts) > 3 and parts[1].startswith("adapters_") else None
        both = [True] * len(tasks)
        for each in (row, own):
            both = both if each is None else [a and b for a, b in zip(both, each, strict=True)]
        found.append(None if all(both) else both)
    return found
