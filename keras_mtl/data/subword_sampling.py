"""Subword regularization: another segmentation of the same text each time an example is read.

The store holds the best segmentation of each side. It is cut into words, each of which is segmented
again at random. Pieces do not cross words, so the words of a sentence are independent. What a word
can be segmented into is computed once and kept, so sampling costs a few microseconds for each word.
SentencePiece's own sampling is not used: its generator is global, so the result would depend on
what was sampled before.

Byte pieces spell characters without a piece. They stay together, as such a character.
"""

import abc

import numpy as np

from keras_mtl.data.keyed_numbers import uniforms
from keras_mtl.data.vocabulary import Vocabulary

_SPACE = "\u2581"  # SentencePiece's mark for a space, which begins a word.
# Words whose segmentations are kept, about 2 KB each, and their longest length in pieces. Longer
# ones are whole sentences of a language without spaces, which hardly occur again.
_KEPT_WORDS = 1 << 16
_KEPT_PIECES = 12

#: The ids of a piece: one, or those of the bytes of a character without a piece.
Ids = tuple[int, ...]


class SubwordSampler(abc.ABC):
    """Segments words at random.

    Args:
        vocabulary: the vocabulary.
        strength: alpha of unigram sampling, or the dropout rate of BPE.
    """

    def __init__(self, vocabulary: Vocabulary, strength: float) -> None:
        self.strength = strength
        self._vocabulary = vocabulary
        self._pieces = vocabulary.text_pieces()
        self._byte_ids = vocabulary.byte_ids()
        spelled = {token: piece for piece, (token, _) in self._pieces.items()}
        # Characters of each id, at least one: a bound of the numbers that a word needs.
        self._characters = np.array(
            [len(spelled.get(token, " ")) for token in range(vocabulary.size)], np.int64
        )
        self._spelled = spelled
        self._begins = starts_word(vocabulary)
        self._known: dict[Ids, object] = {}

    @abc.abstractmethod
    def _prepare(self, characters: list[str]) -> object:
        """Returns what `_draw` needs to segment a word with these characters."""

    @abc.abstractmethod
    def _draw(self, prepared: object, numbers: list[float], place: int) -> list[Ids]:
        """Returns a segmentation, drawn with the uniform numbers from a place on."""

    @abc.abstractmethod
    def _numbers(self, characters: np.ndarray) -> np.ndarray:
        """Returns int64[m], largest number of uniform numbers that `_draw` reads.

        Args:
            characters: int64[m], characters of each word.
        """

    def sample(
        self, tokens: np.ndarray, lengths: np.ndarray, keys: np.ndarray, most: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Segments texts again.

        Args:
            tokens: int[sum(lengths)], the pieces of all texts.
            lengths: int64[k], the number of pieces of each text.
            keys: uint64[k], the key of each text.
            most: int64[k], largest number of pieces of the result; at least `lengths`. If another
                segmentation of a word would exceed it, the word keeps its pieces.

        Returns:
            int32[sum(new lengths)] and int64[k], as the first two arguments.
        """
        if not len(tokens):
            return tokens.astype(np.int32), lengths
        ends = np.cumsum(lengths)
        begins = self._begins[tokens]
        begins[(ends - lengths)[lengths > 0]] = True
        words = np.flatnonzero(begins)
        characters = np.add.reduceat(self._characters[tokens], words)
        text_of = np.searchsorted(ends, words, "right")
        needed = self._numbers(characters)
        counts = np.bincount(text_of, needed, len(lengths)).astype(np.int64)
        numbers = uniforms(keys, counts).tolist()
        places = (np.cumsum(needed) - needed).tolist()
        ids, edges = tokens.tolist(), [*words.tolist(), len(tokens)]
        room = (most - lengths).tolist()
        found: list[int] = []
        sizes = [0] * len(lengths)
        for number, text in enumerate(text_of.tolist()):
            word = tuple(ids[edges[number] : edges[number + 1]])
            prepared = self._of(word)
            if prepared is not None:
                drawn = self._draw(prepared, numbers, places[number])
                new = tuple([token for piece in drawn for token in piece])
                if len(new) - len(word) <= room[text]:
                    room[text] -= len(new) - len(word)
                    word = new
            found += word
            sizes[text] += len(word)
        return np.array(found, np.int32), np.array(sizes, np.int64)

    def _of(self, word: Ids) -> object:
        """Returns `_prepare` of a word; None for a word that keeps its pieces."""
        if word in self._known:
            return self._known[word]
        characters = self._spell(word)
        prepared = None if characters is None else self._prepare(characters)
        if len(word) <= _KEPT_PIECES:
            if len(self._known) >= _KEPT_WORDS:
                self._known.clear()
            self._known[word] = prepared
        return prepared

    def _spell(self, word: Ids) -> list[str] | None:
        """Returns the characters of a word; None if they are unknown."""
        characters: list[str] = []
        waiting = bytearray()
        for token in word:
            if self._vocabulary.is_byte[token]:
                waiting.append(int(self._vocabulary.piece(token)[3:5], 16))
                continue
            if waiting or token not in self._spelled:
                if token not in self._spelled or not _decoded(waiting, characters):
                    return None
                waiting.clear()
            characters += self._spelled[token]
        return characters if _decoded(waiting, characters) else None

    def _without_piece(self, character: str) -> Ids:
        """Returns the ids of a character without a piece: its bytes, if the vocabulary has them."""
        if not self._byte_ids:
            return (self._vocabulary.unk_id,)
        return tuple(self._byte_ids[byte] for byte in character.encode())


def _decoded(waiting: bytearray, characters: list[str]) -> bool:
    """Adds the characters of bytes to a list; returns False if they are not UTF-8."""
    try:
        characters += waiting.decode()
    except UnicodeDecodeError:
        return False
    return True


def starts_word(vocabulary: Vocabulary) -> np.ndarray:
    """Returns bool[size], whether an id begins a word.

    False for all ids if pieces cross words, as in models that were trained without
    `split_by_whitespace`: a sentence is then one word.
    """
    pieces = vocabulary.text_pieces()
    begins = np.zeros(vocabulary.size, bool)
    if any(_SPACE in piece.lstrip(_SPACE) for piece in pieces):
        return begins
    for piece, (token, _) in pieces.items():
        begins[token] = piece.startswith(_SPACE)
    return begins
