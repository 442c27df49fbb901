"""From which ids of one vocabulary the ids of another take their embeddings."""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from keras_mtl.data.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class VocabularyMap:
    """For each id of a new vocabulary, the ids of an old one whose mean it starts from.

    Attributes:
        old_size: number of ids of the old vocabulary.
        sources: for each new id, ids of the old vocabulary: one if the piece exists there; those
            of the pieces that spell the piece; for a new language tag, those of all old tags; none
            if there is nothing to start from.
        kept: number of pieces that the old vocabulary has.
        spelled: number of pieces that pieces of the old vocabulary spell.
        tags: number of new language tags that start from the mean of the old tags.
    """

    old_size: int
    sources: Sequence[Sequence[int]]
    kept: int
    spelled: int
    tags: int

    @property
    def is_identity(self) -> bool:
        """Whether both vocabularies have the same pieces with the same ids."""
        same = self.kept == len(self.sources) == self.old_size
        return same and all(ids[0] == number for number, ids in enumerate(self.sources))

    def apply(self, old: np.ndarray, initial: np.ndarray, axis: int = 0) -> np.ndarray:
        """Returns weights for the new vocabulary.

        Args:
            old: float32 weights of the old vocabulary; `old_size` entries along `axis`.
            initial: float32 weights for ids that have nothing to start from; one entry for each
                new id along `axis`.
            axis: the axis of the vocabulary.

        Returns:
            float32 of the shape of `initial`.
        """
        rows = np.moveaxis(initial.copy(), axis, 0)
        old = np.moveaxis(old, axis, 0)
        ones = np.array([i for i, ids in enumerate(self.sources) if len(ids) == 1], np.int64)
        rows[ones] = old[[self.sources[i][0] for i in ones]]
        for number, ids in enumerate(self.sources):
            if len(ids) > 1:
                rows[number] = old[list(ids)].mean(axis=0, dtype=np.float64)
        return np.ascontiguousarray(np.moveaxis(rows, 0, axis))

    def describe(self) -> str:
        """Returns what happens to the rows, for a message."""
        parts = [f"{self.kept:,} of {len(self.sources):,} rows follow their pieces"]
        if self.spelled:
            parts.append(f"{self.spelled:,} are means of the pieces that spell them")
        if self.tags:
            parts.append(f"{self.tags:,} new tags are means of the old tags")
        if rest := len(self.sources) - self.kept - self.spelled - self.tags:
            parts.append(f"{rest:,} keep their random weights")
        return ", ".join(parts)


def map_vocabulary(old: Vocabulary, new: Vocabulary) -> VocabularyMap:
    """Maps the ids of a new vocabulary to those of an old one.

    Args:
        old: the vocabulary of the trained model.
        new: the vocabulary of the new model.
    """
    ids = {old.piece(i): i for i in range(old.size)}
    speller = Speller(old)
    old_tags = [old.tag_id(language) for language in old.languages]
    new_tags = {new.tag_id(language) for language in new.languages}
    sources: list[Sequence[int]] = []
    counts: collections.Counter[str] = collections.Counter()
    for number in range(new.size):
        piece = new.piece(number)
        if piece in ids:
            kind, found = "kept", [ids[piece]]
        elif number in new_tags:
            kind, found = "tags", old_tags
        else:
            kind, found = "spelled", speller.spell(piece)
        sources.append(found)
        counts[kind if found else "none"] += 1
    return VocabularyMap(old.size, sources, counts["kept"], counts["spelled"], counts["tags"])


class VocabularyMaps:
    """Maps from the vocabularies of a trained model to those of a new one, by variable.

    Args:
        old: the vocabulary of the trained model, which may have another one for sources.
        new: the vocabulary of the new model.
    """

    def __init__(self, old: Vocabulary, new: Vocabulary) -> None:
        self._old = old
        self._new = new
        self._found: dict[tuple[int, int], VocabularyMap] = {}

    def between(self, origin: str, name: str) -> VocabularyMap:
        """Returns the map from a table of the trained model to one of the new model.

        Args:
            origin: name of the variable of the trained model.
            name: name of the variable of the new model.
        """
        old = self._old.source if _reads_source(origin) else self._old
        new = self._new.source if _reads_source(name) else self._new
        key = id(old), id(new)
        if key not in self._found:
            self._found[key] = map_vocabulary(old, new)
        return self._found[key]


def _reads_source(name: str) -> bool:
    """Whether a variable has a row for each id of sources, and not of targets."""
    return name.startswith("source_embedding")


class Speller:
    """Spells text with the pieces of a vocabulary.

    SentencePiece cannot do this: it adds a space to the start of a text.

    Args:
        vocabulary: the vocabulary.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._pieces: Mapping[str, tuple[int, float]] = vocabulary.text_pieces()
        self._bytes = vocabulary.byte_ids()
        self._longest = max(map(len, self._pieces), default=1)

    def spell(self, text: str) -> list[int]:
        """Returns the ids of the fewest pieces that spell a text; of equally many, the best scores.

        A character without a piece is spelled by its bytes in UTF-8, which count as one piece.

        Args:
            text: text with U+2581 for spaces.

        Returns:
            The ids; empty if a character has neither a piece nor bytes.
        """
        # The cost of the best spelling of the first characters, and its last piece.
        best: list[tuple[int, float]] = [(0, 0.0)]
        last: list[tuple[int, list[int]]] = [(0, [])]
        for end in range(1, len(text) + 1):
            candidates = []
            for start in range(max(0, end - self._longest), end):
                found = self._pieces.get(text[start:end])
                if found is not None:
                    candidates.append((start, [found[0]], found[1]))
            in_bytes = [self._bytes.get(byte, -1) for byte in text[end - 1].encode()]
            if text[end - 1] not in self._pieces and min(in_bytes) >= 0:
                candidates.append((end - 1, in_bytes, 0.0))
            costs = [(best[start][0] + 1, best[start][1] - score) for start, _, score in candidates]
            if not costs:
                costs, candidates = [(len(text) + 1, math.inf)], [(end - 1, [], 0.0)]
            chosen = min(range(len(costs)), key=costs.__getitem__)
            best.append(costs[chosen])
            last.append(candidates[chosen][:2])
        if best[-1][1] == math.inf:
            return []
        ids: list[int] = []
        end = len(text)
        while end:
            end, found_ids = last[end]
            ids[:0] = found_ids
        return ids
