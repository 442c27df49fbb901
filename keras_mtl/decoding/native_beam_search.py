"""Beam search in C++ for any model. It requests only the outputs of live hypotheses.

`docs/reference/beam_search.md` specifies the rule. Does not import TensorFlow.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_mtl.decoding.options import BeamOptions
from keras_mtl.engine import Hypothesis, library
from keras_mtl.engine.arguments import option_values
from keras_mtl.errors import InputError


class LiveRows(NamedTuple):
    """The live hypotheses, for which a step function computes the next outputs.

    Attributes:
        sentence: int32[rows], index of the sentence, ascending; without finished sentences.
        parent: int32[rows], the row of the previous step that each row continues; -1 at position 0.
        position: int32[rows], number of tokens so far, without the start token.
        token: int32[rows], newest token, which is the model's input.
    """

    sentence: np.ndarray
    parent: np.ndarray
    position: np.ndarray
    token: np.ndarray


StepFunction = Callable[[LiveRows], Any]


def native_beam_search(
    step_fn: StepFunction,
    batch: int,
    vocabulary_size: int,
    options: BeamOptions,
    *,
    start_id: int = 1,
    eos_id: int = 2,
    max_lengths: Sequence[int] | None = None,
    prefixes: Sequence[Sequence[int]] | None = None,
    biases: Sequence[Sequence[int]] | None = None,
    shortlist: Sequence[int] = (),
    source_lengths: Sequence[int] | None = None,
    sentence_indices: Sequence[int] | None = None,
    log_probabilities: bool = False,
) -> list[list[Hypothesis]]:
    """Searches for the best target sequences of a batch of sentences.

    Args:
        step_fn: function that takes the live rows and returns the model's outputs, float32[rows,
            V]. With `source_lengths`, it returns a tuple of the outputs and the attention to the
            source, float32[rows, S]. It must select its own state by `rows.parent`.
        batch: number of sentences, >= 0.
        vocabulary_size: V, at least 2 and at least `options.beam_size`.
        options: the options; see `BeamOptions`. `max_length_factor` is ignored: use `max_lengths`.
        start_id: id that starts every hypothesis; not part of the result.
        eos_id: id that ends a hypothesis; not part of the result.
        max_lengths: maximum of tokens per sentence, in [0, options.max_length]. A sentence with 0
            gets one empty hypothesis with score 0. Default: `options.max_length` for all.
        prefixes: tokens that the hypotheses of each sentence must begin with.
        biases: tokens towards which each sentence is biased with `bias_weight`, even if an option
            suppresses them.
        shortlist: the only ids that may be produced, including `eos_id`; empty allows all.
        source_lengths: number of source tokens of each sentence, which requests alignments.
        sentence_indices: numbers of the sentences in messages; with the seed, they determine the
            samples. Default 0, 1, …
        log_probabilities: whether outputs are normalized log-probabilities (<= 0) instead of
            logits. They are used unchanged unless a token is masked.

    Returns:
        The hypotheses of each sentence, best first; at most `num_hypotheses`.

    Raises:
        InputError: an option, argument or output is invalid; the message names it.
        KerasMtlError: the model's output is NaN.
        NativeError: the C++ core cannot be loaded.

    Example:
        ```python
        import numpy as np
        import keras_mtl

        # A model of 11 tokens whose next token depends only on the last one.
        table = np.random.default_rng(0).normal(size=(11, 11)).astype(np.float32)
        options = keras_mtl.BeamOptions(beam_size=4, max_length=8)
        found = keras_mtl.native_beam_search(lambda rows: table[rows.token], 3, 11, options)
        found[0][0].ids  # the best hypothesis of the first sentence
        ```
    """
    options.check_vocabulary(vocabulary_size, eos_id)
    given = {
        "max_lengths": max_lengths,
        "prefixes": prefixes,
        "biases": biases,
        "source_lengths": source_lengths,
        "sentence_indices": sentence_indices,
    }
    for name, values in given.items():
        if values is not None and len(values) != batch:
            raise InputError(
                f"{name} has {len(values)} entries, but there are {batch} sentences: give one "
                "entry per sentence"
            )
    if options.coverage_penalty and source_lengths is None:
        raise InputError("coverage_penalty requires source_lengths and attention from step_fn")
    core = library.core()
    search = core.BeamSearch(
        option_values(options), vocabulary_size, start_id, eos_id,
        [int(token) for token in shortlist], source_lengths is not None,
    )  # fmt: skip
    for i in range(batch):
        search.add(
            i if sentence_indices is None else int(sentence_indices[i]),
            options.max_length if max_lengths is None else int(max_lengths[i]),
            [] if prefixes is None else [int(token) for token in prefixes[i]],
            0 if source_lengths is None else int(source_lengths[i]),
            [] if biases is None else [int(token) for token in biases[i]],
        )
    while True:
        rows = search.rows
        if not len(rows["token"]):
            break
        outputs = step_fn(LiveRows(*(rows[name] for name in LiveRows._fields)))
        attention = None
        if isinstance(outputs, tuple):
            outputs, attention = outputs
        search.advance(np.asarray(outputs, np.float32), log_probabilities, attention)
    return [search.results(i) for i in range(batch)]
