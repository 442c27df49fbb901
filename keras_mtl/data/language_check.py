"""Checks on a sample of pairs whether the sides of a corpus are in the languages of its task.

Exchanged files and files in another language pass all rules of cleaning. A language identifier
(py3langid) judges a few hundred pairs of each corpus: whether each text is more likely in another
language than in its own. Only a large majority counts, so that short texts, names and numbers raise
no false alarm. Languages that the identifier does not know are not checked.
"""

import functools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mtl.data import languages

# Number of pairs of a corpus that are judged; 300 take 50 ms.
SAMPLE_SIZE = 300
# Fewer pairs than this are no evidence.
_LEAST_PAIRS = 20
# Nor are fewer different texts than this (texts that differ only in numbers count once).
_LEAST_DISTINCT = 5
_NUMBER = re.compile(r"\d+")
# Share of the texts that must be more likely in another language. With it, no corpus of 122
# (catalogs of 110 languages, translated documentation in 12) raised a false alarm, in samples of
# 300 and of 40 pairs, and none of 506 wrong languages was missed. It was chosen on these corpora.
_MAJORITY = 0.8
# Languages, by py3langid's codes, that it does not distinguish in short texts, or knows in only one
# of their scripts.
_RELATIVES = (
    frozenset({"bs", "hr", "sr"}),
    frozenset({"id", "ms"}),
    frozenset({"nn", "no"}),
    frozenset({"fo", "is"}),
    frozenset({"wuu", "yue", "zh"}),
    frozenset({"ar", "ary", "arz"}),
    frozenset({"az", "ba", "crh", "kk", "ky", "tk", "tr", "tt", "ug", "uz", "uzs"}),
    frozenset({"he", "hbo"}),
    frozenset({"el", "grc"}),
    frozenset({"en", "pcm"}),
    frozenset({"lv", "ltg"}),
)
# Languages that it knows in more than their usual script.
_IN_SEVERAL_SCRIPTS = frozenset({"sr", "uz", "zh"})
# Labels that are no likely language of a wrong corpus: no language, Latin, constructed languages.
_NO_SUSPECTS = frozenset({"zxx", "la", "eo", "vo"})


class Sample:
    """Samples pairs evenly from a stream of unknown length; deterministic.

    Args:
        size: number of pairs; between this number and twice this number are kept.

    Attributes:
        pairs: the pairs so far, in order.
    """

    def __init__(self, size: int = SAMPLE_SIZE) -> None:
        self.pairs: list[tuple[str, str]] = []
        self._size = size
        self._count = 0
        self._step = 1

    def add(self, pair: tuple[str, str]) -> None:
        """Takes one pair of the stream."""
        if not self._count % self._step:
            self.pairs.append(pair)
            if len(self.pairs) > 2 * self._size:
                self.pairs = self.pairs[::2]
                self._step *= 2
        self._count += 1


def sample_step(count: int, size: int = SAMPLE_SIZE) -> int:
    """Returns the step between the pairs that a `Sample` keeps of a stream of `count` pairs."""
    step = 1
    while -(-count // step) > 2 * size:
        step *= 2
    return step


def spread(pairs: Sequence[tuple[str, str]], number: int) -> list[tuple[str, str]]:
    """Returns at most this number of the pairs, spread evenly."""
    count = len(pairs)
    if count <= number:
        return list(pairs)
    return [pairs[(2 * i + 1) * count // (2 * number)] for i in range(number)]


def _count_distinct(pairs: Sequence[tuple[str, str]]) -> int:
    """Returns the number of pairs that differ in more than numbers."""
    return len({tuple(_NUMBER.sub("", text) for text in pair) for pair in pairs})


def language_warning(source: str, target: str, pairs: Sequence[tuple[str, str]]) -> str | None:
    """Returns a warning about the languages of pairs; None if they look right.

    Args:
        source: code of the source language.
        target: code of the target language.
        pairs: a sample of the pairs.
    """
    labels = [_label(source), _label(target)]
    if labels[0] == labels[1] or labels == [None, None]:
        return None
    pairs = [pair for pair in pairs if all(map(_has_words, pair))][: 2 * SAMPLE_SIZE]
    if len(pairs) < _LEAST_PAIRS or _count_distinct(pairs) < _LEAST_DISTINCT:
        return None
    scores = [_scores([pair[side] for pair in pairs]) for side in (0, 1)]
    # If the identifier finds nothing in a text, all languages have the same, lowest score.
    judged = np.logical_and(*(np.ptp(of_side, axis=1) > 0 for of_side in scores))
    scores = [of_side[judged] for of_side in scores]
    count = int(judged.sum())
    if count < _LEAST_PAIRS:
        return None
    known = _identifier()[1]
    places = [known.index(label) for label in labels if label is not None]
    if len(places) == 2 and not _related(labels[0], labels[1]):
        first, second = places
        exchanged = scores[0][:, second] + scores[1][:, first]
        share = float((exchanged > scores[0][:, first] + scores[1][:, second]).mean())
        if share >= _MAJORITY:
            return (
                f"the sides seem to be exchanged: in {share:.0%} of {count} pairs the source "
                f"looks like {target!r} and the target like {source!r}"
            )
    for side, label in enumerate(labels):
        if label is None:
            continue
        share, best = _other_language(scores[side], label)
        if share < _MAJORITY:
            continue
        name, code = ("source", source) if side == 0 else ("target", target)
        text = f"the {name} is not {code!r}: {share:.0%} of {count} texts look like {best!r}"
        back = _other_language(scores[1 - side], label)
        return text + ("; are the sides exchanged?" if back[0] < 0.5 else "")
    return None


def _other_language(scores: np.ndarray, label: str) -> tuple[float, str]:
    """Returns (share, language) of the language that texts are most likely in other than `label`.

    The share is that of the texts that are more likely in it than in `label`.
    """
    known = _identifier()[1]
    own = scores[:, known.index(label)]
    suspects = [
        i
        for i, other in enumerate(known)
        if other != label and other not in _NO_SUSPECTS and not _related(other, label)
    ]
    best = suspects[int(np.argmax(scores[:, suspects].sum(axis=0)))]
    return float((scores[:, best] > own).mean()), known[best]


def _has_words(text: str) -> bool:
    """Whether a text has at least four letters; numbers and signs have no language."""
    return sum(map(str.isalpha, text)) >= 4 or (not text.isascii() and any(map(str.isalpha, text)))


def _related(one: str | None, other: str | None) -> bool:
    return any(one in group and other in group for group in _RELATIVES)


def _label(code: str) -> str | None:
    """Returns the identifier's label of a language code, or None if it does not know it."""
    tag = languages.parse(code)
    if tag is None:
        return None
    usual = languages.LanguageTag(tag.language, "", "", ()).likely_script
    if tag.script not in ("", usual) and tag.language not in _IN_SEVERAL_SCRIPTS:
        return None
    label = {"nb": "no", "fil": "tl"}.get(tag.language, tag.language)
    return label if label in _identifier()[1] else None


def _scores(texts: Sequence[str]) -> np.ndarray:
    """Returns float64[texts, labels], log-likelihoods up to a constant for each text."""
    identifier, known = _identifier()
    rows = []
    for text in texts:
        score = dict(identifier.rank(text))
        rows.append([score[label] for label in known])
    return np.array(rows)


@functools.cache
def _identifier() -> tuple[Any, list[str]]:
    """Returns the identifier and its labels; loading takes a second and 80 MB."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    return identifier, identifier.labels
