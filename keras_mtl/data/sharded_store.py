"""Reads a store that has several files as if it had one."""

import os
from collections.abc import Iterator, Sequence

import numpy as np

from keras_mtl import errors
from keras_mtl.data import store_format
from keras_mtl.data.store import MAPPED_BYTES, StoreReader
from keras_mtl.data.store_writer import shard_names


class ShardedStoreReader:
    """The encoded pairs of one task and split in several files; see `StoreReader`.

    Pairs have the same indices as in a store with one file.

    Args:
        paths: the files, in the order of `shard_names`; at least one.
        expected_vocabulary_hash: `Vocabulary.hash` of the vocabulary in use; None accepts any.

    Attributes:
        path: the first file, for messages.
        shards: the readers of the files.

    Raises:
        DataError: a file is missing or damaged, has another version or vocabulary, or is not the
            next one of the store.
    """

    def __init__(
        self, paths: Sequence[str | os.PathLike[str]], expected_vocabulary_hash: str | None = None
    ) -> None:
        self.shards = [
            StoreReader(path, expected_vocabulary_hash, MAPPED_BYTES // len(paths))
            for path in paths
        ]
        first = self.shards[0]
        self.path = first.path
        self.vocabulary_hash = first.vocabulary_hash
        self.vocabulary_size = first.vocabulary_size
        self.has_text = first.has_text
        self.source_tokens = sum(shard.source_tokens for shard in self.shards)
        self.target_tokens = sum(shard.target_tokens for shard in self.shards)
        self.max_length = max(shard.max_length for shard in self.shards)
        self.max_lengths_cumulative = np.zeros(self.max_length + 1, np.int64)
        shortest = 0
        for shard in self.shards:
            counts = shard.max_lengths_cumulative
            if int(np.searchsorted(counts, 0, "right")) < shortest:
                raise errors.DataError(
                    f"{shard.path}: its pairs are shorter than those of the file before it; it "
                    f"belongs to another store; {store_format.REMEDY}"
                )
            shortest = shard.max_length
            self.max_lengths_cumulative[: len(counts)] += counts
            self.max_lengths_cumulative[len(counts) :] += len(shard)
        self._ends = np.cumsum([len(shard) for shard in self.shards])

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def checksum(self) -> str:
        """The checksums of the pairs' lengths and tokens of all files."""
        return ":".join(shard.checksum for shard in self.shards)

    def _place(self, index: int) -> tuple[StoreReader, int]:
        """Returns the file of a pair and its index there."""
        number = int(np.searchsorted(self._ends, index, "right"))
        if index < 0 or number == len(self.shards):
            raise IndexError(f"{self.path}: there is no pair {index} in {len(self)} pairs")
        shard = self.shards[number]
        return shard, index - int(self._ends[number]) + len(shard)

    def _groups(self, indices: np.ndarray) -> Iterator[tuple[StoreReader, np.ndarray, np.ndarray]]:
        """Yields a file, the indices of pairs there, and the rows that request them."""
        indices = np.asarray(indices, np.int64).reshape(-1)
        wrong = (indices < 0) | (indices >= len(self))
        if wrong.any():
            self._place(int(indices[wrong][0]))  # Raises.
        numbers = np.searchsorted(self._ends, indices, "right")
        for number in np.unique(numbers).tolist():
            rows = np.flatnonzero(numbers == number)
            shard = self.shards[number]
            yield shard, indices[rows] - (self._ends[number] - len(shard)), rows

    def lengths(self, indices: int | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the numbers of pieces of source and target; see `StoreReader.lengths`."""
        shape = np.shape(indices)
        found = np.zeros((2, int(np.prod(shape, dtype=np.int64))), np.int64)
        for shard, places, rows in self._groups(np.asarray(indices)):
            found[:, rows] = shard.lengths(places)
        source, target = found.reshape(2, *shape)
        return source[()], target[()]

    def gather_flat(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns pairs as one array; see `StoreReader.gather_flat`."""
        groups = list(self._groups(indices))
        if len(groups) == 1:
            shard, places, _ = groups[0]
            return shard.gather_flat(places)
        lengths = np.zeros((len(indices), 2), np.int64)
        found = [(rows, *shard.gather_flat(places)) for shard, places, rows in groups]
        for rows, _, sides in found:
            lengths[rows] = sides.reshape(-1, 2)
        sizes = lengths.sum(axis=1)
        begins = np.cumsum(sizes) - sizes
        tokens = np.zeros(int(sizes.sum()), np.int32)
        for rows, pieces, _ in found:
            own = sizes[rows]
            before = np.cumsum(own) - own
            tokens[np.repeat(begins[rows] - before, own) + np.arange(len(pieces))] = pieces
        return tokens, lengths.ravel()

    def pair(self, index: int) -> tuple[np.ndarray, int, int]:
        """Returns one pair; see `StoreReader.pair`."""
        shard, place = self._place(index)
        return shard.pair(place)

    def gather(self, indices: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Returns the pieces of many pairs; see `StoreReader.gather`."""
        tokens, lengths = self.gather_flat(indices)
        ends = np.cumsum(lengths).tolist()
        sides = [tokens[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        return sides[0::2], sides[1::2]

    def source(self, index: int) -> np.ndarray:
        """Returns the pieces of a source, int32[length]."""
        shard, place = self._place(index)
        return shard.source(place)

    def target(self, index: int) -> np.ndarray:
        """Returns the pieces of a target, int32[length]."""
        shard, place = self._place(index)
        return shard.target(place)

    def text(self, index: int) -> tuple[str, str]:
        """Returns the text of source and target; see `StoreReader.text`."""
        shard, place = self._place(index)
        return shard.text(place)

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yields (source, target) of all pairs in order."""
        for shard in self.shards:
            yield from shard.texts()

    def verify(self) -> None:
        """Reads all files and compares their checksums; see `StoreReader.verify`."""
        for shard in self.shards:
            shard.verify()


AnyStoreReader = StoreReader | ShardedStoreReader


def open_store(
    directory: str, stem: str, shards: int, expected_vocabulary_hash: str | None = None
) -> AnyStoreReader:
    """Opens a store.

    Args:
        directory: the directory.
        stem: name of the store, such as `en-fr.train`.
        shards: number of its files.
        expected_vocabulary_hash: see `StoreReader`.

    Raises:
        DataError: see `StoreReader` and `ShardedStoreReader`.
    """
    paths = [os.path.join(directory, name) for name in shard_names(stem, shards)]
    if shards == 1:
        return StoreReader(paths[0], expected_vocabulary_hash)
    return ShardedStoreReader(paths, expected_vocabulary_hash)
