"""The mixture of tasks: a schedule, a batch plan for each task, and the exact reading state.

Nothing in this module assumes text: a batch is a dict of arrays with the same first dimension.
"""

import functools
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_mtl.data.batch_plan import Bucket
from keras_mtl.data.draws import DRAWS, Place, PlannedBatch
from keras_mtl.data.mixture_batch import Batch, StaleIteratorError, read_batch
from keras_mtl.data.mixture_checks import GRANULARITIES, check_choice, check_tasks, common_spec
from keras_mtl.data.mixture_draws import make_draws
from keras_mtl.data.packed_batch import packed_spec, read_packed_batch
from keras_mtl.data.packing import PackedShape
from keras_mtl.data.pair_reading import PairSources
from keras_mtl.data.task_sources import ExampleSpec, TaskSource
from keras_mtl.errors import CheckpointError
from keras_mtl.schedules.adaptive_state import AdaptiveState
from keras_mtl.schedules.base import APPLICATIONS, Schedule
from keras_mtl.schedules.tasks import task_index_map

if TYPE_CHECKING:
    import tensorflow as tf

_LOGGER = logging.getLogger(__name__)


class Mixture:
    """Yields batches of many tasks in the proportions of a schedule.

    The batch of step s is a function of the seed, the schedule state, the batches consumed of each
    task, and with `draw="blend"` the credit of each task. A run that was stopped therefore resumes
    with the batches that it would have had without the stop. Methods are thread-safe. Reading
    ahead does not change `state`.

    Args:
        sources: the examples of each task, in the order of the schedule's tasks; names are unique.
            A batch has the arrays of all tasks; those that a task does not have are 0 in its rows.
        schedule: schedule of the same tasks, or an `AdaptiveState`, which also holds the metric of
            its scores.
        buckets: shapes of batches by increasing length; or a `PackedShape`, for rows of several
            sentence pairs (see `PackedBatch`).
        seed: seed of draws and shuffling.
        granularity: `batch`: each batch is of one task. `example`: batches are mixed. They are cut
            from pools of a few thousand examples, which are drawn by the probabilities at the first
            step of the pool, so a schedule update takes effect with the next pool.
        draw: `random` draws tasks by their probabilities. `blend` is deterministic and takes the
            task that is furthest behind its share; with `example`, each pool has every task's
            share.
        pool_examples: number of examples of a pool; None takes 32 batches, of the middle bucket
            if there are several.
        application: what the factors of an implicit schedule multiply in `model.fit`.
            `gradient`: the `weight` of each row of `dataset`, which `map_fn` must pass to the
            model as sample weight. `learning_rate`: the learning rate, which `TaskScheduling`
            sets. None: nothing, for a schedule without factors or a loop that applies them itself.
        log_steps: number of steps before the last produced batch for which `state` is available.
        fingerprints: hash every yielded batch, for `take_fingerprints`.

    Attributes:
        adaptive: the schedule with its state and its scores.
        task_names: names of the tasks.
        spec: dtype and shape of each array of an example, or of a packed row.
        buckets: shapes of batches.
        granularity: `batch` or `example`.
        application: `gradient`, `learning_rate` or None.

    Raises:
        ConfigError: tasks, schedule, names or other arguments do not fit together.
        DataError: a task is empty, or has examples that are longer than the longest bucket.

    Example:
        ```python
        import itertools

        import numpy as np
        from keras_mtl import ArraySource, Bucket, Mixture, TaskInfo, schedules

        sizes = {"digits": 900, "letters": 100}
        sources = [ArraySource(name, {"x": np.ones((size, 8))}) for name, size in sizes.items()]
        tasks = [TaskInfo(name, size, baseline=0.9) for name, size in sizes.items()]
        schedule = schedules.create("inverse_ratio", tasks)
        mixture = Mixture(sources, schedule, [Bucket(length=1, rows=32)], seed=1)
        for batch in itertools.islice(mixture.batches(), 200):
            batch.arrays["x"]  # float64[32, 8], of task batch.task
            step = batch.step + 1
            if step == 100:  # After validation:
                mixture.adaptive.enter_scores(step, {"digits": 0.8, "letters": 0.3})
                mixture.update(step)
        mixture.probabilities(200)  # Most batches are now of letters.
        ```
    """

    def __init__(
        self,
        sources: Sequence[TaskSource],
        schedule: Schedule | AdaptiveState,
        buckets: Sequence[Bucket] | PackedShape,
        seed: int,
        granularity: str = "batch",
        *,
        draw: str = "random",
        pool_examples: int | None = None,
        application: str | None = None,
        log_steps: int = 2048,
        fingerprints: bool = False,
    ) -> None:
        self.adaptive = schedule if isinstance(schedule, AdaptiveState) else AdaptiveState(schedule)
        self.task_names = tuple(source.name for source in sources)
        check_tasks(self.task_names, self.adaptive.task_names)
        check_choice("granularity", granularity, GRANULARITIES)
        check_choice("draw", draw, DRAWS)
        if application is not None:
            check_choice("application", application, APPLICATIONS)
        self.spec: ExampleSpec = common_spec(sources)
        self.buckets: tuple[Bucket | PackedShape, ...]
        self.granularity = granularity
        self.application = application
        self._sources = tuple(sources)
        pairs = PairSources.of(sources)
        limits = self.schedule.max_epochs
        self._draws = make_draws(
            sources, pairs, buckets, seed, granularity, draw, pool_examples, limits
        )
        self._read: Callable[[int, PlannedBatch, np.ndarray | None], Batch]
        if isinstance(buckets, PackedShape):
            assert pairs is not None  # make_draws has checked it.
            self.buckets = (buckets,)
            self.spec = packed_spec(buckets)
            self._read = functools.partial(read_packed_batch, pairs, buckets)
        else:
            self.buckets = tuple(buckets)
            self._read = functools.partial(read_batch, self._sources, pairs, self.spec)
        self._dataset_steps: set[int | None] = set()
        # Whether iterations of `dataset(steps=...)` count themselves as consumed.
        self._iterations_count = True
        self._log_steps = max(2, log_steps)  # A batch needs the places before and after it.
        self._lock = threading.RLock()
        # The place before the batch of each step from _first to _last.
        self._places: dict[int, Place] = {}
        self._first = self._last = 0
        # (step, task, hash) by step, for batches that were yielded and not taken yet.
        self._fingerprints: dict[int, tuple[int, int, str]] | None = {} if fingerprints else None
        # Changes when batches that were produced ahead become invalid.
        self._generation = 0
        self._start(0, self._draws.first())

    @property
    def schedule(self) -> Schedule:
        """The schedule; its state is in `adaptive`."""
        return self.adaptive.schedule

    @property
    def _packed(self) -> bool:
        return isinstance(self.buckets[0], PackedShape)

    @property
    def scaling(self) -> bool:
        """Whether the factors of the schedule can differ from 1."""
        return self.schedule.scaling

    @property
    def step(self) -> int:
        """Number of batches consumed at the last `update`, `restore`, `finish` or iteration."""
        return self._step

    @property
    def dataset_steps(self) -> frozenset[int | None]:
        """The `steps` of the datasets made so far, None for an endless dataset."""
        return frozenset(self._dataset_steps)

    def probabilities(self, step: int) -> np.ndarray:
        """Returns the probabilities of the tasks at `step`, float64[N]."""
        with self._lock:
            return self._probabilities(step, self._at(step))

    def scales(self, step: int) -> np.ndarray:
        """Returns the factor of each task's update at `step`, float64[N], mean 1."""
        with self._lock:
            self._follow(step, self._at(step))
            return self.adaptive.scales(step)

    def upcoming_tasks(self, start_step: int, count: int) -> np.ndarray:
        """Returns the tasks of `count` batches from a step on, without reading them.

        Returns:
            int32[count], -1 with granularity `example`; valid until the schedule is updated.
        """
        with self._lock:
            place = self._at(start_step)
            tasks = np.empty(count, np.int32)
            for number in range(count):
                step = start_step + number
                probabilities = self._probabilities(step, place)
                planned, place = self._draws.advance(step, probabilities, place)
                tasks[number] = planned.task
            return tasks

    def batches(
        self,
        start_step: int | None = None,
        rows: Callable[[int], np.ndarray] | None = None,
    ) -> Iterator[Batch]:
        """Yields the batches from a step on, without end.

        After an `update` that changed the schedule, an iterator that is exactly at that step
        continues with the new schedule.

        Args:
            start_step: number of batches consumed before; None means `step`.
            rows: function from the number of rows of a batch to the rows to read, int[...]; the
                other rows remain 0. None reads all rows, as does a mixture with fingerprints.

        Raises:
            StaleIteratorError: the iterator is behind or ahead of the step at which `update` or
                `restore` changed the mixture; make a new one.
        """
        with self._lock:
            step = self._step if start_step is None else start_step
            generation = self._generation
        while True:
            with self._lock:
                if generation != self._generation and step != self._step:
                    raise StaleIteratorError(
                        f"this iterator is at step {step}, but the mixture was updated or restored "
                        f"at step {self._step}; make a new iterator from there"
                    )
                generation = self._generation
                planned = self._plan(step)
            partly = rows is not None and self._fingerprints is None
            wanted = rows(planned.bucket.rows) if rows and partly else None
            batch = self._read(step, planned, wanted)
            if self._fingerprints is not None:
                fingerprint = (step, batch.task, batch.fingerprint())
                with self._lock:
                    # An update in the meantime has already made this batch invalid.
                    if generation == self._generation:
                        self._fingerprints[step] = fingerprint
            yield batch
            step += 1

    def state(self, step: int | None = None) -> dict[str, np.ndarray]:
        """Returns the state from which `restore` continues after `step` consumed batches.

        Args:
            step: number of batches consumed; None means the attribute `step`. Batches produced
                ahead have no effect. The scores are the current ones.

        Returns:
            A flat dict of new int64, float64, uint8 and string arrays.

        Raises:
            ValueError: `step` is more than `log_steps` behind the last produced batch.
        """
        with self._lock:
            step = self._step if step is None else step
            place = self._at(step)
            names = json.dumps(self.task_names).encode()
            self._follow(step, place)
            state: dict[str, np.ndarray] = {
                "step": np.array(step, np.int64),
                "task_names": np.frombuffer(names, np.uint8),
                "example_granularity": np.array(self.granularity == "example", np.int64),
                **self._draws.save(place),
                **self.adaptive.schedule_state(step),
                **self.adaptive.score_state(),
            }
            if self._packed:
                state["packed"] = np.array(1, np.int64)
            return {key: value.copy() for key, value in state.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> str | None:
        """Restores a state; iterators made before become invalid.

        Tasks are matched by name: known tasks keep their position and their schedule state, new
        tasks start from the beginning, and removed tasks are dropped. If the examples or batch
        shapes of a task have changed, it continues with its next epoch, and a warning is logged.

        Args:
            state: from `state`, or of a checkpoint (`keras_mtl.data.mixture_state`). Older
                versions saved no scores; then the current scores stay.

        Returns:
            A message for the user if the saved scores are of another metric and were dropped; None
            if they were kept.

        Raises:
            CheckpointError: the state is damaged, or its granularity is different, or only one of
                the two has packed rows.
        """
        values = {key: np.asarray(value) for key, value in state.items()}
        try:
            step = int(values["step"])
            names = json.loads(values["task_names"].astype(np.uint8).tobytes())
            example = bool(values["example_granularity"])
            if example != (self.granularity == "example"):
                raise CheckpointError(
                    f"the saved mixture has granularity {GRANULARITIES[example]!r}, but this one "
                    f"has {self.granularity!r}, and reading positions cannot be converted; keep "
                    "the granularity or start a new run"
                )
            if bool(values.get("packed", False)) != self._packed:
                kinds = ("one example in a row", "several examples in a row")
                raise CheckpointError(
                    f"the saved mixture has {kinds[not self._packed]}, this one has "
                    f"{kinds[self._packed]}: their places cannot be converted; leave packing as "
                    "it was or start a new run"
                )
            index_map = task_index_map(names, self.task_names)
            place, same = self._draws.load(values, index_map)
        except (KeyError, IndexError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise CheckpointError(
                f"the saved mixture is damaged ({type(error).__name__}: {error}); resume from "
                "an earlier checkpoint"
            ) from error
        with self._lock:
            self.adaptive.load_schedule(values, index_map)
            forgotten = None
            if self.adaptive.has_scores(values):
                forgotten = self.adaptive.load_scores(values, index_map)
            self._generation += 1
            self._places.clear()
            self._first = step
            self._start(step, place)
        for task in np.flatnonzero((index_map >= 0) & ~same):
            _LOGGER.warning(
                "task %r: its examples, seed or batch shapes changed since the checkpoint; it "
                "continues with a new epoch",
                self.task_names[task],
            )
        return forgotten

    def update(self, step: int) -> bool:
        """Lets the schedule learn from the scores and losses in `adaptive`.

        Args:
            step: number of batches consumed.

        Returns:
            True if draws may change. Batches after `step` that were produced ahead are then
            invalid, and dataset iterators must be made again.
        """
        with self._lock:
            place = self._at(step)
            # First, whatever has been produced ahead, so that the order is always the same.
            self._follow(step, place)
            if not self.adaptive.update(step):
                self._step = step
                return False
            self._generation += 1
            self._start(step, place)
            return True

    def consumed(self, state: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns how many batches (or examples) of each task a state has consumed, int64[N]."""
        counts = np.array(state["cursors"], np.int64)
        if self.granularity == "example":
            counts -= np.bincount(state["pool_left"][:, 0], minlength=len(counts))
        return counts

    def passes(self, step: int | None = None) -> np.ndarray:
        """Returns the passes over the data of each task before `step`, float64[N]."""
        with self._lock:
            return self._draws.passes(self._at(self._step if step is None else step))[0]

    def take_fingerprints(self, consumed: int) -> list[tuple[int, int, str]]:
        """Returns (step, task, hash) of the batches before step `consumed`, each once.

        Raises:
            ValueError: the mixture was created without `fingerprints=True`.
        """
        if self._fingerprints is None:
            raise ValueError("no fingerprints were kept; create the Mixture with fingerprints=True")
        with self._lock:
            steps = sorted(step for step in self._fingerprints if step < consumed)
            return [self._fingerprints.pop(step) for step in steps]

    def padding_waste(self, step: int | None = None) -> float:
        """Returns the share of padding among all computed elements, in [0, 1).

        With granularity `batch`, this is the expectation under the probabilities at `step`, exact
        over whole epochs of each task. With `example`, it is the share in the pool at `step`.
        """
        with self._lock:
            step = self._step if step is None else step
            place = self._at(step)
            probabilities = self._probabilities(step, place)
            return float(self._draws.padding_waste(probabilities, place))

    def dataset(
        self,
        start_step: int | None = None,
        *,
        steps: int | None = None,
        replicas: int = 1,
        parts: range | None = None,
        map_fn: Callable[[dict[str, Any]], Any] | None = None,
        prefetch: int = 4,
    ) -> "tf.data.Dataset":
        """Returns the batches as a `tf.data.Dataset`.

        Each element is a dict of the arrays of a batch, "task" int32[rows], "weight" float32[rows]
        and "step" int64[]. The weight is 0 in empty rows and 1 in all others; with
        `application="gradient"` it is multiplied by the factor of the task. Packed rows have a
        task and a weight for each target token, [rows, target length]. With R replicas, each step
        yields R elements that share its rows evenly, as
        `strategy.distribute_datasets_from_function` needs.

        Without `steps` the dataset is endless. Make a new iterator after an `update` that returned
        True: the old one yields its prefetched elements and then fails. With `steps` each iteration
        yields that number of steps and the next one continues from there, as
        `model.fit(..., epochs=E)` needs; update the schedule between epochs.

        Args:
            start_step: number of batches consumed before; None means `step` at the begin of each
                iteration. Not together with `steps`.
            steps: number of steps of one iteration, >= 2; None means endless.
            replicas: number of replicas; must divide the rows of every bucket.
            parts: the replicas that read this dataset, a range within [0, replicas); None means
                all. Each of several processes reads only its own rows.
            map_fn: TensorFlow function that maps an element, for example to (inputs, labels,
                weights).
            prefetch: number of elements to prefetch.

        Raises:
            ConfigError: arguments do not fit together, or do not fit the buckets.
        """
        from keras_mtl.data.mixture_dataset import make_dataset

        dataset = make_dataset(self, start_step, steps, replicas, parts, map_fn, prefetch)
        self._dataset_steps.add(steps)
        return dataset

    def finish(self, step: int) -> None:
        """Records that `step` batches are consumed, without an update.

        From now on, iterations of `dataset(steps=...)` no longer count as consumed when their last
        batch is produced: the caller counts the batches that training has really consumed.
        """
        with self._lock:
            self._iterations_count = False
            self._at(step)
            self._step = step

    def end_iteration(self, step: int) -> None:
        """Counts as consumed an iteration of `dataset(steps=...)` that ends at `step`."""
        with self._lock:
            if self._iterations_count:
                self._at(step)
                self._step = step

    def _start(self, step: int, place: Place) -> None:
        """Makes `place` the place at `step`, and drops the places after it."""
        for later in range(step + 1, self._last + 1):
            self._places.pop(later, None)
        self._places[step] = place
        self._last = step
        self._step = step
        if self._fingerprints is not None:
            for later in [key for key in self._fingerprints if key >= step]:
                del self._fingerprints[later]

    def _at(self, step: int) -> Place:
        """Returns the place before the batch of `step`."""
        if step < self._first:
            raise ValueError(
                f"step {step} is too far back: the mixture has produced batches up to step "
                f"{self._last} and keeps the places from step {self._first} on; raise log_steps"
            )
        while self._last < step:
            self._plan(self._last)
        return self._places[step]

    def _follow(self, step: int, place: Place) -> None:
        """Lets the schedule follow what was drawn before `step`, unless it knows that already."""
        if self.schedule.uses_progress and step >= self._last:
            self.adaptive.advance(step, *self._draws.passes(place))

    def _probabilities(self, step: int, place: Place) -> np.ndarray:
        self._follow(step, place)
        return self.adaptive.probabilities(step)

    def _plan(self, step: int) -> PlannedBatch:
        """Returns the batch of `step` and keeps the place after it."""
        place = self._at(step)
        planned, after = self._draws.advance(step, self._probabilities(step, place), place)
        if step == self._last:
            self._places[step + 1] = after
            self._last = step + 1
            if len(self._places) > self._log_steps:
                del self._places[self._first]
                self._first += 1
                self.adaptive.forget_before(self._first)
        return planned
