"""Sampling of segmentations from a unigram language model (subword regularization)."""

import math
from bisect import bisect_right
from typing import NamedTuple

import numpy as np

from keras_mtl.data.subword_sampling import Ids, SubwordSampler
from keras_mtl.data.vocabulary import Vocabulary

# How much less likely than the least likely piece a character without a piece is, as in
# SentencePiece (`kUnkPenalty`).
_UNKNOWN_PENALTY = 10.0


class _Arcs(NamedTuple):
    """The pieces that end at a position of a word.

    Attributes:
        sums: cumulative probabilities of the pieces as the last one of a prefix.
        begins: the position at which each piece begins.
        ids: the ids of each piece.
    """

    sums: list[float]
    begins: list[int]
    ids: list[Ids]


class UnigramSampler(SubwordSampler):
    """Draws a segmentation x with the probability P(x)^alpha / sum over x' of P(x')^alpha.

    All segmentations of the word take part: forward sums of the lattice, then a draw of pieces from
    the end. P(x) is the product of the probabilities of the pieces, as in the vocabulary.

    Args:
        vocabulary: a unigram vocabulary.
        strength: alpha; > 0. Small values are uniform, large values choose the best segmentation.

    Reference: Kudo 2018, arXiv 1804.10959, section 3.3, with l = infinity.
    """

    def __init__(self, vocabulary: Vocabulary, strength: float) -> None:
        super().__init__(vocabulary, strength)
        self._longest = max(map(len, self._pieces))
        least = min(score for _, score in self._pieces.values())
        self._unknown = strength * (least - _UNKNOWN_PENALTY)

    def _numbers(self, characters: np.ndarray) -> np.ndarray:
        return characters

    def _prepare(self, characters: list[str]) -> object:
        word, size = "".join(characters), len(characters)
        forward = [0.0] + [-math.inf] * size
        arcs: list[_Arcs] = [_Arcs([], [], [])]
        for end in range(1, size + 1):
            weights, begins = [], []
            ids: list[Ids] = []
            for begin in range(max(0, end - self._longest), end):
                found = self._pieces.get(word[begin:end])
                if found is not None:
                    weights.append(forward[begin] + self.strength * found[1])
                    ids.append((found[0],))
                    begins.append(begin)
                elif begin == end - 1:
                    weights.append(forward[begin] + self._unknown)
                    ids.append(self._without_piece(word[begin]))
                    begins.append(begin)
            largest = max(weights)
            shares = np.exp(np.array(weights) - largest)
            forward[end] = largest + math.log(shares.sum())
            sums = np.cumsum(shares / shares.sum())
            arcs.append(_Arcs(sums[:-1].tolist(), begins, ids))
        return arcs

    def _draw(self, prepared: object, numbers: list[float], place: int) -> list[Ids]:
        arcs: list[_Arcs] = prepared  # type: ignore[assignment]
        position, pieces = len(arcs) - 1, []
        while position:
            sums, begins, ids = arcs[position]
            chosen = bisect_right(sums, numbers[place]) if sums else 0
            pieces.append(ids[chosen])
            position = begins[chosen]
            place += 1
        pieces.reverse()
        return pieces
