"""The columns of a batch of `Mixture.dataset` that the training step uses."""

import tensorflow as tf

# Columns that the model does not read.
_UNUSED = ("weight", "step", "bucket")


def columns_of(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Returns the columns that forward and backward passes read.

    Args:
        batch: an element of the dataset.

    Returns:
        `source` int32 `[rows, source_length]`, `target` int32 `[rows, length]`, and `task` int32
        `[rows]`. For rows with several sentence pairs, `task` is int32 `[rows, length]`, the task
        of each target token, and there are the tensors of
        `keras_mtl.models.packed_rows.PackedRows`.
    """
    return {name: column for name, column in batch.items() if name not in _UNUSED}


def first_task(batch: dict[str, tf.Tensor]) -> tf.Tensor:
    """Returns the task of a batch with a single task, int32 `[]`."""
    return tf.reshape(batch["task"], [-1])[0]
