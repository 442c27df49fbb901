"""Draws of examples: pools are drawn and cut into mixed batches."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from keras_mtl.data.batch_plan import Bucket, bucket_ranges
from keras_mtl.data.draws import Draws, PlannedBatch, moved_cursors
from keras_mtl.data.example_streams import ExampleStreams
from keras_mtl.data.packing import PackedShape
from keras_mtl.data.pair_reading import PairSources
from keras_mtl.data.permutation import Permutation
from keras_mtl.data.sorting import stable_order
from keras_mtl.data.task_sources import TaskSource
from keras_mtl.errors import CheckpointError
from keras_mtl.schedules.sampling import pick, systematic, uniforms


@dataclasses.dataclass(frozen=True, slots=True)
class PoolBatch:
    """A batch of a pool.

    Attributes:
        shape: its shape.
        cells: its cells, padding included.
        positions: int64[k], positions in the arrays of the pool.
        rows: as of `PlannedBatch`.
        used: cells that are not padding; None if that is not known.
    """

    shape: Bucket | PackedShape
    cells: int
    positions: np.ndarray
    rows: np.ndarray | None = None
    used: int | None = None


class Cutter(Protocol):
    """Cuts a pool into batches."""

    def examples(self, probabilities: np.ndarray) -> int:
        """Returns the size of a pool drawn by float64[N] probabilities; >= 1."""
        ...

    def cut(
        self, index: int, tasks: np.ndarray, indices: np.ndarray, carried: int
    ) -> tuple[list[PoolBatch], np.ndarray]:
        """Cuts a pool.

        Args:
            index: number of the pool.
            tasks: int64[M], task of each example.
            indices: int64[M], its index in the task.
            carried: examples at the front that the pool before has left.

        Returns:
            At least one batch, and int64[R], positions that fill none.
        """
        ...

    def identity(self) -> list[int]:
        """Returns what the cut depends on, so that it can be repeated."""
        ...


@dataclasses.dataclass(frozen=True)
class Pool:
    """Mixed batches that are cut from one draw of examples.

    Attributes:
        probabilities: float64[N], with which the examples were drawn.
        start_cursors: int64[N], number of examples taken of each task before the pool.
        carried: int64[K, 2], (task, number in its ExamplePlan) of examples of the previous pool.
        cursors: int64[N], number of examples taken of each task, including the pool.
        batches: batches in order.
        rest: int64[R], positions of examples that fill no batch and go into the next pool.
        tasks: int32[M], task of each example.
        numbers: int64[M], its number in the task's ExamplePlan.
        indices: int64[M], its index in the task's source.
    """

    probabilities: np.ndarray
    start_cursors: np.ndarray
    carried: np.ndarray
    cursors: np.ndarray
    batches: list[PoolBatch]
    rest: np.ndarray
    tasks: np.ndarray
    numbers: np.ndarray
    indices: np.ndarray

    def left(self, position: int) -> np.ndarray:
        """Returns (task, number) of the batches from `position` on and the rest, int64[K, 2]."""
        rows = np.concatenate([self.rest, *(b.positions for b in self.batches[position:])])
        return np.stack([self.tasks[rows].astype(np.int64), self.numbers[rows]], axis=1)


@dataclasses.dataclass(frozen=True, slots=True)
class PoolPlace:
    """The place of draws from pools.

    Attributes:
        index: number of the current pool, or of the next one if `pool` is None.
        position: number of batches of the pool that were taken.
        cursors: int64[N], number of examples taken of each task, including the whole current pool.
        carried: int64[K, 2], examples that the next pool takes over; empty if `pool` is not None.
        pool: the current pool; None before its first batch.
    """

    index: int
    position: int
    cursors: np.ndarray
    carried: np.ndarray
    pool: Pool | None


_NOTHING = np.zeros((0, 2), np.int64)
_MASK = (1 << 64) - 1


class BucketCutter:
    """Sorts a pool by length and cuts it into batches of the buckets' shapes.

    Args:
        sources: the tasks.
        pairs: their pairs; None if they have other examples.
        buckets: shapes by increasing length.
        seed: seed of the run.
        pool_examples: number of examples of a pool; None takes 32 batches of the middle bucket. It
            is raised to the rows of the largest batch, so that each pool fills one.
    """

    def __init__(
        self,
        sources: Sequence[TaskSource],
        pairs: PairSources | None,
        buckets: Sequence[Bucket],
        seed: int,
        pool_examples: int | None = None,
    ) -> None:
        for source in sources:  # Raises if a task is empty or an example too long.
            bucket_ranges(source.cumulative_lengths, buckets, source.name)
        self._sources = sources
        self._pairs = pairs
        self._buckets = tuple(buckets)
        self._seed = seed
        self._padded_arrays = sources[0].padded_arrays
        if pool_examples is None:
            pool_examples = 32 * buckets[len(buckets) // 2].rows
        self._pool_examples = max(pool_examples, *(bucket.rows for bucket in buckets))

    def examples(self, probabilities: np.ndarray) -> int:
        del probabilities
        return self._pool_examples

    def cut(
        self, index: int, tasks: np.ndarray, indices: np.ndarray, carried: int
    ) -> tuple[list[PoolBatch], np.ndarray]:
        del carried  # These are among the longest, which are shuffled.
        lengths = self._lengths(tasks, indices)
        by_length = stable_order(lengths)
        ranges = bucket_ranges(np.cumsum(np.bincount(lengths)), self._buckets, "pool", False)
        batches = []
        for item in ranges:
            # The longest bucket in use shuffles the rest in, so that no example waits forever.
            longest = item.bucket.length >= lengths.max()
            stop = len(by_length) if longest else item.stop
            order = shuffled(stop - item.start, self._seed, index, f"rows {item.bucket.length}")
            by_length[item.start : stop] = by_length[item.start : stop][order]
            cells = item.bucket.rows * item.bucket.length * self._padded_arrays
            for slot in range(item.batches):
                begin = item.start + slot * item.bucket.rows
                positions = by_length[begin : begin + item.bucket.rows]
                batches.append(PoolBatch(item.bucket, cells, positions))
        order = shuffled(len(batches), self._seed, index, "batches")
        return [batches[i] for i in order], by_length[ranges[-1].stop :]

    def _lengths(self, tasks: np.ndarray, indices: np.ndarray) -> np.ndarray:
        if self._pairs is not None:
            return self._pairs.padded_lengths(tasks, indices)
        lengths = np.empty_like(indices)
        for task in np.unique(tasks).tolist():
            rows = np.flatnonzero(tasks == task)
            lengths[rows] = self._sources[task].lengths(indices[rows])
        return lengths

    def identity(self) -> list[int]:
        sizes = [(bucket.length, bucket.rows) for bucket in self._buckets]
        return [self._pool_examples, *(size for pair in sizes for size in pair)]


def shuffled(size: int, seed: int, index: int, purpose: str) -> np.ndarray:
    """Returns int64[size], a permutation that belongs to pool `index`."""
    return Permutation(size, seed, "", index, f"pool {purpose}")(np.arange(size))


class PooledDraws(Draws[PoolPlace]):
    """Draws mixed batches from pools of examples.

    The examples of a pool are drawn by the probabilities at the step of its first batch, so a
    change of the schedule takes effect with the next pool. Examples that fill no batch go into the
    next pool.

    Args:
        sources: the tasks.
        cutter: makes batches of a pool.
        seed: seed of the run.
        draw: `random`, or `blend`: in every pool the number of examples of each task is within one
            of its share (`systematic`, which needs no state).
        max_epochs: float64[N], largest number of passes over each task's data; None: any. A pool
            has at most the examples that are left, and more of the other tasks instead. If no
            other task has any left, they are repeated.
    """

    def __init__(
        self,
        sources: Sequence[TaskSource],
        cutter: Cutter,
        seed: int,
        draw: str = "random",
        max_epochs: np.ndarray | None = None,
    ) -> None:
        self._sources = sources
        self._cutter = cutter
        self._seed = seed
        self._blended = draw == "blend"
        self._streams = ExampleStreams(
            seed, [source.name for source in sources], [source.size for source in sources]
        )
        # Of all examples: int64[N]; None without a limit.
        self._most: np.ndarray | None = None
        if max_epochs is not None:
            most = np.floor(max_epochs * self._streams.sizes * (1 + 1e-9))
            self._most = np.minimum(most, np.iinfo(np.int64).max // 2).astype(np.int64)

    def first(self) -> PoolPlace:
        return PoolPlace(0, 0, np.zeros(len(self._sources), np.int64), _NOTHING, None)

    def advance(
        self, step: int, probabilities: np.ndarray, place: PoolPlace
    ) -> tuple[PlannedBatch, PoolPlace]:
        del step  # The index of the pool keys its draw.
        pool = place.pool or self._pool(place.index, place.cursors, probabilities, place.carried)
        batch = pool.batches[place.position]
        planned = PlannedBatch(
            -1,
            pool.tasks[batch.positions],
            pool.indices[batch.positions],
            batch.shape,
            batch.rows,
        )
        position = place.position + 1
        if position == len(pool.batches):
            return planned, PoolPlace(place.index + 1, 0, pool.cursors, pool.left(position), None)
        return planned, PoolPlace(place.index, position, pool.cursors, _NOTHING, pool)

    def save(self, place: PoolPlace) -> dict[str, np.ndarray]:
        pool = place.pool
        return {
            "cursors": place.cursors,
            "plan_identities": self._streams.identities,
            "epoch_lengths": self._streams.sizes,
            "pool_index": np.array(place.index, np.int64),
            "pool_position": np.array(place.position, np.int64),
            "pool_start_cursors": place.cursors if pool is None else pool.start_cursors,
            "pool_probabilities": np.zeros(0) if pool is None else pool.probabilities,
            "pool_carried": place.carried if pool is None else pool.carried,
            "pool_left": place.carried if pool is None else pool.left(place.position),
            "pool_shapes": self._shapes(),
        }

    def load(
        self, state: Mapping[str, np.ndarray], index_map: np.ndarray
    ) -> tuple[PoolPlace, np.ndarray]:
        cursors, same = moved_cursors(
            state, index_map, self._streams.identities, self._streams.sizes
        )
        index, position = int(state["pool_index"]), int(state["pool_position"])
        unchanged = (
            bool(same.all())
            and np.array_equal(index_map, np.arange(len(state["cursors"])))
            and np.array_equal(state["pool_shapes"], self._shapes())
        )
        if unchanged and len(state["pool_probabilities"]) == 0:
            return PoolPlace(index, 0, cursors, state["pool_carried"], None), same
        if unchanged:
            pool = self._pool(
                index,
                state["pool_start_cursors"],
                state["pool_probabilities"],
                state["pool_carried"],
            )
            if position >= len(pool.batches) or not np.array_equal(pool.cursors, cursors):
                raise CheckpointError(
                    f"mixture: the saved pool {index} at batch {position} with cursors "
                    f"{cursors.tolist()} differs from the pool that is drawn again from its start "
                    f"({len(pool.batches)} batches, {pool.cursors.tolist()}); the checkpoint is "
                    "damaged: resume from an earlier one"
                )
            return PoolPlace(index, position, cursors, _NOTHING, pool), same
        # The pool cannot be drawn again. Its remaining examples go into a new pool if the numbers
        # of their task still mean the same examples, so none is lost or seen twice.
        present = np.full(len(state["cursors"]), -1, np.int64)
        kept = np.flatnonzero(same)
        present[index_map[kept]] = kept
        left = state["pool_left"].reshape(-1, 2).copy()
        left[:, 0] = present[left[:, 0]]
        return PoolPlace(index + 1, 0, cursors, left[left[:, 0] >= 0], None), same

    def passes(self, place: PoolPlace) -> tuple[np.ndarray, np.ndarray]:
        """Returns the passes, counting the whole current pool."""
        return place.cursors / self._streams.sizes, (place.cursors + 1) / self._streams.sizes

    def padding_waste(self, probabilities: np.ndarray, place: PoolPlace) -> float:
        """Returns the share of padding in the current or next pool.

        If a batch does not know its used cells, each example counts as the mean of its task.
        """
        pool = place.pool or self._pool(place.index, place.cursors, probabilities, place.carried)
        mean = np.array([source.elements / source.size for source in self._sources])
        used = sum(
            float(mean[pool.tasks[batch.positions]].sum()) if batch.used is None else batch.used
            for batch in pool.batches
        )
        return 1 - used / sum(batch.cells for batch in pool.batches)

    def _shapes(self) -> np.ndarray:
        flat = self._cutter.identity()
        if self._blended:  # Only the kind of draw that drew a pool can draw it again.
            flat.append(1)
        if self._most is not None:
            flat += self._most.tolist()
        return np.array(flat, np.int64)

    def _pool(
        self, index: int, cursors: np.ndarray, probabilities: np.ndarray, carried: np.ndarray
    ) -> Pool:
        """Returns pool `index`."""
        count = max(0, self._cutter.examples(probabilities) - len(carried))
        numbers_of = systematic if self._blended else uniforms
        drawn = pick(probabilities, numbers_of(self._seed, index, count))
        if self._most is not None:
            drawn = _within(drawn, probabilities, self._most - cursors, self._seed, index)
        counts = np.bincount(drawn, minlength=len(self._sources))
        by_task = stable_order(drawn)
        numbers = np.empty(count, np.int64)
        first = np.cumsum(counts) - counts
        numbers[by_task] = np.arange(count) + np.repeat(cursors - first, counts)
        tasks = np.concatenate([carried[:, 0], drawn])
        numbers = np.concatenate([carried[:, 1], numbers])
        indices = self._streams.take(tasks, numbers)
        batches, rest = self._cutter.cut(index, tasks, indices, len(carried))
        return Pool(
            probabilities,
            cursors,
            carried,
            cursors + counts,
            batches,
            rest,
            tasks.astype(np.int32),
            numbers,
            indices,
        )


def _within(
    drawn: np.ndarray, probabilities: np.ndarray, left: np.ndarray, seed: int, index: int
) -> np.ndarray:
    """Replaces draws of tasks that have too few examples left by draws of other tasks.

    Args:
        drawn: int64[M], tasks.
        probabilities: float64[N], with which they were drawn.
        left: int64[N], examples that are left of each task.
        seed: seed of the run.
        index: number of the pool.

    Returns:
        int64[M]; the draws of the other tasks do not move.
    """
    result, left = drawn.copy(), np.maximum(left, 0)
    generator = np.random.Philox(key=((seed & _MASK) << 64) | index, counter=[0, 0, 0, 1])
    while True:
        counts = np.bincount(result, minlength=len(left))
        over = counts > left
        open_tasks = np.where(counts < left, probabilities, 0.0)
        if not over.any() or open_tasks.sum() == 0:
            return result
        # The last draws of a task are too many.
        order = stable_order(result)
        rank = np.empty(len(result), np.int64)
        rank[order] = np.arange(len(result)) - (np.cumsum(counts) - counts)[result[order]]
        surplus = np.flatnonzero(rank >= left[result])
        raw = generator.random_raw(len(surplus))
        result[surplus] = pick(open_tasks, (raw >> np.uint64(11)) * 2.0**-53)
