"""Sentence pairs of many tasks, read together."""

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from keras_mtl.data.pair_changes import PairChanges
from keras_mtl.data.sorting import stable_order
from keras_mtl.data.task_sources import TaskSource, TranslationSource

# With fewer pairs of a task, reading them one by one takes less time than an array of indices.
_FEW_PAIRS = 12
# Pairs whose lengths are kept in memory, of all tasks together: 32 MiB.
_KEPT_PAIRS = 1 << 22


class PairSources:
    """The pairs of all tasks, with tags and ends of sentence.

    Args:
        sources: the tasks.

    Attributes:
        means: float64[N, 2], mean source and target length of each task in tokens.

    """

    def __init__(self, sources: Sequence[TranslationSource]) -> None:
        self._sources = sources
        self._eos = np.array([source.eos_id for source in sources], np.int64)
        self._tags = np.array([source.tag_id or 0 for source in sources], np.int64)
        self._tagged = np.array([source.tag_id is not None for source in sources])
        self._some_change = any(source.changes is not None for source in sources)
        self.means = mean_lengths(sources)

    @classmethod
    def of(cls, sources: Sequence[TaskSource]) -> "PairSources | None":
        """Returns the pairs of all tasks; None if a task has other examples."""
        pairs = [source for source in sources if isinstance(source, TranslationSource)]
        return cls(pairs) if len(pairs) == len(sources) else None

    @functools.cached_property
    def _known_lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """Reads the lengths of the smallest tasks, which are looked up the most for their size.

        Returns:
            int64[N], the place of each task's first pair, -1 if its lengths are not kept; and
            int32[m, 2], source and target pieces of each pair.
        """
        first = np.full(len(self._sources), -1, np.int64)
        known, count = [np.zeros((0, 2), np.int32)], 0
        for task in sorted(range(len(self._sources)), key=lambda task: self._sources[task].size):
            size = self._sources[task].size
            if count + size > _KEPT_PAIRS:
                break
            lengths = self._sources[task].reader.lengths(np.arange(size))
            known.append(np.stack(lengths, axis=1).astype(np.int32))
            first[task] = count
            count += size
        return first, np.concatenate(known)

    def changes(self, task: int) -> bool:
        """Returns whether the pairs of a task change when they are read."""
        return self._sources[task].changes is not None

    def lengths(self, tasks: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Returns int64[k, 2], source and target tokens of pairs; the most that changes may leave.

        Args:
            tasks: int64[k], the task of each pair.
            indices: int64[k], its index in the task.
        """
        lengths = self._pieces(tasks, indices)
        for changes, rows in self._changed(tasks):
            lengths[rows] = changes.reserve(lengths[rows])
        lengths += 1
        lengths[:, 0] += self._tagged[tasks]
        return lengths

    def _changed(self, tasks: np.ndarray) -> Iterator[tuple[PairChanges, np.ndarray]]:
        """Yields the changes of each task that has some, and the rows of its pairs."""
        if self._some_change:
            for task, rows in _groups(tasks):
                changes = self._sources[task].changes
                if changes is not None:
                    yield changes, rows

    def _pieces(self, tasks: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Returns int64[k, 2], stored pieces of source and target."""
        first, known = self._known_lengths
        places = first[tasks]
        if len(places) and places.min() >= 0:
            lengths = known[places + indices].astype(np.int64)
        else:
            lengths = np.empty((len(tasks), 2), np.int64)
            for task, rows in _groups(tasks):
                found = self._sources[task].reader.lengths(indices[rows])
                lengths[rows] = np.stack(found, axis=1)
        return lengths

    def padded_lengths(self, tasks: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Returns int64[k], `TranslationSource.lengths` of the pairs; arguments as of `lengths`."""
        longest = self._pieces(tasks, indices).max(axis=1, initial=0)
        for changes, rows in self._changed(tasks):
            longest[rows] = changes.longest(longest[rows])
        return longest + 1 + self._tagged[tasks]

    def gather(
        self, tasks: np.ndarray, indices: np.ndarray, length: int, step: int
    ) -> dict[str, np.ndarray]:
        """Returns the arrays of `TranslationSource.gather` of pairs of several tasks, changed.

        Args:
            tasks: int64[k], the task of each pair.
            indices: int64[k], its index in the task.
            length: the padded length.
            step: number of batches before that of the pairs.

        Raises:
            DataError: a pair is longer than `length`, or the store is damaged.
        """
        too_long = np.flatnonzero(self.padded_lengths(tasks, indices) > length)
        if len(too_long):
            chosen = too_long[:1]
            self._sources[int(tasks[chosen[0]])].gather(indices[chosen], length)  # Raises.
        count = len(tasks)
        cells = np.zeros(2 * count * length, np.int32)
        first = np.arange(count)[:, None] * length + np.array([0, count * length])
        self.read(tasks, indices, cells, first, step)
        source, target = cells.reshape(2, count, length)
        return {"source": source, "target": target}

    def read(
        self,
        tasks: np.ndarray,
        indices: np.ndarray,
        cells: np.ndarray,
        first: np.ndarray,
        step: int,
    ) -> np.ndarray:
        """Writes pairs, changed, into cells.

        Args:
            tasks: int64[k], the task of each pair.
            indices: int64[k], its index in the task.
            cells: int32[m], written to.
            first: int64[k, 2], the cell at which source and target of each pair begin.
            step: number of batches before that of the pairs.

        Returns:
            int64[k, 2], source and target tokens of each pair, at most those of `lengths`.

        Raises:
            DataError: the store is damaged.
        """
        written = np.zeros((len(tasks), 2), np.int64)
        if not len(tasks):
            return written
        tokens, lengths, order = self._gather(tasks, indices, step)
        written[order] = lengths.reshape(-1, 2) + 1
        written[:, 0] += self._tagged[tasks]
        tasks, begins = tasks[order], first[order]
        begins[:, 0] += self._tagged[tasks]
        before = np.cumsum(lengths) - lengths
        flat = begins.reshape(-1)
        cells[np.repeat(flat - before, lengths) + np.arange(len(tokens))] = tokens
        cells[flat + lengths] = np.repeat(self._eos[tasks], 2)
        tagged = self._tagged[tasks]
        cells[begins[tagged, 0] - 1] = self._tags[tasks[tagged]]
        return written

    def _gather(
        self, tasks: np.ndarray, indices: np.ndarray, step: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns pieces and lengths as `PairReader.gather_flat`, and the order of the pairs."""
        groups = _groups(tasks)
        changed = any(self.changes(task) for task, _ in groups)
        if not changed and len(tasks) < _FEW_PAIRS * len(groups):
            numbered = zip(tasks.tolist(), indices.tolist(), strict=True)
            pairs = [self._sources[task].reader.pair(index) for task, index in numbered]
            tokens = np.concatenate([pieces for pieces, _, _ in pairs])
            sizes = {self._sources[task].reader.vocabulary_size for task, _ in groups}
            if len(tokens) == 0 or tokens.max() < min(sizes):
                lengths = np.array([n for _, *sides in pairs for n in sides], np.int64)
                return tokens, lengths, np.arange(len(tasks))
        # Checks each id, or reads many pairs of each task.
        found = []
        for task, rows in groups:
            part = self._sources[task].reader.gather_flat(indices[rows])
            changes = self._sources[task].changes
            found.append(part if changes is None else changes(*part, indices[rows], step))
        return (
            np.concatenate([tokens for tokens, _ in found]),
            np.concatenate([lengths for _, lengths in found]),
            np.concatenate([rows for _, rows in groups]),
        )


def mean_lengths(sources: Sequence[TranslationSource]) -> np.ndarray:
    """Returns float64[N, 2], mean source and target length of each task in tokens.

    Of pairs that change, the mean of the largest lengths.
    """
    return np.array([s.mean_tokens() for s in sources])


def _groups(tasks: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Returns each task and the rows that have it."""
    if not len(tasks):
        return []
    order = stable_order(tasks)
    starts = np.flatnonzero(np.diff(tasks[order], prepend=-1))
    parts = np.split(order, starts[1:])
    return list(zip(tasks[order[starts]].tolist(), parts, strict=True))
