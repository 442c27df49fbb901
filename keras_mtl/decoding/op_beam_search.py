"""Beam search in a graph with C++ operations. It supports every option and any model.

`beam_search` uses only TensorFlow operations and can be compiled by XLA. This search supports all
options of `BeamOptions` and computes only live hypotheses, but it runs on CPUs only and needs the
library of operations wherever the graph is loaded.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from keras_mtl.decoding.native_beam_search import LiveRows
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.engine import load_ops
from keras_mtl.engine.arguments import option_lines
from keras_mtl.errors import InputError

State = Any  # The model's state, a nest of tensors; axis 0 is rows.
StepFunction = Callable[[LiveRows, State], tuple[Any, State]]

for _name in ("BeamSearch", "BeamSearchStep", "BeamSearchResult", "Translate"):
    tf.no_gradient(f"KerasMtl>{_name}")  # A search is not differentiable.


class OpBeamResult(NamedTuple):
    """Result of `op_beam_search`; N is `num_hypotheses`, L is `max_length`.

    Attributes:
        ids: int32[batch, N, L], tokens without the end of sentence, padded with `pad_id`.
        lengths: int32[batch, N], number of tokens in `ids`.
        scores: float32[batch, N], in descending order; padded with -inf.
        log_probabilities: float32[batch, N], including the end of sentence; padded with -inf.
        counts: int32[batch], number of hypotheses.
        token_scores: float32[batch, N, L + 1], log-probability of each token, then of the end of
            sentence if there is one; padded with 0.
        ended: bool[batch, N], whether the hypothesis has an end of sentence.
        alignments: float32[batch, N, L + 1, S], attention to the source from each token, then from
            the end of sentence; padded with 0. S is 0 unless `alignments` was set.
    """

    ids: tf.Tensor
    lengths: tf.Tensor
    scores: tf.Tensor
    log_probabilities: tf.Tensor
    counts: tf.Tensor
    token_scores: tf.Tensor
    ended: tf.Tensor
    alignments: tf.Tensor


def op_beam_search(
    step_fn: StepFunction,
    state: State,
    batch: int | tf.Tensor,
    vocabulary_size: int,
    options: BeamOptions,
    *,
    start_id: int = 1,
    eos_id: int = 2,
    pad_id: int = 0,
    max_lengths: tf.Tensor | None = None,
    prefix: tf.Tensor | None = None,
    prefix_lengths: tf.Tensor | None = None,
    source_lengths: tf.Tensor | None = None,
    sentence_indices: tf.Tensor | None = None,
    shortlist: Sequence[int] = (),
    log_probabilities: bool = False,
    alignments: bool = False,
) -> OpBeamResult:
    """Searches for the best target sequences of a batch of sentences.

    The function runs eagerly and in `tf.function`, but not under XLA. It is not differentiable.

    Args:
        step_fn: function `(rows, state) -> (outputs float32[rows, V], state)` that runs the model
            on `rows.token`; `rows` is a `LiveRows` of tensors. It may also return `((outputs,
            attention float32[rows, S]), state)`. The returned state is reordered for the next rows.
        state: nest of tensors [batch, ...]; axis 0 becomes the axis of rows.
        batch: number of sentences, >= 0.
        vocabulary_size: V, at least 2 and at least `options.beam_size`.
        options: the options; see `BeamOptions`. `max_length_factor` is ignored: use `max_lengths`.
        start_id: id that starts every hypothesis; not part of the result.
        eos_id: id that ends a hypothesis; not part of the result.
        pad_id: id that pads hypotheses in the result.
        max_lengths: int32[batch], maximum of tokens per sentence; default `options.max_length` for
            all.
        prefix: int32[batch, P], tokens that every hypothesis of a sentence must begin with.
        prefix_lengths: int32[batch], number of prefix tokens of each sentence; default P.
        source_lengths: int32[batch], number of attention columns of each sentence.
        sentence_indices: int64[batch]; with `seed`, they determine the samples. Default 0, 1, …
        shortlist: the only ids that may be produced, including `eos_id`; empty allows all.
        log_probabilities: whether outputs are normalized log-probabilities instead of logits.
        alignments: whether to return alignments; requires attention and `source_lengths`.

    Returns:
        An `OpBeamResult`.

    Raises:
        InputError: an option does not match the vocabulary.
        NativeError: the operations cannot be loaded.
        tf.errors.InvalidArgumentError: a length or prefix is out of range, or the model's output is
            NaN.

    Example:
        ```python
        import tensorflow as tf
        import keras_mtl

        # A model of 11 tokens whose next token depends only on the last one.
        table = tf.random.stateless_normal([11, 11], seed=[0, 0])
        options = keras_mtl.BeamOptions(beam_size=4, max_length=8)
        result = keras_mtl.op_beam_search(
            lambda rows, state: (tf.gather(table, rows.token), state), (), 3, 11, options
        )
        result.scores[0, 0]  # the best score of the first sentence
        ```
    """
    options.check_vocabulary(vocabulary_size, eos_id)
    if options.coverage_penalty and source_lengths is None:
        raise InputError("coverage_penalty requires source_lengths and attention from step_fn")
    if alignments and source_lengths is None:
        raise InputError("alignments require source_lengths and attention from step_fn")
    if prefix is None and prefix_lengths is not None:
        raise InputError("prefix_lengths is given without prefix: give both or neither")
    given = max_lengths, prefix, prefix_lengths, source_lengths, sentence_indices
    ops = load_ops()
    search, *first = ops.keras_mtl_beam_search(
        **_sentences(batch, options.max_length, given),
        options=option_lines(options),
        vocabulary_size=vocabulary_size,
        start_id=start_id,
        eos_id=eos_id,
        shortlist=list(shortlist),
        log_probabilities=log_probabilities,
        with_alignments=alignments,
    )
    search = _run(ops, step_fn, search, LiveRows(*first), state)
    return OpBeamResult(
        *ops.keras_mtl_beam_search_result(
            search=search,
            num_hypotheses=options.num_hypotheses,
            max_length=options.max_length,
            pad_id=pad_id,
        )
    )


def _sentences(
    batch: int | tf.Tensor, longest: int, given: Sequence[tf.Tensor | None]
) -> dict[str, tf.Tensor]:
    """Returns the inputs that describe each sentence.

    Args:
        batch: number of sentences.
        longest: `max_length` of the options.
        given: maximum lengths, prefixes, their lengths, source lengths and indices; None selects
            the default.
    """
    count = tf.cast(batch, tf.int32)
    zeros = tf.zeros([count], tf.int32)
    defaults = {
        "max_lengths": zeros + longest,
        "prefixes": tf.zeros([count, 0], tf.int32),
        "prefix_lengths": zeros + (0 if given[1] is None else tf.shape(given[1])[1]),
        "source_lengths": zeros,
        "indices": tf.range(count),
    }
    return {
        name: tf.cast(
            default if value is None else value, tf.int64 if name == "indices" else tf.int32
        )
        for (name, default), value in zip(defaults.items(), given, strict=True)
    }


def _run(
    ops: Any, step_fn: StepFunction, search: tf.Tensor, rows: LiveRows, state: State
) -> tf.Tensor:
    """Runs a search until no row is left; returns its handle."""

    def body(search: tf.Tensor, rows: LiveRows, state: State) -> Any:
        outputs, after = step_fn(rows, state)
        attention = tf.zeros([tf.size(rows.token), 0])
        if isinstance(outputs, tuple):
            outputs, attention = outputs
        following = LiveRows(
            *ops.keras_mtl_beam_search_step(
                search=search,
                outputs=tf.cast(outputs, tf.float32),
                attention=tf.cast(attention, tf.float32),
            )
        )
        return search, following, _gather(after, following.parent)

    state = _gather(state, rows.sentence)
    shapes = tf.nest.map_structure(_any_rows, (rows, state))
    search, _, _ = tf.while_loop(
        lambda search, rows, state: tf.size(rows.token) > 0,
        body,
        (search, rows, state),
        shape_invariants=(tf.TensorShape([]), *shapes),
    )
    return search


def _gather(state: State, rows: tf.Tensor) -> State:
    return tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), state)


def _any_rows(tensor: tf.Tensor) -> tf.TensorShape:
    return tf.TensorShape([None, *tensor.shape[1:]])
