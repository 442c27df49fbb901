"""Clause 1: from the model's outputs to log-probabilities of the tokens that are allowed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mtl.decoding.graph_search.state import Distribution, Loop, Sentences, may_differ, real


class Masks:
    """The tokens that a search may not produce.

    Args:
        options: `BeamOptions` or `GraphOptions`.
        vocabulary_size: V.
        eos_id: id of the end of sentence.
        shortlist: the only ids that may be produced; an empty sequence or tensor allows all.
        log_probabilities: whether the model returns log-probabilities, which are used unchanged
            unless a token is masked.
    """

    def __init__(
        self,
        options: Any,
        vocabulary_size: int,
        eos_id: int,
        shortlist: Sequence[int] | tf.Tensor,
        log_probabilities: bool,
    ) -> None:
        self.options = options
        self.log_probabilities = log_probabilities
        self._is_eos = tf.constant(np.arange(vocabulary_size) == eos_id)
        self._forbidden = _member(options.suppress, vocabulary_size)
        if tf.is_tensor(shortlist):
            allowed = _member(shortlist, vocabulary_size)
            self._forbidden |= ~allowed & (tf.size(shortlist) > 0)
        elif len(shortlist):
            self._forbidden |= ~_member(shortlist, vocabulary_size)

    def apply(self, outputs: tf.Tensor, loop: Loop, sentences: Sentences) -> Distribution:
        """Masks tokens, then normalizes.

        Args:
            outputs: float32[batch, k, V], the model's outputs.
            loop: loop variables before the step.
            sentences: a token that their prefix forces keeps its probability.
        """
        forced = sentences.forced(loop.step)
        free = None if forced is None else ~forced
        edited, has_edits = edit_by_history(
            outputs, loop.history.tokens, loop.step, free, self.options
        )
        mask = self._forbidden
        if may_differ(self.options.min_length, 0):
            mask |= self._is_eos & (loop.step < self.options.min_length)
        any_masked = tf.reduce_any(mask)[None, None, None]
        if free is not None:
            mask = mask & free[:, None, None]
            any_masked &= free[:, None, None]
        if has_edits is not None:
            any_masked |= has_edits[..., None]
        logits = tf.where(mask, -np.inf, edited)
        highest = tf.reduce_max(logits, -1, keepdims=True)
        # Keeps rows of only -inf unchanged: -inf - -inf would be NaN.
        highest = tf.where(tf.equal(highest, -np.inf), 0.0, highest)
        shifted = logits - highest
        total = tf.reduce_sum(tf.exp(shifted), -1, keepdims=True)
        log_total = tf.where(tf.equal(total, 0.0), 0.0, tf.math.log(total))
        broken = tf.reduce_any(tf.math.is_nan(total), [1, 2])
        # Rounding may give a value above 0, with which early_exit would be wrong.
        log_p = tf.minimum(shifted - log_total, 0.0)
        if self.log_probabilities:
            log_p = tf.where(any_masked, log_p, tf.minimum(outputs, 0.0))
        return Distribution(log_p, logits, broken)


def _member(ids: Sequence[int] | tf.Tensor, size: int) -> tf.Tensor:
    """Returns bool[size], whether each id is in `ids`."""
    if tf.is_tensor(ids):
        updates = tf.ones_like(ids, tf.int32)
        return tf.scatter_nd(tf.cast(ids, tf.int32)[:, None], updates, [size]) > 0
    member = np.zeros([size], bool)
    member[list(ids)] = True
    return tf.constant(member)


def edit_by_history(
    logits: tf.Tensor, tokens: tf.Tensor, step: tf.Tensor, free: tf.Tensor | None, options: Any
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Applies `repetition_penalty` and `no_repeat_ngram`.

    Args:
        logits: float32[batch, k, V].
        tokens: int32[batch, k, L], tokens of each slot; those from position `step` on are padding.
        step: int32[], number of tokens of each slot.
        free: bool[batch], sentences without a forced token at this step; None: all.
        options: `BeamOptions` or `GraphOptions`.

    Returns:
        The logits, and bool[batch, k], whether a logit of the slot has an edit; None: never.
    """
    repeats = may_differ(options.no_repeat_ngram, 0)
    penalizes = may_differ(options.repetition_penalty, 1)
    if not (repeats or penalizes):
        return logits, None
    batch, k, size = tf.unstack(tf.shape(logits))
    length = tf.shape(tokens)[2]
    used = tf.range(length) < step  # [L]
    if free is not None:
        used &= free[:, None, None]
    used = tf.broadcast_to(used, tf.shape(tokens))
    places = tf.where(used, tokens, 0)  # [batch, k, L]
    flat = tf.reshape(logits, [-1, logits.shape[2] or size])
    rows = tf.broadcast_to(tf.range(batch * k)[:, None], [batch * k, length])
    edited = tf.zeros([batch, k], bool)
    if penalizes:
        # Every padding position repeats an edit, so no token gets two different values.
        repeated = tf.where(used, tokens, tf.where(used[..., :1], tokens[..., :1], 0))
        values = tf.gather(logits, repeated, batch_dims=2)
        changed = _penalized(values, options.repetition_penalty)
        values = tf.where(used[..., :1], changed, values)
        index = tf.stack([rows, tf.reshape(repeated, tf.shape(rows))], -1)
        flat = tf.tensor_scatter_nd_update(flat, index, tf.reshape(values, tf.shape(rows)))
        edited |= used[..., 0] & tf.not_equal(options.repetition_penalty, 1.0)
    if repeats:
        forbidden = used & _completes_ngram(tokens, step, options.no_repeat_ngram)
        updates = tf.where(forbidden, -np.inf, np.inf)
        index = tf.stack([rows, tf.reshape(places, tf.shape(rows))], -1)
        flat = tf.tensor_scatter_nd_min(flat, index, tf.reshape(updates, tf.shape(rows)))
        edited |= tf.reduce_any(forbidden, -1)
    return tf.reshape(flat, tf.shape(logits)), edited


def _penalized(values: tf.Tensor, penalty: Any) -> tf.Tensor:
    """Divides positive logits by the penalty and multiplies negative ones.

    Graphs and XLA divide a float32 by a constant as a product with its reciprocal. In float64, that
    gives the correctly rounded float32 quotient, too.
    """
    wide = tf.cast(values, tf.float64)
    factor = tf.cast(tf.cast(real(penalty), tf.float32), tf.float64)
    return tf.cast(tf.where(wide < 0.0, wide * factor, wide / factor), tf.float32)


def _completes_ngram(tokens: tf.Tensor, step: tf.Tensor, count: Any) -> tf.Tensor:
    """Returns whether the `count` - 1 tokens before each position equal the newest ones.

    Args:
        tokens: int32[batch, k, L].
        step: int32[], number of tokens so far.
        count: length of the n-grams; 0: no position does.

    Returns:
        bool[batch, k, L].
    """

    def matches(distance: Any) -> tf.Tensor:
        newest = tf.gather(tokens, tf.maximum(step - distance, 0), axis=2)[..., None]
        return tf.equal(tf.roll(tokens, distance, axis=2), newest)

    first = tf.range(tf.shape(tokens)[2]) >= count - 1
    found = tf.broadcast_to(first, tf.shape(tokens))
    if not tf.is_tensor(count):
        for distance in range(1, count):
            found &= matches(distance)
        return found
    _, found = tf.while_loop(
        lambda distance, _: distance < count,
        lambda distance, found: (distance + 1, found & matches(distance)),
        (tf.constant(1), found),
    )
    return found & (count > 0)
