"""Writes a prepared store of any size in bounded memory, by sorted runs and one merge."""

import contextlib
import dataclasses
import errno
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import BinaryIO

import numpy as np

from keras_mtl import errors
from keras_mtl.data import store_format
from keras_mtl.files import replacing_file

# Largest number of tokens, or bytes of text, of a run: about 100 MB while it is sorted.
RUN_TOKENS = 2_000_000
RUN_TEXT_BYTES = 8_000_000
# Approximate number of pairs that the merge sorts at once.
MERGE_PAIRS = 100_000

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def disk_errors(path: str) -> Iterator[None]:
    """Converts an operating system's error while `path` is written to a `DataError`."""
    try:
        yield
    except OSError as error:
        remedy = (
            "free some space or set task.data.data_dir to a larger disk"
            if error.errno in _NO_SPACE
            else "check that the directory exists and can be written"
        )
        raise errors.DataError(f"{path}: cannot write: {error.strerror}; {remedy}") from error


def gather_ragged(values: np.ndarray, begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Concatenates `values[begins[i]:begins[i] + lengths[i]]` for all i.

    Args:
        values: [total], any dtype.
        begins: int64[m].
        lengths: int64[m], >= 0.

    Returns:
        Array [sum(lengths)] of the values' dtype.
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return values[np.repeat(begins - (ends - lengths), lengths) + np.arange(total)]


def pair_hashes(tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns uint64[n], a hash of the content of each pair.

    Args:
        tokens: [total], the sides one after the other: source 0, target 0, source 1...
        lengths: int64[2n], the length of each side.
    """
    starts = np.cumsum(lengths) - lengths
    position = np.arange(len(tokens), dtype=np.uint64) - np.repeat(starts, lengths).astype(
        np.uint64
    )
    side = np.repeat(np.arange(len(lengths), dtype=np.uint64) & np.uint64(1), lengths)
    words = (tokens.astype(np.uint64) << np.uint64(32)) | (position << np.uint64(1)) | side
    sums = np.zeros(len(tokens) + 1, np.uint64)
    np.cumsum(_mix(words), out=sums[1:])
    edges = np.concatenate([starts[::2], starts[-1:] + lengths[-1:]])
    return _mix(sums[edges[1:]] - sums[edges[:-1]])


def _mix(x: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64 (Steele, Lea, Flood: OOPSLA 2014), element by element."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclasses.dataclass
class _Run:
    """A sorted spill file: keys uint64[n], lengths uint16[2n], tokens, then text."""

    path: str
    count: int
    tokens: int
    text: int
    token_dtype: np.dtype

    def read(self, part: str, begin: int, end: int) -> np.ndarray:
        """Returns elements [begin, end) of keys, lengths, tokens, text_lengths or text."""
        layout: list[tuple[str, np.dtype, int]] = [
            ("keys", np.dtype("<u8"), self.count),
            ("lengths", np.dtype("<u2"), 2 * self.count),
            ("text_lengths", np.dtype("<u4"), 2 * self.count),
            ("tokens", self.token_dtype, self.tokens),
            ("text", np.dtype("u1"), self.text),
        ]
        offset = 0
        for name, dtype, size in layout:
            if name == part:
                return np.fromfile(
                    self.path, dtype, end - begin, offset=offset + begin * dtype.itemsize
                )
            offset += size * dtype.itemsize
        raise KeyError(part)


class StoreWriter:
    """Writes a store; memory stays bounded however many pairs are added.

    `close` gives the complete file its name. As a context manager, the writer closes the store on
    success and removes it on an exception.

    Args:
        path: file to write.
        vocabulary_hash: `Vocabulary.hash`.
        vocabulary_size: ids must be below it.
        keep_text: whether each pair comes with the text of both sides.
        run_tokens: tokens that are sorted in memory at once.
        merge_pairs: pairs that are merged in memory at once, about.

    Raises:
        DataError: the disk is full or cannot be written, or a pair is out of range.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        vocabulary_hash: str,
        vocabulary_size: int,
        *,
        keep_text: bool = False,
        run_tokens: int = RUN_TOKENS,
        merge_pairs: int = MERGE_PAIRS,
    ) -> None:
        self._path = os.fspath(path)
        self._vocabulary_hash = vocabulary_hash
        self._vocabulary_size = vocabulary_size
        self._keep_text = keep_text
        self._run_tokens = run_tokens
        self._merge_pairs = merge_pairs
        self._dtype = np.dtype("<u2" if vocabulary_size <= 1 << 16 else "<u4")
        self._buffer_tokens: list[np.ndarray] = []
        self._buffer_lengths: list[np.ndarray] = []
        self._buffer_text: list[bytes] = []
        self._buffered_tokens = 0
        self._buffered_text = 0
        self._runs: list[_Run] = []
        self._count = 0
        self._source_tokens = 0
        self._target_tokens = 0
        self._text_bytes = 0
        self._histogram = np.zeros(1, np.int64)
        directory = os.path.dirname(self._path) or "."
        with disk_errors(self._path):
            self._folder = tempfile.mkdtemp(
                prefix=os.path.basename(self._path) + ".", suffix=".partial", dir=directory
            )

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def add(
        self,
        sources: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
        texts: Sequence[tuple[str, str]] | None = None,
    ) -> None:
        """Adds pairs.

        Args:
            sources: m lists of ids.
            targets: m lists of ids.
            texts: m (source, target), exactly when the store keeps text.
        """
        sides = itertools.chain.from_iterable(zip(sources, targets, strict=True))
        tokens = np.fromiter(itertools.chain.from_iterable(sides), np.int64)
        lengths = np.empty(2 * len(sources), np.int64)
        lengths[0::2] = [len(ids) for ids in sources]
        lengths[1::2] = [len(ids) for ids in targets]
        self.add_arrays(tokens, lengths, texts)

    def add_arrays(
        self,
        tokens: np.ndarray,
        lengths: np.ndarray,
        texts: Sequence[tuple[str, str]] | None = None,
    ) -> None:
        """Adds m pairs that are arrays already.

        Args:
            tokens: integers [sum(lengths)]: source 0, target 0, source 1, target 1...
            lengths: integers [2m], the length of each side.
            texts: m (source, target), exactly when the store keeps text.
        """
        if (texts is not None) != self._keep_text:
            raise ValueError(f"texts: given is {texts is not None}, keep_text {self._keep_text}")
        if len(lengths) == 0:
            return
        lengths = np.asarray(lengths, np.int64)
        if lengths.max() > store_format.MAX_LENGTH:
            raise errors.DataError(
                f"{self._path}: a side of {lengths.max()} tokens; a store holds sides of at most "
                f"{store_format.MAX_LENGTH}; lower task.data.max_length"
            )
        if len(tokens) and not 0 <= int(tokens.min()) <= int(tokens.max()) < self._vocabulary_size:
            raise errors.DataError(
                f"{self._path}: token ids {tokens.min()} to {tokens.max()} are outside the "
                f"vocabulary of {self._vocabulary_size}"
            )
        # Cut between pairs, so that no run exceeds its limit.
        ends = np.cumsum(lengths)[1::2]
        begin, begin_token = 0, 0
        while begin < len(ends):
            room = max(self._run_tokens - self._buffered_tokens, 1)
            end = max(int(np.searchsorted(ends, begin_token + room, "right")), begin + 1)
            part = None if texts is None else texts[begin:end]
            self._buffer(tokens[begin_token : ends[end - 1]], lengths[2 * begin : 2 * end], part)
            begin, begin_token = end, int(ends[end - 1])

    def _buffer(
        self, tokens: np.ndarray, lengths: np.ndarray, texts: Sequence[tuple[str, str]] | None
    ) -> None:
        self._buffer_tokens.append(tokens.astype(self._dtype))
        self._buffer_lengths.append(lengths)
        self._buffered_tokens += len(tokens)
        for text in itertools.chain.from_iterable(texts or ()):
            data = text.encode()
            self._buffer_text.append(data)
            self._buffered_text += len(data)
        if self._buffered_tokens >= self._run_tokens or self._buffered_text >= RUN_TEXT_BYTES:
            self._spill()

    def _spill(self) -> None:
        """Sorts the pairs in memory and writes them as a run."""
        if not self._buffer_lengths:
            return
        tokens = np.concatenate(self._buffer_tokens)
        lengths = np.concatenate(self._buffer_lengths)
        source, target = lengths[0::2], lengths[1::2]
        longest = np.maximum(source, target)
        keys = (
            (longest.astype(np.uint64) << np.uint64(48))
            | (source.astype(np.uint64) << np.uint64(32))
            | (pair_hashes(tokens, lengths) >> np.uint64(32))
        )
        order = np.argsort(keys, kind="stable")
        sizes = source + target
        sorted_tokens = gather_ragged(tokens, (np.cumsum(sizes) - sizes)[order], sizes[order])
        text_lengths = np.array([len(data) for data in self._buffer_text], np.uint32)
        if not self._keep_text:
            text_lengths = np.zeros(2 * len(order), np.uint32)
        text = b"".join(
            self._buffer_text[2 * i] + self._buffer_text[2 * i + 1]
            for i in (order if self._keep_text else ())
        )
        path = os.path.join(self._folder, f"run{len(self._runs)}")
        with disk_errors(self._path), open(path, "wb") as file:
            for part in (
                keys[order].astype("<u8"),
                lengths.reshape(-1, 2)[order].astype("<u2"),
                text_lengths.reshape(-1, 2)[order].astype("<u4"),
                sorted_tokens,
            ):
                file.write(np.ascontiguousarray(part).data)
            file.write(text)
        self._runs.append(_Run(path, len(order), len(tokens), len(text), self._dtype))
        counts = np.bincount(longest, minlength=len(self._histogram))
        counts[: len(self._histogram)] += self._histogram
        self._histogram = counts
        self._count += len(order)
        self._source_tokens += int(source.sum())
        self._target_tokens += int(target.sum())
        self._text_bytes += len(text)
        self._buffer_tokens, self._buffer_lengths, self._buffer_text = [], [], []
        self._buffered_tokens = self._buffered_text = 0

    def abort(self) -> None:
        """Removes everything written so far."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """Merges the runs and writes the file, which is complete or absent."""
        try:
            self._spill()
            header = store_format.lay_out(
                vocabulary_hash=self._vocabulary_hash,
                vocabulary_size=self._vocabulary_size,
                count=self._count,
                source_tokens=self._source_tokens,
                target_tokens=self._target_tokens,
                token_bytes=self._dtype.itemsize,
                length_histogram=self._histogram.tolist(),
                text_bytes=self._text_bytes if self._keep_text else None,
            )
            with disk_errors(self._path), replacing_file(self._path) as file:
                checksums = self._merge(file, header)
                sections = {
                    name: dataclasses.replace(section, checksum=checksums[name])
                    for name, section in header.sections.items()
                }
                _write_at(
                    file, 0, store_format.pack(dataclasses.replace(header, sections=sections))
                )
                # The last section may be empty or end in an unwritten gap.
                file.truncate(header.end)
        finally:
            self.abort()

    def _merge(self, file: BinaryIO, header: store_format.Header) -> dict[str, str]:
        """Writes all sections in the order of the keys; returns their checksums."""
        out = {name: _SectionWriter(file, place) for name, place in header.sections.items()}
        zero = np.zeros(1, "<i8")
        out["offsets"].write(zero)
        if self._keep_text:
            out["text_offsets"].write(zero)
        token_end = text_end = 0
        for parts in self._partitions():
            keys, lengths, text_lengths, tokens, text = (
                np.concatenate(column) for column in zip(*parts, strict=True)
            )
            order = np.argsort(keys, kind="stable")
            sides = lengths.reshape(-1, 2).astype(np.int64)
            sizes = sides.sum(axis=1)
            out["tokens"].write(
                gather_ragged(tokens, (np.cumsum(sizes) - sizes)[order], sizes[order])
            )
            ends = token_end + np.cumsum(sides[order].ravel())
            out["offsets"].write(ends.astype("<i8"))
            token_end = int(ends[-1])
            if self._keep_text:
                sides = text_lengths.reshape(-1, 2).astype(np.int64)
                sizes = sides.sum(axis=1)
                out["text"].write(
                    gather_ragged(text, (np.cumsum(sizes) - sizes)[order], sizes[order])
                )
                ends = text_end + np.cumsum(sides[order].ravel())
                out["text_offsets"].write(ends.astype("<i8"))
                text_end = int(ends[-1])
        return {name: section.checksum() for name, section in out.items()}

    def _partitions(self) -> Iterator[list[tuple[np.ndarray, ...]]]:
        """Yields key ranges in order, each as the runs' (keys, lengths, ..., text) inside it."""
        if not self._runs:
            return
        # Every `stride`-th key of every run: between two of the chosen splitters lie at most
        # about merge_pairs keys, whatever their distribution.
        stride = max(self._merge_pairs // (2 * len(self._runs)), 1)
        samples = np.sort(
            np.concatenate([run.read("keys", 0, run.count)[::stride] for run in self._runs])
        )
        splitters = np.unique(samples[:: max(self._merge_pairs // (2 * stride), 1)][1:])
        cuts = []
        for run in self._runs:
            pairs = np.searchsorted(run.read("keys", 0, run.count), splitters)
            pairs = np.concatenate([[0], pairs, [run.count]])
            places = [pairs]
            for part in ("lengths", "text_lengths"):
                sums = np.zeros(run.count + 1, np.int64)
                sides = run.read(part, 0, 2 * run.count).reshape(-1, 2)
                np.cumsum(sides.sum(axis=1, dtype=np.int64), out=sums[1:])
                places.append(sums[pairs])
            cuts.append(places)
        for p in range(len(splitters) + 1):
            parts: list[tuple[np.ndarray, ...]] = []
            for run, (pairs, tokens, text) in zip(self._runs, cuts, strict=True):
                a, b = int(pairs[p]), int(pairs[p + 1])
                if a < b:
                    parts.append(
                        (
                            run.read("keys", a, b),
                            run.read("lengths", 2 * a, 2 * b),
                            run.read("text_lengths", 2 * a, 2 * b),
                            run.read("tokens", int(tokens[p]), int(tokens[p + 1])),
                            run.read("text", int(text[p]), int(text[p + 1])),
                        )
                    )
            if parts:
                yield parts


class _SectionWriter:
    """Appends to one section of a file and keeps its checksum."""

    def __init__(self, file: BinaryIO, section: store_format.Section) -> None:
        self._file = file
        self._position = section.offset
        self._hash = store_format.new_checksum()

    def write(self, values: np.ndarray) -> None:
        data = np.ascontiguousarray(values).view(np.uint8).data
        self._hash.update(data)
        self._position = _write_at(self._file, self._position, data)

    def checksum(self) -> str:
        return self._hash.hexdigest()


def _write_at(file: BinaryIO, position: int, data: bytes | memoryview) -> int:
    """Writes all of `data` at a byte position; returns the position after it."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file.fileno(), view, position)
        position += written
        view = view[written:]
    return position
