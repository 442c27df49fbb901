"""Reads a prepared store through a memory map."""

import mmap
import os
import sys
from collections.abc import Iterator

import numpy as np

from keras_mtl import errors
from keras_mtl.data import store_format
from keras_mtl.data.store_runs import gather_ragged
from keras_mtl.data.store_writer import StoreWriter

__all__ = ["StoreReader", "StoreWriter"]

# Number of bytes that `verify` reads at once.
_CHUNK = 1 << 20
# Approximate limit of the mapped bytes of a store. The kernel maps up to 64 KB around each page
# that is read, and a pair reads two places (its offsets and its tokens). Unmapped pages stay in the
# page cache, so reading one again takes a microsecond.
MAPPED_BYTES = 32 << 20
_MAPPED_PER_PAIR = 2 * (64 << 10)


class StoreReader:
    """The encoded pairs of one task and split, read-only and memory-mapped.

    Pairs are sorted by (longest side, source length, hash). With `c = max_lengths_cumulative`,
    the pairs whose longest side is in (a, b] are exactly those from `c[a]` to `c[b] - 1`.
    Lengths are in pieces, without language tag and end of sentence.

    Args:
        path: file that a `StoreWriter` has written.
        expected_vocabulary_hash: `Vocabulary.hash` of the vocabulary in use; None accepts any.
        mapped_bytes: approximate limit of the mapped bytes; None means `MAPPED_BYTES`.

    Attributes:
        path: the file.
        vocabulary_hash: hash of the vocabulary that encoded it.
        vocabulary_size: number of ids; all ids are below it.
        has_text: whether the store has the text of both sides.
        source_tokens: number of tokens of all sources.
        target_tokens: number of tokens of all targets.
        max_length: number of tokens of the longest side of any pair; 0 in an empty store.
        max_lengths_cumulative: int64[max_length + 1], number of pairs whose longest side has at
            most L tokens; read only from the header.

    Raises:
        DataError: the file is missing or damaged, or has another version or vocabulary.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        expected_vocabulary_hash: str | None = None,
        mapped_bytes: int | None = None,
    ) -> None:
        mapped_bytes = MAPPED_BYTES if mapped_bytes is None else mapped_bytes
        self.path = os.fspath(path)
        header = store_format.read_header(self.path)
        if expected_vocabulary_hash not in (None, header.vocabulary_hash):
            raise errors.DataError(
                f"{self.path}: field vocabulary_hash: encoded with the vocabulary "
                f"{header.vocabulary_hash}, but the one in use is {expected_vocabulary_hash}; "
                f"{store_format.REMEDY}"
            )
        self._header = header
        self.vocabulary_hash = header.vocabulary_hash
        self.vocabulary_size = header.vocabulary_size
        self.source_tokens = header.source_tokens
        self.target_tokens = header.target_tokens
        self.has_text = "text" in header.sections
        self.max_lengths_cumulative = np.cumsum(np.array(header.length_histogram, np.int64))
        self.max_length = len(self.max_lengths_cumulative) - 1
        # A store below the limit stays mapped completely.
        self._gathered_limit = (
            mapped_bytes // _MAPPED_PER_PAIR if header.end > mapped_bytes else sys.maxsize
        )
        self._gathered = 0
        with open(self.path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._offsets = self._section("offsets", np.dtype("<i8"))
        self._tokens = self._section("tokens", np.dtype(f"<u{header.token_bytes}"))
        if self.has_text:
            self._text_offsets = self._section("text_offsets", np.dtype("<i8"))
            self._text = self._section("text", np.dtype("u1"))

    def _section(self, name: str, dtype: np.dtype) -> np.ndarray:
        section = self._header.sections[name]
        return np.frombuffer(self._map, dtype, section.size // dtype.itemsize, section.offset)

    def __len__(self) -> int:
        return self._header.count

    @property
    def checksum(self) -> str:
        """The checksums of the pairs' lengths and tokens, as the header states them."""
        return ":".join(self._header.sections[name].checksum for name in ("offsets", "tokens"))

    def _damaged(self, field: str, index: int, problem: str) -> errors.DataError:
        return errors.DataError(
            f"{self.path}: damaged store: field {field}, pair {index}: {problem}; "
            f"{store_format.REMEDY}"
        )

    def _edges(
        self, offsets: np.ndarray, total: int, indices: np.ndarray, field: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns where source begins, target begins and target ends, int64[m] each, checked."""
        indices = np.asarray(indices, np.int64)
        wrong = (indices < 0) | (indices >= len(self))
        if wrong.any():
            raise IndexError(
                f"{self.path}: there is no pair {indices[wrong][0]}; the store "
                f"has {len(self)} pairs"
            )
        begins, middles, ends = (offsets[2 * indices + side] for side in range(3))
        wrong = (begins < 0) | (begins > middles) | (middles > ends) | (ends > total)
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            raise self._damaged(
                field,
                int(indices[i]),
                f"offsets {begins[i]}, {middles[i]}, {ends[i]} are not ascending in [0, {total}]",
            )
        return begins, middles, ends

    def lengths(self, indices: int | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the numbers of pieces of source and target.

        Args:
            indices: one index or an array of them, in [0, len).

        Returns:
            Two int64 arrays of the indices' shape (numpy scalars for one index).
        """
        begins, middles, ends = self._edges(
            self._offsets, len(self._tokens), np.asarray(indices), "offsets"
        )
        return middles - begins, ends - middles

    def gather_flat(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns pairs as one array, without a loop over pairs.

        Args:
            indices: integers [m], in [0, len).

        Returns:
            tokens int32[total]: source 0, target 0, source 1...; lengths int64[2m] of these sides.
        """
        begins, middles, ends = self._edges(self._offsets, len(self._tokens), indices, "offsets")
        # A damaged offset could request the whole file for a pair; the header has the limit.
        wrong = np.maximum(middles - begins, ends - middles) > self.max_length
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            raise self._damaged(
                "offsets", int(indices[i]), f"longer than max_length {self.max_length}"
            )
        tokens = gather_ragged(self._tokens, begins, ends - begins).astype(np.int32)
        self._count(len(begins))
        if len(tokens) and (tokens.max() >= self.vocabulary_size or tokens.min() < 0):
            sizes = np.cumsum(ends - begins)
            first = np.flatnonzero((tokens >= self.vocabulary_size) | (tokens < 0))[0]
            raise self._damaged(
                "tokens",
                int(indices[int(np.searchsorted(sizes, first, "right"))]),
                f"id {tokens[first]} is outside the vocabulary of {self.vocabulary_size}",
            )
        return tokens, np.stack([middles - begins, ends - middles], axis=1).ravel()

    def pair(self, index: int) -> tuple[np.ndarray, int, int]:
        """Returns one pair, faster than an array of one index.

        Args:
            index: index in [0, len).

        Returns:
            The pieces of the source and then of the target, read-only unsigned integers, and the
            numbers of pieces of source and target.
        """
        begin, middle, end = map(self._offsets.item, range(2 * index, 2 * index + 3))
        longest = max(middle - begin, end - middle)
        if not (0 <= begin <= middle <= end <= len(self._tokens) and longest <= self.max_length):
            self.gather_flat(np.array([index]))  # Raises the error that names the damage.
        self._count(1)
        return self._tokens[begin:end], middle - begin, end - middle

    def _count(self, pairs: int) -> None:
        """Counts pairs that were read, and unmaps pages after many."""
        self._gathered += pairs
        if self._gathered >= self._gathered_limit:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._gathered = 0

    def gather(self, indices: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Returns the pieces of many pairs.

        Args:
            indices: integers [m], in [0, len).

        Returns:
            m sources and m targets, int32[length] each.
        """
        tokens, lengths = self.gather_flat(indices)
        ends = np.cumsum(lengths).tolist()
        sides = [tokens[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        return sides[0::2], sides[1::2]

    def source(self, index: int) -> np.ndarray:
        """Returns the pieces of a source, int32[length]."""
        return self.gather(np.array([index]))[0][0]

    def target(self, index: int) -> np.ndarray:
        """Returns the pieces of a target, int32[length]."""
        return self.gather(np.array([index]))[1][0]

    def text(self, index: int) -> tuple[str, str]:
        """Returns the text of source and target.

        Raises:
            DataError: the store has no text, or is damaged.
        """
        if not self.has_text:
            raise errors.DataError(
                f"{self.path} has no text, which training stores have only on "
                "request; read a dev or "
                "test store, or prepare with keep_train_text"
            )
        begins, middles, ends = self._edges(
            self._text_offsets, len(self._text), np.array([index]), "text_offsets"
        )
        try:
            return (
                self._text[begins[0] : middles[0]].tobytes().decode(),
                self._text[middles[0] : ends[0]].tobytes().decode(),
            )
        except UnicodeDecodeError as error:
            raise self._damaged("text", index, f"invalid UTF-8: {error.reason}") from error

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yields (source, target) of all pairs in order."""
        for index in range(len(self)):
            yield self.text(index)

    def verify(self) -> None:
        """Reads the whole file and compares the checksum of every section.

        Raises:
            DataError: a section is damaged; the message names it.
        """
        with open(self.path, "rb") as file:
            for name, section in self._header.sections.items():
                checksum = store_format.new_checksum()
                file.seek(section.offset)
                left = section.size
                while left:
                    data = file.read(min(left, _CHUNK))
                    if not data:
                        break
                    checksum.update(data)
                    left -= len(data)
                if checksum.hexdigest() != section.checksum:
                    raise errors.DataError(
                        f"{self.path}: damaged store: field {name}: wrong checksum; "
                        f"{store_format.REMEDY}"
                    )
