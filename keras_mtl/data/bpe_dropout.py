"""BPE dropout: merges of byte pair encoding are left out at random."""

import numpy as np

from keras_mtl.data.subword_sampling import Ids, SubwordSampler


class BpeDropout(SubwordSampler):
    """Segments a word by merges, each of which is left out with a probability.

    As in BPE, a word begins as its characters, and the merge with the highest score is applied
    until there is none. Before each merge, every possible merge is left out with the dropout rate,
    independently; the word is complete when no merge is left.

    Args:
        vocabulary: a BPE vocabulary.
        strength: the dropout rate, in [0, 1). With 0, the result is the usual segmentation.

    Reference: Provilkov et al. 2020, arXiv 1910.13267, algorithm 1.
    """

    def _numbers(self, characters: np.ndarray) -> np.ndarray:
        # Before the first merge of n characters there are at most n - 1 possible merges, before the
        # next one at most n - 2, and so on.
        return characters * (characters - 1) // 2

    def _prepare(self, characters: list[str]) -> object:
        return characters

    def _draw(self, prepared: object, numbers: list[float], place: int) -> list[Ids]:
        parts: list[str] = list(prepared)  # type: ignore[call-overload]
        pieces, rate = self._pieces, self.strength
        while True:
            best, score = -1, 0.0
            for i in range(len(parts) - 1):
                found = pieces.get(parts[i] + parts[i + 1])
                if found is None:
                    continue
                kept = numbers[place] >= rate
                place += 1
                # Of equal scores, the first one, as in SentencePiece.
                if kept and (best < 0 or found[1] > score):
                    best, score = i, found[1]
            if best < 0:
                break
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        return [
            (pieces[part][0],) if part in pieces else self._without_piece(part) for part in parts
        ]
