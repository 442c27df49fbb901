"""Beam search in TensorFlow. It runs eagerly, in graphs and under XLA.

`docs/reference/beam_search.md` specifies the rule; the numbers in comments refer to its clauses.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_mtl.decoding.beam_search_checks import check_arguments
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.penalties import length_penalties
from keras_mtl.decoding.top_candidates import continuing_ranks, top_candidates
from keras_mtl.errors import KerasMtlError

State = Any  # The model's state, a nest of tensors.
StepFunction = Callable[[tf.Tensor, tf.Tensor, State], tuple[tf.Tensor, State]]
ReorderFunction = Callable[[State, tf.Tensor], State]


class BeamResult(NamedTuple):
    """Result of `beam_search`; N is `num_hypotheses`, L is `max_steps`.

    Attributes:
        ids: int32[batch, N, L], tokens without the end of sentence, padded with `pad_id`.
        lengths: int32[batch, N], number of tokens in `ids`.
        scores: float32[batch, N], log-probability / length penalty in descending order; padded with
            -inf if there are fewer than N hypotheses with a nonzero probability.
        log_probabilities: float32[batch, N], natural logarithm, including the end of sentence.
        counts: int32[batch], number of hypotheses, at most N.
        nan_steps: int32[batch], step at which the model's output contained NaN or +inf, or -1. Pass
            it to `raise_on_nan`.
        ended: bool[batch, N], whether the hypothesis has an end of sentence.
        token_scores: float32[batch, N, L], log-probability of each token, then of the end of
            sentence if there is one; padded with 0. Prefix tokens have 0 if `score_prefix` is
            False.
        alignments: float32[batch, N, L, S], attention to the source from each token, then from the
            end of sentence; padded with 0. None unless `source_width` was given.
    """

    ids: tf.Tensor
    lengths: tf.Tensor
    scores: tf.Tensor
    log_probabilities: tf.Tensor
    counts: tf.Tensor
    nan_steps: tf.Tensor
    ended: tf.Tensor
    token_scores: tf.Tensor
    alignments: tf.Tensor | None = None


class _History(NamedTuple):
    """The tokens of hypotheses; each array has shape [batch, hypotheses, L]."""

    tokens: tf.Tensor  # int32
    scores: tf.Tensor  # float32: log-probabilities, including that of the end of sentence.
    slots: tf.Tensor  # int32: the slot whose output predicted the token, at the token's step.


class _Loop(NamedTuple):
    """Loop variables; k is `beam_size`."""

    step: tf.Tensor  # int32[]
    history: _History  # [batch, k, L]: tokens so far of each slot.
    last: tf.Tensor  # int32[batch, k]: the newest token of each slot, the next step's input.
    log_probability: tf.Tensor  # float32[batch, k], cumulative; -inf if the slot is impossible.
    found: _History  # [batch, N, L]: best finished hypotheses, sorted.
    found_lengths: tf.Tensor  # int32[batch, N]
    found_ended: tf.Tensor  # bool[batch, N]
    found_scores: tf.Tensor  # float32[batch, N]
    found_log_probability: tf.Tensor  # float32[batch, N]
    finished: tf.Tensor  # int32[batch]: number of finished hypotheses, kept or not.
    first_ended: tf.Tensor  # bool[batch]: whether rank 0 was an end of sentence at any step.
    done: tf.Tensor  # bool[batch]
    nan_steps: tf.Tensor  # int32[batch]
    attention: tf.Tensor  # float32[L, batch, k, S], by step and slot; S is 0 without alignments.


def beam_search(
    step_fn: StepFunction,
    state: State,
    reorder_fn: ReorderFunction,
    batch: int | tf.Tensor,
    vocabulary_size: int,
    options: BeamOptions,
    *,
    start_id: int = 1,
    eos_id: int = 2,
    pad_id: int = 0,
    max_lengths: tf.Tensor | None = None,
    max_steps: int | tf.Tensor | None = None,
    prefix: tf.Tensor | None = None,
    prefix_lengths: tf.Tensor | None = None,
    log_probabilities: bool = False,
    source_width: int | tf.Tensor | None = None,
) -> BeamResult:
    """Searches for the best target sequences of a batch of sentences.

    The function runs eagerly, inside `tf.function` and inside `tf.function(jit_compile=True)`. With
    XLA, `batch` and `max_steps` must be Python integers. Scores are float32, regardless of the
    model's dtype.

    Args:
        step_fn: function `(ids int32[batch, k], step int32[], state) -> (logits [batch, k, V],
            state)` that runs the model on the next token of every slot. At step 0, all ids are
            `start_id`.
        state: nest of tensors whose shapes and dtypes are the same at every step.
        reorder_fn: function `(state, index int32[batch, k]) -> state` that moves the state of slot
            `index[b, j]` to slot j of sentence b. It is not called if the beam size is 1.
        batch: number of sentences; 0 gives an empty result.
        vocabulary_size: V, at least 2 and at least `options.beam_size`.
        options: the options; see `BeamOptions`.
        start_id: id that starts every hypothesis; not part of the result.
        eos_id: id that ends a hypothesis; not part of the result.
        pad_id: id that pads hypotheses in the result.
        max_lengths: int32[batch], maximum of tokens per sentence, in [0, max_steps]. A sentence
            with 0 gets one empty hypothesis with score 0. Default: `max_steps` for all.
        max_steps: L, maximum of steps, in [1, options.max_length]; default `options.max_length`.
        prefix: int32[batch, P], tokens that every hypothesis of a sentence must begin with. They
            may be in `options.suppress`, but must not be `eos_id`.
        prefix_lengths: int32[batch], number of prefix tokens of each sentence; default P.
        log_probabilities: whether `step_fn` returns normalized log-probabilities (<= 0) instead of
            logits. They are used unchanged unless a token is masked.
        source_width: S, which requests alignments. `step_fn` must then return `((logits, attention
            float32[batch, k, S]), state)` with the attention of each slot to the source.

    Returns:
        A `BeamResult`. In eager mode, NaN raises an error. In a graph, pass `nan_steps` to
        `raise_on_nan` outside of the graph.

    Raises:
        InputError: an option does not match the vocabulary or the other arguments.
        KerasMtlError: in eager mode, the model's output is NaN.

    Example:
        >>> import tensorflow as tf
        >>> import keras_mtl
        >>> # A model that prefers token 3 at first and then token 2, the end of sentence.
        >>> table = tf.math.log([[0.1, 0.1, 0.2, 0.6], [0.1, 0.1, 0.7, 0.1]])
        >>> def step(ids, step, state):
        ...     row = table[tf.minimum(step, 1)]
        ...     return tf.tile(row[None, None], [1, ids.shape[1], 1]), state
        >>> options = keras_mtl.BeamOptions(beam_size=2, max_length=5)
        >>> result = keras_mtl.beam_search(step, (), lambda state, index: state, 1, 4, options)
        >>> result.ids[0, 0, : result.lengths[0, 0]].numpy().tolist()
        [3]
    """
    options.check_vocabulary(vocabulary_size, eos_id)
    options.check_tensorflow()
    max_steps = options.max_length if max_steps is None else max_steps
    check_arguments(
        options, max_steps, max_lengths, prefix, prefix_lengths, vocabulary_size, eos_id
    )
    search = _Search(options, vocabulary_size, eos_id, pad_id, max_steps, log_probabilities)
    search.set_sentences(batch, max_lengths, prefix, prefix_lengths)
    loop = search.start(batch, start_id, 0 if source_width is None else source_width)
    loop = _run(search, step_fn, reorder_fn, loop, state, source_width is not None)
    counts = tf.minimum(loop.finished, options.num_hypotheses)
    result = BeamResult(
        loop.found.tokens,
        loop.found_lengths,
        loop.found_scores,
        loop.found_log_probability,
        counts,
        loop.nan_steps,
        loop.found_ended,
        loop.found.scores,
        None if source_width is None else _alignments(loop, search.max_lengths),
    )
    if tf.executing_eagerly():
        raise_on_nan(result.nan_steps)
    return result


def _run(
    search: "_Search",
    step_fn: StepFunction,
    reorder_fn: ReorderFunction,
    loop: _Loop,
    state: State,
    with_attention: bool,
) -> _Loop:
    """Runs steps until all sentences are done; returns the loop variables."""

    def body(loop: _Loop, state: State) -> tuple[_Loop, State]:
        outputs, after = step_fn(loop.last, loop.step, state)
        if with_attention:
            outputs, attention = outputs
            place = tf.reshape(loop.step, [1, 1])
            rows = tf.cast(attention, tf.float32)[None]
            loop = loop._replace(attention=tf.tensor_scatter_nd_update(loop.attention, place, rows))
        new_loop, beam_index = search.advance(loop, outputs)
        if search.options.beam_size > 1:
            after = reorder_fn(after, beam_index)
        # A model may lose static shape information, which a loop must keep.
        tf.nest.map_structure(lambda new, old: new.set_shape(old.shape), after, state)
        tf.nest.map_structure(lambda new, old: new.set_shape(old.shape), new_loop, loop)
        return new_loop, after

    loop, _ = tf.while_loop(
        lambda loop, _: tf.logical_not(tf.reduce_all(loop.done)), body, (loop, state)
    )
    return loop


def raise_on_nan(nan_steps: Any, names: list[str] | None = None) -> None:
    """Raises an error if the model's output was NaN.

    Args:
        nan_steps: int32[batch], `nan_steps` of a `BeamResult`.
        names: names of the sentences in the message; default their index in the batch.

    Raises:
        KerasMtlError: an output was NaN; the message names the sentence and the step.
    """
    steps = np.asarray(nan_steps)
    for index in np.flatnonzero(steps >= 0):
        name = names[index] if names else f"sentence {index}"
        raise KerasMtlError(
            f"{name}: the model's output is not a number at decoding step {steps[index]}. Training "
            "diverged or the weights are damaged: use an earlier checkpoint."
        )


class _Search:
    """The constant part of a search."""

    def __init__(
        self,
        options: BeamOptions,
        vocabulary_size: int,
        eos_id: int,
        pad_id: int,
        max_steps: int | tf.Tensor,
        log_probabilities: bool,
    ) -> None:
        self.options = options
        self.vocabulary_size = vocabulary_size
        self.eos_id = eos_id
        self.pad_id = pad_id
        self.max_steps = max_steps
        self.log_probabilities = log_probabilities
        self.penalties = tf.constant(length_penalties(options, options.max_length))
        self.max_lengths: tf.Tensor | None = None
        self.prefix: tf.Tensor | None = None
        self.prefix_lengths: tf.Tensor | None = None

    def set_sentences(
        self,
        batch: int | tf.Tensor,
        max_lengths: tf.Tensor | None,
        prefix: tf.Tensor | None,
        prefix_lengths: tf.Tensor | None,
    ) -> None:
        """Sets the properties of each sentence; the arguments are those of `beam_search`."""
        if max_lengths is None:
            max_lengths = tf.fill([batch], tf.cast(self.max_steps, tf.int32))
        self.max_lengths = tf.cast(max_lengths, tf.int32)
        if prefix is not None:
            # One extra column, because a step reads a column even if no sentence has a prefix.
            self.prefix = tf.pad(tf.cast(prefix, tf.int32), [[0, 0], [0, 1]])
            self.prefix_lengths = (
                tf.fill([batch], tf.shape(prefix)[1])
                if prefix_lengths is None
                else tf.cast(prefix_lengths, tf.int32)
            )

    def start(self, batch: int | tf.Tensor, start_id: int, source_width: int | tf.Tensor) -> _Loop:
        """Returns the loop variables before the first step."""
        k, n = self.options.beam_size, self.options.num_hypotheses
        empty = tf.equal(self.max_lengths, 0)  # [batch]
        first = tf.concat([[True], tf.fill([n - 1], False)], 0) & empty[:, None]  # [batch, N]
        found = tf.where(first, 0.0, tf.fill([batch, n], -np.inf))
        # Clause 2: at the start, all k slots are equal, so only one of them is expanded.
        start_scores = tf.constant([0.0] + [-np.inf] * (k - 1), tf.float32)
        return _Loop(
            step=tf.constant(0),
            history=self._no_history(batch, k),
            last=tf.fill([batch, k], start_id),
            log_probability=tf.tile(start_scores[None], [batch, 1]),
            found=self._no_history(batch, n),
            found_lengths=tf.zeros([batch, n], tf.int32),
            found_ended=first,
            found_scores=found,
            found_log_probability=found,
            finished=tf.cast(empty, tf.int32),
            first_ended=tf.fill([batch], False),
            done=empty,
            nan_steps=tf.fill([batch], -1),
            attention=tf.zeros([self.max_steps, batch, k, source_width]),
        )

    def _no_history(self, batch: int | tf.Tensor, hypotheses: int) -> _History:
        shape = [batch, hypotheses, self.max_steps]
        return _History(tf.fill(shape, self.pad_id), tf.zeros(shape), tf.zeros(shape, tf.int32))

    def advance(self, loop: _Loop, outputs: tf.Tensor) -> tuple[_Loop, tf.Tensor]:
        """Advances the search by one step.

        Args:
            loop: loop variables before the step.
            outputs: [batch, k, V], outputs of `step_fn`.

        Returns:
            The new loop variables, and int32[batch, k], the previous slot that each slot continues.
        """
        k, vocabulary_size = self.options.beam_size, self.vocabulary_size
        log_p, broken = self._log_probabilities(loop, tf.cast(outputs, tf.float32))
        # Clauses 2 and 3.
        candidates = loop.log_probability[..., None] + log_p  # [batch, k, V]
        flat = tf.reshape(candidates, [-1, k * vocabulary_size])
        scores, index = top_candidates(flat, 2 * k)  # [batch, 2k]
        parents = index // vocabulary_size
        tokens = index % vocabulary_size
        own = tf.gather(tf.reshape(log_p, [-1, k * vocabulary_size]), index, batch_dims=1)
        if self.prefix is not None:
            scores, own, parents, tokens = self._force(loop, log_p, scores, own, parents, tokens)

        ends = tf.equal(tokens, self.eos_id)  # [batch, 2k]
        histories = _take(loop.history, parents)  # [batch, 2k, L]
        here = tf.equal(tf.range(tf.shape(histories.tokens)[2]), loop.step)
        histories = _History(
            tf.where(here & ~ends[..., None], tokens[..., None], histories.tokens),
            tf.where(here, own[..., None], histories.scores),
            tf.where(here, parents[..., None], histories.slots),
        )

        done = loop.done | broken
        best, finished, first_ended = self._record(loop, done, scores, ends, histories)
        slots = continuing_ranks(ends)  # [batch, k]
        live = tf.gather(scores, slots, batch_dims=1)
        done = done | self._ended(loop.step, live, best["found_scores"], finished, first_ended)
        new_loop = _Loop(
            step=loop.step + 1,
            history=_take(histories, slots),
            last=tf.gather(tokens, slots, batch_dims=1),
            log_probability=live,
            **best,
            finished=finished,
            first_ended=first_ended,
            done=done,
            nan_steps=tf.where(broken & ~loop.done, loop.step, loop.nan_steps),
            attention=loop.attention,
        )
        return new_loop, tf.gather(parents, slots, batch_dims=1)

    def _log_probabilities(self, loop: _Loop, outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Clause 1: masks tokens, then normalizes.

        Returns:
            float32[batch, k, V], <= 0, and bool[batch], whether any output was NaN.
        """
        suppressed = np.zeros([self.vocabulary_size], bool)
        suppressed[list(self.options.suppress)] = True
        is_eos = np.arange(self.vocabulary_size) == self.eos_id
        mask = tf.constant(suppressed)
        if self.options.min_length > 0:
            mask |= tf.constant(is_eos) & (loop.step < self.options.min_length)
        any_masked = tf.reduce_any(mask)[None, None, None]
        if self.prefix is not None:  # A forced token keeps its probability even if it is masked.
            free = ~self._forced(loop)[:, None, None]
            mask, any_masked = mask & free, any_masked & free
        logits = tf.where(mask, -np.inf, outputs)
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
        return log_p, broken

    def _forced(self, loop: _Loop) -> tf.Tensor:
        """Returns whether this step's token is forced by the prefix, bool[batch]."""
        return loop.step < self.prefix_lengths

    def _force(
        self,
        loop: _Loop,
        log_p: tf.Tensor,
        scores: tf.Tensor,
        own: tf.Tensor,
        parents: tf.Tensor,
        tokens: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Replaces the candidates of sentences that are within their prefix by the forced token.

        Only slot 0 remains possible, so that the first step after the prefix expands one slot, as
        step 0 does.
        """
        assert self.prefix is not None
        forced = self._forced(loop)[:, None]
        column = tf.minimum(loop.step, tf.shape(self.prefix)[1] - 1)
        token = tf.gather(self.prefix, column, axis=1)[:, None]  # [batch, 1]
        score = loop.log_probability[:, :1]
        forced_own = tf.zeros_like(score)
        if self.options.score_prefix:
            forced_own = tf.gather(log_p[:, 0], token, batch_dims=1)
            score = score + forced_own
        first = tf.equal(tf.range(2 * self.options.beam_size), 0)[None]
        return (
            tf.where(forced, tf.where(first, score, -np.inf), scores),
            tf.where(forced, forced_own, own),
            tf.where(forced, 0, parents),
            tf.where(forced, token, tokens),
        )

    def _record(
        self,
        loop: _Loop,
        done: tf.Tensor,
        scores: tf.Tensor,
        ends: tf.Tensor,
        histories: _History,
    ) -> tuple[dict[str, Any], tf.Tensor, tf.Tensor]:
        """Clauses 4, 5 and 7: keeps the best finished hypotheses.

        Returns:
            The loop variables `found*` of the N best hypotheses, the number of finished hypotheses,
            and whether rank 0 has ended.
        """
        k, n = self.options.beam_size, self.options.num_hypotheses
        log_p = scores[:, :k]
        last_step = tf.equal(loop.step + 1, self.max_lengths)[:, None]
        # Candidates with probability zero are dropped, so that masked tokens are never produced.
        recorded = (ends[:, :k] | last_step) & (log_p > -np.inf) & ~done[:, None]
        # All hypotheses of a step have the same length: step + 1 tokens with the end of sentence.
        final = log_p / tf.gather(self.penalties, loop.step + 1)
        final = tf.where(recorded, final, -np.inf)
        lengths = loop.step + 1 - tf.cast(ends[:, :k], tf.int32)
        # Earlier hypotheses are shorter and come first, so top_k breaks ties as in clause 7.
        all_scores = tf.concat([loop.found_scores, final], 1)
        best, order = tf.math.top_k(all_scores, n)
        possible = best > -np.inf

        def merged(before: tf.Tensor, now: tf.Tensor, nothing: Any) -> tf.Tensor:
            """Returns the N best of the earlier hypotheses and the first k ranks of this step."""
            chosen = tf.gather(tf.concat([before, now[:, :k]], 1), order, batch_dims=1)
            mask = possible if chosen.shape.rank == 2 else possible[..., None]
            return tf.where(mask, chosen, nothing)

        empty = _History(self.pad_id, 0.0, 0)
        found = {
            "found": _History(*map(merged, loop.found, histories, empty)),
            "found_lengths": merged(loop.found_lengths, lengths, 0),
            "found_ended": merged(loop.found_ended, ends, False),
            "found_scores": best,
            "found_log_probability": merged(loop.found_log_probability, log_p, -np.inf),
        }
        finished = loop.finished + tf.reduce_sum(tf.cast(recorded, tf.int32), 1)
        return found, finished, loop.first_ended | (recorded[:, 0] & ends[:, 0])

    def _ended(
        self,
        step: tf.Tensor,
        live: tf.Tensor,
        found_scores: tf.Tensor,
        finished: tf.Tensor,
        first_ended: tf.Tensor,
    ) -> tf.Tensor:
        """Clause 6: returns whether a sentence is finished, bool[batch]."""
        options = self.options
        best_live = tf.reduce_max(live, 1)
        ended = (step + 1 >= self.max_lengths) | tf.equal(best_live, -np.inf)
        if options.penalises_length:
            ended |= finished >= options.max_finished
        else:
            ended |= first_ended & (finished >= options.num_hypotheses)
        if options.early_exit:
            # Log-probabilities only decrease and penalties only increase, in float32, too. So no
            # live hypothesis can reach a better final score than this bound. With equal scores, the
            # shorter hypothesis wins.
            bound = best_live / tf.gather(self.penalties, self.max_lengths)
            ended |= (finished >= options.num_hypotheses) & (bound < found_scores[:, -1])
        return ended


def _take(history: _History, index: tf.Tensor) -> _History:
    """Returns the histories of the hypotheses `index`, int32[batch, n]."""
    return _History(*(tf.gather(part, index, batch_dims=1) for part in history))


def _alignments(loop: _Loop, max_lengths: tf.Tensor) -> tf.Tensor:
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
