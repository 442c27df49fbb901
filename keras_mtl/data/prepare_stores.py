"""The second pass of `prepare`: encodes the pairs of all tasks and writes their stores.

Several processes encode parts of a store into sorted runs, whose order is that of the parts. Then
each file of the store is merged by one process.
"""

import collections
import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keras_mtl import errors
from keras_mtl.configuration.schema import DataConfig, PairConfig
from keras_mtl.data import split
from keras_mtl.data.prepare_chunks import StoredChunk, load_text, pairs_of
from keras_mtl.data.prepare_counts import FIELDS, empty_task
from keras_mtl.data.prepare_settings import max_pieces, stored_pairs
from keras_mtl.data.prepare_text import TaskText
from keras_mtl.data.prepared import PreparedTask
from keras_mtl.data.processes import Job, Processes
from keras_mtl.data.store_runs import Run, RunWriter
from keras_mtl.data.store_writer import plan_shards, shard_names, write_shard
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.data.vocabulary_files import read_vocabulary

# Approximate number of pairs that a job encodes.
_PAIRS_PER_JOB = 20_000

# Chunks, and bool[count], which of their pairs.
_Pieces = list[tuple[StoredChunk, np.ndarray]]


class Target(NamedTuple):
    """How pairs are encoded.

    Attributes:
        directory: directory of the stores and of the vocabulary.
        vocabulary_hash: hash of the vocabulary.
        id_limit: number that is larger than all ids.
        max_pieces: longest side in pieces.
        shard_pairs: largest number of pairs of a file.
    """

    directory: str
    vocabulary_hash: str
    id_limit: int
    max_pieces: int
    shard_pairs: int


class Encoded(NamedTuple):
    """Pairs as arrays.

    Attributes:
        tokens: int32[sum(lengths)]: source 0, target 0, source 1, …
        lengths: int64[2n], the length of each side.
        pairs: the n pairs.
        too_long: number of pairs that were dropped.
        in_bytes: number of tokens that are byte pieces.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    pairs: list[tuple[str, str]]
    too_long: int
    in_bytes: int


def encode_pairs(
    pairs: list[tuple[str, str]], vocabulary: Vocabulary, max_pieces: int
) -> tuple[Encoded, np.ndarray]:
    """Encodes pairs; drops those with a side of more than `max_pieces` pieces.

    Returns:
        The others, and bool[len(pairs)], which of the pairs they are.
    """
    sides: list[list[int]]
    if vocabulary.has_source:
        by_side = [
            own.encode_batch([pair[side] for pair in pairs], num_threads=1)
            for side, own in enumerate(vocabulary.sides)
        ]
        sides = [ids for pair in zip(*by_side, strict=True) for ids in pair]
    else:
        sides = vocabulary.encode_batch(list(itertools.chain.from_iterable(pairs)), num_threads=1)
    lengths = np.fromiter(map(len, sides), np.int64, len(sides))
    fits = lengths.reshape(-1, 2).max(axis=1, initial=0) <= max_pieces
    tokens = np.fromiter(itertools.chain.from_iterable(sides), np.int32, int(lengths.sum()))
    if not fits.all():
        both = np.repeat(fits, 2)
        tokens, lengths = tokens[np.repeat(both, lengths)], lengths[both]
        pairs = list(itertools.compress(pairs, fits))
    in_bytes = _byte_pieces(tokens, lengths, vocabulary)
    return Encoded(tokens, lengths, pairs, int((~fits).sum()), in_bytes), fits


def _byte_pieces(tokens: np.ndarray, lengths: np.ndarray, vocabulary: Vocabulary) -> int:
    """Returns the number of tokens that are byte pieces."""
    if not vocabulary.has_source:
        return int(vocabulary.is_byte[tokens].sum())
    of_target = np.repeat(np.tile([False, True], len(lengths) // 2), lengths)
    found = zip(vocabulary.sides, (tokens[~of_target], tokens[of_target]), strict=True)
    return sum(int(own.is_byte[ids].sum()) for own, ids in found)


@functools.lru_cache(maxsize=1)
def _vocabulary(directory: str, vocabulary_hash: str) -> Vocabulary:
    """Returns the vocabulary of a directory; the hash makes new files there another one."""
    return read_vocabulary(directory)


def encode_part(
    task: PairConfig, pieces: _Pieces, target: Target, path: str, stem: str, keep_text: bool
) -> tuple[list[Run], int, int]:
    """Encodes consecutive pairs of a store into sorted runs.

    Args:
        task: the task.
        pieces: the pairs.
        target: how they are encoded.
        path: path of the store, for messages.
        stem: beginning of the paths of the runs.
        keep_text: whether the store keeps text.

    Returns:
        The runs, the number of pairs that are too long, and the number of byte pieces.
    """
    vocabulary = _vocabulary(target.directory, target.vocabulary_hash)
    too_long = in_bytes = 0
    writer = RunWriter(path, stem, target.id_limit, keep_text=keep_text)
    for chunk, mask in pieces:
        pairs = stored_pairs(task, pairs_of(load_text(chunk), mask), vocabulary.has_source)
        found, _ = encode_pairs(pairs, vocabulary, target.max_pieces)
        writer.add_arrays(found.tokens, found.lengths, found.pairs if keep_text else None)
        too_long += found.too_long
        in_bytes += found.in_bytes
    writer.finish()
    return writer.runs, too_long, in_bytes


class Stored(NamedTuple):
    """The stores of a task.

    Attributes:
        task: the entry in the manifest.
        shards: number of files by split.
        in_bytes: number of byte pieces among the training tokens.
    """

    task: PreparedTask
    shards: dict[str, int]
    in_bytes: int


def write_stores(
    texts: Sequence[TaskText],
    directory: str,
    vocabulary: Vocabulary,
    work: str,
    data: DataConfig,
    keep_train_text: bool,
    processes: Processes,
) -> Iterator[Stored]:
    """Encodes all tasks and yields their results in order. The text of a task is deleted then.

    Args:
        texts: the tasks.
        directory: directory of the stores.
        vocabulary: the vocabulary, which the directory has, too.
        work: directory of temporary files.
        data: longest side and size of the files.
        keep_train_text: whether training stores keep text.
        processes: processes that encode and write.

    Raises:
        DataError: a task has no training pair that is short enough, or the disk is full.
    """
    target = Target(
        directory,
        vocabulary.hash,
        vocabulary.id_limit,
        max_pieces(data),
        data.shard_pairs,
    )
    waiting = collections.deque(
        [_StoreJobs(text, name, n, target, work, keep_train_text) for name in split.SPLITS]
        for n, text in enumerate(texts)
    )
    # The next task is encoded while the files of a task are written.
    started: collections.deque[list[_StoreJobs]] = collections.deque()
    for text in texts:
        while waiting and len(started) < 2:
            started.append(waiting.popleft())
            for store in started[-1]:
                store.start(processes)
        stores = {store.split: store for store in started.popleft()}
        for store in stores.values():
            store.merge(processes)
        for store in stores.values():
            store.finish(processes)
        for field in FIELDS:
            text.streams[field].remove()
        yield Stored(
            _result(text, stores, data.max_length),
            {name: store.shards for name, store in stores.items()},
            stores["train"].in_bytes,
        )


class _StoreJobs:
    """The jobs that write one store."""

    def __init__(
        self,
        text: TaskText,
        name: str,
        number: int,
        target: Target,
        work: str,
        keep_train_text: bool,
    ) -> None:
        self.split = name
        self.in_bytes = self.shards = 0
        self.size = self.source_tokens = self.target_tokens = 0
        self._text = text
        self._target = target
        self._keep_text = name != "train" or keep_train_text
        self._stem = f"{text.spec.name}.{name}"
        self._path = os.path.join(target.directory, f"{self._stem}.store")
        self._runs_stem = os.path.join(work, f"{number}.{name}")
        self._parts: list[Job] = []
        self._files: list[Job] = []
        self._runs: list[Run] = []

    def start(self, processes: Processes) -> None:
        """Starts to encode."""
        for number, pieces in enumerate(_grouped(self._text.masks(self.split))):
            stem = f"{self._runs_stem}.{number}"
            self._parts.append(
                processes.submit(
                    encode_part,
                    self._text.spec,
                    pieces,
                    self._target,
                    self._path,
                    stem,
                    self._keep_text,
                )
            )

    def merge(self, processes: Processes) -> None:
        """Waits until all pairs are encoded, and starts to write the files."""
        too_long = 0
        for job in self._parts:
            runs, dropped, in_bytes = processes.result(job)
            self._runs += runs
            too_long += dropped
            self.in_bytes += in_bytes
        self._parts.clear()
        if too_long:
            self._text.counts[f"over max_length, {self.split}"] += too_long
        shards = plan_shards(self._runs, self._target.shard_pairs)
        self.shards = len(shards)
        self.size = sum(shard.count for shard in shards)
        self.source_tokens = sum(shard.source_tokens for shard in shards)
        self.target_tokens = sum(shard.target_tokens for shard in shards)
        for name, shard in zip(shard_names(self._stem, len(shards)), shards, strict=True):
            self._files.append(
                processes.submit(
                    write_shard,
                    os.path.join(self._target.directory, name),
                    shard,
                    self._target.vocabulary_hash,
                    self._target.id_limit,
                    self._keep_text,
                    urgent=True,
                )
            )

    def finish(self, processes: Processes) -> None:
        """Waits until the files are written, and deletes the runs."""
        for job in self._files:
            processes.result(job)
        for run in self._runs:
            os.remove(run.path)


def _grouped(masks: Iterable[tuple[StoredChunk, np.ndarray]]) -> Iterator[_Pieces]:
    """Yields consecutive chunks with about the number of pairs of a job."""
    pieces: _Pieces = []
    size = 0
    for chunk, mask in masks:
        pieces.append((chunk, mask))
        size += int(mask.sum())
        if size >= _PAIRS_PER_JOB:
            yield pieces
            pieces, size = [], 0
    if pieces:
        yield pieces


def _result(text: TaskText, stores: dict[str, _StoreJobs], max_length: int) -> PreparedTask:
    train = stores["train"]
    sizes = {name: store.size for name, store in stores.items()}
    tokens = train.source_tokens, train.target_tokens
    return prepared_task(text.spec, text.counts, text.sizes, sizes, tokens, max_length)


def prepared_task(
    task: PairConfig,
    counts: Mapping[str, int],
    passed: Mapping[str, int],
    sizes: Mapping[str, int],
    tokens: tuple[int, int],
    max_length: int,
) -> PreparedTask:
    """Returns the entry of a task in the manifest.

    Args:
        task: the task.
        counts: numbers of pairs by rule.
        passed: number of pairs by split, before those that are too long were dropped.
        sizes: number of pairs by split.
        tokens: numbers of training tokens of source and target.
        max_length: `task.data.max_length`.

    Raises:
        DataError: no training pair is short enough.
    """
    if not sizes["train"]:
        raise errors.DataError(
            f"{empty_task(task, counts, passed)}; all pairs that passed are longer than "
            f"task.data.max_length, {max_length}"
        )
    return PreparedTask(
        name=task.name,
        source=task.source,
        target=task.target,
        train_size=sizes["train"],
        dev_size=sizes["dev"],
        test_size=sizes["test"],
        source_tokens=tokens[0],
        target_tokens=tokens[1],
        counts={rule: value for rule, value in counts.items() if value},
    )
