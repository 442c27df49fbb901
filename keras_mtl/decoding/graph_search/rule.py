"""Clauses 2 to 6 of the rule: the step of the usual beam search, and the steps of a prefix."""

from typing import Any

import tensorflow as tf

from keras_mtl.decoding.graph_search.state import (
    Choice,
    Distribution,
    Loop,
    Selection,
    Sentences,
    column,
    may_differ,
)
from keras_mtl.decoding.graph_search.top_candidates import continuing_ranks, top_candidates

_IMPOSSIBLE = -float("inf")


def select_by_rule(
    loop: Loop, distribution: Distribution, options: Any, eos_id: int, last: tf.Tensor
) -> Selection:
    """Clauses 2 to 5: selects the live hypotheses of the next step and the finished ones.

    Args:
        loop: loop variables before the step.
        distribution: the model's output.
        options: `BeamOptions` or `GraphOptions`.
        eos_id: id of the end of sentence.
        last: bool[batch], whether this is the last step of each sentence.
    """
    log_p = distribution.log_p
    k, size = options.beam_size, log_p.shape[2]
    candidates = loop.log_probability[..., None] + log_p  # [batch, k, V]
    flat = tf.reshape(candidates, [-1, k * size])
    scores, index = top_candidates(flat, 2 * k)  # [batch, 2k]
    tokens = index % size
    own = tf.gather(tf.reshape(log_p, [-1, k * size]), index, batch_dims=1)
    ranked = Choice(index // size, tokens, scores, own)
    ends = tf.equal(tokens, eos_id)
    best = Choice(*(part[:, :k] for part in ranked))
    # Candidates with probability zero are dropped, so that masked tokens are never produced.
    recorded = (ends[:, :k] | last[:, None]) & (best.scores > _IMPOSSIBLE)
    slots = continuing_ranks(ends, k)
    live = Choice(*(tf.gather(part, slots, batch_dims=1) for part in ranked))
    return Selection(best, recorded, live)


def force(
    selection: Selection,
    loop: Loop,
    distribution: Distribution,
    sentences: Sentences,
    last: tf.Tensor,
    score_prefix: bool,
) -> Selection:
    """Replaces the selection of sentences that are within their prefix by the forced token.

    Only slot 0 remains possible, so that the first step after the prefix expands one slot, as step
    0 does.

    Args:
        selection: that of a step without a prefix.
        loop: loop variables before the step.
        distribution: the model's output.
        sentences: they hold the prefixes.
        last: bool[batch], whether this is the last step of each sentence.
        score_prefix: whether forced tokens count in the score.
    """
    forced = sentences.forced(loop.step)
    if forced is None or sentences.prefix is None:
        return selection
    token = column(sentences.prefix, loop.step)[:, None]  # [batch, 1]
    score = loop.log_probability[:, :1]
    own = tf.zeros_like(score)
    if score_prefix:
        own = tf.gather(distribution.log_p[:, 0], token, batch_dims=1)
        score = score + own
    zeros = tf.zeros_like(selection.live.parents)
    first = tf.equal(tf.range(tf.shape(zeros)[1]), 0)[None]
    scores = tf.where(first, score, _IMPOSSIBLE)
    only = Choice(zeros, zeros + token, scores, tf.cast(zeros, tf.float32) + own)
    recorded = last[:, None] & (scores > _IMPOSSIBLE)
    return Selection(
        only.where(forced, selection.finished),
        tf.where(forced[:, None], recorded, selection.recorded),
        only.where(forced, selection.live),
    )


def ended_by_rule(loop: Loop, options: Any, max_lengths: tf.Tensor, penalties: Any) -> tf.Tensor:
    """Clause 6: returns whether a sentence has its hypotheses, bool[batch].

    Args:
        loop: loop variables after the step.
        options: `BeamOptions` or `GraphOptions`.
        max_lengths: int32[batch].
        penalties: float32[L + 1], length penalties.
    """
    enough = loop.finished >= options.num_hypotheses
    if tf.is_tensor(options.penalizes):
        ended = tf.where(
            options.penalizes, loop.finished >= options.max_finished, loop.first_ended & enough
        )
    elif options.penalizes:
        ended = loop.finished >= options.max_finished
    else:
        ended = loop.first_ended & enough
    if options.early_exit:
        # Log-probabilities only decrease and penalties only increase, in float32, too. So no live
        # hypothesis can reach a better final score than this bound. With equal scores, the shorter
        # hypothesis wins.
        best_live = tf.reduce_max(loop.log_probability, 1)
        bound = best_live / tf.gather(penalties, max_lengths)
        beaten = enough & (bound < loop.found_scores[:, -1])
        if may_differ(options.coverage_penalty, 0):
            beaten &= tf.equal(options.coverage_penalty, 0.0)
        ended |= beaten
    return ended
