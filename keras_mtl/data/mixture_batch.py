"""The batch of a training step, read from the sources of its tasks."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from keras_mtl.data.draws import PlannedBatch
from keras_mtl.data.pair_reading import PairSources
from keras_mtl.data.task_sources import ExampleSpec, TaskSource


class StaleIteratorError(RuntimeError):
    """Raised by an iterator whose mixture has been updated or restored at another step."""


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """The batch of one step.

    Attributes:
        step: number of batches before it.
        task: index of its task; -1 if its rows are of several tasks.
        arrays: arrays [rows, ...] by name, those of all tasks; text is int32[rows, length], padded
            with 0. Rows of a task that does not have an array are 0 there.
        tasks: int32[rows], task of each row; in empty rows the task of the batch (0 if mixed).
        rows_used: number of rows that hold an example, which come first; the others are all 0.
    """

    step: int
    task: int
    arrays: dict[str, np.ndarray]
    tasks: np.ndarray
    rows_used: int

    def weights(self) -> np.ndarray:
        """Returns float32[rows]: 1 for an example, 0 for an empty row."""
        return (np.arange(len(self.tasks)) < self.rows_used).astype(np.float32)

    def fingerprint(self) -> str:
        """Returns a hash of task and content, without the step: 32 hexadecimal digits."""
        digest = hashlib.blake2b(f"{self.task}:{self.rows_used}".encode(), digest_size=16)
        for name, array in sorted({**self.arrays, "task": self.tasks}.items()):
            digest.update(f"{name}:{array.dtype.str}:{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def read_batch(
    sources: Sequence[TaskSource],
    pairs: PairSources | None,
    spec: ExampleSpec,
    step: int,
    planned: PlannedBatch,
    rows: np.ndarray | None = None,
) -> Batch:
    """Reads the examples of a planned batch and pads them to the bucket's shape.

    Args:
        sources: the tasks.
        pairs: their pairs; None if they have other examples.
        spec: dtype and shape of each array of any task.
        step: number of batches before it.
        planned: the task and index of each example, and the bucket.
        rows: int[...], the rows to read; the other rows remain 0. None reads all.

    Raises:
        DataError: an example is too long for the bucket, or the data is damaged.
    """
    bucket = planned.bucket
    used = len(planned.indices)
    tasks = np.full(bucket.rows, max(planned.task, 0), np.int32)
    tasks[:used] = planned.tasks
    together = planned.task < 0 or (pairs is not None and pairs.changes(planned.task))
    arrays: dict[str, np.ndarray] = {}
    whole = rows is None and not together and used == bucket.rows
    if whole:
        arrays = dict(sources[planned.task].gather(planned.indices, bucket.length))
    for name, (dtype, shape) in spec.items():
        if name not in arrays:
            sizes = (bucket.length if size is None else size for size in shape)
            arrays[name] = np.zeros((bucket.rows, *sizes), dtype)
    if whole:
        return Batch(step, planned.task, arrays, tasks, used)
    wanted = np.arange(used) if rows is None else rows[rows < used]
    wanted_tasks = np.broadcast_to(planned.tasks, used)[wanted]
    if pairs is not None and together:
        wanted_indices = planned.indices[wanted]
        part = pairs.gather(wanted_tasks.astype(np.int64), wanted_indices, bucket.length, step)
        for name, array in part.items():
            arrays[name][wanted] = array
        return Batch(step, planned.task, arrays, tasks, used)
    for task in np.unique(wanted_tasks).tolist():
        chosen = wanted[wanted_tasks == task]
        part = sources[task].gather(planned.indices[chosen], bucket.length)
        for name, array in part.items():
            arrays[name][chosen] = array
    return Batch(step, planned.task, arrays, tasks, used)
