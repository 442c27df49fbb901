"""How a mixture draws: what a step's batch is made of, and what has been consumed after it.

A family of draws is pure: a place (what was consumed so far) and a step's probabilities give the
planned batch of the step and the next place. Places are never written to, so that a mixture can
keep old ones. `batch_draws` draws batches of one task, `pools` draws examples for mixed batches.
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

import numpy as np

from keras_mtl.data.batch_plan import Bucket

#: How tasks are drawn: at random, or without chance at lowest discrepancy.
DRAWS = ("random", "blend")


@dataclasses.dataclass(frozen=True, slots=True)
class PlannedBatch:
    """A batch before it is read.

    Attributes:
        task: index of the task; -1 if the rows are of several.
        tasks: int32[k], task of each row.
        indices: int64[k], example of each row.
        bucket: the shape, k <= bucket.rows.
    """

    task: int
    tasks: np.ndarray
    indices: np.ndarray
    bucket: Bucket


class Place(Protocol):
    """What was consumed before a step; immutable.

    Attributes:
        cursors: int64[N], taken of each task so far: batches, or examples of a pool.
    """

    @property
    def cursors(self) -> np.ndarray: ...


PlaceT = TypeVar("PlaceT", bound=Place)


class Draws(abc.ABC, Generic[PlaceT]):
    """A family of draws; `PlaceT` is the type of its places."""

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
        """Brings a saved place to the present tasks.

        Args:
            state: from `save`, maybe with other arrays in it.
            index_map: int64[N], the saved index of each present task, -1 for a new one.

        Returns:
            The place, and bool[N]: whether the task resumes exactly where it was.

        Raises:
            CheckpointError: the state is damaged.
            KeyError: an array is missing.
        """

    @abc.abstractmethod
    def padding_waste(self, probabilities: np.ndarray, place: PlaceT) -> float:
        """Returns the share of padding among the cells that are computed, in [0, 1)."""


def moved_cursors(
    state: Mapping[str, np.ndarray],
    index_map: np.ndarray,
    identities: np.ndarray,
    epoch_lengths: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Brings saved cursors to the present tasks.

    A task whose plan changed (other data, seed or shapes) continues with its next epoch: numbers
    of the old plan mean other examples in the new one.

    Args:
        state: with "cursors", "plan_identities" and "epoch_lengths", int64 of the saved tasks.
        index_map: int64[N], the saved index of each present task, -1 for a new one.
        identities: int64[N], of the present plans.
        epoch_lengths: int64[N], of the present plans.

    Returns:
        int64[N] cursors, and bool[N]: the task was there and its plan is the same.
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
