"""Packed batches: rows of several sentence pairs, with what tells the pairs apart."""

import dataclasses

import numpy as np

from keras_mtl.data.draws import PlannedBatch
from keras_mtl.data.mixture_batch import Batch
from keras_mtl.data.packing import PackedShape
from keras_mtl.data.pair_reading import PairSources
from keras_mtl.data.task_sources import ExampleSpec

_SIDES = ("source", "target")


@dataclasses.dataclass(frozen=True, eq=False)
class PackedBatch(Batch):
    """The packed batch of one training step.

    Attributes:
        step: number of batches before it.
        task: index of its task; -1 if its pairs are of several.
        arrays: int32[rows, length] each: `source` and `target`; `source_segments` and
            `target_segments`, which number the pairs of a row from 1 on; `source_positions` and
            `target_positions`, which count from 0 in each pair. Everything is 0 on padding.
        tasks: int32[rows, target length], task of each target token; on padding the batch's task
            (0 if mixed).
        rows_used: rows that hold a pair.
    """

    def weights(self) -> np.ndarray:
        """Returns float32[rows, target length]: 1 for a target token, 0 on padding."""
        return (self.arrays["target"] != 0).astype(np.float32)


def packed_spec(shape: PackedShape) -> ExampleSpec:
    """Returns dtype and shape of each array of a packed row."""
    spec: ExampleSpec = {}
    for side, length in zip(_SIDES, (shape.source_length, shape.target_length), strict=True):
        for name in (side, f"{side}_segments", f"{side}_positions"):
            spec[name] = (np.dtype(np.int32), (length,))
    return spec


def read_packed_batch(
    pairs: PairSources,
    shape: PackedShape,
    step: int,
    planned: PlannedBatch,
    wanted: np.ndarray | None = None,
) -> PackedBatch:
    """Reads the pairs of a planned batch and lays them out in rows.

    Args:
        pairs: the tasks.
        shape: the shape.
        step: number of batches before it.
        planned: task, index and row of each pair, by increasing row.
        wanted: int[...], the rows to read; the other rows remain 0. None reads all.

    Raises:
        DataError: the data is damaged.
    """
    tasks, indices, rows = planned.tasks.astype(np.int64), planned.indices, planned.rows
    assert rows is not None
    chosen = np.arange(len(rows)) if wanted is None else np.flatnonzero(np.isin(rows, wanted))
    tasks, indices, rows = tasks[chosen], indices[chosen], rows[chosen]
    lengths = pairs.lengths(tasks, indices)
    firsts = np.flatnonzero(np.diff(rows, prepend=-1))  # The first pair of each used row.
    counts = np.diff(firsts, append=len(rows))
    segments = np.arange(len(rows)) - np.repeat(firsts, counts) + 1
    before = np.cumsum(lengths, axis=0) - lengths
    starts = before - np.repeat(before[firsts], counts, axis=0)
    sizes = (shape.rows * shape.source_length, shape.rows * shape.target_length)
    cells = np.zeros(sum(sizes), np.int32)
    first = starts + np.stack(
        [rows * shape.source_length, sizes[0] + rows * shape.target_length], axis=1
    )
    written = pairs.read(tasks, indices, cells, first, step)
    ids = np.split(cells, [sizes[0]])
    first[:, 1] -= sizes[0]
    batch_tasks = np.full(sizes[1], max(planned.task, 0), np.int32)
    arrays: dict[str, np.ndarray] = {}
    for side, name in enumerate(_SIDES):
        # Pairs that change may be shorter than the cells that are reserved for them.
        count, length = written[:, side], sizes[side] // shape.rows
        position = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        cell = np.repeat(first[:, side], count) + position
        layout = np.zeros((2, sizes[side]), np.int32)
        layout[0, cell] = np.repeat(segments, count)
        layout[1, cell] = position
        arrays[name] = ids[side].reshape(-1, length)
        arrays[f"{name}_segments"], arrays[f"{name}_positions"] = layout.reshape(2, -1, length)
        if name == "target":
            batch_tasks[cell] = np.repeat(tasks, count)
    return PackedBatch(step, planned.task, arrays, batch_tasks.reshape(shape.rows, -1), len(firsts))
