"""One hypothesis of a search, the same object from the C++ search to the user."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Hypothesis:
    """One hypothesis of a search.

    A search over ids fills in the first six fields; a translator of text adds the other three.
    Two hypotheses are equal if all their fields are, bit by bit.

    Args:
        ids: token ids without the end of sentence. None if the model does not say them: an exported
            model of an older version has only text, score and length.
        score: log-probability / length penalty + coverage; 0 for an empty line, -inf if the model
            finds no sequence possible.
        log_probability: sum of `token_scores`, natural logarithm; None as for `ids`. With
            `score_prefix` false, a prefix does not count.
        ended: whether there is an end of sentence; else the hypothesis was cut off at its greatest
            length. None as for `ids`.
        token_scores: float32[T], log-probability of each token, then of the end of sentence if
            there is one. None as for `ids`.
        alignment: float32[T, source length], attention from each token, then from the end of
            sentence, to the source; each row has the sum 1. None unless it was asked for.
        text: the translation, one line.
        tokens: pieces of the vocabulary, one for each id.
        source_tokens: pieces of the source that the columns of `alignment` belong to: the tag of
            the target language, the text, the end of sentence. Empty without `alignment`.
        length: number of tokens, the end of sentence not counted; default that of `ids`.
    """

    ids: list[int] | None
    score: float
    log_probability: float | None = None
    ended: bool | None = None
    token_scores: np.ndarray | None = None
    alignment: np.ndarray | None = None
    text: str = ""
    tokens: tuple[str, ...] = ()
    source_tokens: tuple[str, ...] = ()
    length: int = -1

    def __post_init__(self) -> None:
        if self.length < 0:
            object.__setattr__(self, "length", len(self.ids or ()))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Hypothesis):
            return NotImplemented
        fields = [field.name for field in dataclasses.fields(self)]
        return all(_equal(getattr(self, name), getattr(other, name)) for name in fields)

    __hash__ = None  # type: ignore[assignment]  # It holds arrays.

    def replace(self, **changes: Any) -> "Hypothesis":
        """Returns a copy with some fields changed."""
        return dataclasses.replace(self, **changes)


def empty_hypothesis() -> Hypothesis:
    """The one hypothesis of a source without tokens."""
    return Hypothesis([], 0.0, 0.0, True, np.zeros([0], np.float32))


def impossible_hypothesis() -> Hypothesis:
    """What stands for a sentence of which no sequence is possible."""
    return Hypothesis([], -np.inf, -np.inf, False, np.zeros([0], np.float32))


def hypothesis_of(
    arrays: Mapping[str, Any], place: tuple[int, int], source_length: int
) -> Hypothesis:
    """Returns one hypothesis of the outputs of a search in a graph.

    Args:
        arrays: `ids`, `lengths`, `scores`, `log_probabilities`, `ended`, `token_scores` and, if
            there are any, `alignments`; the first two axes are sentence and hypothesis.
        place: sentence and hypothesis.
        source_length: source tokens of the sentence.
    """
    length, ended = int(arrays["lengths"][place]), bool(arrays["ended"][place])
    scored = length + ended
    alignments = arrays.get("alignments")
    return Hypothesis(
        arrays["ids"][place][:length].tolist(),
        float(arrays["scores"][place]),
        float(arrays["log_probabilities"][place]),
        ended,
        arrays["token_scores"][place][:scored].copy(),
        None if alignments is None else alignments[place][:scored, :source_length].copy(),
    )


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return type(a) is type(b) and a == b
