"""The coverage penalty: how much of the source a hypothesis has attended to."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_mtl.decoding.graph_search.state import real

# Lower bound of attention sums, so that their log is finite.
_MIN_ATTENTION = float(np.finfo(np.float32).tiny)
# Lingvo clips to [0.001, 0.5] (lingvo/core/ops/beam_search_step_op_kernels.cc).
_LINGVO_BOUNDS = (0.001, 0.5)


def coverage(covered: tf.Tensor, source_lengths: tf.Tensor, options: Any) -> tf.Tensor:
    """Returns the coverage penalty of each slot, float32[batch, k], <= 0.

    Args:
        covered: float32[batch, k, S], sums of attention over the target tokens.
        source_lengths: int32[batch], number of columns that belong to each sentence.
        options: provides `coverage_penalty`, `target_seq_length_ratio` and `lingvo_pruning`.

    Reference: Wu et al. 2016, arXiv:1609.08144, equation 14.
    """
    # Graphs and XLA divide a float32 by a constant as a product with its reciprocal. In float64,
    # that gives the correctly rounded float32 quotient, too.
    ratio = tf.cast(tf.cast(real(options.target_seq_length_ratio), tf.float32), tf.float64)
    sums = tf.cast(tf.cast(covered, tf.float64) / ratio, tf.float32)
    usual = tf.clip_by_value(sums, _MIN_ATTENTION, 1.0)
    clipped = tf.clip_by_value(sums, *_LINGVO_BOUNDS)
    capped = tf.where(options.lingvo_pruning, clipped, usual)
    used = tf.sequence_mask(source_lengths, tf.shape(covered)[2])[:, None]
    total = tf.reduce_sum(tf.where(used, tf.math.log(tf.cast(capped, tf.float64)), 0.0), -1)
    weight = real(options.target_seq_length_ratio) * real(options.coverage_penalty)
    return tf.cast(weight * total, tf.float32)
