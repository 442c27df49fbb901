"""What every schedule is: a pure function of the step and a small, flat state.

Reference for the shape of the interface: optax's schedules and gradient transformations, whose
state is explicit and therefore saved, restored and compared without help from the object.
"""

import abc
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from keras_mtl.errors import CheckpointError, ConfigError
from keras_mtl.schedules.registry import number
from keras_mtl.schedules.score_book import ScoreBook
from keras_mtl.schedules.tasks import TaskInfo, check_tasks

State = dict[str, np.ndarray]

#: What the factor of a task multiplies: its gradient (a weight of its loss), or the learning rate
#: of its gradient.
APPLICATIONS = ("gradient", "learning_rate")


class Schedule(abc.ABC):
    """Decides how often each task is drawn, and how strongly its updates act.

    A subclass gives `name` and `weights`, and if it has state also `init` and `update`. Each
    array of the state is either a scalar (0-d) or has a leading axis of `num_tasks`; dtypes are
    float64 and int64. Nothing reads a clock, a global generator or a file.

    Args:
        tasks: the tasks, N >= 1, with unique names.
        floor: least probability of every task, in [0, 1/N]; applied after normalization.

    Attributes:
        sizes: numbers of training examples, float64[N].

    Raises:
        ConfigError: if a parameter is out of range.
    """

    name: ClassVar[str]
    # Whether `update` does anything.
    adaptive: bool = False
    # Whether `scales` is ever other than 1.
    scaling: bool = False
    # Whether `update` reads validation scores, and whether it reads observed training losses.
    uses_scores: bool = False
    uses_losses: bool = False

    def __init__(self, tasks: Sequence[TaskInfo], *, floor: float = 0.0) -> None:
        check_tasks(tasks)
        self.tasks = tuple(tasks)
        self.num_tasks = len(self.tasks)
        self.sizes = np.array([task.size for task in self.tasks], np.float64)
        self.sizes.setflags(write=False)
        floor = number(self.name, "floor", floor, hint="the same for every task")
        # 1/N in the user's YAML is rounded, hence the slack.
        if not 0 <= floor <= (1 + 1e-9) / self.num_tasks:
            raise ConfigError(
                f"schedule {self.name!r}: floor = {floor} must lie in [0, 1/{self.num_tasks}]: "
                f"{self.num_tasks} tasks cannot each have more than 1/{self.num_tasks}"
            )
        self.floor = min(floor, 1 / self.num_tasks)

    def init(self) -> State:
        """State at step 0."""
        return {}

    @abc.abstractmethod
    def weights(self, step: int, state: State) -> np.ndarray:
        """Unnormalized weights.

        Args:
            step: number of batches drawn before this one, >= 0.
            state: from `init` or `update`.

        Returns:
            float64[N], >= 0 and finite. All zero prefers no task, which is uniform. A schedule
            whose weights come from the user refuses such weights when it is made.
        """

    def probabilities(self, step: int, state: State) -> np.ndarray:
        """Probability of each task to be drawn at `step`.

        Args:
            step: number of batches drawn before this one, >= 0.
            state: from `init` or `update`.

        Returns:
            float64[N], >= `floor`, sums to 1. Not to be written to.
        """
        return apply_floor(normalize(self.weights(step, state)), self.floor)

    def scales(self, step: int, state: State) -> np.ndarray:
        """Factor on each task's learning rate or gradient, float64[N], mean 1."""
        del step, state
        return np.ones(self.num_tasks)

    def update(self, state: State, step: int, scores: ScoreBook) -> State:
        """State after the scores known at `step`; `state` itself is left as it is.

        Args:
            state: the state so far.
            step: number of batches consumed so far.
            scores: latest scores of the same tasks in the same order.

        Returns:
            A new dict.
        """
        del step, scores
        return dict(state)

    def skip(self, state: State, scores: ScoreBook) -> State:
        """State after passing over what the book holds; for a schedule whose turn has not come.

        Only schedules that add up what is new since their last update have to do anything.
        """
        del scores
        return dict(state)

    def remap(self, state: State, index_map: np.ndarray) -> State:
        """Brings a saved state, also another schedule's, to this schedule and its task list.

        Tasks that were known keep what the state says of them, new ones start as in `init`. Entries
        that this schedule does not have are dropped, those that are missing start as in `init`.
        With the same schedule and tasks the result equals `state` bit for bit.

        Args:
            state: what was saved.
            index_map: int64[N], the old index of each present task, -1 for a new one
                (`keras_mtl.schedules.tasks.task_index_map` makes it).

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
                    f"schedule {self.name!r}: the saved {key!r} has {len(old)} tasks, the saved "
                    f"list of tasks at least {index_map.max() + 1}; the checkpoint is damaged: "
                    "resume from an earlier one"
                )
            unchanged = unchanged and len(old) == self.num_tasks
            fresh = fresh.copy()
            fresh[kept] = old[index_map[kept]]
            result[key] = fresh
        return result if unchanged else self.rebalance(result, kept)

    def rebalance(self, state: State, kept: np.ndarray) -> State:
        """Restores what must hold across tasks (sums, means) after tasks came or went.

        Args:
            state: this schedule's state; rows of new tasks as in `init`.
            kept: bool[N], False for new tasks.
        """
        del kept
        return state


class FixedSchedule(Schedule):
    """A schedule whose weights never change; a subclass passes them to the constructor.

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
        # Handed out at every step without a copy.
        self._weights.setflags(write=False)
        self._probabilities.setflags(write=False)

    def weights(self, step: int, state: State) -> np.ndarray:
        """The weights, whatever the step."""
        del step, state
        return self._weights

    def probabilities(self, step: int, state: State) -> np.ndarray:
        """The probabilities, whatever the step; read-only."""
        del step, state
        return self._probabilities


def normalize(weights: np.ndarray) -> np.ndarray:
    """Weights divided by their sum; uniform if all are zero.

    Args:
        weights: float64[N], >= 0, finite.

    Returns:
        float64[N], sums to 1.

    Raises:
        ValueError: if a weight is negative, NaN or infinite, which is a defect of the schedule.
    """
    weights = np.asarray(weights, np.float64)
    largest = weights.max()
    if not (weights.min() >= 0 and largest < math.inf):
        raise ValueError(f"weights must be finite and >= 0, not {weights}")
    if largest == 0:
        return np.full(len(weights), 1 / len(weights))
    scaled = weights / largest  # keeps the sum finite for any finite weights
    return scaled / scaled.sum()


def apply_floor(probabilities: np.ndarray, floor: float) -> np.ndarray:
    """Raises probabilities below `floor` to it; the others shrink in proportion to pay for it.

    Probabilities that all reach the floor already are left as they are.

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
    # Shrinking may push another one below the floor; at most N rounds, in practice two.
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
