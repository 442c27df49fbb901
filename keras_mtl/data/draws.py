"""Draws of a mixture: the examples of each batch, and what has been consumed after it.

Draws are pure functions: from a place (what was consumed so far) and the probabilities of a step
follow the planned batch of the step and the next place. Places are immutable, so a mixture can keep
old ones. `batch_draws` draws batches of one task, and `pools` draws examples for mixed batches.
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

import numpy as np

from keras_mtl.data.batch_plan import Bucket
from keras_mtl.data.packing import PackedShape

#: How tasks are drawn: at random, or deterministically with the least deviation.
DRAWS = ("random", "blend")


@dataclasses.dataclass(frozen=True, slots=True)
class PlannedBatch:
    """A batch before it is read.

    Attributes:
        task: index of the task; -1 if the examples are of several tasks.
        tasks: int32[k], task of each example.
        indices: int64[k], index of each example in its task.
        bucket: shape of the batch; k <= bucket.rows unless rows hold several examples.
        rows: int64[k] by increasing row, the row of each example, if rows hold several; None for
            example j in row j.
    """

    task: int
    tasks: np.ndarray
    indices: np.ndarray
    bucket: Bucket | PackedShape
    rows: np.ndarray | None = None


class Place(Protocol):
    """What was consumed before a step; immutable.

    Attributes:
        cursors: int64[N], number of batches (or examples of pools) taken of each task so far.
    """

    @property
    def cursors(self) -> np.ndarray: ...


PlaceT = TypeVar("PlaceT", bound=Place)


class Draws(abc.ABC, Generic[PlaceT]):
    """Base class of draws; `PlaceT` is the type of their places."""

    @abc.abstractmethod
    def first(self) -> PlaceT:
        """Returns the place before the first batch."""

    @abc.abstractmethod
    def advance(
        self, step: int, probabilities: np.ndarray, place: PlaceT
    ) -> tuple[PlannedBatch, PlaceT]:
        """Returns the batch of a step and the place after it.

        Args:
            step: number of batches before this one.
            probabilities: float64[N] of the schedule at `step`.
            place: the place before the batch.
        """

    @abc.abstractmethod
    def save(self, place: PlaceT) -> dict[str, np.ndarray]:
        """Returns a place as arrays, for `load`."""

    @abc.abstractmethod
    def load(
        self, state: Mapping[str, np.ndarray], index_map: np.ndarray
    ) -> tuple[PlaceT, np.ndarray]:
        """Converts a saved place to the present tasks.

        Args:
            state: arrays of `save`; other arrays are ignored.
            index_map: int64[N], the saved index of each present task, -1 for a new one.

        Returns:
            The place, and bool[N]: whether each task resumes exactly where it was.

        Raises:
            CheckpointError: the state is damaged.
            KeyError: an array is missing.
        """

    @abc.abstractmethod
    def passes(self, place: PlaceT) -> tuple[np.ndarray, np.ndarray]:
        """Returns the passes over the data of each task, float64[N] each.

        Returns:
            Those so far; and an upper bound of those after the task's next batch.
        """

    @abc.abstractmethod
    def padding_waste(self, probabilities: np.ndarray, place: PlaceT) -> float:
        """Returns the share of padding among all computed elements, in [0, 1)."""


def moved_cursors(
    state: Mapping[str, np.ndarray],
    index_map: np.ndarray,
    identities: np.ndarray,
    epoch_lengths: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Converts saved cursors to the present tasks.

    If the plan of a task has changed (other data, seed or shapes), the task continues with its next
    epoch, because the numbers of the old plan mean other examples in the new plan.

    Args:
        state: with "cursors", "plan_identities" and "epoch_lengths", int64 of the saved tasks.
        index_map: int64[N], the saved index of each present task, -1 for a new one.
        identities: int64[N], of the present plans.
        epoch_lengths: int64[N], of the present plans.

    Returns:
        int64[N] cursors, and bool[N]: whether the task was there with the same plan.
    """
    kept = index_map >= 0
    cursors = np.zeros(len(index_map), np.int64)
    same = np.zeros(len(index_map), bool)
    old = index_map[kept]
    before = state["cursors"][old]
    same[kept] = state["plan_identities"][old] == identities[kept]
    next_epoch = -(-before // state["epoch_lengths"][old]) * epoch_lengths[kept]
    cursors[kept] = np.where(same[kept], before, next_epoch)
    return cursors, same
