"""Checks of the arguments of `beam_search` that are possible before the graph runs."""

import numpy as np
import tensorflow as tf

from keras_mtl.decoding.options import BeamOptions
from keras_mtl.errors import InputError


def check_arguments(
    options: BeamOptions,
    max_steps: int | tf.Tensor,
    max_lengths: tf.Tensor | None,
    prefix: tf.Tensor | None,
    prefix_lengths: tf.Tensor | None,
    vocabulary_size: int,
    eos_id: int,
) -> None:
    """Checks lengths and prefixes. Symbolic tensors are not checked.

    Args:
        options: the options.
        max_steps: see `beam_search`, also for the other arguments.
        max_lengths: int32[batch] or None.
        prefix: int32[batch, P] or None.
        prefix_lengths: int32[batch] or None.
        vocabulary_size: size of the vocabulary.
        eos_id: id of the end of sentence.

    Raises:
        InputError: a length, a prefix or one of its tokens is out of range.
    """
    if isinstance(max_steps, int) and not 1 <= max_steps <= options.max_length:
        raise InputError(
            f"max_steps={max_steps}: give a whole number from 1 to max_length={options.max_length}"
        )
    limits = None if max_lengths is None else tf.get_static_value(max_lengths)
    steps = max_steps if isinstance(max_steps, int) else tf.get_static_value(max_steps)
    if limits is not None and steps is not None:
        for index, limit in enumerate(limits):
            if not 0 <= limit <= steps:
                raise InputError(
                    f"max_lengths[{index}]={limit}: give a whole number from 0 to max_steps={steps}"
                )
    if prefix is None:
        if prefix_lengths is not None:
            raise InputError("prefix_lengths is given without prefix: give both or neither")
        return
    ids = tf.get_static_value(prefix)
    if ids is None:
        return
    counts = np.full([len(ids)], ids.shape[1])
    if prefix_lengths is not None:
        known = tf.get_static_value(prefix_lengths)
        if known is None:
            return
        counts = known
    for index, (row, count) in enumerate(zip(ids, counts, strict=True)):
        limit = steps if limits is None else limits[index]
        if not 0 <= count <= len(row) or (limit is not None and count > limit):
            raise InputError(
                f"the prefix of sentence {index} has {count} tokens: give at most "
                f"{min(len(row), limit or len(row))}, the sentence's maximum target length"
            )
        for token in row[:count]:
            if not 0 <= token < vocabulary_size or token == eos_id:
                raise InputError(
                    f"the prefix of sentence {index} contains id {token}: give ids from 0 to "
                    f"{vocabulary_size - 1} other than the end of sentence, {eos_id}"
                )
