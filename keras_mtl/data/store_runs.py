"""Sorted runs: the pairs of a store in temporary files, each sorted in memory.

Runs are written in bounded memory, by one process or by several, and merged by `store_writer`.
"""

import contextlib
import dataclasses
import errno
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from keras_mtl import errors
from keras_mtl.data import store_format

# Largest number of tokens, or bytes of text, of a run: about 100 MB while it is sorted.
RUN_TOKENS = 2_000_000
RUN_TEXT_BYTES = 8_000_000

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


def _pair_hashes(tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
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


def sort_keys(tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns uint64[n], keys by which a store is sorted: longest side, source length, hash.

    Args:
        tokens: [total], the sides one after the other: source 0, target 0, source 1...
        lengths: int64[2n], the length of each side.
    """
    source = lengths[0::2]
    longest = np.maximum(source, lengths[1::2])
    return (
        (longest.astype(np.uint64) << np.uint64(48))
        | (source.astype(np.uint64) << np.uint64(32))
        | (_pair_hashes(tokens, lengths) >> np.uint64(32))
    )


def _mix(x: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64 (Steele, Lea, Flood: OOPSLA 2014), element by element."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclasses.dataclass
class Run:
    """A sorted file of pairs: keys uint64[n], lengths uint16[2n], tokens, then text.

    Attributes:
        path: the file.
        count: number of pairs, n.
        tokens: number of tokens.
        text: number of bytes of text.
        token_dtype: dtype of the tokens.
    """

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


class RunWriter:
    """Sorts pairs and writes them as runs; memory stays bounded however many pairs are added.

    Args:
        path: path of the store, for messages.
        stem: beginning of the paths of the runs.
        vocabulary_size: ids must be below it.
        keep_text: whether each pair comes with the text of both sides.
        run_tokens: tokens that are sorted in memory at once.

    Attributes:
        runs: the runs so far, in the order of their pairs.
    """

    def __init__(
        self,
        path: str,
        stem: str,
        vocabulary_size: int,
        *,
        keep_text: bool,
        run_tokens: int = RUN_TOKENS,
    ) -> None:
        self.runs: list[Run] = []
        self._path = path
        self._stem = stem
        self._vocabulary_size = vocabulary_size
        self._keep_text = keep_text
        self._run_tokens = run_tokens
        self._dtype = token_dtype(vocabulary_size)
        self._buffer_tokens: list[np.ndarray] = []
        self._buffer_lengths: list[np.ndarray] = []
        self._buffer_text: list[bytes] = []
        self._buffered_tokens = 0
        self._buffered_text = 0

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
            self.finish()

    def finish(self) -> None:
        """Writes the pairs in memory as a run."""
        if not self._buffer_lengths:
            return
        tokens = np.concatenate(self._buffer_tokens)
        lengths = np.concatenate(self._buffer_lengths)
        keys = sort_keys(tokens, lengths)
        order = np.argsort(keys, kind="stable")
        sizes = lengths[0::2] + lengths[1::2]
        sorted_tokens = gather_ragged(tokens, (np.cumsum(sizes) - sizes)[order], sizes[order])
        text_lengths = np.array([len(data) for data in self._buffer_text], np.uint32)
        if not self._keep_text:
            text_lengths = np.zeros(2 * len(order), np.uint32)
        text = b"".join(
            self._buffer_text[2 * i] + self._buffer_text[2 * i + 1]
            for i in (order if self._keep_text else ())
        )
        path = f"{self._stem}.run{len(self.runs)}"
        with disk_errors(self._path), open(path, "wb") as file:
            for part in (
                keys[order].astype("<u8"),
                lengths.reshape(-1, 2)[order].astype("<u2"),
                text_lengths.reshape(-1, 2)[order].astype("<u4"),
                sorted_tokens,
            ):
                file.write(np.ascontiguousarray(part).data)
            file.write(text)
        self.runs.append(Run(path, len(order), len(tokens), len(text), self._dtype))
        self._buffer_tokens, self._buffer_lengths, self._buffer_text = [], [], []
        self._buffered_tokens = self._buffered_text = 0


def token_dtype(vocabulary_size: int) -> np.dtype:
    """Returns the smallest dtype of a store's tokens."""
    return np.dtype("<u2" if vocabulary_size <= 1 << 16 else "<u4")
