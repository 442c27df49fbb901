"""Draws of whole batches: each batch is of one task."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from keras_mtl.data.batch_plan import BatchPlan, Bucket
from keras_mtl.data.draws import Draws, PlannedBatch, moved_cursors
from keras_mtl.data.task_sources import TaskSource
from keras_mtl.schedules.sampling import blend, sample


@dataclasses.dataclass(frozen=True, slots=True)
class BatchPlace:
    """The place of random draws of batches.

    Attributes:
        cursors: int64[N], batches taken of each task.
    """

    cursors: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True)
class BlendPlace:
    """The place of blended draws of batches.

    Attributes:
        cursors: int64[N], batches taken of each task.
        credit: float64[N], batches that each task is behind its share; see
            `keras_mtl.schedules.blend`.
    """

    cursors: np.ndarray
    credit: np.ndarray


class TaskPlans:
    """The batch plans of all tasks.

    Args:
        sources: the tasks.
        buckets: shapes by increasing length.
        seed: seed of the run.
    """

    def __init__(self, sources: Sequence[TaskSource], buckets: Sequence[Bucket], seed: int) -> None:
        self._sources = sources
        self._plans = [
            BatchPlan(seed, source.name, source.cumulative_lengths, buckets) for source in sources
        ]
        self._identities = np.array([plan.identity() for plan in self._plans], np.int64)
        self._epoch_lengths = np.array([plan.batches_per_epoch for plan in self._plans], np.int64)

    def start(self) -> np.ndarray:
        """Returns int64[N], cursors before the first batch."""
        return np.zeros(len(self._plans), np.int64)

    def take(self, task: int, cursors: np.ndarray) -> tuple[PlannedBatch, np.ndarray]:
        """Returns the next batch of a task and the cursors after it."""
        spec = self._plans[task][int(cursors[task])]
        cursors = cursors.copy()
        cursors[task] += 1
        tasks = np.full(len(spec.indices), task, np.int32)
        return PlannedBatch(task, tasks, spec.indices, spec.bucket), cursors

    def save(self, cursors: np.ndarray) -> dict[str, np.ndarray]:
        """Returns cursors as arrays, for `load`."""
        return {
            "cursors": cursors,
            "plan_identities": self._identities,
            "epoch_lengths": self._epoch_lengths,
        }

    def load(
        self, state: Mapping[str, np.ndarray], index_map: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns int64[N] saved cursors, and bool[N] as `Draws.load` does."""
        return moved_cursors(state, index_map, self._identities, self._epoch_lengths)

    def padding_waste(self, probabilities: np.ndarray) -> float:
        """Returns the expected share of padding cells, exact over whole epochs."""
        used = np.array([source.elements for source in self._sources], np.float64)
        cells = np.array(
            [
                plan.cells_per_epoch() * source.padded_arrays
                for plan, source in zip(self._plans, self._sources, strict=True)
            ],
            np.float64,
        )
        weights = probabilities / self._epoch_lengths
        return float(1 - (weights * used).sum() / (weights * cells).sum())


class BatchDraws(Draws[BatchPlace]):
    """Draws the task of each batch at random, by the probabilities at its step.

    Args:
        sources: the tasks.
        buckets: shapes by increasing length.
        seed: seed of the run.
    """

    def __init__(self, sources: Sequence[TaskSource], buckets: Sequence[Bucket], seed: int) -> None:
        self._plans = TaskPlans(sources, buckets, seed)
        self._seed = seed

    def first(self) -> BatchPlace:
        return BatchPlace(self._plans.start())

    def advance(
        self, step: int, probabilities: np.ndarray, place: BatchPlace
    ) -> tuple[PlannedBatch, BatchPlace]:
        task = sample(self._seed, step, probabilities)
        planned, cursors = self._plans.take(task, place.cursors)
        return planned, BatchPlace(cursors)

    def save(self, place: BatchPlace) -> dict[str, np.ndarray]:
        return self._plans.save(place.cursors)

    def load(
        self, state: Mapping[str, np.ndarray], index_map: np.ndarray
    ) -> tuple[BatchPlace, np.ndarray]:
        cursors, same = self._plans.load(state, index_map)
        return BatchPlace(cursors), same

    def padding_waste(self, probabilities: np.ndarray, place: BatchPlace) -> float:
        """Returns the expected share of padding cells, exact over whole epochs."""
        del place
        return self._plans.padding_waste(probabilities)


class BlendedDraws(Draws[BlendPlace]):
    """Draws the task that is furthest behind its share; deterministic.

    The credits are part of the state, so a stopped run resumes with the same tasks.

    Args:
        sources: the tasks.
        buckets: shapes by increasing length.
        seed: seed of the shuffling within tasks.
    """

    def __init__(self, sources: Sequence[TaskSource], buckets: Sequence[Bucket], seed: int) -> None:
        self._plans = TaskPlans(sources, buckets, seed)

    def first(self) -> BlendPlace:
        cursors = self._plans.start()
        return BlendPlace(cursors, np.zeros(len(cursors)))

    def advance(
        self, step: int, probabilities: np.ndarray, place: BlendPlace
    ) -> tuple[PlannedBatch, BlendPlace]:
        del step  # The credits hold what came before.
        task, credit = blend(place.credit, probabilities)
        planned, cursors = self._plans.take(task, place.cursors)
        return planned, BlendPlace(cursors, credit)

    def save(self, place: BlendPlace) -> dict[str, np.ndarray]:
        return {**self._plans.save(place.cursors), "credit": place.credit}

    def load(
        self, state: Mapping[str, np.ndarray], index_map: np.ndarray
    ) -> tuple[BlendPlace, np.ndarray]:
        cursors, same = self._plans.load(state, index_map)
        # New tasks start without credit, and so do all tasks after random draws.
        credit = np.zeros(len(index_map))
        if "credit" in state:
            kept = index_map >= 0
            credit[kept] = state["credit"][index_map[kept]]
        return BlendPlace(cursors, credit), same

    def padding_waste(self, probabilities: np.ndarray, place: BlendPlace) -> float:
        """Returns the expected share of padding cells, exact over whole epochs."""
        del place
        return self._plans.padding_waste(probabilities)
