"""The first pass of `prepare`: reads, cleans and splits corpora into train, dev and test.

Corpora are read and cleaned in any order by several processes (`prepare_chunks`). Then this process
decides in the order of the corpora where each pair belongs (`selection`). Arrays with an element
for each pair are files, so memory does not grow with the corpora.
"""

import bisect
import collections
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from keras_mtl.configuration.schema import CorpusConfig, DataConfig, PairConfig
from keras_mtl.data import corpora
from keras_mtl.data.language_check import sample_step
from keras_mtl.data.prepare_chunks import (
    PAIR,
    SOURCE,
    TARGET,
    Part,
    Rules,
    StoredChunk,
    load_hashes,
    load_text,
    pairs_of,
    read_part,
    remove_files,
)
from keras_mtl.data.prepare_counts import (
    FIELDS,
    FieldCounts,
    empty_task,
    place_name,
    rule_counts,
    split_sizes,
)
from keras_mtl.data.prepare_settings import cleaning_of, given_settings
from keras_mtl.data.processes import Job, Processes
from keras_mtl.data.selection import (
    RETURNED,
    STORED,
    WAITING,
    HeldOut,
    Place,
    duplicates,
    lowest,
)
from keras_mtl.data.store_runs import disk_errors

# Chunks whose hashes are in memory at once: at most a million pairs, 24 MB.
_CHUNKS_AT_ONCE = 256
# Approximate number of hashes in which duplicates are searched at once, in each process: 250 MB.
_HASHES_AT_ONCE = 8_000_000


class Stream:
    """The cleaned pairs of a task's corpora of one field, in their order.

    Args:
        chunks: the pairs.
        corpora: name of each corpus and the number of pairs before its end.
        path: path of a temporary file.

    Attributes:
        chunks: the pairs.
        corpora: as given.
        size: number of pairs.
        places: uint8[size], `Place` of each pair; the content of the file.
    """

    def __init__(
        self, chunks: Sequence[StoredChunk], corpora: Sequence[tuple[str, int]], path: str
    ) -> None:
        self.chunks = chunks
        self.corpora = corpora
        self._path = path
        self._begins = [0, *itertools.accumulate(chunk.count for chunk in chunks)]
        self.size = self._begins[-1]
        self.places: np.ndarray = np.zeros(0, np.uint8)
        if self.size:
            with disk_errors(path):
                # Written, so that a full disk is an error and not a signal.
                with open(path, "wb") as file:
                    for chunk in chunks:
                        file.write(bytes(chunk.count))
                self.places = np.memmap(path, np.uint8, "r+", shape=(self.size,))

    def blocks(self, *rows: int) -> Iterator[list[np.ndarray]]:
        """Yields for consecutive pairs their places, which can be changed, and rows of hashes."""
        for begin in range(0, len(self.chunks), _CHUNKS_AT_ONCE):
            chunks = self.chunks[begin : begin + _CHUNKS_AT_ONCE]
            end = begin + len(chunks)
            places = self.places[self._begins[begin] : self._begins[end]]
            if len(places):
                yield [
                    places,
                    *(np.concatenate([load_hashes(c, row) for c in chunks]) for row in rows),
                ]

    def count(self, place: Place) -> int:
        """Returns the number of pairs in a place."""
        return sum(int((places == place).sum()) for (places,) in self.blocks())

    def place_counts(self) -> collections.Counter[Place]:
        """Returns the number of pairs in each place."""
        counts = np.zeros(len(Place), np.int64)
        for (places,) in self.blocks():
            counts += np.bincount(places, minlength=len(Place))
        return collections.Counter(dict(zip(Place, counts.tolist(), strict=True)))

    def masks(self, place: Place) -> Iterator[tuple[StoredChunk, np.ndarray]]:
        """Yields the chunks with pairs in a place, and bool[count] that says which."""
        for chunk, begin in zip(self.chunks, self._begins, strict=False):
            mask = self.places[begin : begin + chunk.count] == place
            if mask.any():
                yield chunk, mask

    def samples(self) -> dict[str, list[tuple[str, str]]]:
        """Returns evenly chosen pairs of each corpus that are not duplicates; see `Sample`."""
        samples, begin = {}, 0
        for name, end in self.corpora:
            step = sample_step(sum(len(found) for found, _ in self._kept(begin, end)))
            positions: list[int] = []
            seen = 0
            for found, offset in self._kept(begin, end):
                positions += (found[-seen % step :: step] + offset).tolist()
                seen += len(found)
            samples[name] = self._pairs(positions)
            begin = end
        return samples

    def _kept(self, begin: int, end: int) -> Iterator[tuple[np.ndarray, int]]:
        for start in range(begin, end, 1 << 20):
            places = self.places[start : min(start + (1 << 20), end)]
            yield np.flatnonzero(places != Place.DUPLICATE), start

    def _pairs(self, positions: Sequence[int]) -> list[tuple[str, str]]:
        """Returns the pairs at ascending positions."""
        chosen: dict[int, list[int]] = collections.defaultdict(list)
        for position in positions:
            number = bisect.bisect_right(self._begins, position) - 1
            chosen[number].append(position - self._begins[number])
        pairs = []
        for number, rows in chosen.items():
            chunk = self.chunks[number]
            mask = np.zeros(chunk.count, bool)
            mask[rows] = True
            pairs += pairs_of(load_text(chunk), mask)
        return pairs

    def remove(self) -> None:
        """Deletes the files."""
        remove_files(self.chunks)
        if self.size:
            os.remove(self._path)


@dataclasses.dataclass
class TaskText:
    """A task after the first pass.

    Attributes:
        spec: the task.
        streams: cleaned pairs by field: `dev_corpora`, `test_corpora`, `corpora`.
        counts: numbers of pairs by rule, see `rule_counts`.
        samples: cleaned pairs of each corpus, by its place, such as `corpora[0]`.
        sizes: number of pairs of each split.
    """

    spec: PairConfig
    streams: dict[str, Stream] = dataclasses.field(default_factory=dict)
    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    samples: dict[str, list[tuple[str, str]]] = dataclasses.field(default_factory=dict)
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)

    def stream_of(self, split: str) -> Stream:
        """Returns the pairs from which a split is taken."""
        given = split != "train" and getattr(self.spec, f"{split}_corpora")
        return self.streams[f"{split}_corpora" if given else "corpora"]

    def is_given(self, split: str) -> bool:
        """Whether a split has corpora of its own."""
        return self.stream_of(split) is not self.streams["corpora"]

    def masks(self, split: str) -> Iterator[tuple[StoredChunk, np.ndarray]]:
        """Yields chunks and bool[count], which pairs are in a split, in the order of the store."""
        for place in STORED[split]:
            yield from self.stream_of(split).masks(place)

    def pairs(self, split: str) -> Iterator[tuple[str, str]]:
        """Yields the pairs of a split in the order in which they are added to the store."""
        for chunk, mask in self.masks(split):
            yield from pairs_of(load_text(chunk), mask)


def read_text(
    tasks: Sequence[PairConfig],
    data: DataConfig,
    directory: str,
    processes: Processes,
    log: Callable[[str], None],
) -> list[TaskText]:
    """Reads, cleans and splits the corpora of all tasks.

    Args:
        tasks: the tasks.
        data: cleaning, fractions and caps.
        directory: temporary directory for the text.
        processes: processes that read and clean.
        log: function that is called with each reported bad line.

    Returns:
        The tasks in order, each with at least one training pair.

    Raises:
        DataError: a corpus is missing or damaged, a task has no training pairs left, or the disk
            is full.
        ConfigError: a reader or option is unknown.
    """
    held_out = HeldOut(tasks, data)
    texts = [TaskText(task) for task in tasks]
    # Given dev and test sets come first, because no task may train on their sentences.
    order = [(text, n, field) for n, text in enumerate(texts) for field in FIELDS[:2]]
    order += [(text, n, "corpora") for n, text in enumerate(texts)]
    jobs = []
    for text, number, field in order:
        cleaning = cleaning_of(text.spec, data)
        if field != "corpora":
            cleaning = given_settings(cleaning)
        rules = Rules(cleaning, held_out.checks_targets(text.spec))
        stem = os.path.join(directory, f"{number}.{field}")
        jobs.append(
            [_submit(text.spec, corpus, stem, rules, processes) for corpus in _of(text, field)]
        )
    fields: list[dict[str, FieldCounts]] = [{} for _ in texts]
    for (text, number, field), own in zip(order, jobs, strict=True):
        path = os.path.join(directory, f"{number}.{field}.places")
        text.streams[field], fields[number][field] = _collect(
            text, field, own, path, processes, log
        )
        own.clear()
    # The hashes of the sources of given sets.
    for text in texts:
        for field in FIELDS[:2]:
            held_out.add(hashes for _, hashes in text.streams[field].blocks(SOURCE))
    for text in texts:
        _split(text, data, held_out, processes)
    for text in texts:
        for split in ("dev", "test"):
            if not text.is_given(split):
                place = Place[split.upper()]
                blocks = text.streams["corpora"].blocks(SOURCE)
                held_out.add([hashes[places == place] for places, hashes in blocks])
    for text, found in zip(texts, fields, strict=True):
        _return_to_training(text, held_out)
        for field in FIELDS:
            found[field].places = text.streams[field].place_counts()
        text.counts, text.sizes = rule_counts(text.spec, found), split_sizes(found)
        if not text.sizes["train"]:
            raise empty_task(text.spec, text.counts, text.sizes)
        for field in FIELDS:
            text.samples.update(text.streams[field].samples())
    return texts


def _of(text: TaskText, field: str) -> list[CorpusConfig]:
    corpora: list[CorpusConfig] = getattr(text.spec, field)
    return corpora


def _submit(
    task: PairConfig, corpus: CorpusConfig, stem: str, rules: Rules, processes: Processes
) -> list[Job]:
    """Starts the reading of a corpus."""
    reader = corpora.create_reader(corpus.reader, task.source, task.target, corpus.options)
    # Another process has another main module.
    here = type(reader).__module__ == "__main__"
    return [
        processes.submit(read_part, Part(task.name, stem, part, rules), shares=True, here=here)
        for part in reader.parts()
    ]


def _collect(
    text: TaskText,
    field: str,
    jobs: Sequence[Sequence[Job]],
    path: str,
    processes: Processes,
    log: Callable[[str], None],
) -> tuple[Stream, FieldCounts]:
    """Waits for the corpora of a field, counts their pairs and reports bad lines."""
    counts = FieldCounts()
    chunks: list[StoredChunk] = []
    ends: list[tuple[str, int]] = []
    for index, (corpus, parts) in enumerate(zip(_of(text, field), jobs, strict=True)):
        for job in parts:
            read = processes.result(job)
            found = [*read.chunks, *job.shared]
            for chunk, rules in sorted(found, key=lambda each: each[0].number):
                chunks.append(chunk)
                counts.cleaned.update(rules)
            counts.bad += read.bad
            counts.dropped.update(read.dropped)
            for line in read.report:
                log(f"{text.spec.name}: {line}")
        ends.append((place_name(field, index, corpus), sum(chunk.count for chunk in chunks)))
    return Stream(chunks, ends, path), counts


def find_duplicates(chunks: Sequence[StoredChunk], number: int, of: int) -> np.ndarray:
    """Returns int64, the positions of pairs that are equal to a pair before them.

    Args:
        chunks: the pairs.
        number: number of the part of all hashes that is searched, in [0, of).
        of: number of parts.
    """
    hashes, positions, begin = [], [], 0
    for chunk in chunks:
        found = load_hashes(chunk, PAIR)
        place = np.arange(begin, begin + len(found))
        if of > 1:
            chosen = found % np.uint64(of) == number
            found, place = found[chosen], place[chosen]
        hashes.append(found)
        positions.append(place)
        begin += chunk.count
    return duplicates(np.concatenate(hashes), np.concatenate(positions))


def _split(text: TaskText, data: DataConfig, held_out: HeldOut, processes: Processes) -> None:
    """Finds the place of each pair of a task's `corpora` and applies the caps."""
    task, stream = text.spec, text.streams["corpora"]
    jobs: list[Job] = []
    if cleaning_of(task, data).drop_duplicates and stream.size:
        parts = -(-stream.size // _HASHES_AT_ONCE)
        jobs = [
            processes.submit(find_duplicates, stream.chunks, number, parts)
            for number in range(parts)
        ]
    for places, source, target in stream.blocks(SOURCE, TARGET):
        places[:] = held_out.places(task, source, target)
    for job in jobs:
        stream.places[processes.result(job)] = Place.DUPLICATE
    for split in ("dev", "test"):
        if text.is_given(split):
            text.stream_of(split).places[:] = Place[split.upper()]
    caps = {"train": task.max_pairs, "dev": data.dev_pairs, "test": data.test_pairs}
    for split, limit in caps.items():
        over = Place[f"OVER_{split.upper()}"]
        _cap(text.stream_of(split), [Place[split.upper()]], limit, over)


def _cap(stream: Stream, places: Sequence[Place], limit: int | None, over: Place) -> None:
    """Keeps the pairs with the lowest hashes.

    Args:
        stream: the pairs.
        places: the places of the pairs, in the order in which they are added to the store.
        limit: number of pairs to keep; None keeps all.
        over: new place of the others.
    """
    size = sum(stream.count(place) for place in places)
    if limit is None or size <= limit:
        return

    def blocks() -> Iterator[np.ndarray]:
        for place in places:
            for now, hashes in stream.blocks(PAIR):
                yield hashes[now == place]

    chosen = lowest(blocks, limit)
    for place in places:
        for (now,) in stream.blocks():
            rows = np.flatnonzero(now == place)
            # The number of blocks is the same as above.
            now[rows[~next(chosen)]] = over


def _return_to_training(text: TaskText, held_out: HeldOut) -> None:
    """Returns pairs to training that the caps removed from all dev and test sets.

    `max_pairs` counts these pairs after all others, so it chooses the same pairs with any caps of
    dev and test.

    Args:
        text: the task, whose training pairs are extended.
        held_out: the sources of all dev and test sets.
    """
    task, stream = text.spec, text.streams["corpora"]
    room = None if task.max_pairs is None else task.max_pairs - stream.count(Place.TRAIN)
    if room == 0:
        return
    for places, source, target in stream.blocks(SOURCE, TARGET):
        allowed = held_out.allows(task, source, target)
        for waiting, returned in zip(WAITING, RETURNED, strict=True):
            places[allowed & (places == waiting)] = returned
    _cap(stream, RETURNED, room, Place.OVER_TRAIN)
