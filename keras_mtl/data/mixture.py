"""The mixture of tasks: a schedule, a plan of batches for each task, and exact reading state.

Nothing here assumes text: a batch is named arrays of equal first dimension.
"""

import dataclasses
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_mtl.data.batch_plan import Bucket
from keras_mtl.data.draws import DRAWS, BatchDraws, BlendedDraws, ExampleDraws, Request
from keras_mtl.data.task_sources import ExampleSpec, TaskSource
from keras_mtl.errors import CheckpointError, ConfigError, nearest
from keras_mtl.schedules.base import Schedule, State, task_index_map
from keras_mtl.schedules.score_book import ScoreBook

if TYPE_CHECKING:
    import tensorflow as tf

_LOGGER = logging.getLogger(__name__)
_GRANULARITIES = ("batch", "example")
#: Elements that ``Mixture.dataset`` adds to the arrays of a batch.
RESERVED_NAMES = ("task", "weight", "step")


class StaleIteratorError(RuntimeError):
    """An iterator was asked for batches after the mixture left the state that it had read from."""


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """The batch of one training step.

    Attributes:
      step: number of batches before it.
      task: index of its task; -1 when its rows are of several tasks.
      arrays: by name, [rows, ...]; text is int32[rows, length], padded with 0.
      tasks: int32[rows], task of each row; in empty rows the batch's task (0 when mixed).
      rows_used: rows that hold an example, the first ones; the others are all 0.
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
        """Returns a hash (32 hexadecimal digits) of task and content, not of the step."""
        digest = hashlib.blake2b(f"{self.task}:{self.rows_used}".encode(), digest_size=16)
        for name, array in sorted({**self.arrays, "task": self.tasks}.items()):
            digest.update(f"{name}:{array.dtype.str}:{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


class Mixture:
    """Batches of many tasks in the proportions of a schedule.

    The batch of step s is a function of (seed, schedule state, batches consumed of each task, and
    with ``draw="blend"`` each task's credit), so a run that was stopped resumes with the same
    batches as without the stop. Methods may be called from several threads; reading ahead never
    disturbs ``state``.

    Args:
      sources: the tasks' examples, in the schedule's order; names are unique.
      schedule: decides each draw; it has the same tasks.
      buckets: shapes of batches by increasing length.
      seed: seed of draws and shuffling.
      granularity: ``batch``: each batch is of one task. ``example``: batches are mixed; examples
        are drawn by the probabilities at the first step of a pool of some thousand examples, so a
        schedule update acts from the next pool on.
      draw: ``random``, or ``blend``: no chance, the next batch is of the task that is furthest
        behind its share; with ``example``, each pool holds every task's share.
      pool_examples: examples of a pool; None takes 32 batches of the middle bucket.
      log_steps: how many steps back (counting from the batch produced last) ``state`` can look.
      fingerprints: hash every batch that is handed out, for ``take_fingerprints``.

    Raises:
      ConfigError: tasks, schedule, names or granularity do not fit each other.
      DataError: a task is empty or has examples longer than the longest bucket.
    """

    def __init__(
        self,
        sources: Sequence[TaskSource],
        schedule: Schedule,
        buckets: Sequence[Bucket],
        seed: int,
        granularity: str = "batch",
        *,
        draw: str = "random",
        pool_examples: int | None = None,
        log_steps: int = 2048,
        fingerprints: bool = False,
    ) -> None:
        self.task_names = tuple(source.name for source in sources)
        if len(sources) != schedule.num_tasks or len(set(self.task_names)) != len(sources):
            raise ConfigError(
                f"the mixture has tasks {list(self.task_names)}, its schedule "
                f"{schedule.num_tasks} tasks; give the same number, at least one, with unique names"
            )
        expected = tuple(task.name for task in schedule.tasks)
        if expected != self.task_names:
            raise ConfigError(
                f"the mixture has tasks {list(self.task_names)}, its schedule {list(expected)}; "
                "give both the same names in the same order"
            )
        if granularity not in _GRANULARITIES:
            raise ConfigError(
                f"granularity is {granularity!r}{nearest(granularity, _GRANULARITIES)}; it must "
                f"be one of {', '.join(_GRANULARITIES)}"
            )
        self.spec: ExampleSpec = sources[0].spec
        if draw not in DRAWS:
            raise ConfigError(
                f"draw is {draw!r}{nearest(draw, DRAWS)}; it must be one of {', '.join(DRAWS)}"
            )
        for source in sources:
            if source.spec != self.spec:
                raise ConfigError(
                    f"task {source.name!r} has examples {source.spec}, task "
                    f"{self.task_names[0]!r} has {self.spec}; all tasks need the same arrays"
                )
        clash = sorted(set(RESERVED_NAMES) & set(self.spec))
        if clash:
            raise ConfigError(f"an array may not be called {clash[0]!r}; rename it")
        self._sources = tuple(sources)
        self._schedule = schedule
        #: Steps of the finite datasets that were made, None for an endless one.
        self.dataset_steps: set[int | None] = set()
        self.buckets = tuple(buckets)
        self.granularity = granularity
        self._draws: Any
        if granularity == "example":
            self._draws = ExampleDraws(sources, buckets, seed, pool_examples, draw)
        else:
            self._draws = (BlendedDraws if draw == "blend" else BatchDraws)(sources, buckets, seed)
        #: Multiply the weights of `dataset` by the schedule's factor of each row's task.
        self.scale_weights = False
        #: Count the batches of an iteration of ``dataset(steps=...)`` as consumed when its last one
        #: is made; whoever calls `finish` for what was really consumed turns it off.
        self.count_iterations = True
        self._log_steps = max(2, log_steps)  # one batch needs the states before and after it
        self._lock = threading.RLock()
        # (schedule state, place) before the batch of each step from _first to _last.
        self._log: dict[int, tuple[State, Any]] = {}
        self._first = self._last = 0
        # (step, task, hash) by step of what was handed out and not taken yet.
        self._fingerprints: dict[int, tuple[int, int, str]] | None = {} if fingerprints else None
        # Changes when batches that were produced ahead became invalid.
        self._generation = 0
        self._start(0, schedule.init(), self._draws.first())

    @property
    def schedule(self) -> Schedule:
        """The schedule; its state is the mixture's own."""
        return self._schedule

    @property
    def scaling(self) -> bool:
        """Whether the schedule has factors on updates that are ever other than 1."""
        return self._schedule.scaling

    @property
    def step(self) -> int:
        """Batches consumed by the last ``update``, ``restore`` or finished epoch."""
        return self._step

    def probabilities(self, step: int) -> np.ndarray:
        """Returns float64[N], the schedule's probabilities at `step`."""
        with self._lock:
            return self._schedule.probabilities(step, self._at(step)[0])

    def scales(self, step: int) -> np.ndarray:
        """Returns float64[N], the schedule's factors on each task's update at `step`."""
        with self._lock:
            return self._schedule.scales(step, self._at(step)[0])

    def upcoming_tasks(self, start_step: int, count: int) -> np.ndarray:
        """Returns int32[count], the tasks of the batches from a step on; nothing is read.

        They hold until the schedule is updated. With granularity ``example`` every task is -1.
        """
        with self._lock:
            schedule_state, place = self._at(start_step)
            tasks = np.empty(count, np.int32)
            for number in range(count):
                step = start_step + number
                probabilities = self._schedule.probabilities(step, schedule_state)
                request, place = self._draws.advance(step, probabilities, place)
                tasks[number] = request.task
            return tasks

    def batches(self, start_step: int | None = None) -> Iterator[Batch]:
        """Yields the batches from a step on, without end.

        After an ``update`` that changed the schedule, an iterator that is exactly at that step
        continues with the new schedule.

        Args:
          start_step: number of batches consumed before; None takes ``step``.

        Raises:
          StaleIteratorError: the iterator is asked for more after ``update`` or ``restore`` made
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
                request = self._draw(step)
            batch = self._read(step, request)
            if self._fingerprints is not None:
                fingerprint = (step, batch.task, batch.fingerprint())
                with self._lock:
                    # An update in the meantime has already made this batch invalid.
                    if generation == self._generation:
                        self._fingerprints[step] = fingerprint
            yield batch
            step += 1

    def state(self, step: int | None = None) -> dict[str, np.ndarray]:
        """Returns what ``restore`` needs to continue after `step` consumed batches.

        Args:
          step: consumed batches; None takes ``step``. Batches produced ahead do not matter.

        Returns:
          A flat dict of int64, float64 and uint8 arrays, none of them written to afterwards.

        Raises:
          ValueError: `step` is too far behind the batch produced last.
        """
        with self._lock:
            step = self._step if step is None else step
            schedule_state, place = self._at(step)
            names = json.dumps(self.task_names).encode()
            state = {
                "step": np.array(step, np.int64),
                "task_names": np.frombuffer(names, np.uint8),
                "example_granularity": np.array(self.granularity == "example", np.int64),
                **self._draws.save(place),
                **{f"schedule/{key}": value for key, value in schedule_state.items()},
            }
            return {key: value.copy() for key, value in state.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes back to a state; iterators made before become invalid.

        Tasks are matched by name: remaining tasks keep their position and their schedule state, new
        tasks start from the beginning, and the others are forgotten. A task whose examples or
        shapes changed continues with its next epoch, and a warning is logged.

        Args:
          state: from ``state``.

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
        saved = {
            key.removeprefix("schedule/"): value
            for key, value in values.items()
            if key.startswith("schedule/")
        }
        schedule_state = self._schedule.remap(saved, index_map)
        for task in np.flatnonzero((index_map >= 0) & ~same):
            _LOGGER.warning(
                "task %r: its examples, seed or batch shapes changed since the checkpoint; it "
                "continues with a new epoch",
                self.task_names[task],
            )
        with self._lock:
            self._generation += 1
            self._log.clear()
            self._first = step
            self._start(step, schedule_state, place)

    def update(self, step: int, score_book: ScoreBook) -> bool:
        """Lets the schedule learn the scores known after `step` consumed batches.

        Args:
          step: consumed batches.
          score_book: latest scores, tasks in the mixture's order.

        Returns:
          True when the schedule's state changed: batches past `step` that were produced ahead are
          invalid, and a dataset iterator must be made again. False when they stay as they are.
        """
        with self._lock:
            before, place = self._at(step)
            after = self._schedule.update(before, step, score_book)
            if _equal(before, after):
                self._step = step
                return False
            self._generation += 1
            self._start(step, after, place)
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
          ValueError: the mixture was made without ``fingerprints=True``.
        """
        if self._fingerprints is None:
            raise ValueError("no fingerprints were kept; make the Mixture with fingerprints=True")
        with self._lock:
            steps = sorted(step for step in self._fingerprints if step < consumed)
            return [self._fingerprints.pop(step) for step in steps]

    def padding_waste(self, step: int | None = None) -> float:
        """Returns the share of padding among the cells that are computed, in [0, 1).

        ``batch``: expected under the probabilities at `step`, exact over whole epochs of each task.
        ``example``: of the pool at `step`.
        """
        with self._lock:
            step = self._step if step is None else step
            schedule_state, place = self._at(step)
            probabilities = self._schedule.probabilities(step, schedule_state)
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
        """Returns the batches as a ``tf.data.Dataset``.

        An element is a dict of the batch's arrays, "task" int32[rows], "weight" float32[rows]
        (0 in empty rows; with ``scale_weights`` the factor of the row's task in the others) and
        "step" int64[]. With R replicas, each step gives R elements that share
        its rows evenly: what ``strategy.distribute_datasets_from_function`` hands out.

        Without `steps` it is endless: make a new iterator after an ``update`` that returned True
        (the old one gives what it holds ready and then fails).
        With `steps` each iteration gives that number of steps, and the next one continues after
        them, as ``model.fit(..., epochs=E)`` needs; update the schedule between epochs.

        Args:
          start_step: number of batches consumed before; None takes ``step`` whenever an iteration
            begins. Not together with `steps`.
          steps: steps of one iteration, >= 2; None for no end.
          replicas: divides the rows of every bucket.
          map_fn: maps an element in TensorFlow, for example to (inputs, labels, weights).
          prefetch: elements to hold ready.

        Raises:
          ConfigError: arguments do not fit each other or the buckets.
        """
        from keras_mtl.data.mixture_dataset import make_dataset

        return make_dataset(self, start_step, steps, replicas, map_fn, prefetch)

    def finish(self, step: int) -> None:
        """Tells that `step` batches are consumed, without scores."""
        with self._lock:
            self._at(step)
            self._step = step

    def _start(self, step: int, schedule_state: State, place: Any) -> None:
        """Makes (schedule state, place) the state at `step`; forgets what is behind `step`."""
        for later in range(step + 1, self._last + 1):
            self._log.pop(later, None)
        self._log[step] = (schedule_state, place)
        self._last = step
        self._step = step
        if self._fingerprints is not None:
            for later in [key for key in self._fingerprints if key >= step]:
                del self._fingerprints[later]

    def _at(self, step: int) -> tuple[State, Any]:
        """Returns (schedule state, place) before the batch of `step`."""
        if step < self._first:
            raise ValueError(
                f"step {step} is too far back: the mixture has produced batches up to step "
                f"{self._last} and remembers steps from {self._first} on; raise log_steps"
            )
        while self._last < step:
            self._draw(self._last)
        return self._log[step]

    def _draw(self, step: int) -> Request:
        """Returns the request of `step` and logs the state after it."""
        schedule_state, place = self._at(step)
        probabilities = self._schedule.probabilities(step, schedule_state)
        request, after = self._draws.advance(step, probabilities, place)
        if step == self._last:
            self._log[step + 1] = (schedule_state, after)
            self._last = step + 1
            if len(self._log) > self._log_steps:
                del self._log[self._first]
                self._first += 1
        return request

    def _read(self, step: int, request: Request) -> Batch:
        """Reads the examples of a request and pads them to the bucket's shape."""
        bucket = request.bucket
        used = len(request.indices)
        tasks = np.full(bucket.rows, max(request.task, 0), np.int32)
        tasks[:used] = request.tasks
        if request.task >= 0 and used == bucket.rows:
            arrays = self._sources[request.task].gather(request.indices, bucket.length)
            return Batch(step, request.task, arrays, tasks, used)
        arrays = {
            name: np.zeros(
                (bucket.rows, *(bucket.length if size is None else size for size in shape)), dtype
            )
            for name, (dtype, shape) in self.spec.items()
        }
        for task in np.unique(request.tasks).tolist():
            rows = np.flatnonzero(request.tasks == task)
            part = self._sources[task].gather(request.indices[rows], bucket.length)
            for name, array in arrays.items():
                array[rows] = part[name]
        return Batch(step, request.task, arrays, tasks, used)


def _equal(first: State, second: State) -> bool:
    """Whether two schedule states are bit for bit the same, NaN included."""
    return first.keys() == second.keys() and all(
        np.asarray(first[key]).tobytes() == np.asarray(second[key]).tobytes() for key in first
    )
