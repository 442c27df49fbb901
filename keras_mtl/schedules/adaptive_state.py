"""The state that changes while a schedule learns: its own state, scores and losses.

Each `Mixture` has an `AdaptiveState`, which `keras-mtl train` and `model.fit` use; Model Garden's
task sampler has its own. All of them record scores, update the schedule, save and restore through
this class, so the rules for changed tasks and a changed metric are the same everywhere.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from keras_mtl.errors import ConfigError, InputError, nearest_task
from keras_mtl.schedules.base import Schedule, State
from keras_mtl.schedules.score_book import ScoreBook
from keras_mtl.schedules.tasks import TaskInfo

_SCHEDULE = "schedule/"
_BOOK = "book/"
_METRIC = "metric"


class AdaptiveState:
    """A schedule, the history of its state, and the book of scores that it learns from.

    Args:
        schedule: the schedule.
        metric: name of the metric of the scores.
        higher_is_better: direction of the scores, or one for each task.
        baselines: {task: score of a model trained on only this task}, > 0; other tasks have the
            baseline of their `TaskInfo`.

    Attributes:
        schedule: the schedule.
        task_names: names of the tasks.
        metric: name of the metric of the scores.
        book: scores, baselines and training losses.

    Raises:
        ConfigError: a baseline is not > 0, or its task is unknown.

    Example:
        ```python
        from keras_mtl import TaskInfo, schedules

        tasks = [TaskInfo("en-fr", 9000, baseline=40.0), TaskInfo("en-oc", 200, baseline=20.0)]
        schedule = schedules.create("inverse_ratio", tasks)
        adaptive = schedules.AdaptiveState(schedule, metric="bleu")
        adaptive.enter_scores(1000, {"en-fr": 30.0, "en-oc": 2.0})
        adaptive.update(1000)
        adaptive.probabilities(1000)  # Most batches are now of en-oc.
        ```
    """

    def __init__(
        self,
        schedule: Schedule,
        metric: str = "score",
        higher_is_better: bool | Sequence[bool] = True,
        baselines: Mapping[str, float] | None = None,
    ) -> None:
        self.schedule = schedule
        self.task_names = tuple(task.name for task in schedule.tasks)
        self.metric = metric
        self._tasks = with_baselines(schedule.tasks, baselines or {})
        self.book = ScoreBook(self._tasks, higher_is_better)
        # (first step, state) by increasing step: each state holds until the step of the next one.
        # Replaced as a whole, so that another thread always reads a complete history.
        self._history: tuple[tuple[int, State], ...] = ((0, schedule.init()),)

    def probabilities(self, step: int) -> np.ndarray:
        """Returns the probabilities at a step, float64[N]; do not write to them."""
        return self.schedule.probabilities(step, self._state(step))

    def scales(self, step: int) -> np.ndarray:
        """Returns the factor of each task's update at a step, float64[N], mean 1."""
        return self.schedule.scales(step, self._state(step))

    def notes(self, step: int) -> list[str]:
        """Returns what a user should know of the state at a step; see `Schedule.notes`."""
        return self.schedule.notes(step, self._state(step))

    def set_metric(
        self,
        metric: str,
        higher_is_better: bool = True,
        baselines: Mapping[str, float] | None = None,
    ) -> None:
        """Sets the metric of the scores; scores and losses of another metric are dropped.

        Args:
            metric: name of the metric.
            higher_is_better: its direction.
            baselines: as in the constructor.
        """
        self._tasks = with_baselines(self.schedule.tasks, baselines or {})
        same = metric == self.metric and bool((self.book.directions == higher_is_better).all())
        self.metric = metric
        if same:
            self.book = ScoreBook.from_state(self._tasks, self.book.state_dict())
        else:
            self._drop_scores(self.book, bool(higher_is_better))

    def enter_scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Records validation scores; the schedule learns from them at the next `update`.

        Args:
            step: step of the weights that were scored.
            scores: {task: score}; a task that is not included keeps its score.

        Raises:
            InputError: a task is unknown, or a value is not a score.
        """
        indices = {name: index for index, name in enumerate(self.task_names)}
        for name in scores:
            if name not in indices:
                remedy = nearest_task(name, self.task_names, listing="")
                raise InputError(f"there is a score for an unknown task {name!r}{remedy}")
        for name, score in scores.items():
            self.book.set(indices[name], step, float(score))

    def observe_losses(
        self, step: int, losses: np.ndarray, probabilities: np.ndarray, batches: np.ndarray
    ) -> None:
        """Records training losses; schedules may learn from them at the next `update`.

        Tasks without batches, with a probability of 0 or with a loss that is not finite are
        skipped.

        Args:
            step: step of the last batch.
            losses: float[N], mean loss of each task over its batches.
            probabilities: float64[N], with which the tasks were drawn.
            batches: float64[N], number of batches of each task; a part of a mixed batch counts by
                its share of the rows.
        """
        for task in np.flatnonzero((batches > 0) & (probabilities > 0) & np.isfinite(losses)):
            self.book.observe(
                int(task),
                step,
                float(losses[task]),
                float(probabilities[task]),
                float(batches[task]),
            )

    def ratios(self) -> dict[str, float] | None:
        """Returns the ratio of `ScoreBook.ratios` by task; None if a task has no baseline."""
        if np.isnan(self.book.baselines).any():
            return None
        return dict(zip(self.task_names, self.book.ratios().tolist(), strict=True))

    def update(self, step: int) -> bool:
        """Lets the schedule learn from the book.

        Args:
            step: number of batches consumed; the new state holds from this step on.

        Returns:
            Whether draws may change. If the state of the schedule changed, states of later steps
            are dropped.
        """
        before = self._state(step)
        after = self.schedule.update(before, step, self.book)
        if _equal(before, after):
            return False
        earlier = [item for item in self._history if item[0] < step]
        self._history = (*earlier, (step, after))
        return not self.schedule.same_draws(before, after)

    def advance(self, step: int, consumed: np.ndarray, upcoming: np.ndarray) -> None:
        """Lets the schedule follow what has been drawn, before the draw of `step`.

        Args:
            step: number of batches drawn; not before the step of an earlier call or update.
            consumed: as of `Schedule.advance`.
            upcoming: as of `Schedule.advance`.
        """
        before = self._state(step)
        after = self.schedule.advance(before, step, consumed, upcoming)
        if after is not before and not _equal(before, after):
            earlier = [item for item in self._history if item[0] < step]
            self._history = (*earlier, (step, after))

    def forget_before(self, step: int) -> None:
        """Drops the states that hold only for steps before `step`."""
        holding = sum(first <= step for first, _ in self._history) - 1
        if holding > 0:
            self._history = self._history[holding:]

    def schedule_state(self, step: int | None = None) -> dict[str, np.ndarray]:
        """Returns the state of the schedule at a step as new arrays, for `load_schedule`.

        Args:
            step: number of batches consumed; None means the latest state.
        """
        state = self._history[-1][1] if step is None else self._state(step)
        return {f"{_SCHEDULE}{key}": np.array(value) for key, value in state.items()}

    def score_state(self) -> dict[str, np.ndarray]:
        """Returns the scores, losses and metric name as new arrays, for `load_scores`."""
        book = {f"{_BOOK}{key}": value for key, value in self.book.state_dict().items()}
        return {**book, _METRIC: np.array(self.metric)}

    @staticmethod
    def has_scores(saved: Mapping[str, np.ndarray]) -> bool:
        """Returns whether saved arrays include those of `score_state`."""
        return f"{_BOOK}scores" in saved

    def load_schedule(self, saved: Mapping[str, np.ndarray], index_map: np.ndarray) -> None:
        """Restores a saved state of the schedule, possibly of another schedule or other tasks.

        Args:
            saved: arrays of `schedule_state`; other arrays are ignored.
            index_map: int64[N], the saved index of each task, -1 for a new one
                (from `keras_mtl.schedules.task_index_map`).

        Raises:
            CheckpointError: an array does not fit the map.
        """
        state = self.schedule.remap(with_prefix(saved, _SCHEDULE), index_map)
        self._history = ((0, state),)

    def load_scores(self, saved: Mapping[str, np.ndarray], index_map: np.ndarray) -> str | None:
        """Restores a saved book; scores and losses of another metric are dropped.

        Args:
            saved: arrays of `score_state`; other arrays are ignored. Older versions saved only the
                direction of the metric; then only the direction is compared.
            index_map: as in `load_schedule`.

        Returns:
            A message for the user if the scores were dropped; None if they were kept.

        Raises:
            CheckpointError: an array is missing or does not fit the map.
        """
        book = ScoreBook.from_state(self._tasks, with_prefix(saved, _BOOK), index_map)
        metric = str(saved[_METRIC]) if _METRIC in saved else self.metric
        higher = self.book.higher_is_better
        if metric == self.metric and np.array_equal(book.directions, self.book.directions):
            self.book = book
            return None
        self._drop_scores(book, self.book.directions.tolist())
        return (
            f"the metric is {self.metric!r} with higher_is_better={higher}, but the saved scores "
            f"are of {metric!r} with higher_is_better={book.higher_is_better}; they are dropped"
        )

    def _drop_scores(self, old: ScoreBook, higher_is_better: bool | Sequence[bool]) -> None:
        """Starts a book for scores of another metric, with only the measurements of the old one."""
        self.book = ScoreBook(self._tasks, higher_is_better)
        self.book.take_measurements(old)
        self._history = tuple(
            (first, self.schedule.forget_scores(state)) for first, state in self._history
        )

    def _state(self, step: int) -> State:
        """Returns the state of the schedule at a step; the oldest one for steps before it."""
        for first, state in reversed(self._history):
            if first <= step:
                return state
        return self._history[0][1]


def with_baselines(
    tasks: Sequence[TaskInfo], baselines: Mapping[str, float]
) -> tuple[TaskInfo, ...]:
    """Returns the tasks with the given baselines instead of their own.

    Raises:
        ConfigError: a baseline is not > 0, or its task is unknown.
    """
    names = [task.name for task in tasks]
    for name in baselines:
        if name not in names:
            remedy = nearest_task(name, names, listing="")
            raise ConfigError(f"baselines names an unknown task {name!r}{remedy}")
    return tuple(
        dataclasses.replace(task, baseline=baselines.get(task.name, task.baseline))
        for task in tasks
    )


def with_prefix(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Returns the arrays whose names begin with a prefix, under names without the prefix."""
    return {
        key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)
    }


def score_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns only the arrays that `AdaptiveState.score_state` wrote."""
    return {key: value for key, value in arrays.items() if key.startswith(_BOOK) or key == _METRIC}


def _equal(first: State, second: State) -> bool:
    """Returns whether two states of a schedule are bit-identical, NaN included."""
    return first.keys() == second.keys() and all(
        np.asarray(first[key]).tobytes() == np.asarray(second[key]).tobytes() for key in first
    )
