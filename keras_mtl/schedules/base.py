"""The base class of schedules: pure functions of the step and a small, flat state.

The interface follows optax's schedules and gradient transformations: because the state is explicit,
it can be saved, restored and compared without the object.
"""

import abc
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from keras_mtl.errors import CheckpointError, ConfigError
from keras_mtl.schedules.measure import Measure
from keras_mtl.schedules.registry import number
from keras_mtl.schedules.score_book import ScoreBook
from keras_mtl.schedules.tasks import TaskInfo, check_tasks

State = dict[str, np.ndarray]

#: What the factor of a task multiplies: its gradient (through a weight of its loss), or the
#: learning rate of its update.
APPLICATIONS = ("gradient", "learning_rate")


class Schedule(abc.ABC):
    """Decides how often each task is drawn, and how strongly its updates act.

    A subclass defines `name` and `weights`, and if it has state also `init` and `update`. Each
    array of the state is either a scalar (0-d) or has a leading axis of `num_tasks`; its dtype is
    float64 or int64. No method reads a clock, a global random generator or a file.

    Args:
        tasks: the tasks, N >= 1, with unique names.
        floor: least probability of every task, in [0, 1/N]; applied after normalization.

    Attributes:
        name: name under which the class is registered.
        tasks: the tasks.
        num_tasks: number of tasks, N.
        sizes: numbers of training examples, float64[N], read-only.
        floor: least probability of every task.
        adaptive: whether `update` changes the state.
        scaling: whether `scales` is ever other than 1.
        uses_scores: whether `update` reads validation scores.
        uses_losses: whether `update` reads training losses.
        uses_progress: whether `advance` changes the state.
        interval: training steps between calls of `update` in addition to those after each
            validation; 0 means that there are none. `next_update` gives the steps.
        measures: what training measures of the model before each of these calls; None: nothing.
        limitable: whether tasks may have limits, which change the probabilities.
        max_epochs: largest number of passes over the data of each task, float64[N], infinite
            without a limit; None if no task has one.

    Raises:
        ConfigError: if a parameter is out of range.

    Example:
        ```python
        from keras_mtl import TaskInfo, schedules

        @schedules.register
        class SquareRoot(schedules.Schedule):
            name = "square_root"

            def weights(self, step, state):
                return self.sizes**0.5

        tasks = [TaskInfo("en-fr", size=10_000), TaskInfo("en-oc", size=400)]
        schedule = schedules.create("square_root", tasks)
        probabilities = schedule.probabilities(0, schedule.init())  # 5/6 and 1/6
        schedules.sample(seed=1, step=0, probabilities=probabilities)  # index of a task
        ```
    """

    name: ClassVar[str]
    adaptive: bool = False
    scaling: bool = False
    uses_scores: bool = False
    uses_losses: bool = False
    uses_progress: bool = False
    interval: int = 0
    measures: Measure | None = None
    limitable: bool = True
    max_epochs: np.ndarray | None = None

    def __init__(self, tasks: Sequence[TaskInfo], *, floor: float = 0.0) -> None:
        check_tasks(tasks)
        self.tasks = tuple(tasks)
        self.num_tasks = len(self.tasks)
        self.sizes = np.array([task.size for task in self.tasks], np.float64)
        self.sizes.setflags(write=False)
        floor = number(self.name, "floor", floor, hint="the same for every task")
        # The slack allows for a rounded 1/N in a configuration.
        if not 0 <= floor <= (1 + 1e-9) / self.num_tasks:
            raise ConfigError(
                f"schedule {self.name!r}: floor = {floor} must be in [0, 1/{self.num_tasks}]: "
                f"{self.num_tasks} tasks cannot each have more than 1/{self.num_tasks}"
            )
        self.floor = min(floor, 1 / self.num_tasks)

    def init(self) -> State:
        """Returns the state at step 0."""
        return {}

    @abc.abstractmethod
    def weights(self, step: int, state: State) -> np.ndarray:
        """Returns the weights of the tasks before normalization.

        Args:
            step: number of batches drawn before this one, >= 0.
            state: from `init` or `update`.

        Returns:
            float64[N], >= 0 and finite. If all weights are 0, the probabilities are uniform. A
            schedule whose weights come from the user rejects such weights in its constructor.
        """

    def probabilities(self, step: int, state: State) -> np.ndarray:
        """Returns the probability of each task at `step`.

        Args:
            step: number of batches drawn before this one, >= 0.
            state: from `init` or `update`.

        Returns:
            float64[N], >= `floor`, sums to 1. Do not write to it.
        """
        return apply_floor(normalize(self.weights(step, state)), self.floor)

    def scales(self, step: int, state: State) -> np.ndarray:
        """Returns the factor of each task's learning rate or gradient, float64[N], mean 1."""
        del step, state
        return np.ones(self.num_tasks)

    def update(self, state: State, step: int, scores: ScoreBook) -> State:
        """Returns the state after the scores known at `step`; `state` itself does not change.

        Args:
            state: the state so far.
            step: number of batches consumed so far.
            scores: scores and losses of the same tasks in the same order.

        Returns:
            A new dict.
        """
        del step, scores
        return dict(state)

    def next_update(self, step: int) -> int | None:
        """Returns the next training step at which `update` is called in addition to validations.

        Args:
            step: number of training steps so far; -1 asks for step 0, too. With gradient
                accumulation, a training step takes several batches.

        Returns:
            A step above `step`; None if `interval` is 0.
        """
        if not self.interval:
            return None
        return (max(step, 0) // self.interval + 1) * self.interval

    def advance(self, state: State, step: int, consumed: np.ndarray, upcoming: np.ndarray) -> State:
        """Returns the state for the draw of `step`, after what has been drawn of each task.

        It is called before each draw, in the order of the steps; `state` itself does not change.

        Args:
            state: the state so far.
            step: number of batches drawn before this one.
            consumed: float64[N], passes over the data of each task so far.
            upcoming: float64[N], an upper bound of the passes after the next batch of each task;
                infinite for a task that has no next batch, because its limits have ended it.

        Returns:
            `state` itself if nothing has changed, else a new dict.
        """
        del step, consumed, upcoming
        return state

    def never_drawn(self) -> np.ndarray:
        """Returns which tasks have the probability 0 at every step, bool[N].

        Limits of tasks do not draw them in place of others. A task whose probability is 0 only at
        some steps is not one of them.
        """
        return np.zeros(self.num_tasks, bool)

    def check_limits(self, stop_at: np.ndarray, max_epochs: np.ndarray, first: int = 0) -> None:
        """Checks that the limits of tasks do not contradict the parameters.

        Args:
            stop_at: float64[N], number of batches from which on each task is not drawn; infinite
                without this limit.
            max_epochs: float64[N], largest number of passes over the data of each task; infinite
                without this limit.
            first: smallest number of batches before the schedule's first one.

        Raises:
            ConfigError: they do.
        """
        del stop_at, max_epochs, first

    def notes(self, step: int, state: State) -> list[str]:
        """Returns what a user should know of a state that training has reached, a line each.

        Args:
            step: number of batches drawn.
            state: the state at this step.
        """
        del step, state
        return []

    def same_draws(self, before: State, after: State) -> bool:
        """Returns whether two different states give the same probabilities and scales at any step.

        If so, batches that were produced ahead stay valid. A schedule whose updates often change
        only what it remembers may override this method.
        """
        del before, after
        return False

    def skip(self, state: State, scores: ScoreBook) -> State:
        """Returns the state after ignoring what the book holds; `piecewise` uses it.

        Only schedules that use differences since their last update need to override this method.
        """
        del scores
        return dict(state)

    def forget_scores(self, state: State) -> State:
        """Returns the state after the book dropped its scores because the metric has changed.

        Only schedules that compare scores with earlier ones need to override this method.
        """
        return state

    def remap(self, state: State, index_map: np.ndarray) -> State:
        """Converts a saved state, possibly of another schedule, to this schedule and its tasks.

        Known tasks keep their values, and new tasks start as in `init`. Entries that this schedule
        does not have are dropped, and missing entries start as in `init`. With the same schedule
        and tasks, the result equals `state` bit for bit.

        Args:
            state: the saved state.
            index_map: int64[N], the old index of each present task, -1 for a new one
                (from `keras_mtl.schedules.task_index_map`).

        Returns:
            A state of this schedule.

        Raises:
            CheckpointError: if an array is too short for the map.
        """
        index_map = np.asarray(index_map, np.int64)
        kept = index_map >= 0
        result = self.init()
        unchanged = np.array_equal(index_map, np.arange(self.num_tasks))
        for key, fresh in result.items():
            if key not in state or np.ndim(state[key]) != fresh.ndim:
                continue
            old = np.asarray(state[key], fresh.dtype)
            if fresh.ndim == 0:
                result[key] = old.copy()
                continue
            if len(old) <= index_map.max():
                raise CheckpointError(
                    f"schedule {self.name!r}: the saved {key!r} has {len(old)} tasks, but the "
                    f"saved list of tasks has at least {index_map.max() + 1}; the checkpoint is "
                    "damaged: resume from an earlier one"
                )
            unchanged = unchanged and len(old) == self.num_tasks
            fresh = fresh.copy()
            fresh[kept] = old[index_map[kept]]
            result[key] = fresh
        return result if unchanged else self.rebalance(result, kept)

    def rebalance(self, state: State, kept: np.ndarray) -> State:
        """Restores sums and means over tasks after tasks were added or removed.

        Args:
            state: state of this schedule, in which new tasks have the values of `init`.
            kept: bool[N], False for new tasks.

        Returns:
            A state of this schedule.
        """
        del kept
        return state


class FixedSchedule(Schedule):
    """Base class of schedules whose weights never change; a subclass passes them on.

    Args:
        tasks: the tasks.
        weights: float64[N], >= 0.
        floor: least probability of every task.
    """

    def __init__(
        self, tasks: Sequence[TaskInfo], weights: np.ndarray, *, floor: float = 0.0
    ) -> None:
        super().__init__(tasks, floor=floor)
        self._weights = np.array(weights, np.float64)
        self._probabilities = apply_floor(normalize(self._weights), self.floor)
        # Returned at every step without a copy.
        self._weights.setflags(write=False)
        self._probabilities.setflags(write=False)

    def weights(self, step: int, state: State) -> np.ndarray:
        """Returns the weights, the same at every step."""
        del step, state
        return self._weights

    def probabilities(self, step: int, state: State) -> np.ndarray:
        """Returns the probabilities, the same at every step; read-only."""
        del step, state
        return self._probabilities

    def never_drawn(self) -> np.ndarray:
        """Returns which tasks have the probability 0, bool[N]."""
        return self._probabilities == 0


def normalize(weights: np.ndarray) -> np.ndarray:
    """Returns weights divided by their sum; uniform if all are zero.

    Args:
        weights: float64[N], >= 0, finite.

    Returns:
        float64[N], sums to 1.

    Raises:
        ValueError: if a weight is negative, NaN or infinite, which is a bug of the schedule.
    """
    weights = np.asarray(weights, np.float64)
    largest = weights.max()
    if not (weights.min() >= 0 and largest < math.inf):
        raise ValueError(f"weights must be finite and >= 0, not {weights}")
    if largest == 0:
        return np.full(len(weights), 1 / len(weights))
    scaled = weights / largest  # Keeps the sum finite for any finite weights.
    return scaled / scaled.sum()


def apply_floor(probabilities: np.ndarray, floor: float) -> np.ndarray:
    """Raises probabilities below `floor` to it and scales the others down in proportion.

    Probabilities that are all >= `floor` are returned unchanged.

    Args:
        probabilities: float64[N], sums to 1.
        floor: in [0, 1/N].

    Returns:
        float64[N], >= floor, sums to 1.
    """
    if floor <= 0 or probabilities.min() >= floor:
        return probabilities
    raised = np.zeros(len(probabilities), bool)
    result = probabilities
    # Scaling may push another probability below the floor: at most N rounds, usually two.
    while not raised.all():
        below = ~raised & (result < floor)
        if not below.any():
            break
        raised |= below
        rest = probabilities[~raised].sum()
        share = (1 - floor * raised.sum()) / rest if rest > 0 else 0.0
        result = np.where(raised, floor, probabilities * share)
    if raised.all():  # floor = 1/N
        return np.full(len(probabilities), 1 / len(probabilities))
    return result
