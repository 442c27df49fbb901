"""The examples of the i-th batch of a task, for any i, without reading the batches before it.

A task's examples are stored by length, so the examples of a length bucket are one range of indices.
The batches of an epoch are (bucket, slot) pairs. One keyed permutation orders them, and another one
distributes the examples of a range over its slots. No order is stored: the reading state of a task
is one integer.
"""

import bisect
import dataclasses
import hashlib
import itertools
from collections.abc import Sequence

import numpy as np

from keras_mtl.data.permutation import Permutation
from keras_mtl.errors import ConfigError, DataError

# Grid of padded lengths: 8 and 12 times powers of two. Neighbors differ by 1.33 or 1.5, so an
# example is padded by 17 % on average; each length is one compiled program.
_LENGTH_GRID = sorted(base << power for base in (8, 12) for power in range(24))
# A last grid length closer than this to max_length saves less than its program costs.
_LEAST_RATIO = 1.15


@dataclasses.dataclass(frozen=True, slots=True)
class Bucket:
    """A static shape of batches.

    Attributes:
        length: padded length in tokens, including tag and end of sentence; >= 1.
        rows: number of examples of a full batch; >= 1.
    """

    length: int
    rows: int


@dataclasses.dataclass(frozen=True, slots=True)
class BucketRange:
    """The examples [start, stop) of a task, distributed over `batches` batches of a bucket."""

    bucket: Bucket
    start: int
    stop: int
    batches: int


@dataclasses.dataclass(frozen=True, slots=True)
class BatchSpec:
    """One batch before it is read.

    Attributes:
        indices: int64[k], 1 <= k <= bucket.rows, distinct; rows from k on are empty.
        bucket: shape of the batch.
    """

    indices: np.ndarray
    bucket: Bucket


def make_buckets(
    max_length: int,
    tokens_per_batch: int,
    multiple_of: int = 8,
    lengths: Sequence[int] | None = None,
) -> tuple[Bucket, ...]:
    """Returns a short list of shapes with rows * length near the token budget.

    Args:
        max_length: longest padded length in tokens, including tag and end of sentence; >= 1.
        tokens_per_batch: budget of rows * length; >= 1. A shape exceeds it only if `multiple_of`
            rows already do.
        multiple_of: the rows of each shape are a multiple of this number; 8 per replica fills the
            vector units of CPUs and TPUs.
        lengths: padded lengths, strictly increasing and ending at max_length or above; None takes
            8, 12, 16, 24, 32, 48, … up to max_length.

    Returns:
        Buckets by increasing length.

    Raises:
        ConfigError: an argument is out of range, or `lengths` is not increasing or too short.
    """
    for name, value in (
        ("max_length", max_length),
        ("tokens_per_batch", tokens_per_batch),
        ("multiple_of", multiple_of),
    ):
        if value < 1:
            raise ConfigError(f"{name} is {value}; it must be at least 1")
    if not lengths:
        grid = [length for length in _LENGTH_GRID if length < max_length]
        if grid and max_length < grid[-1] * _LEAST_RATIO:
            grid.pop()
        lengths = [*grid, max_length]
    else:
        lengths = list(lengths)
        if lengths[0] < 1 or any(a >= b for a, b in itertools.pairwise(lengths)):
            raise ConfigError(
                f"bucket_lengths is {lengths}; lengths must be positive and strictly increasing"
            )
        if lengths[-1] < max_length:
            raise ConfigError(
                f"bucket_lengths ends at {lengths[-1]}, below max_length {max_length}; add a "
                f"length of {max_length} or above"
            )
    return tuple(
        Bucket(length, multiple_of * max(1, tokens_per_batch // (length * multiple_of)))
        for length in lengths
    )


def bucket_ranges(
    cumulative: np.ndarray, buckets: Sequence[Bucket], name: str, deal_rest: bool = True
) -> tuple[BucketRange, ...]:
    """Cuts the examples of a task, sorted by length, into ranges of full batches.

    If the longest examples of a bucket do not fill a batch, they move to the next longer bucket.
    The longest bucket in use takes the rest, evenly distributed over as few batches as possible.
    These batches differ by at most one row, so all examples have about the same weight.

    Args:
        cumulative: int64[L + 1]; entry l counts the examples of length <= l.
        buckets: shapes by strictly increasing length.
        name: the task, for messages.
        deal_rest: whether to include the last examples if they do not fill a batch of the longest
            bucket in use.

    Returns:
        Ranges that cover all examples, by increasing length; buckets without a batch are omitted.

    Raises:
        ConfigError: there are no buckets, or they are not increasing.
        DataError: there are no examples, or some are longer than the longest bucket.
    """
    if not buckets or any(a.length >= b.length for a, b in itertools.pairwise(buckets)):
        raise ConfigError(
            f"buckets have lengths {[bucket.length for bucket in buckets]}; give at least one "
            "bucket, with strictly increasing lengths"
        )
    total = int(cumulative[-1])
    if total == 0:
        raise DataError(f"task {name!r} has no training examples; give it a corpus or remove it")
    ends = [int(cumulative[min(bucket.length, len(cumulative) - 1)]) for bucket in buckets]
    if ends[-1] < total:
        raise DataError(
            f"task {name!r} has {total - ends[-1]} examples of up to {len(cumulative) - 1} tokens, "
            f"longer than the longest bucket ({buckets[-1].length}); prepare the data with this "
            "max_length, or add a longer bucket"
        )
    ranges = []
    start = 0
    for bucket, end in zip(buckets, ends, strict=True):
        batches = (end - start) // bucket.rows
        stop = start + batches * bucket.rows
        if end == total and deal_rest:
            batches, stop = -(-(end - start) // bucket.rows), end
        if batches:
            ranges.append(BucketRange(bucket, start, stop, batches))
        start = stop
        if end == total:
            break
    return tuple(ranges)


class BatchPlan:
    """The endless sequence of a task's batches; `plan[i]` in constant time and memory.

    Every example occurs exactly once in each epoch of `batches_per_epoch` batches, each time with
    other examples. A task with fewer examples than a batch has rows gives one partial batch per
    epoch: repeating its examples to fill the batch would cost the same and not change the gradient.
    If many tasks are this small, use example granularity, which lets them share batches.

    Args:
        seed: seed of the run.
        task_key: name of the task; changes of other tasks have no effect on its batches.
        cumulative: int64[L + 1]; entry l counts the task's examples of length <= l; examples are
            numbered by increasing length.
        buckets: shapes by strictly increasing length.

    Raises:
        ConfigError: the buckets are not increasing.
        DataError: there are no examples, or some are longer than the longest bucket.
    """

    def __init__(
        self, seed: int, task_key: str, cumulative: np.ndarray, buckets: Sequence[Bucket]
    ) -> None:
        self.seed = seed
        self.task_key = task_key
        self.size = int(cumulative[-1])
        self.ranges = bucket_ranges(cumulative, buckets, task_key)
        self._first_batch = [0]
        for item in self.ranges:
            self._first_batch.append(self._first_batch[-1] + item.batches)
        self.batches_per_epoch = self._first_batch[-1]

    def __getitem__(self, number: int) -> BatchSpec:
        """Returns batch `number` >= 0."""
        if number < 0:
            raise IndexError(
                f"batch {number} of task {self.task_key!r} does not exist; batches count from 0"
            )
        epoch, position = divmod(number, self.batches_per_epoch)
        order = Permutation(self.batches_per_epoch, self.seed, self.task_key, epoch, "batches")
        batch = int(order(np.array([position]))[0])
        index = bisect.bisect_right(self._first_batch, batch) - 1
        item = self.ranges[index]
        slot = batch - self._first_batch[index]
        count = item.stop - item.start
        rows = np.arange(slot * count // item.batches, (slot + 1) * count // item.batches)
        return BatchSpec(item.start + self._deal(index, epoch)(rows), item.bucket)

    def example_permutation(self, epoch: int) -> np.ndarray:
        """Returns int64[size], all examples of an epoch in the order of their ranges and slots.

        It needs memory for all of them and is meant for tests and inspection.
        """
        return np.concatenate(
            [
                item.start + self._deal(index, epoch)(np.arange(item.stop - item.start))
                for index, item in enumerate(self.ranges)
            ]
        )

    def cells_per_epoch(self) -> int:
        """Returns the sum of rows * length over the batches of an epoch, including padding."""
        return sum(item.batches * item.bucket.rows * item.bucket.length for item in self.ranges)

    def identity(self) -> int:
        """Returns a 63-bit hash of everything that determines the batch of a number."""
        return _identity(self.seed, self.task_key, self.ranges)

    def _deal(self, index: int, epoch: int) -> Permutation:
        item = self.ranges[index]
        purpose = f"rows {item.bucket.length}"
        return Permutation(item.stop - item.start, self.seed, self.task_key, epoch, purpose)


class ExamplePlan:
    """The endless sequence of a task's examples, in a new order in each epoch.

    Args:
        seed: seed of the run.
        task_key: the task's name.
        size: examples of the task; >= 1.

    Raises:
        DataError: size < 1.
    """

    def __init__(self, seed: int, task_key: str, size: int) -> None:
        if size < 1:
            raise DataError(f"task {task_key!r} has no training examples; give it a corpus")
        self.seed = seed
        self.task_key = task_key
        self.size = size

    def __getitem__(self, number: int) -> int:
        """Returns the index of example `number` >= 0 of the sequence."""
        return int(self.take(np.array([number]))[0])

    def take(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the examples at some places of the sequence.

        Args:
            numbers: int64[k], each >= 0.

        Returns:
            int64[k], indices in [0, size).
        """
        epochs, positions = np.divmod(np.asarray(numbers, dtype=np.int64), self.size)
        indices = np.empty_like(positions)
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            order = Permutation(self.size, self.seed, self.task_key, epoch, "examples")
            indices[chosen] = order(positions[chosen])
        return indices

    def identity(self) -> int:
        """Returns a 63-bit hash of everything that determines the example of a number."""
        return _identity(self.seed, self.task_key, self.size)


def _identity(*parts: object) -> int:
    """Returns a hash of the `repr` of the parts in [0, 2^63), so that it fits an int64."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
