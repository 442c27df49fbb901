"""Saves Adam's moments and restores them for other tasks or another kind of moments."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mtl.errors import CheckpointError
from keras_mtl.training.step.optimizers import Adam

_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_SLOTS = ("momentum", "velocity")


def optimizer_state(optimizer: Any) -> tf.train.Checkpoint:
    """Returns the saved state of an optimizer except its moments."""
    averages = {"averages": optimizer.averages} if optimizer.averages else {}
    return tf.train.Checkpoint(iterations=optimizer.iterations, **averages)


def moments_state(optimizer: Any) -> tf.train.Checkpoint:
    """Returns the saved state of an optimizer's moments; `restore_moments` reads it."""
    if not isinstance(optimizer, Adam):
        return tf.train.Checkpoint(slots=optimizer.slots)
    updates = {"updates": optimizer.task_updates} if optimizer.moments == "per_task" else {}
    return tf.train.Checkpoint(
        momentum=optimizer.momentums, velocity=optimizer.velocities, **updates
    )


def restore_moments(
    optimizer: Any, prefix: str, index_map: np.ndarray, name: str = "moments"
) -> None:
    """Restores the moments from a checkpoint with any tasks and any kind of moments.

    Per-task moments are matched by task name; a new task starts with zeros, as at step 0. If the
    checkpoint has shared moments, every task starts with them. If it has per-task moments and the
    optimizer has shared ones, they become the mean over tasks, weighted by the tasks' numbers of
    updates.

    Args:
        optimizer: a built `Adam` or `KerasOptimizer` whose `iterations` are already restored.
        prefix: prefix of the checkpoint.
        index_map: int64 [num_tasks], the saved index of each current task, -1 for a new one.
        name: name of `moments_state` in the checkpoint.

    Raises:
        CheckpointError: moments are missing or have other shapes.
    """
    reader = tf.train.load_checkpoint(prefix)
    shapes = reader.get_variable_to_shape_map()
    if not isinstance(optimizer, Adam):
        _restore_slots(optimizer.slots, reader, prefix, name)
        return
    per_task = optimizer.moments == "per_task"
    key = f"{name}/updates{_SUFFIX}"
    saved_updates = reader.get_tensor(key) if key in shapes else None
    for slot, variables in zip(_SLOTS, (optimizer.momentums, optimizer.velocities), strict=True):
        for number, variable in enumerate(variables):
            key = f"{name}/{slot}/{number}{_SUFFIX}"
            shape = tuple(variable.shape)[1:] if per_task else tuple(variable.shape)
            saved = tuple(shapes.get(key, ()))
            tasks = () if saved_updates is None else (len(saved_updates),)
            if key not in shapes or saved != (*tasks, *shape):
                raise CheckpointError(
                    f"checkpoint {prefix}: {key} has shape {saved}; expected {(*tasks, *shape)}"
                )
            value = reader.get_tensor(key)
            if saved_updates is None:
                value = np.broadcast_to(value, variable.shape)
            elif per_task:
                value = _reorder_tasks(value, index_map)
            else:
                value = _mean_over_tasks(value, saved_updates)
            variable.assign(value)
    if per_task:
        if saved_updates is None:
            iterations = optimizer.iterations.numpy()
            updates: np.ndarray = np.full(optimizer.num_tasks, iterations, np.int64)
        else:
            updates = _reorder_tasks(saved_updates, index_map)
        optimizer.task_updates.assign(updates)


def _restore_slots(slots: Sequence[Any], reader: Any, prefix: str, name: str) -> None:
    """Restores the state of an optimizer of Keras, which does not depend on the tasks."""
    shapes = reader.get_variable_to_shape_map()
    for number, variable in enumerate(slots):
        key = f"{name}/slots/{number}{_SUFFIX}"
        if key not in shapes or tuple(shapes[key]) != tuple(variable.shape):
            raise CheckpointError(
                f"checkpoint {prefix}: {key} has shape {shapes.get(key)}; expected "
                f"{tuple(variable.shape)}"
            )
        variable.assign(reader.get_tensor(key))


def saved_moments(prefix: str, count: int, name: str = "moments") -> dict[str, list[np.ndarray]]:
    """Reads the moments of a checkpoint as shared ones; see `restore_moments`.

    Args:
        prefix: prefix of the checkpoint.
        count: number of variables that the optimizer had.
        name: name of `moments_state` in the checkpoint.

    Returns:
        `momentum` and `velocity`, each an array of every variable, in their order.

    Raises:
        CheckpointError: the checkpoint has no moments, or those of another number of variables.
    """
    reader = tf.train.load_checkpoint(prefix)
    shapes = reader.get_variable_to_shape_map()
    found: dict[str, list[np.ndarray]] = {slot: [] for slot in _SLOTS}
    if f"{name}/{_SLOTS[0]}/0{_SUFFIX}" not in shapes:
        raise CheckpointError(
            f"checkpoint {prefix} has no moments. Give a checkpoint of a run, RUN/ckpt-<step>: the "
            "best checkpoint has only weights, and only Adam's moments can be taken over"
        )
    key = f"{name}/updates{_SUFFIX}"
    updates = reader.get_tensor(key) if key in shapes else None
    for slot, arrays in found.items():
        for number in range(count):
            key = f"{name}/{slot}/{number}{_SUFFIX}"
            if key not in shapes:
                raise CheckpointError(
                    f"checkpoint {prefix} has {number} moments, but the model has {count} trained "
                    "variables: params.yaml in its directory belongs to another run"
                )
            value = reader.get_tensor(key)
            arrays.append(value if updates is None else _mean_over_tasks(value, updates))
    return found


def _mean_over_tasks(value: np.ndarray, updates: np.ndarray) -> np.ndarray:
    """Returns the mean of per-task moments, weighted by the tasks' numbers of updates."""
    share = updates / max(1, updates.sum())
    return np.tensordot(share.astype(value.dtype), value, axes=1)


def _reorder_tasks(values: np.ndarray, index_map: Sequence[int] | np.ndarray) -> np.ndarray:
    """Returns the rows of the tasks in their current order; zeros for new tasks."""
    index_map = np.asarray(index_map)
    result = np.zeros((len(index_map), *values.shape[1:]), values.dtype)
    kept = index_map >= 0
    result[kept] = values[index_map[kept]]
    return result
