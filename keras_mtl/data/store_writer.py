"""Writes a prepared store of any size in bounded memory, by sorted runs and one merge.

A store with many pairs has several files, its shards: each holds the next pairs in the order of the
store and is a complete store itself.
"""

import dataclasses
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import BinaryIO

import numpy as np

from keras_mtl.data import store_format
from keras_mtl.data.store_runs import (
    RUN_TOKENS,
    Run,
    RunWriter,
    disk_errors,
    gather_ragged,
    token_dtype,
)
from keras_mtl.files import replacing_file

# Approximate number of pairs that the merge sorts at once.
MERGE_PAIRS = 100_000
_PARTS = ("keys", "lengths", "text_lengths", "tokens", "text")


@dataclasses.dataclass(frozen=True)
class Slice:
    """Consecutive pairs of a run: [begin, end) of its pairs, tokens and bytes of text."""

    run: Run
    pairs: tuple[int, int]
    tokens: tuple[int, int]
    text: tuple[int, int]

    def read(self, part: str) -> np.ndarray:
        """Returns a part of the run for these pairs; see `Run.read`."""
        width = {"keys": 1, "lengths": 2, "text_lengths": 2}
        if part in width:
            begin, end = (width[part] * pair for pair in self.pairs)
        else:
            begin, end = self.tokens if part == "tokens" else self.text
        return self.run.read(part, begin, end)


@dataclasses.dataclass(frozen=True)
class Shard:
    """The content of a file of a store.

    Attributes:
        slices: its pairs, at most one slice of each run, in the order of the runs.
        count: number of pairs.
        source_tokens: number of tokens of all sources.
        target_tokens: number of tokens of all targets.
        length_histogram: see `store_format.Header`.
        text_bytes: number of bytes of text.
    """

    slices: list[Slice]
    count: int
    source_tokens: int
    target_tokens: int
    length_histogram: list[int]
    text_bytes: int


def shard_names(stem: str, shards: int) -> list[str]:
    """Returns the names of the files of a store.

    Args:
        stem: name without suffix, such as `en-fr.train`.
        shards: number of files.
    """
    if shards == 1:
        return [f"{stem}.store"]
    return [f"{stem}-{number:05d}-of-{shards:05d}.store" for number in range(shards)]


def plan_shards(runs: Sequence[Run], shard_pairs: int | None = None) -> list[Shard]:
    """Divides the pairs of sorted runs into shards.

    Args:
        runs: the runs; of equal keys, those of the first run come first.
        shard_pairs: number of pairs of each shard but the last; None means a single shard.

    Returns:
        The shards, at least one.
    """
    total = sum(run.count for run in runs)
    ranks = range(shard_pairs, total, shard_pairs) if shard_pairs else range(0)
    keys = [np.memmap(run.path, "<u8", "r", shape=(run.count,)) for run in runs] if ranks else []
    cuts = [[0] * len(runs), *(_cut(keys, rank) for rank in ranks), [run.count for run in runs]]
    slices: list[list[Slice]] = [[] for _ in cuts[1:]]
    for number, run in enumerate(runs):
        places = [cut[number] for cut in cuts]
        for shard, part in zip(slices, _slices(run, places), strict=True):
            if part.pairs[0] < part.pairs[1]:
                shard.append(part)
    return [_summed(parts) for parts in slices]


def _cut(keys: Sequence[np.ndarray], rank: int) -> list[int]:
    """Returns for each run the number of its pairs among the `rank` first of all runs."""
    low, high = 0, (1 << 64) - 1  # The key of the rank is in [low, high].
    while low < high:
        middle = (low + high + 1) // 2
        if sum(int(np.searchsorted(run, np.uint64(middle))) for run in keys) <= rank:
            low = middle
        else:
            high = middle - 1
    cut = [int(np.searchsorted(run, np.uint64(low))) for run in keys]
    left = rank - sum(cut)
    for number, run in enumerate(keys):
        equal = int(np.searchsorted(run, np.uint64(low), "right")) - cut[number]
        cut[number] += min(equal, left)
        left -= min(equal, left)
    return cut


def _slices(run: Run, places: Sequence[int]) -> Iterator[Slice]:
    """Yields the slices of a run between places."""
    ends = []
    for part in ("lengths", "text_lengths"):
        sums = np.zeros(run.count + 1, np.int64)
        sides = run.read(part, 0, 2 * run.count).reshape(-1, 2)
        np.cumsum(sides.sum(axis=1, dtype=np.int64), out=sums[1:])
        ends.append(sums)
    for begin, end in itertools.pairwise(places):
        tokens, text = ((int(sums[begin]), int(sums[end])) for sums in ends)
        yield Slice(run, (begin, end), tokens, text)


def _summed(slices: list[Slice]) -> Shard:
    histogram = np.zeros(1, np.int64)
    tokens = np.zeros(2, np.int64)
    for part in slices:
        sides = part.read("lengths").reshape(-1, 2)
        tokens += sides.sum(axis=0, dtype=np.int64)
        counts = np.bincount(sides.max(axis=1), minlength=len(histogram))
        counts[: len(histogram)] += histogram
        histogram = counts
    return Shard(
        slices=slices,
        count=sum(part.pairs[1] - part.pairs[0] for part in slices),
        source_tokens=int(tokens[0]),
        target_tokens=int(tokens[1]),
        length_histogram=histogram.tolist(),
        text_bytes=sum(part.text[1] - part.text[0] for part in slices),
    )


def write_shard(
    path: str,
    shard: Shard,
    vocabulary_hash: str,
    vocabulary_size: int,
    keep_text: bool,
    merge_pairs: int = MERGE_PAIRS,
) -> None:
    """Merges the slices of a shard into a file, which is complete or absent.

    Args:
        path: file to write.
        shard: the pairs.
        vocabulary_hash: `Vocabulary.hash`.
        vocabulary_size: number of ids.
        keep_text: whether the runs have text.
        merge_pairs: pairs that are merged in memory at once, about.

    Raises:
        DataError: the disk is full or cannot be written.
    """
    header = store_format.lay_out(
        vocabulary_hash=vocabulary_hash,
        vocabulary_size=vocabulary_size,
        count=shard.count,
        source_tokens=shard.source_tokens,
        target_tokens=shard.target_tokens,
        token_bytes=token_dtype(vocabulary_size).itemsize,
        length_histogram=shard.length_histogram,
        text_bytes=shard.text_bytes if keep_text else None,
    )
    with disk_errors(path), replacing_file(path) as file:
        checksums = _merge(file, header, shard.slices, merge_pairs)
        sections = {
            name: dataclasses.replace(section, checksum=checksums[name])
            for name, section in header.sections.items()
        }
        _write_at(file, 0, store_format.pack(dataclasses.replace(header, sections=sections)))
        # The last section may be empty or end in an unwritten gap.
        file.truncate(header.end)


class StoreWriter:
    """Writes a store; memory stays bounded however many pairs are added.

    `close` gives the complete files their names. As a context manager, the writer closes the store
    on success and removes it on an exception.

    Args:
        path: file to write, with the suffix `.store`. If there are several shards, their names are
            those of `shard_names`.
        vocabulary_hash: `Vocabulary.hash`.
        vocabulary_size: ids must be below it.
        keep_text: whether each pair comes with the text of both sides.
        shard_pairs: largest number of pairs of a file; None means a single file.
        run_tokens: tokens that are sorted in memory at once.
        merge_pairs: pairs that are merged in memory at once, about.

    Attributes:
        paths: the files, after `close`.

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
        shard_pairs: int | None = None,
        run_tokens: int = RUN_TOKENS,
        merge_pairs: int = MERGE_PAIRS,
    ) -> None:
        self.paths: list[str] = []
        self._path = os.fspath(path)
        self._vocabulary = vocabulary_hash, vocabulary_size
        self._keep_text = keep_text
        self._shard_pairs = shard_pairs
        self._merge_pairs = merge_pairs
        directory = os.path.dirname(self._path) or "."
        with disk_errors(self._path):
            self._folder = tempfile.mkdtemp(
                prefix=os.path.basename(self._path) + ".", suffix=".partial", dir=directory
            )
        self._writer = RunWriter(
            self._path,
            os.path.join(self._folder, "pairs"),
            vocabulary_size,
            keep_text=keep_text,
            run_tokens=run_tokens,
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
        """Adds m pairs that are arrays already; see `RunWriter.add_arrays`."""
        self._writer.add_arrays(tokens, lengths, texts)

    def abort(self) -> None:
        """Removes everything written so far, except complete files."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """Merges the runs and writes the files, each of which is complete or absent."""
        try:
            self._writer.finish()
            shards = plan_shards(self._writer.runs, self._shard_pairs)
            self.paths = shard_names(self._path.removesuffix(".store"), len(shards))
            if len(shards) == 1:
                self.paths = [self._path]
            for path, shard in zip(self.paths, shards, strict=True):
                write_shard(
                    path,
                    shard,
                    *self._vocabulary,
                    keep_text=self._keep_text,
                    merge_pairs=self._merge_pairs,
                )
        finally:
            self.abort()


def _merge(
    file: BinaryIO, header: store_format.Header, slices: Sequence[Slice], merge_pairs: int
) -> dict[str, str]:
    """Writes all sections in the order of the keys; returns their checksums."""
    out = {name: _SectionWriter(file, place) for name, place in header.sections.items()}
    keep_text = "text" in out
    zero = np.zeros(1, "<i8")
    out["offsets"].write(zero)
    if keep_text:
        out["text_offsets"].write(zero)
    token_end = text_end = 0
    for parts in _partitions(slices, merge_pairs):
        keys, lengths, text_lengths, tokens, text = (
            np.concatenate(column) for column in zip(*parts, strict=True)
        )
        order = np.argsort(keys, kind="stable")
        sides = lengths.reshape(-1, 2).astype(np.int64)
        sizes = sides.sum(axis=1)
        out["tokens"].write(gather_ragged(tokens, (np.cumsum(sizes) - sizes)[order], sizes[order]))
        ends = token_end + np.cumsum(sides[order].ravel())
        out["offsets"].write(ends.astype("<i8"))
        token_end = int(ends[-1])
        if keep_text:
            sides = text_lengths.reshape(-1, 2).astype(np.int64)
            sizes = sides.sum(axis=1)
            out["text"].write(gather_ragged(text, (np.cumsum(sizes) - sizes)[order], sizes[order]))
            ends = text_end + np.cumsum(sides[order].ravel())
            out["text_offsets"].write(ends.astype("<i8"))
            text_end = int(ends[-1])
    return {name: section.checksum() for name, section in out.items()}


def _partitions(
    slices: Sequence[Slice], merge_pairs: int
) -> Iterator[list[tuple[np.ndarray, ...]]]:
    """Yields key ranges in order, each as the runs' (keys, lengths, ..., text) inside it."""
    if not slices:
        return
    # Every `stride`-th key of every run: between two of the chosen splitters lie at most
    # about merge_pairs keys, whatever their distribution.
    stride = max(merge_pairs // (2 * len(slices)), 1)
    samples = np.sort(np.concatenate([part.read("keys")[::stride] for part in slices]))
    splitters = np.unique(samples[:: max(merge_pairs // (2 * stride), 1)][1:])
    cuts = []
    for part in slices:
        inside = part.pairs[0] + np.searchsorted(part.read("keys"), splitters)
        places = [part.pairs[0], *inside.tolist(), part.pairs[1]]
        cuts.append(list(_slices(part.run, places)))
    for number in range(len(splitters) + 1):
        found = [cut[number] for cut in cuts]
        parts = [
            tuple(part.read(name) for name in _PARTS)
            for part in found
            if part.pairs[0] < part.pairs[1]
        ]
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
