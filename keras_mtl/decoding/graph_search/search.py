"""The constant part of a search, and one step of it."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_mtl.decoding.graph_search.bias import biased, still_consistent
from keras_mtl.decoding.graph_search.coverage import coverage
from keras_mtl.decoding.graph_search.distribution import Masks
from keras_mtl.decoding.graph_search.lingvo import ended_by_lingvo, select_by_lingvo
from keras_mtl.decoding.graph_search.rule import ended_by_rule, force, select_by_rule
from keras_mtl.decoding.graph_search.sampling import select_samples
from keras_mtl.decoding.graph_search.state import (
    Choice,
    Distribution,
    History,
    Loop,
    Selection,
    Sentences,
    may_differ,
)


class Search:
    """A search, without its loop variables.

    Args:
        options: `BeamOptions` or `GraphOptions`.
        masks: the tokens that may not be produced.
        sentences: the sentences.
        penalties: float32[max_length + 1], the length penalty of each length.
        max_steps: L, maximum of steps.
        eos_id: id of the end of sentence.
        pad_id: id that pads hypotheses.
    """

    def __init__(
        self,
        options: Any,
        masks: Masks,
        sentences: Sentences,
        penalties: tf.Tensor,
        max_steps: int | tf.Tensor,
        eos_id: int,
        pad_id: int,
    ) -> None:
        self.options = options
        self.masks = masks
        self.sentences = sentences
        self.penalties = penalties
        self.max_steps = max_steps
        self.eos_id = eos_id
        self.pad_id = pad_id
        self.covers = may_differ(options.coverage_penalty, 0)

    def start(
        self, start_id: int, source_width: int | tf.Tensor, alignment_width: int | tf.Tensor
    ) -> Loop:
        """Returns the loop variables before the first step.

        Args:
            start_id: id that starts every hypothesis.
            source_width: S, number of columns of attention.
            alignment_width: S if alignments are requested, else 0.
        """
        batch, k, n = self.sentences.batch, self.options.beam_size, self.options.num_hypotheses
        empty = tf.equal(self.sentences.max_lengths, 0)  # [batch]
        first = tf.equal(tf.range(n), 0) & empty[:, None]  # [batch, N]
        found = tf.where(first, 0.0, -np.inf)
        # Clause 2: at the start, all k slots are equal, so only one of them is expanded.
        start_scores = tf.where(tf.equal(tf.range(k), 0), 0.0, -np.inf)
        return Loop(
            step=tf.constant(0),
            history=self._no_history(k),
            last=tf.fill([batch, k], start_id),
            log_probability=tf.tile(start_scores[None], [batch, 1]),
            found=self._no_history(n),
            found_lengths=tf.zeros([batch, n], tf.int32),
            found_ended=first,
            found_scores=found,
            found_log_probability=found,
            finished=tf.cast(empty, tf.int32),
            first_ended=tf.fill([batch], False),
            best_terminated=tf.fill([batch], -1e36),  # Lingvo's value.
            done=empty,
            nan_steps=tf.fill([batch], -1),
            consistent=tf.fill([batch, k], True),
            covered=tf.zeros([batch, k, source_width if self.covers else 0]),
            attention=tf.zeros([self.max_steps, batch, k, alignment_width]),
        )

    def _no_history(self, hypotheses: int | tf.Tensor) -> History:
        shape = [self.sentences.batch, hypotheses, self.max_steps]
        return History(tf.fill(shape, self.pad_id), tf.zeros(shape), tf.zeros(shape, tf.int32))

    def advance(self, loop: Loop, outputs: tf.Tensor) -> tuple[Loop, tf.Tensor]:
        """Advances the search by one step.

        Args:
            loop: loop variables before the step; `covered` includes this step's attention.
            outputs: float32[batch, k, V], outputs of the model.

        Returns:
            The new loop variables, and int32[batch, k], the previous slot that each slot continues.
        """
        distribution = self.masks.apply(outputs, loop, self.sentences)
        if self.sentences.bias is not None:
            distribution = biased(distribution, loop, self.sentences, self.options)
        last = tf.equal(loop.step + 1, self.sentences.max_lengths)
        selection = self._select(loop, distribution, last)
        selection = force(
            selection, loop, distribution, self.sentences, last, self.options.score_prefix
        )
        done = loop.done | distribution.broken
        live = selection.live
        new_loop = loop._replace(
            step=loop.step + 1,
            history=loop.history.extended(live, False, loop.step),
            last=live.tokens,
            log_probability=live.scores,
            consistent=still_consistent(loop, live, self.sentences),
            nan_steps=tf.where(distribution.broken & ~loop.done, loop.step, loop.nan_steps),
            **self._record(loop, done, selection),
        )
        if self.covers:
            covered = tf.gather(loop.covered, live.parents, batch_dims=1)
            new_loop = new_loop._replace(covered=covered)
        return new_loop._replace(done=done | self._ended(new_loop)), live.parents

    def _select(self, loop: Loop, distribution: Distribution, last: tf.Tensor) -> Selection:
        """Selects by the rule that the options choose."""
        options, eos_id = self.options, self.eos_id

        def by_rule() -> Selection:
            return select_by_rule(loop, distribution, options, eos_id, last)

        def samples() -> Selection:
            return select_samples(loop, distribution, options, self.sentences, eos_id, last)

        def by_lingvo() -> Selection:
            return select_by_lingvo(loop, distribution, options, eos_id, last)

        if tf.is_tensor(options.sampling) or tf.is_tensor(options.lingvo_pruning):
            branch = tf.where(options.sampling, 1, tf.where(options.lingvo_pruning, 2, 0))
            return tf.switch_case(branch, [by_rule, samples, by_lingvo])
        if options.sampling:
            return samples()
        return by_lingvo() if options.lingvo_pruning else by_rule()

    def _record(self, loop: Loop, done: tf.Tensor, selection: Selection) -> dict[str, Any]:
        """Clause 7: keeps the best finished hypotheses.

        Returns:
            The loop variables about finished hypotheses.
        """
        now: Choice = selection.finished
        recorded = selection.recorded & ~done[:, None]
        ends = tf.equal(now.tokens, self.eos_id)
        histories = loop.history.extended(now, ends, loop.step)
        # All hypotheses of a step have the same length: step + 1 tokens with the end of sentence.
        final = now.scores / tf.gather(self.penalties, loop.step + 1)
        if self.covers:
            assert self.sentences.source_lengths is not None
            penalty = coverage(loop.covered, self.sentences.source_lengths, self.options)
            final += tf.gather(penalty, now.parents, batch_dims=1)
        final = tf.where(recorded, final, -np.inf)
        lengths = loop.step + 1 - tf.cast(ends, tf.int32)
        # Earlier hypotheses are shorter and come first, so top_k breaks ties as in clause 7.
        all_scores = tf.concat([loop.found_scores, final], 1)
        best, order = tf.math.top_k(all_scores, self.options.num_hypotheses)
        possible = best > -np.inf

        def merged(before: tf.Tensor, new: tf.Tensor, nothing: Any) -> tf.Tensor:
            """Returns the N best of the earlier hypotheses and those of this step."""
            chosen = tf.gather(tf.concat([before, new], 1), order, batch_dims=1)
            mask = possible if chosen.shape.rank == 2 else possible[..., None]
            return tf.where(mask, chosen, nothing)

        empty = History(self.pad_id, 0.0, 0)
        terminated = tf.reduce_max(tf.where(recorded, now.scores, -np.inf), 1)
        return {
            "found": History(*map(merged, loop.found, histories, empty)),
            "found_lengths": merged(loop.found_lengths, lengths, 0),
            "found_ended": merged(loop.found_ended, ends, False),
            "found_scores": best,
            "found_log_probability": merged(loop.found_log_probability, now.scores, -np.inf),
            "finished": loop.finished + tf.reduce_sum(tf.cast(recorded, tf.int32), 1),
            "first_ended": loop.first_ended | (recorded[:, 0] & ends[:, 0]),
            "best_terminated": tf.maximum(loop.best_terminated, terminated),
        }

    def _ended(self, loop: Loop) -> tf.Tensor:
        """Returns whether a sentence is finished, bool[batch], given the new loop variables."""
        options, max_lengths = self.options, self.sentences.max_lengths
        best_live = tf.reduce_max(loop.log_probability, 1)
        ended = (loop.step >= max_lengths) | tf.equal(best_live, -np.inf)

        def by_rule() -> tf.Tensor:
            return ended_by_rule(loop, options, max_lengths, self.penalties)

        def by_lingvo() -> tf.Tensor:
            return ended_by_lingvo(
                loop.log_probability, loop.best_terminated, loop.finished, options
            )

        if tf.is_tensor(options.sampling) or tf.is_tensor(options.lingvo_pruning):
            by_usual_rule = tf.where(options.lingvo_pruning, by_lingvo(), by_rule())
            return ended | (tf.logical_not(options.sampling) & by_usual_rule)
        if options.sampling:
            return ended
        return ended | (by_lingvo() if options.lingvo_pruning else by_rule())


def alignments_of(loop: Loop, max_lengths: tf.Tensor) -> tf.Tensor:
    """Returns `BeamResult.alignments`: the attention of the slot that predicted each token."""
    attention = tf.transpose(loop.attention, [1, 0, 2, 3])  # [batch, L, k, S]
    slots = tf.transpose(loop.found.slots, [0, 2, 1])  # [batch, L, N]
    rows = tf.gather(attention, slots, batch_dims=2)  # [batch, L, N, S]
    rows = tf.transpose(rows, [0, 2, 1, 3])
    counts = loop.found_lengths + tf.cast(loop.found_ended, tf.int32)
    # The hypothesis of an empty sentence has ended but has no end of sentence.
    counts = tf.where(tf.equal(max_lengths, 0)[:, None], 0, counts)
    used = tf.sequence_mask(counts, tf.shape(rows)[2])
    return tf.where(used[..., None], rows, 0.0)
