"""The noise of denoising tasks: from a text, a noisy source and the target to restore.

The blank and the mask are `<unk>`: the vocabulary spells every text without it, so no text has it.
"""

import abc
from typing import NamedTuple

import numpy as np

from keras_mtl.configuration.other_tasks import MASS, NoiseConfig
from keras_mtl.data.keyed_numbers import uniforms
from keras_mtl.data.subword_sampling import starts_word
from keras_mtl.data.vocabulary import UNK_ID, Vocabulary

BLANK_ID = UNK_ID


class Sides(NamedTuple):
    """Sources and targets.

    Attributes:
        source: int[sum(source_lengths)], the pieces of all sources.
        source_lengths: int64[k].
        target: int[sum(target_lengths)], the pieces of all targets.
        target_lengths: int64[k].
    """

    source: np.ndarray
    source_lengths: np.ndarray
    target: np.ndarray
    target_lengths: np.ndarray


class Noise(abc.ABC):
    """Makes sources and targets from texts."""

    @abc.abstractmethod
    def longest(self, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the largest numbers of pieces of source and target, int64[...] each.

        Args:
            lengths: int64[...], numbers of pieces of texts, >= 1.
        """

    @abc.abstractmethod
    def __call__(self, tokens: np.ndarray, lengths: np.ndarray, keys: np.ndarray) -> Sides:
        """Returns sources and targets.

        Args:
            tokens: int[sum(lengths)], the pieces of all texts.
            lengths: int64[k], numbers of pieces of the texts, >= 1.
            keys: uint64[k], the key of each text, of which the noise is a function.
        """


class WordNoise(Noise):
    """Drops, blanks and shuffles the units of a text; the target is the text.

    A unit is dropped with the probability `drop`; if all of a text would be dropped, one is kept.
    Those that are left are blanked with the probability `blank`. Then they are sorted by their
    position plus a number in [0, shuffle + 1), so none moves by more than `shuffle` positions.

    Args:
        vocabulary: the vocabulary, which knows where words begin.
        config: the parameters.

    Reference: Lample et al. 2018, arXiv 1711.00043, section 2.3; blanks: arXiv 1804.07755.
    """

    def __init__(self, vocabulary: Vocabulary, config: NoiseConfig) -> None:
        self._config = config
        self._begins = starts_word(vocabulary)
        if config.unit == "piece":
            self._begins = np.ones_like(self._begins)

    def longest(self, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return lengths, lengths

    def __call__(self, tokens: np.ndarray, lengths: np.ndarray, keys: np.ndarray) -> Sides:
        config = self._config
        ends = np.cumsum(lengths)
        begins = self._begins[tokens]
        begins[ends - lengths] = True
        units = np.flatnonzero(begins)
        sizes = np.diff(units, append=len(tokens))
        text_of = np.searchsorted(ends, units, "right")
        # Three numbers of each unit: dropped, blanked, moved.
        counts = np.bincount(text_of, minlength=len(lengths))
        dropped, blanked, moved = uniforms(keys, 3 * counts).reshape(-1, 3).T
        kept = dropped >= config.drop
        # The unit of each text that is dropped last.
        order = np.lexsort((dropped, text_of))
        kept[order[np.cumsum(counts) - 1]] = True
        place = np.arange(len(units)) + (config.shuffle + 1) * moved
        if not config.shuffle:
            place = np.arange(len(units))
        chosen = np.flatnonzero(kept)
        chosen = chosen[np.lexsort((place[chosen], text_of[chosen]))]
        blank = blanked[chosen] < config.blank
        new_sizes = np.where(blank, 1, sizes[chosen])
        before = np.cumsum(new_sizes) - new_sizes
        places = np.repeat(units[chosen] - before, new_sizes) + np.arange(int(new_sizes.sum()))
        source = tokens[places]
        source[before[blank]] = BLANK_ID
        source_lengths = np.bincount(text_of[chosen], new_sizes, len(lengths)).astype(np.int64)
        return Sides(source, source_lengths, tokens, lengths)


class MassNoise(Noise):
    """Masks a span of a text, piece by piece; the target is the span.

    The span has `span` of the text's pieces, rounded, at least one. Each place where it fits is
    equally likely. The decoder sees only the span, from position 0 on.

    Args:
        config: the parameters.

    Reference: Song et al. 2019, arXiv 1905.02450, section 3.2.
    """

    def __init__(self, config: NoiseConfig) -> None:
        self._share = config.span

    def longest(self, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return lengths, np.clip(np.rint(self._share * lengths).astype(np.int64), 1, None)

    def __call__(self, tokens: np.ndarray, lengths: np.ndarray, keys: np.ndarray) -> Sides:
        _, sizes = self.longest(lengths)
        numbers = uniforms(keys, np.ones(len(keys), np.int64))
        first = np.cumsum(lengths) - lengths + (numbers * (lengths - sizes + 1)).astype(np.int64)
        before = np.cumsum(sizes) - sizes
        masked = np.repeat(first - before, sizes) + np.arange(int(sizes.sum()))
        source = tokens.copy()
        source[masked] = BLANK_ID
        return Sides(source, lengths, tokens[masked], sizes)


def make_noise(vocabulary: Vocabulary, config: NoiseConfig) -> Noise:
    """Makes the noise of a task."""
    return MassNoise(config) if config.method == MASS else WordNoise(vocabulary, config)
