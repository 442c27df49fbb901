"""Splits sentences so that near-duplicates are in the same part: train, dev or test.

Technical prose repeats sentences with other names and numbers, such as "This package contains the
documentation for X." If one of them were in the training set, a test of another would measure
memory. So the split depends on a key: the sentence with its names and numbers masked. All tasks use
the same keys, so no sentence is in the training set of one task and in the test set of another.

A word is a name if it has a digit, a sign or an inner capital, if it is capitalized within a
sentence, if it is mostly written with a capital (Python), or if few sentences of all tasks have it
(swish).
"""

import collections
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from keras_mtl.data.split import SPLITS, Split, pair_hash, split_of

_MASK = "#"
# A word in fewer distinct English sentences than this is a name. Of 420,000 sentences, 20 is one in
# 20,000.
FEWEST_SENTENCES = 20
_EDGES = re.compile(r"^[^\w#+-]+|[^\w#+]+$")
_INNER_SIGN = re.compile(r"[\d_/\\@:.=+~$%#&|<>*^]")
_DIGITS = re.compile(r"\d+")


class Words(NamedTuple):
    """What is known of the words of a corpus.

    Attributes:
        common: words, in lower case, that are not names.
    """

    common: frozenset[str]

    @classmethod
    def of(cls, sentences: Iterable[str], fewest: int = FEWEST_SENTENCES) -> "Words":
        """Counts words.

        Args:
            sentences: distinct English sentences.
            fewest: number of sentences that a word needs not to be a name.
        """
        lower: collections.Counter[str] = collections.Counter()
        capital: collections.Counter[str] = collections.Counter()
        first: collections.Counter[str] = collections.Counter()
        for sentence in sentences:
            words = [word for token in sentence.split() if (word := _EDGES.sub("", token))]
            for word in set(words[1:]):
                (lower if word == word.lower() else capital)[word.lower()] += 1
            if words:
                # The first word is capitalized whether or not it is a name.
                first[words[0].lower()] += 1
        return cls(
            frozenset(
                word
                for word in {*lower, *first}
                if lower[word] >= capital[word] and lower[word] + first[word] >= fewest
            )
        )

    def key(self, sentence: str) -> str:
        """Returns the sentence with names masked; neighboring names have one mask.

        A sentence of only names keeps them, and only its digits are masked.
        """
        parts: list[str] = []
        plain = False
        tokens = sentence.split()
        for place, token in enumerate(tokens):
            word = _EDGES.sub("", token)
            if not word:
                continue
            if self._is_name(word, place == 0):
                if not parts or parts[-1] != _MASK:
                    parts.append(_MASK)
            else:
                plain = True
                parts.append(word.lower())
        return " ".join(parts) if plain else _DIGITS.sub(_MASK, " ".join(tokens).lower())

    def _is_name(self, word: str, is_first: bool) -> bool:
        if word.startswith(("-", "+")) or _INNER_SIGN.search(word):
            return True
        if word[1:] != word[1:].lower() or (word != word.lower() and not is_first):
            return True
        return word.lower() not in self.common


class Row(NamedTuple):
    """A sentence pair.

    Attributes:
        english: the English sentence.
        other: its translation.
        origin: where it is from: `ddtp`, `man` or `lohelp`.
    """

    english: str
    other: str
    origin: str


def distinct(rows: Iterable[Row]) -> Iterator[Row]:
    """Yields each pair once; pairs that differ only by case are equal."""
    seen: set[int] = set()
    for row in rows:
        value = pair_hash(row.english.casefold(), row.other.casefold())
        if value not in seen:
            seen.add(value)
            yield row


def split(
    rows: Sequence[Row], keys: Mapping[str, str], dev_fraction: float, test_fraction: float
) -> dict[Split, list[Row]]:
    """Splits the pairs of a task.

    A dev or test set has one pair for each key, so that frequent sentences do not dominate it.

    Args:
        rows: distinct pairs.
        keys: the key of each English sentence.
        dev_fraction: share of the keys for dev, in [0, 1).
        test_fraction: share of the keys for test, in [0, 1).
    """
    found: dict[Split, list[Row]] = {name: [] for name in SPLITS}
    held_out: dict[tuple[Split, str], Row] = {}
    for row in rows:
        key = keys[row.english]
        name = split_of(key, dev_fraction, test_fraction)
        if name == "train":
            found[name].append(row)
            continue
        other = held_out.get((name, key))
        if other is None or _order(row) < _order(other):
            held_out[name, key] = row
    for (name, _), row in held_out.items():
        found[name].append(row)
    return found


def _order(row: Row) -> int:
    return pair_hash(row.english, row.other)
