"""Packed batches of one task each: a batch packs itself from the task's next examples.

The examples of a task come from its `ExamplePlan`, epoch after epoch. What fits into no row is left
over and goes first into the task's next batch, so the i-th batch of a task depends on the seed, the
task and i only: other tasks, the schedule and restarts do not matter.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from keras_mtl.data.batch_draws import Progress, TaskBatches
from keras_mtl.data.draws import PlannedBatch, moved_cursors
from keras_mtl.data.example_streams import ExampleStreams
from keras_mtl.data.packing import PackedShape, pack
from keras_mtl.data.pair_reading import PairSources
from keras_mtl.data.sorting import stable_order
from keras_mtl.data.task_sources import TaskSource
from keras_mtl.errors import DataError
from keras_mtl.schedules.sampling import pick

# Examples to choose from, as a multiple of those that fill a batch: with 1.05 the demo pads half a
# point more, with more than 1.1 nothing less.
_CHOICE = 1.1
# And some more, for batches of few examples.
_MORE = 4
# Batches that the share of padding is averaged over, each task having its share of them.
_SAMPLED = 100

_NONE = np.zeros(0, np.int64)


@dataclasses.dataclass(frozen=True, slots=True)
class PackedProgress(Progress):
    """What packed batches have consumed of each task.

    Attributes:
        cursors: int64[N], batches taken.
        taken: int64[N], examples taken, those left over included.
        left: for each task int64[k], the numbers of examples that are left over.
    """

    taken: np.ndarray
    left: tuple[np.ndarray, ...]


class PackedPlans(TaskBatches[PackedProgress]):
    """The packed batches of all tasks.

    Args:
        sources: the tasks.
        pairs: their pairs.
        shape: the shape of a batch.
        seed: seed of the run.

    Raises:
        DataError: an example does not fit into a row.
    """

    def __init__(
        self, sources: Sequence[TaskSource], pairs: PairSources, shape: PackedShape, seed: int
    ) -> None:
        check_lengths(sources, shape)
        self._shape = shape
        self._pairs = pairs
        self._streams = ExampleStreams(
            seed, [source.name for source in sources], [source.size for source in sources]
        )
        self._choice = np.ceil(_CHOICE * shape.examples(self._pairs.means)).astype(int) + _MORE

    def start(self) -> PackedProgress:
        nothing = np.zeros(len(self._streams.sizes), np.int64)
        return PackedProgress(nothing, nothing, (_NONE,) * len(nothing))

    def take(self, task: int, progress: PackedProgress) -> tuple[PlannedBatch, PackedProgress]:
        left, taken = progress.left[task], int(progress.taken[task])
        fresh = max(0, int(self._choice[task]) - len(left))
        numbers = np.concatenate([left, np.arange(taken, taken + fresh)])
        tasks = np.full(len(numbers), task, np.int64)
        indices = self._streams.take(tasks, numbers)
        lengths = self._pairs.lengths(tasks, indices)
        rows = pack(lengths, len(left), self._shape.rows, self._shape)
        # Rows of -1 are first.
        packed = stable_order(rows + 1)[np.count_nonzero(rows < 0) :]
        planned = PlannedBatch(
            task, np.full(len(packed), task, np.int32), indices[packed], self._shape, rows[packed]
        )
        after = PackedProgress(
            _with(progress.cursors, task, 1),
            _with(progress.taken, task, fresh),
            (*progress.left[:task], numbers[rows < 0], *progress.left[task + 1 :]),
        )
        return planned, after

    def save(self, progress: PackedProgress) -> dict[str, np.ndarray]:
        counts = [len(numbers) for numbers in progress.left]
        left = [np.repeat(np.arange(len(counts)), counts), np.concatenate(progress.left)]
        return {
            "cursors": progress.cursors,
            "plan_identities": self._streams.identities,
            "epoch_lengths": self._streams.sizes,
            "packed_examples": progress.taken,
            "packed_left": np.stack(left, axis=1).astype(np.int64),
        }

    def load(
        self, state: Mapping[str, np.ndarray], index_map: np.ndarray
    ) -> tuple[PackedProgress, np.ndarray]:
        examples = {**state, "cursors": state["packed_examples"]}
        taken, same = moved_cursors(
            examples, index_map, self._streams.identities, self._streams.sizes
        )
        kept = index_map >= 0
        cursors = np.zeros(len(index_map), np.int64)
        cursors[kept] = state["cursors"][index_map[kept]]
        saved = state["packed_left"].reshape(-1, 2)
        left = [
            saved[saved[:, 0] == old, 1].copy() if still else _NONE
            for old, still in zip(index_map.tolist(), same.tolist(), strict=True)
        ]
        return PackedProgress(cursors, taken, tuple(left)), same

    def passes(self, progress: PackedProgress) -> tuple[np.ndarray, np.ndarray]:
        used = progress.taken - np.array([len(numbers) for numbers in progress.left])
        # A batch holds at most the examples that it chooses from.
        return used / self._streams.sizes, (used + self._choice) / self._streams.sizes

    def padding_waste(self, probabilities: np.ndarray, progress: PackedProgress) -> float:
        """Returns the expected share of padding in the next batches."""
        used = 0
        for task in pick(probabilities, (np.arange(_SAMPLED) + 0.5) / _SAMPLED).tolist():
            planned, progress = self.take(task, progress)
            used += int(self._pairs.lengths(planned.tasks, planned.indices).sum())
        return 1 - used / (self._shape.cells * _SAMPLED)


def check_lengths(sources: Sequence[TaskSource], shape: PackedShape) -> None:
    """Raises DataError unless every example fits into a row."""
    shorter = min(shape.source_length, shape.target_length)
    for source in sources:
        longest = len(source.cumulative_lengths) - 1
        if longest > shorter:
            raise DataError(
                f"task {source.name!r} has examples of up to {longest} tokens, and packed rows "
                f"hold {shape.source_length} source and {shape.target_length} target tokens; "
                "prepare the data with this max_length, or make the rows longer"
            )


def _with(values: np.ndarray, task: int, count: int) -> np.ndarray:
    values = values.copy()
    values[task] += count
    return values
