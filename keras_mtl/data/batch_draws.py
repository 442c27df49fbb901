"""Draws of whole batches: each batch is of one task."""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np

from keras_mtl.data.batch_plan import BatchPlan, Bucket
from keras_mtl.data.draws import Draws, PlannedBatch, moved_cursors
from keras_mtl.data.task_sources import TaskSource
from keras_mtl.schedules.sampling import blend, sample


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """What was consumed of each task; immutable.

    Attributes:
        cursors: int64[N], batches taken of each task.
    """

    cursors: np.ndarray


ProgressT = TypeVar("ProgressT", bound=Progress)


class TaskBatches(abc.ABC, Generic[ProgressT]):
    """The endless sequence of each task's batches; `ProgressT` says how far each was read."""

    @abc.abstractmethod
    def start(self) -> ProgressT:
        """Returns the progress before the first batch."""

    @abc.abstractmethod
    def take(self, task: int, progress: ProgressT) -> tuple[PlannedBatch, ProgressT]:
        """Returns the next batch of a task and the progress after it."""

    @abc.abstractmethod
    def save(self, progress: ProgressT) -> dict[str, np.ndarray]:
        """Returns a progress as arrays, for `load`."""

    @abc.abstractmethod
    def load(
        self, state: Mapping[str, np.ndarray], index_map: np.ndarray
    ) -> tuple[ProgressT, np.ndarray]:
        """Returns a saved progress, and bool[N] as `Draws.load` does."""

    @abc.abstractmethod
    def passes(self, progress: ProgressT) -> tuple[np.ndarray, np.ndarray]:
        """Returns the passes over the data of each task as `Draws.passes` does."""

    @abc.abstractmethod
    def padding_waste(self, probabilities: np.ndarray, progress: ProgressT) -> float:
        """Returns the expected share of padding cells, in [0, 1)."""


class TaskPlans(TaskBatches[Progress]):
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

    def start(self) -> Progress:
        return Progress(np.zeros(len(self._plans), np.int64))

    def take(self, task: int, progress: Progress) -> tuple[PlannedBatch, Progress]:
        cursors = progress.cursors.copy()
        spec = self._plans[task][int(cursors[task])]
        cursors[task] += 1
        tasks = np.full(len(spec.indices), task, np.int32)
        return PlannedBatch(task, tasks, spec.indices, spec.bucket), Progress(cursors)

    def save(self, progress: Progress) -> dict[str, np.ndarray]:
        return {
            "cursors": progress.cursors,
            "plan_identities": self._identities,
            "epoch_lengths": self._epoch_lengths,
        }

    def load(
        self, state: Mapping[str, np.ndarray], index_map: np.ndarray
    ) -> tuple[Progress, np.ndarray]:
        cursors, same = moved_cursors(state, index_map, self._identities, self._epoch_lengths)
        return Progress(cursors), same

    def passes(self, progress: Progress) -> tuple[np.ndarray, np.ndarray]:
        return (
            progress.cursors / self._epoch_lengths,
            (progress.cursors + 1) / self._epoch_lengths,
        )

    def padding_waste(self, probabilities: np.ndarray, progress: Progress) -> float:
        """Returns the expected share of padding cells, exact over whole epochs."""
        del progress
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


@dataclasses.dataclass(frozen=True, slots=True)
class BatchPlace(Generic[ProgressT]):
    """The place of random draws of batches.

    Attributes:
        progress: what was consumed of each task.
    """

    progress: ProgressT

    @property
    def cursors(self) -> np.ndarray:
        """int64[N], batches taken of each task."""
        return self.progress.cursors


@dataclasses.dataclass(frozen=True, slots=True)
class BlendPlace(BatchPlace[ProgressT]):
    """The place of blended draws of batches.

    Attributes:
        progress: what was consumed of each task.
        credit: float64[N], batches that each task is behind its share; see
            `keras_mtl.schedules.blend`.
    """

    credit: np.ndarray


class BatchDraws(Draws[BatchPlace[ProgressT]], Generic[ProgressT]):
    """Draws the task of each batch at random, by the probabilities at its step.

    Args:
        batches: the tasks' batches.
        seed: seed of the run.
    """

    def __init__(self, batches: TaskBatches[ProgressT], seed: int) -> None:
        self._batches = batches
        self._seed = seed

    def first(self) -> BatchPlace[ProgressT]:
        return BatchPlace(self._batches.start())

    def advance(
        self, step: int, probabilities: np.ndarray, place: BatchPlace[ProgressT]
    ) -> tuple[PlannedBatch, BatchPlace[ProgressT]]:
        task = sample(self._seed, step, probabilities)
        planned, progress = self._batches.take(task, place.progress)
        return planned, BatchPlace(progress)

    def save(self, place: BatchPlace[ProgressT]) -> dict[str, np.ndarray]:
        return self._batches.save(place.progress)

    def load(
        self, state: Mapping[str, np.ndarray], index_map: np.ndarray
    ) -> tuple[BatchPlace[ProgressT], np.ndarray]:
        progress, same = self._batches.load(state, index_map)
        return BatchPlace(progress), same

    def passes(self, place: BatchPlace[ProgressT]) -> tuple[np.ndarray, np.ndarray]:
        return self._batches.passes(place.progress)

    def padding_waste(self, probabilities: np.ndarray, place: BatchPlace[ProgressT]) -> float:
        """Returns the expected share of padding cells; see `TaskBatches.padding_waste`."""
        return self._batches.padding_waste(probabilities, place.progress)


class BlendedDraws(Draws[BlendPlace[ProgressT]], Generic[ProgressT]):
    """Draws the task that is furthest behind its share; deterministic.

    The credits are part of the state, so a stopped run resumes with the same tasks.

    Args:
        batches: the tasks' batches.
    """

    def __init__(self, batches: TaskBatches[ProgressT]) -> None:
        self._batches = batches

    def first(self) -> BlendPlace[ProgressT]:
        progress = self._batches.start()
        return BlendPlace(progress, np.zeros(len(progress.cursors)))

    def advance(
        self, step: int, probabilities: np.ndarray, place: BlendPlace[ProgressT]
    ) -> tuple[PlannedBatch, BlendPlace[ProgressT]]:
        del step  # The credits hold what came before.
        task, credit = blend(place.credit, probabilities)
        planned, progress = self._batches.take(task, place.progress)
        return planned, BlendPlace(progress, credit)

    def save(self, place: BlendPlace[ProgressT]) -> dict[str, np.ndarray]:
        return {**self._batches.save(place.progress), "credit": place.credit}

    def load(
        self, state: Mapping[str, np.ndarray], index_map: np.ndarray
    ) -> tuple[BlendPlace[ProgressT], np.ndarray]:
        progress, same = self._batches.load(state, index_map)
        # New tasks start without credit, and so do all tasks after random draws.
        credit = np.zeros(len(index_map))
        if "credit" in state:
            kept = index_map >= 0
            credit[kept] = state["credit"][index_map[kept]]
        return BlendPlace(progress, credit), same

    def passes(self, place: BlendPlace[ProgressT]) -> tuple[np.ndarray, np.ndarray]:
        return self._batches.passes(place.progress)

    def padding_waste(self, probabilities: np.ndarray, place: BlendPlace[ProgressT]) -> float:
        """Returns the expected share of padding cells; see `TaskBatches.padding_waste`."""
        return self._batches.padding_waste(probabilities, place.progress)
