"""Biased decoding: the model's probabilities are mixed with a given target.

Reference: `BeamSearchDecodeBiased` in lingvo/core/base_decoder.py.
"""

from typing import Any

import tensorflow as tf

from keras_mtl.decoding.graph_search.state import (
    Choice,
    Distribution,
    Loop,
    Sentences,
    column,
    real,
)


def biased(
    distribution: Distribution, loop: Loop, sentences: Sentences, options: Any
) -> Distribution:
    """Returns the distribution (1 - w) p + w [token = target] of each slot that is biased.

    Args:
        distribution: the model's distribution p.
        loop: loop variables before the step.
        sentences: their bias holds the targets.
        options: provides w, `bias_weight`, and `bias_only_if_consistent`.
    """
    log_p = distribution.log_p
    assert sentences.bias is not None
    assert sentences.bias_lengths is not None
    active = loop.step < sentences.bias_lengths  # [batch]
    forced = sentences.forced(loop.step)
    if forced is not None:
        active &= ~forced
    active = active[:, None] & (loop.consistent | tf.logical_not(options.bias_only_if_consistent))
    target = column(sentences.bias, loop.step)  # [batch]
    weight = real(options.bias_weight)
    rest = log_p + tf.cast(tf.math.log(1.0 - weight), tf.float32)
    places = tf.broadcast_to(target[:, None, None], [*_shape(log_p), 1])
    own = tf.cast(tf.gather(log_p, places, batch_dims=2), tf.float64)  # [batch, k, 1]
    raised = tf.cast(tf.math.log((1.0 - weight) * tf.exp(own) + weight), tf.float32)
    is_target = tf.equal(tf.range(tf.shape(log_p)[2]), target[:, None, None])
    mixed = tf.minimum(tf.where(is_target, raised, rest), 0.0)
    log_p = tf.where(active[..., None], mixed, log_p)
    values = tf.where(active[..., None], mixed, distribution.values)
    return distribution._replace(log_p=log_p, values=values)


def _shape(log_p: tf.Tensor) -> tf.Tensor:
    return tf.unstack(tf.shape(log_p)[:2])


def still_consistent(loop: Loop, live: Choice, sentences: Sentences) -> tf.Tensor:
    """Returns whether the tokens of each slot, including the new ones, equal those of the bias."""
    if sentences.bias is None:
        return loop.consistent
    before = tf.gather(loop.consistent, live.parents, batch_dims=1)
    return before & tf.equal(live.tokens, column(sentences.bias, loop.step)[:, None])
