"""Checks of the arguments of `beam_search` that are possible before the graph runs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mtl.decoding.graph_search.state import may_differ
from keras_mtl.errors import InputError


def check_extras(
    options: Any,
    bias: tf.Tensor | None,
    bias_lengths: tf.Tensor | None,
    shortlist: Sequence[int] | tf.Tensor,
    source_width: int | tf.Tensor | None,
    vocabulary_size: int,
    eos_id: int,
) -> None:
    """Checks attention, bias and shortlist. Symbolic tensors are not checked.

    Args:
        options: `BeamOptions` or `GraphOptions`.
        bias: see `beam_search`, also for the other arguments.
        bias_lengths: int32[batch] or None.
        shortlist: ids.
        source_width: number of columns of attention or None.
        vocabulary_size: size of the vocabulary.
        eos_id: id of the end of sentence.

    Raises:
        InputError: attention is missing, or an id is out of range.
    """
    if may_differ(options.coverage_penalty, 0) and source_width is None:
        raise InputError("coverage_penalty requires source_width and attention from step_fn")
    if not tf.is_tensor(shortlist) and len(shortlist):
        known = f"the ids of this vocabulary are 0 to {vocabulary_size - 1}"
        for token in shortlist:
            if not 0 <= token < vocabulary_size:
                raise InputError(f"shortlist contains id {token}: {known}")
        if eos_id not in shortlist:
            raise InputError(
                f"shortlist does not contain id {eos_id}, the end of sentence, without which no "
                "hypothesis could end: add it"
            )
    if bias is None:
        if bias_lengths is not None:
            raise InputError("bias_lengths is given without bias: give both or neither")
        return
    ids = tf.get_static_value(bias)
    counts = None if bias_lengths is None else tf.get_static_value(bias_lengths)
    if ids is None or (counts is None and bias_lengths is not None):
        return
    for index, row in enumerate(ids):
        count = len(row) if counts is None else counts[index]
        if not 0 <= count <= len(row):
            raise InputError(
                f"bias_lengths[{index}]={count}: give a whole number from 0 to {len(row)}, the "
                "columns of bias"
            )
        for token in row[:count]:
            if not 0 <= token < vocabulary_size:
                raise InputError(
                    f"the bias of sentence {index} contains id {token}: give ids from 0 to "
                    f"{vocabulary_size - 1}"
                )


def check_arguments(
    options: Any,
    max_steps: int | tf.Tensor,
    max_lengths: tf.Tensor | None,
    prefix: tf.Tensor | None,
    prefix_lengths: tf.Tensor | None,
    vocabulary_size: int,
    eos_id: int,
) -> None:
    """Checks lengths and prefixes. Symbolic tensors are not checked.

    Args:
        options: `BeamOptions` or `GraphOptions`.
        max_steps: see `beam_search`, also for the other arguments.
        max_lengths: int32[batch] or None.
        prefix: int32[batch, P] or None.
        prefix_lengths: int32[batch] or None.
        vocabulary_size: size of the vocabulary.
        eos_id: id of the end of sentence.

    Raises:
        InputError: a length, a prefix or one of its tokens is out of range.
    """
    longest = options.max_length
    known = isinstance(max_steps, int) and isinstance(longest, int)
    if known and not 1 <= max_steps <= longest:
        raise InputError(
            f"max_steps={max_steps}: give a whole number from 1 to max_length={longest}"
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
