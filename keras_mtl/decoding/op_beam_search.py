"""Beam search inside a graph, by operations in C++: with every option, for any model.

`beam_search` is plain TensorFlow and may be compiled by XLA; this one has all options of
`BeamOptions` and computes only live hypotheses, but runs on CPUs and needs the library of
operations wherever the graph is loaded.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from keras_mtl.decoding.native_beam_search import LiveRows
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.engine import load_ops
from keras_mtl.engine.arguments import option_lines
from keras_mtl.errors import InputError

State = Any  # A nest of tensors that belongs to the model; the first axis is rows.
StepFunction = Callable[[LiveRows, State], tuple[Any, State]]

for _name in ("BeamSearch", "BeamSearchStep", "BeamSearchResult", "Translate"):
    tf.no_gradient(f"KerasMtl>{_name}")  # A search is not differentiable.


class OpBeamResult(NamedTuple):
    """What the search found; N is `num_hypotheses`, L `max_length`.

    Attributes:
        ids: int32[batch, N, L], tokens without end of sentence, filled up with `pad_id`.
        lengths: int32[batch, N], tokens in `ids`.
        scores: float32[batch, N], falling; -inf where fewer than N hypotheses were found.
        log_probabilities: float32[batch, N], end of sentence included.
        counts: int32[batch], hypotheses found.
        token_scores: float32[batch, N, L + 1], log-probability of each token, then of the end of
            sentence if there is one, then 0.
        ended: bool[batch, N], whether the hypothesis has an end of sentence.
        alignments: float32[batch, N, L + 1, S], attention from each token, then from the end, to
            the source, then 0; S is 0 unless `alignments` is given.
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
    """Searches the best target sequences of a batch of sentences.

    Runs eagerly and in `tf.function`, not under XLA; gradients end at it.

    Args:
        step_fn: `(rows, state) -> (outputs float32[rows, V], state)`, the model's output after
            `rows.token`, `rows` being `LiveRows` of tensors; or `((outputs, attention
            float32[rows, S]), state)`. What it returns as state is put into the order of the next
            rows.
        state: nest of tensors [batch, ...]; the first axis becomes that of rows.
        batch: number of sentences, >= 0.
        vocabulary_size: V, at least 2 and at least `options.beam_size`.
        options: see `BeamOptions`; `max_length_factor` is not read: `max_lengths` says it.
        start_id: id that starts every hypothesis; not part of the result.
        eos_id: id that ends a hypothesis; not part of the result.
        pad_id: id behind the end of a hypothesis in the result.
        max_lengths: int32[batch], most tokens of each; default `options.max_length` for all.
        prefix: int32[batch, P], tokens that every hypothesis of a sentence must begin with.
        prefix_lengths: int32[batch], how many of them each sentence has; default P.
        source_lengths: int32[batch], columns of attention of each sentence.
        sentence_indices: int64[batch], with `seed`, what decides what is sampled; default 0, 1, …
        shortlist: the only ids that may be produced, `eos_id` among them; empty allows all.
        log_probabilities: the outputs are normalized log-probabilities, not logits.
        alignments: whether the result has them; needs attention and `source_lengths`.

    Returns:
        The hypotheses.

    Raises:
        InputError: an option does not fit the vocabulary.
        NativeError: the operations cannot be loaded.
        tf.errors.InvalidArgumentError: a length or prefix is out of range, or the model gave a NaN.
    """
    options.check_vocabulary(vocabulary_size, eos_id)
    if options.coverage_penalty and source_lengths is None:
        raise InputError("coverage_penalty needs source_lengths and attention from step_fn")
    if alignments and source_lengths is None:
        raise InputError("alignments need source_lengths and attention from step_fn")
    if prefix is None and prefix_lengths is not None:
        raise InputError("prefix_lengths is given without prefix: give both or none")
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
        given: most tokens, prefixes, their lengths, source lengths, indices; None has its default.
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
