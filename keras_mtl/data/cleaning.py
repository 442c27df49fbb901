"""Rules that normalize or drop pairs before they are encoded; the pairs of each are counted."""

import array
import re
import unicodedata
from dataclasses import dataclass

from keras_mtl.configuration.schema import CleaningConfig
from keras_mtl.data import split

# Control characters other than white space, lone surrogates, the replacement character and
# noncharacters: signs of text that was decoded wrongly. Such a pair is dropped.
_CONTROL = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffd\ufffe\uffff]"
)
# Invisible characters that say nothing on the sentence: soft hyphen, zero width space, word joiner,
# byte order mark. They are removed. Joiners (U+200C, U+200D) and direction marks are letters' own.
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
# Scripts that write more of a word with one character than an alphabet does. The weights are the
# letters of an English original per character, rounded, measured on gettext catalogs by
# benchmarks/length_ratio.py: a Chinese character (Han) stands for three, and a syllable of Japanese
# (kana), Korean (Hangul), Ethiopic, Cherokee, Canadian Aboriginal, Vai or Yi stands for two.
_LOGOGRAMS = re.compile(
    "[\u2e80-\u2fdf\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_SYLLABLES = re.compile(
    "[\u1200-\u137f\u13a0-\u167f\u18b0-\u18ff\u2d80-\u2ddf\u3041-\u30ff\u31f0-\u31ff\ua000-\ua48f"
    "\ua500-\ua63f\uab00-\uab2f\uab70-\uabbf\uac00-\ud7a3\uff66-\uff9f]"
)
_MOST_LETTERS = 3


def normalize(text: str) -> str:
    """Returns the text in Unicode NFC, without invisible characters, with single plain spaces.

    Other spaces, such as no-break spaces, become plain: catalogs and CLDR use them inconsistently.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    return " ".join(text.split())


def letters(text: str) -> int:
    """Returns a text's length in letters of an alphabet, comparable between scripts.

    Each character counts once, each syllable of a syllabary twice, each Chinese character three
    times.
    """
    if text.isascii():
        return len(text)
    return len(text) + len(_SYLLABLES.findall(text)) + 2 * len(_LOGOGRAMS.findall(text))


@dataclass
class CleaningCounts:
    """Numbers of pairs by rule; every pair that is read is kept, or dropped by one rule.

    Attributes:
        read: pairs given to the cleaner.
        normalized: pairs whose text was changed (they may be kept or dropped).
        control: dropped: control characters or marks of a wrong decoding.
        empty: dropped: one side is empty.
        identical: dropped: the target equals the source.
        too_long: dropped: one side has more than max_characters.
        ratio: dropped: the sides' lengths differ too much.
        duplicate: dropped: the pair occurred before.
        kept: pairs that passed all rules.
    """

    read: int = 0
    normalized: int = 0
    control: int = 0
    empty: int = 0
    identical: int = 0
    too_long: int = 0
    ratio: int = 0
    duplicate: int = 0
    kept: int = 0

    def rows(self) -> list[tuple[str, int]]:
        """Returns (rule, pairs) in the order in which the rules are applied."""
        return [(field.replace("_", " "), value) for field, value in vars(self).items()]


class HashSet:
    """A set of 64-bit hashes with at most 24 bytes per entry (Python's set needs about 80).

    It uses open addressing with linear probing. The entries are hashes already, so their low bits
    are the position. 0 marks a free place, so the hash 0 is stored as 1.
    """

    def __init__(self) -> None:
        self._table = array.array("Q", bytes(8 * 1024))
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, value: int) -> bool:
        """Adds a hash in [0, 2^64).

        Returns:
            True if it was not in the set.
        """
        value = value or 1
        table = self._table
        mask = len(table) - 1
        place = value & mask
        while entry := table[place]:
            if entry == value:
                return False
            place = (place + 1) & mask
        table[place] = value
        self._size += 1
        if self._size * 3 > len(table) * 2:
            self._grow()
        return True

    def __contains__(self, value: int) -> bool:
        value = value or 1
        mask = len(self._table) - 1
        place = value & mask
        while entry := self._table[place]:
            if entry == value:
                return True
            place = (place + 1) & mask
        return False

    def _grow(self) -> None:
        old = self._table
        table = array.array("Q", bytes(8 * 2 * len(old)))
        mask = len(table) - 1
        for value in old:
            if value:
                place = value & mask
                while table[place]:
                    place = (place + 1) & mask
                table[place] = value
        self._table = table


class Cleaner:
    """Applies the rules to the pairs of one task, in order.

    Args:
        settings: settings of the rules; None means the defaults.

    Attributes:
        counts: numbers of pairs by rule so far.
    """

    def __init__(self, settings: CleaningConfig | None = None) -> None:
        self.settings = settings or CleaningConfig()
        self.counts = CleaningCounts()
        self._seen = HashSet()

    def clean(self, source: str, target: str) -> tuple[str, str] | None:
        """Returns the normalized pair, or None if a rule drops it.

        Args:
            source: source sentence.
            target: target sentence.
        """
        settings = self.settings
        counts = self.counts
        counts.read += 1
        if _CONTROL.search(source) or _CONTROL.search(target):
            counts.control += 1
            return None
        clean_source = normalize(source)
        clean_target = normalize(target)
        if clean_source != source or clean_target != target:
            counts.normalized += 1
        if not clean_source or not clean_target:
            counts.empty += 1
            return None
        if settings.drop_identical and clean_source == clean_target:
            counts.identical += 1
            return None
        short, long = sorted((len(clean_source), len(clean_target)))
        if long > settings.max_characters:
            counts.too_long += 1
            return None
        # A text has at most three letters per character, so most pairs need no exact count.
        if _MOST_LETTERS * long > settings.max_length_ratio * short:
            short, long = sorted((letters(clean_source), letters(clean_target)))
            if long - short > settings.ratio_slack and long > settings.max_length_ratio * short:
                counts.ratio += 1
                return None
        if settings.drop_duplicates and not self._seen.add(
            split.pair_hash(clean_source, clean_target)
        ):
            counts.duplicate += 1
            return None
        counts.kept += 1
        return clean_source, clean_target
