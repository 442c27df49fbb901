"""Reads corpora in chunks, cleans each chunk and writes it to temporary files.

A chunk is a function of its corpus only, so any process can clean any chunk. What depends on the
pairs before it (duplicates, splits, caps) is decided later, from the hashes of all pairs.
"""

import collections
import dataclasses
import itertools
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from keras_mtl.configuration.schema import CleaningConfig
from keras_mtl.data import corpora, split
from keras_mtl.data.cleaning import Cleaner
from keras_mtl.data.processes import Share
from keras_mtl.data.store_runs import disk_errors

# Pairs of a chunk, before cleaning: about 1 MB of text.
CHUNK_PAIRS = 4096
# Cleaning leaves no control characters in a text.
_SEPARATOR = "\x1f"
# Seconds between two lines of progress.
_PROGRESS_INTERVAL = 5.0
# Rows of the hashes of a chunk.
PAIR, SOURCE, TARGET = range(3)


@dataclasses.dataclass(frozen=True)
class Rules:
    """What cleaning needs to know of a task.

    Attributes:
        cleaning: the rules. Duplicates are not dropped.
        hash_targets: whether the hashes of the targets are needed.
    """

    cleaning: CleaningConfig
    hash_targets: bool


@dataclasses.dataclass(frozen=True)
class CleanChunk:
    """The pairs of a chunk that pass all rules.

    Attributes:
        counts: numbers of pairs by rule.
        text: UTF-8, a line for each pair; see `pairs_of`.
        hashes: uint64[3, n] or [2, n]: `split.pair_hash`, then `split.source_hash` of each source
            and, if the rules request it, of each target.
    """

    counts: collections.Counter[str]
    text: bytes
    hashes: np.ndarray


@dataclasses.dataclass(frozen=True)
class StoredChunk:
    """The place of a chunk in temporary files.

    Attributes:
        number: number in its part of the corpus, from 0.
        path: path of the text; that of the hashes has another suffix.
        text: byte offset and size of the text.
        hashes: byte offset and number of rows of the hashes.
        count: number of pairs, n.
    """

    number: int
    path: str
    text: tuple[int, int]
    hashes: tuple[int, int]
    count: int


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a corpus that one process reads.

    Attributes:
        name: name of the task.
        stem: beginning of the names of the temporary files.
        reader: the reader.
        rules: the rules of the task.
    """

    name: str
    stem: str
    reader: corpora.CorpusReader
    rules: Rules


@dataclasses.dataclass(frozen=True)
class ReadPart:
    """What was read of a part.

    Attributes:
        chunks: its chunks that were not handed over, with the numbers of pairs by rule.
        bad: number of bad lines.
        dropped: numbers of pairs that the reader dropped, by rule.
        report: lines for the user.
    """

    chunks: list[tuple[StoredChunk, collections.Counter[str]]]
    bad: int
    dropped: dict[str, int]
    report: list[str]


def clean_chunk(texts: Sequence[str], rules: Rules) -> CleanChunk:
    """Cleans the pairs of a chunk.

    Args:
        texts: source 0, target 0, source 1, …
        rules: the rules.
    """
    cleaner = Cleaner(dataclasses.replace(rules.cleaning, drop_duplicates=False))
    lines: list[str] = []
    hashes: list[list[int]] = [[] for _ in range(2 + rules.hash_targets)]
    for source, target in zip(texts[0::2], texts[1::2], strict=True):
        clean = cleaner.clean(source, target)
        if clean is None:
            continue
        source, target = clean
        lines.append(f"{source}{_SEPARATOR}{target}\n")
        hashes[PAIR].append(split.pair_hash(source, target))
        hashes[SOURCE].append(split.source_hash(source))
        if rules.hash_targets:
            hashes[TARGET].append(split.source_hash(target))
    counts = collections.Counter(dict(cleaner.counts.rows()))
    return CleanChunk(counts, "".join(lines).encode(), np.array(hashes, np.uint64))


def pairs_of(text: bytes, mask: np.ndarray) -> list[tuple[str, str]]:
    """Returns pairs of a chunk's text.

    Args:
        text: `CleanChunk.text`.
        mask: bool[n], which pairs.
    """
    lines = itertools.compress(text.split(b"\n"), mask.tolist())
    return [tuple(line.decode().split(_SEPARATOR)) for line in lines]  # type: ignore[misc]


def chunks_of(stream: Iterable[corpora.Pair], size: int = CHUNK_PAIRS) -> Iterator[list[str]]:
    """Yields the texts of `size` pairs at a time, as `clean_chunk` takes them."""
    texts: list[str] = []
    for pair in stream:
        texts += pair.source, pair.target
        if len(texts) >= 2 * size:
            yield texts
            texts = []
    if texts:
        yield texts


def read_part(part: Part, share: Share) -> ReadPart:
    """Reads a part of a corpus and writes it, cleaned, to temporary files.

    Raises:
        DataError: the corpus is damaged or has too many bad lines, or the disk is full.
    """
    stream = corpora.read_pairs(part.reader, part.rules.cleaning.max_bad_lines)
    progress = _Progress(part.name)
    chunks = []
    for number, texts in enumerate(chunks_of(stream)):
        if not share(store_chunk, part.stem, number, texts, part.rules):
            chunks.append(store_chunk(part.stem, number, texts, part.rules))
        progress(stream.pairs)
    return ReadPart(chunks, stream.bad, stream.dropped, stream.report())


def store_chunk(
    stem: str, number: int, texts: Sequence[str], rules: Rules
) -> tuple[StoredChunk, collections.Counter[str]]:
    """Cleans a chunk and appends it to the files of this process; returns its place and counts."""
    chunk = clean_chunk(texts, rules)
    path = f"{stem}.{os.getpid()}.text"
    text_begin = _append(path, chunk.text)
    hashes_begin = _append(_hashes_path(path), chunk.hashes.tobytes())
    rows, count = chunk.hashes.shape
    place = StoredChunk(number, path, (text_begin, len(chunk.text)), (hashes_begin, rows), count)
    return place, chunk.counts


def _hashes_path(path: str) -> str:
    return f"{path.removesuffix('.text')}.hashes"


def _append(path: str, content: bytes) -> int:
    """Appends to a file and returns where the content begins."""
    with disk_errors(path), open(path, "ab") as file:
        begin = file.tell()
        file.write(content)
    return begin


def load_text(chunk: StoredChunk) -> bytes:
    """Returns the text of a chunk."""
    with open(chunk.path, "rb") as file:
        file.seek(chunk.text[0])
        return file.read(chunk.text[1])


def load_hashes(chunk: StoredChunk, row: int) -> np.ndarray:
    """Returns a row of a chunk's hashes, uint64[n]; zeros if the chunk does not have it."""
    offset, rows = chunk.hashes
    if row >= rows or not chunk.count:
        return np.zeros(chunk.count, np.uint64)
    offset += 8 * row * chunk.count
    return np.fromfile(_hashes_path(chunk.path), np.uint64, chunk.count, offset=offset)


def remove_files(chunks: Iterable[StoredChunk]) -> None:
    """Deletes the files of chunks."""
    for path in {chunk.path for chunk in chunks}:
        os.remove(path)
        os.remove(_hashes_path(path))


class _Progress:
    """Prints a line to standard error every few seconds while a corpus is read."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._next = time.monotonic() + _PROGRESS_INTERVAL

    def __call__(self, pairs: int) -> None:
        if time.monotonic() >= self._next:
            print(f"{self._task}: {pairs:,} pairs read", file=sys.stderr, flush=True)
            self._next = time.monotonic() + _PROGRESS_INTERVAL
