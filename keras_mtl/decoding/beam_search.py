"""Beam search in TensorFlow. It runs eagerly, in graphs and under XLA.

`docs/reference/beam_search.md` specifies the rule; the numbers in comments refer to its clauses.
`graph_search` holds the parts of the search.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_mtl.decoding.beam_search_checks import check_arguments, check_extras
from keras_mtl.decoding.graph_search.distribution import Masks
from keras_mtl.decoding.graph_search.graph_options import GraphOptions
from keras_mtl.decoding.graph_search.search import Search, alignments_of
from keras_mtl.decoding.graph_search.state import Loop, Sentences
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.penalties import length_penalties
from keras_mtl.errors import KerasMtlError

State = Any  # The model's state, a nest of tensors.
StepFunction = Callable[[tf.Tensor, tf.Tensor, State], tuple[tf.Tensor, State]]
ReorderFunction = Callable[[State, tf.Tensor], State]


class BeamResult(NamedTuple):
    """Result of `beam_search`; N is `num_hypotheses`, L is `max_steps`.

    Attributes:
        ids: int32[batch, N, L], tokens without the end of sentence, padded with `pad_id`.
        lengths: int32[batch, N], number of tokens in `ids`.
        scores: float32[batch, N], log-probability / length penalty + coverage penalty in descending
            order; padded with -inf if there are fewer than N hypotheses with a nonzero probability.
        log_probabilities: float32[batch, N], natural logarithm, including the end of sentence.
        counts: int32[batch], number of hypotheses, at most N.
        nan_steps: int32[batch], step at which the model's output contained NaN or +inf, or -1. Pass
            it to `raise_on_nan`.
        ended: bool[batch, N], whether the hypothesis has an end of sentence.
        token_scores: float32[batch, N, L], log-probability of each token, then of the end of
            sentence if there is one; padded with 0. Prefix tokens have 0 if `score_prefix` is
            False.
        alignments: float32[batch, N, L, S], attention to the source from each token, then from the
            end of sentence; padded with 0. None unless they were requested.
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


def beam_search(
    step_fn: StepFunction,
    state: State,
    reorder_fn: ReorderFunction,
    batch: int | tf.Tensor,
    vocabulary_size: int,
    options: BeamOptions | GraphOptions,
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
    source_lengths: tf.Tensor | None = None,
    alignments: bool = True,
    bias: tf.Tensor | None = None,
    bias_lengths: tf.Tensor | None = None,
    shortlist: Sequence[int] | tf.Tensor = (),
    sentence_indices: tf.Tensor | None = None,
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
        options: the options; see `BeamOptions`. With `GraphOptions`, they are tensors, the search
            is not for XLA, and `max_steps` must be given.
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
        source_width: S. `step_fn` must then return `((logits, attention float32[batch, k, S]),
            state)` with the attention of each slot to the source. A coverage penalty requires it.
        source_lengths: int32[batch], number of attention columns of each sentence; default S.
        alignments: whether to return alignments if `source_width` is given.
        bias: int32[batch, B], tokens towards which each sentence is biased with `bias_weight`, even
            if an option suppresses them.
        bias_lengths: int32[batch], number of bias tokens of each sentence; default B.
        shortlist: the only ids that may be produced, including `eos_id`; empty allows all. Only a
            sequence is checked; a tensor int32[n] is not.
        sentence_indices: int64[batch]; with `seed`, they determine the samples. Default 0, 1, …

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
    if isinstance(options, BeamOptions):
        options.check_vocabulary(vocabulary_size, eos_id)
        options.check_tensorflow()
        max_steps = options.max_length if max_steps is None else max_steps
        penalties = tf.constant(length_penalties(options, options.max_length))
    else:
        penalties = options.length_penalties(max_steps)
    check_arguments(
        options, max_steps, max_lengths, prefix, prefix_lengths, vocabulary_size, eos_id
    )
    check_extras(options, bias, bias_lengths, shortlist, source_width, vocabulary_size, eos_id)
    if max_lengths is None:
        max_lengths = tf.fill([batch], tf.cast(max_steps, tf.int32))
    width = 0 if source_width is None else source_width
    sentences = Sentences(
        batch,
        tf.cast(max_lengths, tf.int32),
        *_tokens(batch, prefix, prefix_lengths),
        *_tokens(batch, bias, bias_lengths),
        tf.fill([batch], width) if source_lengths is None else tf.cast(source_lengths, tf.int32),
        tf.cast(tf.range(batch) if sentence_indices is None else sentence_indices, tf.int64),
    )
    masks = Masks(options, vocabulary_size, eos_id, shortlist, log_probabilities)
    search = Search(options, masks, sentences, penalties, max_steps, eos_id, pad_id)
    alignments = alignments and source_width is not None
    loop = search.start(start_id, width, width if alignments else 0)
    steps = _Steps(search, step_fn, reorder_fn, vocabulary_size, source_width is not None)
    loop = steps.run(loop, state, alignments)
    result = BeamResult(
        loop.found.tokens,
        loop.found_lengths,
        loop.found_scores,
        loop.found_log_probability,
        tf.minimum(loop.finished, options.num_hypotheses),
        loop.nan_steps,
        loop.found_ended,
        loop.found.scores,
        alignments_of(loop, sentences.max_lengths) if alignments else None,
    )
    if tf.executing_eagerly():
        raise_on_nan(result.nan_steps)
    return result


def _tokens(
    batch: int | tf.Tensor, ids: tf.Tensor | None, lengths: tf.Tensor | None
) -> tuple[tf.Tensor | None, tf.Tensor | None]:
    """Returns tokens of sentences with at least one column, and their number."""
    if ids is None:
        return None, None
    if lengths is None:
        lengths = tf.fill([batch], tf.shape(ids)[1])
    # One extra column, because a step reads a column even if no sentence has a token.
    return tf.pad(tf.cast(ids, tf.int32), [[0, 0], [0, 1]]), tf.cast(lengths, tf.int32)


class _Steps(NamedTuple):
    """The loop over the steps of a search."""

    search: Search
    step_fn: StepFunction
    reorder_fn: ReorderFunction
    vocabulary_size: int
    with_attention: bool

    def run(self, loop: Loop, state: State, alignments: bool) -> Loop:
        """Runs steps until all sentences are done; returns the loop variables."""
        loop, _ = tf.while_loop(
            lambda loop, _: tf.logical_not(tf.reduce_all(loop.done)),
            lambda loop, state: self._step(loop, state, alignments),
            (loop, state),
        )
        return loop

    def _step(self, loop: Loop, state: State, alignments: bool) -> tuple[Loop, State]:
        outputs, after = self.step_fn(loop.last, loop.step, state)
        before = loop
        if self.with_attention:
            outputs, attention = outputs
            attention = tf.cast(attention, tf.float32)
            if alignments:
                place = tf.reshape(loop.step, [1, 1])
                kept = tf.tensor_scatter_nd_update(loop.attention, place, attention[None])
                loop = loop._replace(attention=kept)
            if self.search.covers:
                loop = loop._replace(covered=loop.covered + attention)
        outputs = tf.cast(outputs, tf.float32)
        outputs.set_shape([None, None, self.vocabulary_size])
        new_loop, beam_index = self.search.advance(loop, outputs)
        beam_size = self.search.options.beam_size
        if tf.is_tensor(beam_size) or beam_size > 1:
            after = self.reorder_fn(after, beam_index)
        # A model may lose static shape information, which a loop must keep.
        tf.nest.map_structure(lambda new, old: new.set_shape(old.shape), after, state)
        tf.nest.map_structure(lambda new, old: new.set_shape(old.shape), new_loop, before)
        return new_loop, after


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
