"""Sampling: slot j draws sequence j, with the same random numbers as the search in C++."""

from typing import Any

import tensorflow as tf

from keras_mtl.decoding.graph_search.philox import philox, uniform
from keras_mtl.decoding.graph_search.state import (
    Choice,
    Distribution,
    Loop,
    Selection,
    Sentences,
    may_differ,
    real,
)


def select_samples(
    loop: Loop,
    distribution: Distribution,
    options: Any,
    sentences: Sentences,
    eos_id: int,
    last: tf.Tensor,
) -> Selection:
    """Draws the next token of every slot.

    Args:
        loop: loop variables before the step.
        distribution: the model's output.
        options: `BeamOptions` or `GraphOptions`.
        sentences: their indices are part of the random numbers' key.
        eos_id: id of the end of sentence.
        last: bool[batch], whether this is the last step of each sentence.
    """
    log_p, values, _ = distribution
    k, size = options.beam_size, tf.shape(log_p)[2]
    slots = tf.range(k)[None]
    # The first step after the prefix draws all samples from the single live slot.
    first = tf.broadcast_to(sentences.first_free(loop.step), tf.shape(last))
    parents = tf.where(first[:, None], 0, slots)
    rows = tf.where(first[:, None, None], values[:, :1], values)
    bits = philox(
        _word(options.seed),
        tf.bitcast(sentences.indices, tf.uint64)[:, None],
        tf.cast(loop.step, tf.uint64),
        tf.cast(tf.broadcast_to(slots, tf.shape(parents)), tf.uint64),
    )
    tokens = draw(rows, uniform(bits), options)
    flat = tf.reshape(log_p, [-1, k * size])
    # The score uses the model's log-probability, regardless of the temperature.
    own = tf.gather(flat, parents * size + tokens, batch_dims=1)
    scores = tf.gather(loop.log_probability, parents, batch_dims=1) + own
    ends = tf.equal(tokens, eos_id)
    chosen = Choice(parents, tokens, scores, own)
    recorded = (ends | last[:, None]) & (scores > -float("inf"))
    live = chosen._replace(scores=tf.where(ends, -float("inf"), scores))
    return Selection(chosen, recorded, live)


def draw(values: tf.Tensor, number: tf.Tensor, options: Any) -> tf.Tensor:
    """Draws a token from each row.

    Args:
        values: float32[batch, k, V], logits; -inf is never drawn unless the whole row is -inf.
        number: float64[batch, k], uniform in [0, 1).
        options: provides `temperature`, `top_k` and `top_p`.

    Returns:
        int32[batch, k], the tokens. Temperature is applied first, then `top_k`, then `top_p`.
    """
    if tf.is_tensor(options.top_k) or tf.is_tensor(options.top_p):
        order = tf.cond(
            (options.top_k > 0) | (options.top_p < 1.0),
            lambda: _order(values, options),
            lambda: _by_id(values),
        )
    elif options.top_k > 0 or options.top_p < 1:
        order = _order(values, options)
    else:
        order = _by_id(values)
    sorted_values = tf.gather(values, order, batch_dims=2)
    highest = tf.reduce_max(sorted_values, -1, keepdims=True)
    highest = tf.where(tf.equal(highest, -float("inf")), 0.0, highest)
    shifted = tf.cast(sorted_values, tf.float64) - tf.cast(highest, tf.float64)
    cumulative = tf.cumsum(tf.exp(shifted / real(options.temperature)), axis=2)
    # The last possible token, because rounding may make number * total equal to the total.
    possible = sorted_values > -float("inf")
    final = tf.reduce_max(tf.where(possible, tf.range(tf.shape(order)[2]), 0), -1)  # [batch, k]
    if may_differ(options.top_p, 1):  # The smallest set whose probabilities sum to at least top_p.
        wanted = real(options.top_p) * cumulative[..., -1:]
        reached = tf.reduce_sum(tf.cast(cumulative < wanted, tf.int32), -1)
        kept = tf.minimum(reached, final)
        final = tf.where(options.top_p < 1, kept, final) if tf.is_tensor(options.top_p) else kept
    total = tf.gather(cumulative, final, batch_dims=2)
    below = cumulative <= (number * total)[..., None]
    place = tf.minimum(tf.reduce_sum(tf.cast(below, tf.int32), -1), final)
    return tf.gather(order, place, batch_dims=2)


def _by_id(values: tf.Tensor) -> tf.Tensor:
    return tf.broadcast_to(tf.range(tf.shape(values)[2]), tf.shape(values))


def _order(values: tf.Tensor, options: Any) -> tf.Tensor:
    """Returns the tokens to draw from, int32[batch, k, C], by descending value.

    If `top_k` removes no possible token and there is no `top_p`, they are in the order of their
    ids, as in C++.
    """
    size = tf.shape(values)[2] if values.shape[2] is None else values.shape[2]
    top_k, top_p = options.top_k, options.top_p
    if tf.is_tensor(top_k):
        count = tf.where(top_k > 0, tf.minimum(top_k, size), size)
    elif top_k == 0:
        count = size
    else:
        count = min(top_k, size) if isinstance(size, int) else tf.minimum(top_k, size)
    # XLA sorts -0 below +0.
    _, order = tf.math.top_k(tf.where(tf.equal(values, 0.0), 0.0, values), count)
    if not tf.is_tensor(top_p) and top_p < 1:
        return order
    possible = tf.reduce_sum(tf.cast(values > -float("inf"), tf.int32), -1, keepdims=True)
    ordered = (possible > count) | (top_p < 1)
    return tf.where(ordered, order, tf.sort(order, axis=2))


def _word(seed: Any) -> tf.Tensor:
    """Returns a seed as uint64[]; the bits of a negative int64 are kept."""
    return tf.bitcast(seed, tf.uint64) if tf.is_tensor(seed) else tf.constant(seed, tf.uint64)
