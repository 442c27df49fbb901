"""One step by Lingvo's rule, which prunes beams by differences of log-probabilities.

The comparisons are in float64, as in `cc/engine/beam_search_lingvo.cc`.
"""

from typing import Any

import tensorflow as tf

from keras_mtl.decoding.graph_search.state import Choice, Distribution, Loop, Selection, real
from keras_mtl.decoding.graph_search.top_candidates import top_candidates

_IMPOSSIBLE = -float("inf")


def select_by_lingvo(
    loop: Loop, distribution: Distribution, options: Any, eos_id: int, last: tf.Tensor
) -> Selection:
    """Selects the live hypotheses of the next step and the accepted ends.

    Args:
        loop: loop variables before the step.
        distribution: the model's output.
        options: `BeamOptions` or `GraphOptions`.
        eos_id: id of the end of sentence.
        last: bool[batch], whether this is the last step of each sentence.
    """
    log_p = distribution.log_p
    k, size = options.beam_size, log_p.shape[2]
    count = tf.minimum(k + 1, size) if tf.is_tensor(k) else min(k + 1, size)
    # The best k + 1 tokens of each slot; ties: smaller token first.
    best, tokens = top_candidates(tf.reshape(log_p, [-1, size]), count)
    shape = tf.stack([tf.shape(log_p)[0], k, count])
    best, tokens = tf.reshape(best, shape), tf.reshape(tokens, shape)
    possible = best > _IMPOSSIBLE
    eos = log_p[..., eos_id]  # [batch, k]
    is_eos = tf.equal(tokens, eos_id)
    among_best = tf.reduce_any(is_eos & possible, -1)
    forced_in = ~among_best & (eos > _IMPOSSIBLE) & options.force_eos_in_top_k
    accepted = (among_best | forced_in) & _accepted(eos, best[..., 0], options)
    accepted |= last[:, None] & (eos > _IMPOSSIBLE) & options.force_eos_in_last_step
    scores = loop.log_probability + eos
    slots = tf.broadcast_to(tf.range(k)[None], tf.shape(eos))
    finished = Choice(slots, tf.fill(tf.shape(eos), eos_id), scores, eos)
    # An end of sentence that is forced into the best tokens replaces the worst of them.
    replaced = forced_in[..., None] & tf.equal(tf.range(count), count - 1)
    live = _merged(loop, best, tokens, possible & ~is_eos & ~replaced, options)
    return Selection(finished, accepted & (scores > _IMPOSSIBLE), live)


def _accepted(eos: tf.Tensor, highest: tf.Tensor, options: Any) -> tf.Tensor:
    """Compares with the best extension of the same hypothesis. Both tests are strict."""
    log_p, bound = tf.cast(eos, tf.float64), tf.cast(highest, tf.float64)
    near = log_p > bound - real(options.eos_max_logit_delta)
    return near & (log_p > real(options.local_eos_threshold))


def _merged(
    loop: Loop, best: tf.Tensor, tokens: tf.Tensor, usable: tf.Tensor, options: Any
) -> Choice:
    """Returns the best k candidates of all slots; ties: smaller token, then smaller slot.

    Args:
        loop: loop variables before the step.
        best: float32[batch, k, n], log-probabilities of the best tokens of each slot.
        tokens: int32[batch, k, n].
        usable: bool[batch, k, n].
        options: `BeamOptions` or `GraphOptions`.
    """
    k = options.beam_size
    scores = loop.log_probability[..., None] + best
    # XLA sorts -0 below +0.
    scores = tf.where(tf.equal(scores, 0.0), 0.0, scores)
    scores = tf.where(usable, scores, _IMPOSSIBLE)
    parents = tf.broadcast_to(tf.range(k)[:, None], tf.shape(tokens))
    key = tf.cast(tokens, tf.int64) * tf.cast(k, tf.int64) + tf.cast(parents, tf.int64)
    flat = [tf.reshape(part, [tf.shape(best)[0], -1]) for part in (key, parents, tokens, scores)]
    order = tf.argsort(flat[0], axis=1)
    parents, tokens, scores = (tf.gather(part, order, batch_dims=1) for part in flat[1:])
    own = tf.gather(tf.reshape(best, tf.shape(flat[0])), order, batch_dims=1)
    chosen, place = tf.math.top_k(scores, k)
    rest = [tf.gather(part, place, batch_dims=1) for part in (parents, tokens, own)]
    return Choice(rest[0], rest[1], chosen, rest[2])


def ended_by_lingvo(
    live: tf.Tensor, best_terminated: tf.Tensor, finished: tf.Tensor, options: Any
) -> tf.Tensor:
    """Returns whether every live hypothesis is `beam_gap` below the best end, bool[batch].

    Args:
        live: float32[batch, k], log-probabilities, which are not divided by a length penalty here.
        best_terminated: float32[batch], that of the best end.
        finished: int32[batch], number of ends.
        options: `BeamOptions` or `GraphOptions`.
    """
    bound = tf.cast(best_terminated, tf.float64) - real(options.beam_gap)
    beaten = tf.reduce_all(tf.cast(live, tf.float64) <= bound[:, None], 1)
    full = (finished >= options.beam_size) | tf.logical_not(options.ensure_full_beam)
    return beaten & full
