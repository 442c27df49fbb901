"""The mixture of tasks: a schedule, a plan of batches for each task, and exact reading state.

Nothing here assumes text: a batch is named arrays of equal first dimension.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_mtl.data.batch_draws import BatchDraws, BlendedDraws
from keras_mtl.data.batch_plan import Bucket
from keras_mtl.data.draws import DRAWS, Draws, Place, PlannedBatch
from keras_mtl.data.mixture_batch import Batch, StaleIteratorError, read_batch
from keras_mtl.data.pools import PooledDraws
from keras_mtl.data.task_sources import ExampleSpec, TaskSource
from keras_mtl.errors import CheckpointError, ConfigError, nearest
from keras_mtl.schedules.adaptive_state import AdaptiveState, score_arrays, with_prefix
from keras_mtl.schedules.base import APPLICATIONS, Schedule
from keras_mtl.schedules.tasks import task_index_map

if TYPE_CHECKING:
    import tensorflow as tf

_LOGGER = logging.getLogger(__name__)
_GRANULARITIES = ("batch", "example")
#: Elements that `Mixture.dataset` adds to the arrays of a batch.
RESERVED_NAMES = ("task", "weight", "step")


class Mixture:
    """Batches of many tasks in the proportions of a schedule.

    The batch of step s is a function of (seed, schedule state, batches consumed of each task, and
    with `draw="blend"` each task's credit), so a run that was stopped resumes with the same
    batches as without the stop. Methods may be called from several threads; reading ahead never
    disturbs `state`.

    Args:
        sources: the tasks' examples, in the schedule's order; names are unique.
        schedule: decides each draw; it has the same tasks. An `AdaptiveState` holds a schedule and
            also says what its scores are.
        buckets: shapes of batches by increasing length.
        seed: seed of draws and shuffling.
        granularity: `batch`: each batch is of one task. `example`: batches are mixed; examples
            are drawn by the probabilities at the first step of a pool of some thousand examples, so
            a schedule update acts from the next pool on.
        draw: `random`, or `blend`: no chance, the next batch is of the task that is furthest
            behind its share; with `example`, each pool holds every task's share.
        pool_examples: examples of a pool; None takes 32 batches of the middle bucket.
        application: what the factors of an implicit schedule multiply in `model.fit`.
            `gradient`: the `weight` of each row of `dataset`, which `map_fn` must pass to the
            model as sample weight. `learning_rate`: the learning rate, which `TaskScheduling`
            sets.
            None: nothing here; for a schedule without factors, or a loop that applies them itself.
        log_steps: how many steps back (counting from the batch produced last) `state` can look.
        fingerprints: hash every batch that is handed out, for `take_fingerprints`.

    Attributes:
        adaptive: the schedule with its state and its scores.
        task_names: names of the tasks.
        spec: dtype and shape of each array of an example.
        buckets, granularity, application: as given.

    Raises:
        ConfigError: tasks, schedule, names or another argument do not fit each other.
        DataError: a task is empty or has examples longer than the longest bucket.

    Example::

        sources = [ArraySource("a", {"x": x_a}), ArraySource("b", {"x": x_b})]
        tasks = [TaskInfo(source.name, source.size, baseline=0.9) for source in sources]
        schedule = create("inverse_ratio", tasks)
        mixture = Mixture(sources, schedule, [Bucket(length=1, rows=32)], seed=1)
        for batch in mixture.batches():
            train(batch.arrays["x"], batch.tasks)
            step = batch.step + 1
            if step % 100 == 0:
                mixture.adaptive.enter_scores(step, evaluate())
                mixture.update(step)
    """

    def __init__(
        self,
        sources: Sequence[TaskSource],
        schedule: Schedule | AdaptiveState,
        buckets: Sequence[Bucket],
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
        _check_tasks(self.task_names, self.adaptive.task_names)
        _check_choice("granularity", granularity, _GRANULARITIES)
        _check_choice("draw", draw, DRAWS)
        if application is not None:
            _check_choice("application", application, APPLICATIONS)
        _check_arrays(sources)
        self.spec: ExampleSpec = sources[0].spec
        self.buckets = tuple(buckets)
        self.granularity = granularity
        self.application = application
        self._sources = tuple(sources)
        self._draws: Draws[Any]
        if granularity == "example":
            self._draws = PooledDraws(sources, buckets, seed, pool_examples, draw)
        elif draw == "blend":
            self._draws = BlendedDraws(sources, buckets, seed)
        else:
            self._draws = BatchDraws(sources, buckets, seed)
        self._dataset_steps: set[int | None] = set()
        # Whether iterations of `dataset(steps=...)` count themselves as consumed.
        self._iterations_count = True
        self._log_steps = max(2, log_steps)  # One batch needs the places before and after it.
        self._lock = threading.RLock()
        # The place before the batch of each step from _first to _last.
        self._places: dict[int, Place] = {}
        self._first = self._last = 0
        # (step, task, hash) by step of what was handed out and not taken yet.
        self._fingerprints: dict[int, tuple[int, int, str]] | None = {} if fingerprints else None
        # Changes when batches that were produced ahead became invalid.
        self._generation = 0
        self._start(0, self._draws.first())

    @property
    def schedule(self) -> Schedule:
        """The schedule; its state is the mixture's own."""
        return self.adaptive.schedule

    @property
    def scaling(self) -> bool:
        """Whether the schedule has factors on updates that are ever other than 1."""
        return self.schedule.scaling

    @property
    def step(self) -> int:
        """Batches consumed by the last `update`, `restore`, `finish` or iteration."""
        return self._step

    @property
    def dataset_steps(self) -> frozenset[int | None]:
        """The `steps` of the datasets that were made, None for an endless one."""
        return frozenset(self._dataset_steps)

    def probabilities(self, step: int) -> np.ndarray:
        """Returns float64[N], the schedule's probabilities at `step`."""
        with self._lock:
            self._at(step)
            return self.adaptive.probabilities(step)

    def scales(self, step: int) -> np.ndarray:
        """Returns float64[N], the schedule's factors on each task's update at `step`."""
        with self._lock:
            self._at(step)
            return self.adaptive.scales(step)

    def upcoming_tasks(self, start_step: int, count: int) -> np.ndarray:
        """Returns int32[count], the tasks of the batches from a step on; nothing is read.

        They hold until the schedule is updated. With granularity `example` every task is -1.
        """
        with self._lock:
            place = self._at(start_step)
            tasks = np.empty(count, np.int32)
            for number in range(count):
                step = start_step + number
                probabilities = self.adaptive.probabilities(step)
                planned, place = self._draws.advance(step, probabilities, place)
                tasks[number] = planned.task
            return tasks

    def batches(self, start_step: int | None = None) -> Iterator[Batch]:
        """Yields the batches from a step on, without end.

        After an `update` that changed the schedule, an iterator that is exactly at that step
        continues with the new schedule.

        Args:
            start_step: number of batches consumed before; None takes `step`.

        Raises:
            StaleIteratorError: the iterator is asked for more after `update` or `restore` made
                what it had read ahead invalid; make a new one.
        """
        with self._lock:
            step = self._step if start_step is None else start_step
            generation = self._generation
        while True:
            with self._lock:
                if generation != self._generation and step != self._step:
                    raise StaleIteratorError(
                        f"this iterator stands at step {step}, the mixture was updated or restored "
                        f"at step {self._step}; make a new iterator from there"
                    )
                generation = self._generation
                planned = self._plan(step)
            batch = read_batch(self._sources, step, planned)
            if self._fingerprints is not None:
                fingerprint = (step, batch.task, batch.fingerprint())
                with self._lock:
                    # An update in the meantime has already made this batch invalid.
                    if generation == self._generation:
                        self._fingerprints[step] = fingerprint
            yield batch
            step += 1

    def state(self, step: int | None = None) -> dict[str, np.ndarray]:
        """Returns what `restore` needs to continue after `step` consumed batches.

        Args:
            step: consumed batches; None takes `step`. Batches produced ahead do not matter. The
                scores are those that are known now.

        Returns:
            A flat dict of new int64, float64, uint8 and string arrays.

        Raises:
            ValueError: `step` is too far behind the batch produced last.
        """
        with self._lock:
            step = self._step if step is None else step
            place = self._at(step)
            names = json.dumps(self.task_names).encode()
            state: dict[str, np.ndarray] = {
                "step": np.array(step, np.int64),
                "task_names": np.frombuffer(names, np.uint8),
                "example_granularity": np.array(self.granularity == "example", np.int64),
                **self._draws.save(place),
                **self.adaptive.schedule_state(step),
                **self.adaptive.score_state(),
            }
            return {key: value.copy() for key, value in state.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> str | None:
        """Goes back to a state; iterators made before become invalid.

        Tasks are matched by name: remaining tasks keep their position and their schedule state, new
        tasks start from the beginning, and the others are forgotten. A task whose examples or
        shapes changed continues with its next epoch, and a warning is logged.

        Args:
            state: from `state`, or from `checkpoint_state`. Older versions saved no scores in it;
                then the present scores stay.

        Returns:
            What to tell the user if the saved scores are of another metric and were forgotten; None
            if they were kept.

        Raises:
            CheckpointError: the state is damaged or of the other granularity.
        """
        values = {key: np.asarray(value) for key, value in state.items()}
        try:
            step = int(values["step"])
            names = json.loads(values["task_names"].astype(np.uint8).tobytes())
            example = bool(values["example_granularity"])
            if example != (self.granularity == "example"):
                raise CheckpointError(
                    f"the saved mixture has granularity {_GRANULARITIES[example]!r}, this one "
                    f"{self.granularity!r}: their places cannot be converted; keep the "
                    "granularity or start a new run"
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
        """Lets the schedule learn what `adaptive` holds after `step` consumed batches.

        Args:
            step: consumed batches.

        Returns:
            True if the schedule's state changed: batches past `step` that were produced ahead are
            invalid, and a dataset iterator must be made again. False if they stay as they are.
        """
        with self._lock:
            place = self._at(step)
            if not self.adaptive.update(step):
                self._step = step
                return False
            self._generation += 1
            self._start(step, place)
            return True

    def consumed(self, state: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns int64[N], what a state has consumed of each task: batches, or examples."""
        counts = np.array(state["cursors"], np.int64)
        if self.granularity == "example":
            counts -= np.bincount(state["pool_left"][:, 0], minlength=len(counts))
        return counts

    def take_fingerprints(self, consumed: int) -> list[tuple[int, int, str]]:
        """Returns (step, task, hash) of batches handed out before `consumed`, each once.

        Raises:
            ValueError: the mixture was made without `fingerprints=True`.
        """
        if self._fingerprints is None:
            raise ValueError("no fingerprints were kept; make the Mixture with fingerprints=True")
        with self._lock:
            steps = sorted(step for step in self._fingerprints if step < consumed)
            return [self._fingerprints.pop(step) for step in steps]

    def padding_waste(self, step: int | None = None) -> float:
        """Returns the share of padding among the cells that are computed, in [0, 1).

        `batch`: expected under the probabilities at `step`, exact over whole epochs of each task.
        `example`: of the pool at `step`.
        """
        with self._lock:
            step = self._step if step is None else step
            place = self._at(step)
            probabilities = self.adaptive.probabilities(step)
            return float(self._draws.padding_waste(probabilities, place))

    def dataset(
        self,
        start_step: int | None = None,
        *,
        steps: int | None = None,
        replicas: int = 1,
        map_fn: Callable[[dict[str, Any]], Any] | None = None,
        prefetch: int = 4,
    ) -> "tf.data.Dataset":
        """Returns the batches as a `tf.data.Dataset`.

        An element is a dict of the batch's arrays, "task" int32[rows], "weight" float32[rows]
        (0 in empty rows, 1 in the others; with `application="gradient"` the factor of the row's
        task in the others) and "step" int64[]. With R replicas, each step gives R elements that
        share its rows evenly: what `strategy.distribute_datasets_from_function` hands out.

        Without `steps` it is endless: make a new iterator after an `update` that returned True
        (the old one gives what it holds ready and then fails).
        With `steps` each iteration gives that number of steps, and the next one continues after
        them, as `model.fit(..., epochs=E)` needs; update the schedule between epochs.

        Args:
            start_step: number of batches consumed before; None takes `step` whenever an iteration
                begins. Not together with `steps`.
            steps: steps of one iteration, >= 2; None for no end.
            replicas: divides the rows of every bucket.
            map_fn: maps an element in TensorFlow, for example to (inputs, labels, weights).
            prefetch: elements to hold ready.

        Raises:
            ConfigError: arguments do not fit each other or the buckets.
        """
        from keras_mtl.data.mixture_dataset import make_dataset

        dataset = make_dataset(self, start_step, steps, replicas, map_fn, prefetch)
        self._dataset_steps.add(steps)
        return dataset

    def finish(self, step: int) -> None:
        """Says that `step` batches are consumed, without an update.

        From now on iterations of `dataset(steps=...)` do not count themselves as consumed when
        their last batch is made: the caller counts what training has really consumed.
        """
        with self._lock:
            self._iterations_count = False
            self._at(step)
            self._step = step

    def end_iteration(self, step: int) -> None:
        """Counts an iteration of `dataset(steps=...)` that ends at `step`; see `finish`."""
        with self._lock:
            if self._iterations_count:
                self._at(step)
                self._step = step

    def _start(self, step: int, place: Place) -> None:
        """Makes `place` the place at `step`; forgets what comes after `step`."""
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
                f"{self._last} and remembers steps from {self._first} on; raise log_steps"
            )
        while self._last < step:
            self._plan(self._last)
        return self._places[step]

    def _plan(self, step: int) -> PlannedBatch:
        """Returns the batch of `step` and keeps the place after it."""
        place = self._at(step)
        planned, after = self._draws.advance(step, self.adaptive.probabilities(step), place)
        if step == self._last:
            self._places[step + 1] = after
            self._last = step + 1
            if len(self._places) > self._log_steps:
                del self._places[self._first]
                self._first += 1
                self.adaptive.forget_before(self._first)
        return planned


def checkpoint_state(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Returns the state of a mixture from the arrays of a checkpoint, for `Mixture.restore`.

    Args:
        arrays: the arrays; the state is under `prefix`. Older versions saved the scores outside it.
        prefix: such as `mixture/`.
    """
    state = with_prefix(arrays, prefix)
    return state if AdaptiveState.has_scores(state) else {**score_arrays(arrays), **state}


def _check_tasks(names: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """Raises ConfigError unless the sources are the schedule's tasks, in its order."""
    if len(names) != len(expected) or len(set(names)) != len(names):
        raise ConfigError(
            f"the mixture has tasks {list(names)}, its schedule {len(expected)} tasks; give the "
            "same number, at least one, with unique names"
        )
    if names != expected:
        raise ConfigError(
            f"the mixture has tasks {list(names)}, its schedule {list(expected)}; give both the "
            "same names in the same order"
        )


def _check_choice(field: str, value: str, known: Sequence[str]) -> None:
    """Raises ConfigError unless the value of an argument is known."""
    if value not in known:
        raise ConfigError(f"{field} is {value!r}{nearest(str(value), known)}")


def _check_arrays(sources: Sequence[TaskSource]) -> None:
    """Raises ConfigError unless all sources have the same arrays, of names that are free."""
    spec = sources[0].spec
    for source in sources:
        if source.spec != spec:
            raise ConfigError(
                f"task {source.name!r} has examples {source.spec}, task {sources[0].name!r} has "
                f"{spec}; all tasks need the same arrays"
            )
    clash = sorted(set(RESERVED_NAMES) & set(spec))
    if clash:
        raise ConfigError(f"an array may not be called {clash[0]!r}; rename it")
