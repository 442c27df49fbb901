"""Cleans text and splits it into sentences; decides which pairs are translations."""

import re
import unicodedata
from collections.abc import Iterator

_SPACE = re.compile(r"\s+")
_INVISIBLE = str.maketrans("", "", "\u00ad\u200b\ufeff")
_LETTER = re.compile(r"[^\W\d_]")
_WORD = re.compile(r"[^\W\d_]{3,}")
# A dot after these does not end a sentence.
_ABBREVIATIONS = ("e.g", "i.e", "etc", "vs", "z.B", "d.h", "bzw", "ca", "f.eks", "p.ej")
_TITLES = ("St", "Dr", "Mr")
_SENTENCE_END = re.compile(
    "".join(rf"(?<!{re.escape(word)}\.)" for word in (*_ABBREVIATIONS, *_TITLES))
    + r"(?<=[.!?…])[\"”»)]?\s+(?=[\"“«(]?[^\W\d_a-zа-яà-ÿ])"
)

LONGEST = 2000
"""Largest number of characters of a text."""
FEWEST_WORDS, MOST_WORDS = 3, 60
"""Number of English words of a sentence."""
# Share of the English words that a translation may keep. Names of programs stay as they are, but a
# text that keeps more is not translated.
_KEPT = 0.6


def normalized(text: str) -> str:
    """Returns text in NFC, without invisible characters and with single spaces."""
    return _SPACE.sub(" ", unicodedata.normalize("NFC", text).translate(_INVISIBLE)).strip()


def sentences(text: str) -> list[str]:
    """Returns the sentences of a text."""
    return [part for part in _SENTENCE_END.split(normalized(text)) if part]


def is_translation(english: str, other: str) -> bool:
    """Returns whether a text may be a translation: other text, and not mostly English."""
    if english == other or max(len(english), len(other)) > LONGEST:
        return False
    if not (_LETTER.search(english) and _LETTER.search(other)):
        return False
    words = _WORD.findall(english.lower())
    kept = set(_WORD.findall(other.lower()))
    return len(words) < 3 or sum(word in kept for word in words) <= _KEPT * len(words)


def sentence_pairs(english: str, other: str) -> Iterator[tuple[str, str]]:
    """Yields the sentences of a text and its translation.

    If the two have different numbers of sentences, the texts are one pair. Pairs that are too short
    or too long, or that are not translations, are left out.
    """
    first, second = sentences(english), sentences(other)
    if len(first) != len(second):
        first, second = [normalized(english)], [normalized(other)]
    for left, right in zip(first, second, strict=True):
        if FEWEST_WORDS <= len(left.split(" ")) <= MOST_WORDS and is_translation(left, right):
            yield left, right
