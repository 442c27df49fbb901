"""One result of a search, the same class for every search and translator."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Hypothesis:
    """One hypothesis of a search.

    A search over ids sets the first six fields. A translator of text also sets `text`, `tokens` and
    `source_tokens`. Two hypotheses are equal if all their fields are equal, bit for bit.

    Args:
        ids: the token ids. None if the model does not provide them: models exported by older
            versions provide only text, score and length.
        score: the log-probability divided by the length penalty, plus the coverage penalty. 0 for
            an empty line, -inf if no sequence is possible.
        log_probability: the sum of `token_scores`, a natural logarithm. None if `ids` is None. If
            `score_prefix` is false, a prefix does not count.
        ended: whether the hypothesis has an end of sentence. If not, it was cut off at the maximum
            length. None if `ids` is None.
        token_scores: float32 `[T]`, the log-probability of each token, followed by that of the end
            of sentence if there is one. None if `ids` is None.
        alignment: float32 `[T, source length]`, the attention from each token, and from the end of
            sentence, to the source. Each row has the sum 1. None unless alignments were requested.
        text: the translation, one line.
        tokens: the pieces of the vocabulary, one for each id.
        source_tokens: the pieces of the source to which the columns of `alignment` belong: the tag
            of the target language, the text, the end of sentence. Empty without `alignment`.
        length: the number of tokens without the end of sentence. Default: the number of `ids`.

    Example:
        >>> import keras_mtl
        >>> hypothesis = keras_mtl.Hypothesis(ids=[17, 4], score=-1.5, text="Guten Tag")
        >>> hypothesis.length
        2
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

    __hash__ = None  # type: ignore[assignment]  # It contains arrays.

    def replace(self, **changes: Any) -> "Hypothesis":
        """Returns a copy with some fields changed."""
        return dataclasses.replace(self, **changes)


def empty_hypothesis() -> Hypothesis:
    """Returns the only hypothesis of a source without tokens."""
    return Hypothesis([], 0.0, 0.0, True, np.zeros([0], np.float32))


def impossible_hypothesis() -> Hypothesis:
    """Returns the hypothesis of a sentence for which no sequence is possible."""
    return Hypothesis([], -np.inf, -np.inf, False, np.zeros([0], np.float32))


def hypothesis_of(
    arrays: Mapping[str, Any], place: tuple[int, int], source_length: int
) -> Hypothesis:
    """Returns one hypothesis from the outputs of a search in a graph.

    Args:
        arrays: `ids`, `lengths`, `scores`, `log_probabilities`, `ended`, `token_scores` and, if
            requested, `alignments`. The first two axes are sentence and hypothesis.
        place: the indices of the sentence and the hypothesis.
        source_length: number of source tokens of the sentence.
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
