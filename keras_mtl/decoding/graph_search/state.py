"""The tensors that a search carries from step to step, and the outcome of one step."""

from typing import Any, NamedTuple

import tensorflow as tf


class History(NamedTuple):
    """The tokens of hypotheses; each array has shape [batch, hypotheses, L]."""

    tokens: tf.Tensor  # int32
    scores: tf.Tensor  # float32: log-probabilities, including that of the end of sentence.
    slots: tf.Tensor  # int32: the slot whose output predicted the token, at the token's step.

    def take(self, index: tf.Tensor) -> "History":
        """Returns the histories of the hypotheses `index`, int32[batch, n]."""
        return History(*(tf.gather(part, index, batch_dims=1) for part in self))

    def extended(self, chosen: "Choice", ends: tf.Tensor | bool, step: tf.Tensor) -> "History":
        """Returns the histories of candidates, whose tokens belong to position `step`.

        Args:
            chosen: the candidates.
            ends: bool[batch, k], whether a candidate is an end of sentence, which is not a token.
            step: int32[].
        """
        before = self.take(chosen.parents)
        here = tf.equal(tf.range(tf.shape(before.tokens)[2]), step)
        is_token = here & tf.logical_not(ends)[..., None]
        return History(
            tf.where(is_token, chosen.tokens[..., None], before.tokens),
            tf.where(here, chosen.own[..., None], before.scores),
            tf.where(here, chosen.parents[..., None], before.slots),
        )


class Loop(NamedTuple):
    """Loop variables; k is `beam_size`, N is `num_hypotheses`."""

    step: tf.Tensor  # int32[]
    history: History  # [batch, k, L]: tokens so far of each slot.
    last: tf.Tensor  # int32[batch, k]: the newest token of each slot, the next step's input.
    log_probability: tf.Tensor  # float32[batch, k], cumulative; -inf if the slot is impossible.
    found: History  # [batch, N, L]: best finished hypotheses, sorted.
    found_lengths: tf.Tensor  # int32[batch, N]
    found_ended: tf.Tensor  # bool[batch, N]
    found_scores: tf.Tensor  # float32[batch, N]
    found_log_probability: tf.Tensor  # float32[batch, N]
    finished: tf.Tensor  # int32[batch]: number of finished hypotheses, kept or not.
    first_ended: tf.Tensor  # bool[batch]: whether rank 0 was an end of sentence at any step.
    best_terminated: tf.Tensor  # float32[batch]: best log-probability of a finished hypothesis.
    done: tf.Tensor  # bool[batch]
    nan_steps: tf.Tensor  # int32[batch]
    consistent: tf.Tensor  # bool[batch, k]: whether all tokens so far equal those of the bias.
    covered: tf.Tensor  # float32[batch, k, S]: sum of attention; S is 0 without coverage penalty.
    attention: tf.Tensor  # float32[L, batch, k, S], by step and slot; S is 0 without alignments.


class Choice(NamedTuple):
    """Candidates: hypotheses with one more token; each array has shape [batch, k]."""

    parents: tf.Tensor  # int32: the slot that is continued.
    tokens: tf.Tensor  # int32
    scores: tf.Tensor  # float32: cumulative log-probability; -inf if there is no candidate.
    own: tf.Tensor  # float32: log-probability of the token.

    def where(self, condition: tf.Tensor, other: "Choice") -> "Choice":
        """Returns these candidates if `condition`, bool[batch], else those of `other`."""
        both = zip(self, other, strict=True)
        return Choice(*(tf.where(condition[:, None], mine, theirs) for mine, theirs in both))


class Selection(NamedTuple):
    """The outcome of one step."""

    finished: Choice  # Candidates that may be finished hypotheses, in the order of clause 7.
    recorded: tf.Tensor  # bool[batch, k]: which of them are.
    live: Choice  # The new live hypotheses, by slot.


class Distribution(NamedTuple):
    """The model's output of a step, masked and normalized (clause 1)."""

    log_p: tf.Tensor  # float32[batch, k, V], <= 0
    values: tf.Tensor  # float32[batch, k, V]: log_p plus any constant of the row, for sampling.
    broken: tf.Tensor  # bool[batch]: whether an output was NaN or +inf.


class Sentences(NamedTuple):
    """Properties of the sentences; those that are not given are None."""

    batch: int | tf.Tensor
    max_lengths: tf.Tensor  # int32[batch]
    prefix: tf.Tensor | None = None  # int32[batch, P], P >= 1
    prefix_lengths: tf.Tensor | None = None  # int32[batch]
    bias: tf.Tensor | None = None  # int32[batch, B], B >= 1
    bias_lengths: tf.Tensor | None = None  # int32[batch]
    source_lengths: tf.Tensor | None = None  # int32[batch]: columns of attention.
    indices: tf.Tensor | None = None  # int64[batch]: they determine the samples.

    def forced(self, step: tf.Tensor) -> tf.Tensor | None:
        """Returns whether the prefix determines this step's token, bool[batch]; None: never."""
        return None if self.prefix_lengths is None else step < self.prefix_lengths

    def first_free(self, step: tf.Tensor) -> tf.Tensor:
        """Returns whether this is the first step after the prefix, bool[batch] or bool[]."""
        return tf.equal(step, 0 if self.prefix_lengths is None else self.prefix_lengths)


def column(ids: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """Returns int32[batch], column `step` of ids [batch, n]; the last one if there are fewer."""
    return tf.gather(ids, tf.minimum(step, tf.shape(ids)[1] - 1), axis=1)


def real(value: Any) -> tf.Tensor:
    """Returns an option as float64[]. `tf.cast` would first round a Python number to float32."""
    if tf.is_tensor(value):
        return tf.cast(value, tf.float64)
    return tf.constant(value, tf.float64)


def may_differ(value: Any, off: Any) -> bool:
    """Returns whether an option may differ from the value `off`. A tensor may."""
    return bool(tf.is_tensor(value) or value != off)
