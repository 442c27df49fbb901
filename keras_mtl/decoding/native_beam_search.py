"""Beam search in C++ over any model: it asks only for the outputs of live hypotheses.

`docs/reference/beam_search.md` describes the rule, as for the TensorFlow search. No TensorFlow.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_mtl.decoding.options import BeamOptions
from keras_mtl.engine import Hypothesis, library
from keras_mtl.engine.arguments import option_values
from keras_mtl.errors import InputError


class LiveRows(NamedTuple):
    """The hypotheses for which a step function computes what may come next.

    Attributes:
        sentence: int32[rows], ascending; finished sentences are not among them.
        parent: int32[rows], row of the step before that each continues; -1 at position 0.
        position: int32[rows], tokens so far, the start not counted.
        token: int32[rows], newest token: the model's input.
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
    shortlist: Sequence[int] = (),
    source_lengths: Sequence[int] | None = None,
    sentence_indices: Sequence[int] | None = None,
    log_probabilities: bool = False,
) -> list[list[Hypothesis]]:
    """Searches the best target sequences of a batch of sentences.

    Args:
        step_fn: takes the live rows and returns the model's outputs, float32[rows, V]; or a tuple
            of them and of attention, float32[rows, S], from each row to the source, when
            `source_lengths` is given. It keeps what state it needs by `rows.parent`.
        batch: number of sentences, >= 0.
        vocabulary_size: V, at least 2 and at least `options.beam_size`.
        options: see `BeamOptions`; `max_length_factor` is not read: `max_lengths` says it.
        start_id: id that starts every hypothesis; not part of the result.
        eos_id: id that ends a hypothesis; not part of the result.
        max_lengths: most tokens of each sentence, in [0, options.max_length]; a sentence of 0 gets
            one empty hypothesis of score 0. Default: `options.max_length` for all.
        prefixes: tokens that the hypotheses of each sentence must begin with.
        shortlist: the only ids that may be produced, `eos_id` among them; empty allows all.
        source_lengths: source tokens of each sentence: hypotheses carry alignments.
        sentence_indices: what to call the sentences in messages and what, with the seed, decides
            what is sampled; default 0, 1, …
        log_probabilities: the outputs are normalized log-probabilities (<= 0); they are used bit by
            bit as they are, and normalized again only if a token is masked.

    Returns:
        For each sentence its hypotheses, best first; at most `num_hypotheses`.

    Raises:
        InputError: an option, argument or output does not fit; the message names it.
        KerasMtlError: the model gave a NaN.
        NativeError: the C++ core cannot be loaded.
    """
    options.check_vocabulary(vocabulary_size, eos_id)
    given = {
        "max_lengths": max_lengths,
        "prefixes": prefixes,
        "source_lengths": source_lengths,
        "sentence_indices": sentence_indices,
    }
    for name, values in given.items():
        if values is not None and len(values) != batch:
            raise InputError(f"{name} has {len(values)} entries: give one for each of {batch}")
    if options.coverage_penalty and source_lengths is None:
        raise InputError("coverage_penalty needs source_lengths and attention from step_fn")
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
