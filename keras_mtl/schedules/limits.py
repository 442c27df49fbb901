"""Limits of single tasks under any schedule: when they are trained, and how often repeated."""

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from keras_mtl.errors import ConfigError
from keras_mtl.schedules.base import Schedule, State
from keras_mtl.schedules.score_book import ScoreBook

_EXHAUSTED, _OVERFITTED = "limits/exhausted", "limits/overfitted"
_STREAK, _COUNT, _LAST = "limits/worse_in_a_row", "limits/scores", "limits/last_score"
_TRAINED, _BATCHES, _STEP = "limits/trained", "limits/batches", "limits/last_step"
_DRAWABLE = "limits/drawable"
# Rounding of passes, which are quotients of whole numbers.
_SLACK = 1e-9
# Least probability of a task that may be drawn, if tasks can run out: what is missing in a pool is
# then drawn from it. One that the schedule never draws is not drawn otherwise.
_LEAST = 1e-12
# A task with less of a batch, or with a smaller probability, does not count as trained. Real tasks
# have more, and `_LEAST` adds up to less in a simulation with fractional batches.
_NOTHING = 1e-6
# Steps between two scores at which is looked whether a task could be drawn, if nothing else tells.
_LOOKS = 1000


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits of the tasks, each in their order.

    Attributes:
        introduce_at: number of batches before the first one that a task can be drawn for; >= 0.
        stop_at: number of batches from which on it is not drawn; None: it is always drawn.
        max_epochs: largest number of passes over its data, > 0; None: any.
        overfit_patience: number of validations in a row, each with a worse score than the one
            before, after which a task's probability falls to the floor; 0: never. A score counts
            only if the task was trained since the one before.
        batches_per_step: number of batches of a training step; scores have training steps.
    """

    introduce_at: Sequence[int]
    stop_at: Sequence[int | None]
    max_epochs: Sequence[float | None]
    overfit_patience: int = 0
    batches_per_step: int = 1

    @property
    def limits_anything(self) -> bool:
        """Whether any task has a limit."""
        return bool(
            self.overfit_patience
            or any(self.introduce_at)
            or any(value is not None for value in (*self.stop_at, *self.max_epochs))
        )

    def check(
        self,
        names: Sequence[str],
        batches: int | None = None,
        never_drawn: Collection[str] = (),
    ) -> None:
        """Checks that some task can be drawn at every step.

        Args:
            names: names of the tasks.
            batches: number of batches of the run; None does not check its steps.
            never_drawn: names of tasks that the schedule never draws.

        Raises:
            ConfigError: a limit is out of range, or no task is drawn at some step.
        """
        if self.overfit_patience < 0:
            raise ConfigError(f"overfit_patience = {self.overfit_patience} must be >= 0")
        windows = []
        for name, start, stop, epochs in zip(
            names, self.introduce_at, self.stop_at, self.max_epochs, strict=True
        ):
            if start < 0:
                raise ConfigError(f"task {name!r}: introduce_at = {start} must be >= 0")
            if stop is not None and stop <= start:
                raise ConfigError(
                    f"task {name!r}: stop_at = {stop} must be above introduce_at = {start}"
                )
            if epochs is not None and not epochs > 0:
                raise ConfigError(f"task {name!r}: max_epochs = {epochs} must be > 0")
            if name not in never_drawn:
                windows.append((start, np.inf if stop is None else stop))
        if batches is None:
            return
        reached: float = 0
        for start, end in sorted(windows):
            if start > reached:
                break
            reached = max(reached, end)
        if reached < batches:
            rest = f", and the schedule never draws {', '.join(never_drawn)}" if never_drawn else ""
            raise ConfigError(
                f"no task is drawn at step {reached:,.0f}: introduce_at and stop_at leave none"
                f"{rest}. Let the limits of tasks overlap"
            )


class LimitedSchedule(Schedule):
    """A schedule under the limits of its tasks.

    The probability of a task that is not drawn goes to the others in proportion to theirs. If all
    tasks that could be drawn have reached `max_epochs`, the run continues with these tasks. Tasks
    that the schedule never draws are not drawn here either.

    State: that of the schedule, and for each task whether its next batch would exceed its passes,
    what is known of its scores, and how far it was trained at the last one.

    Args:
        schedule: the schedule.
        limits: the limits of its tasks.

    Raises:
        ConfigError: the limits are out of range, or the schedule does not allow limits.
    """

    def __init__(self, schedule: Schedule, limits: Limits) -> None:
        if not schedule.limitable:
            raise ConfigError(
                f"schedule {schedule.name!r} needs its own probabilities to measure the effect of "
                "each task, so tasks cannot have limits. Remove introduce_at, stop_at, max_epochs "
                "and overfit_patience, or use another schedule"
            )
        # Instances have the name of what they limit, which messages and logs show.
        self.name = schedule.name  # type: ignore[misc]
        super().__init__(schedule.tasks)
        limits.check([task.name for task in schedule.tasks])
        self.inner = schedule
        self.floor = schedule.floor
        self._able = ~schedule.never_drawn()
        self._patience = limits.overfit_patience
        self._batches_per_step = limits.batches_per_step
        self._start = np.array(limits.introduce_at, np.float64)
        self._stop = np.array([np.inf if v is None else v for v in limits.stop_at], np.float64)
        epochs = [np.inf if v is None else v for v in limits.max_epochs]
        schedule.check_limits(self._stop, np.array(epochs, np.float64))
        self._caps_epochs = bool(np.isfinite(epochs).any())
        self.max_epochs = np.array(epochs, np.float64) if self._caps_epochs else None
        self.adaptive = schedule.adaptive or self._patience > 0
        self.scaling = schedule.scaling
        self.uses_scores = schedule.uses_scores
        self.uses_losses = schedule.uses_losses
        self.interval = schedule.interval
        self.measures = schedule.measures
        self.uses_progress = schedule.uses_progress or self._caps_epochs

    def init(self) -> State:
        """Returns the state of the schedule, and that no limit is reached."""
        state = self.inner.init()
        zeros = np.zeros(self.num_tasks, np.int64)
        if self._caps_epochs:
            state[_EXHAUSTED] = zeros.copy()
        if self._patience:
            state |= {key: zeros.copy() for key in (_OVERFITTED, _STREAK, _COUNT, _STEP)}
            state[_LAST] = np.full(self.num_tasks, np.nan)
            state[_BATCHES] = np.zeros(self.num_tasks)
            # Older versions did not save them, and counted every score.
            state |= {key: np.ones(self.num_tasks, np.int64) for key in (_TRAINED, _DRAWABLE)}
        return state

    def weights(self, step: int, state: State) -> np.ndarray:
        """Returns the schedule's probabilities, 0 for tasks that are not drawn."""
        probabilities = np.array(self.inner.probabilities(step, state), np.float64)
        present = self._present(step)
        drawn = present & (state[_EXHAUSTED] == 0) if self._caps_epochs else present
        if not drawn.any():
            drawn = present
        weights = np.where(drawn, probabilities, 0.0)
        if self._patience:
            weights = self._at_floor(weights, drawn & (state[_OVERFITTED] > 0))
        if self._caps_epochs:
            weights = np.where(drawn, np.maximum(weights, _LEAST), 0.0)
        if weights.sum() == 0:
            return drawn.astype(np.float64)
        return weights

    def _present(self, step: int) -> np.ndarray:
        """Returns the tasks that may be drawn if they have passes left, bool[N]; at least one."""
        window = (self._start <= step) & (step < self._stop)
        able = window & self._able
        if able.any():
            return able
        # `Limits.check` reports both cases, but not everybody calls it with the steps of the run.
        return window if window.any() else ~window

    def _at_floor(self, weights: np.ndarray, held: np.ndarray) -> np.ndarray:
        """Lowers the probabilities of some tasks to the floor, and raises the others in proportion.

        Nothing changes if no other task has a probability.

        Args:
            weights: float64[N], >= 0.
            held: bool[N], the tasks.
        """
        others = weights[~held].sum()
        if not held.any() or others == 0:
            return weights
        least = np.minimum(weights / weights.sum(), self.floor)
        return np.where(held, least, weights * ((1 - least[held].sum()) / others))

    def probabilities(self, step: int, state: State) -> np.ndarray:
        """Returns the probabilities; tasks that are not drawn have 0, in spite of the floor."""
        weights = self.weights(step, state)
        return weights / weights.sum()

    def scales(self, step: int, state: State) -> np.ndarray:
        """Returns the scales of the schedule."""
        return self.inner.scales(step, state)

    def update(self, state: State, step: int, scores: ScoreBook) -> State:
        """Updates the schedule, and counts scores that are worse than those before."""
        result = self._with(state, self.inner.update(self._inner(state), step, scores))
        if self._patience:
            self._count(result, step, scores)
        return result

    def never_drawn(self) -> np.ndarray:
        """Returns which tasks the schedule never draws, bool[N]."""
        return ~self._able

    def next_update(self, step: int) -> int | None:
        """Returns the next step at which the schedule learns."""
        return self.inner.next_update(step)

    def advance(self, state: State, step: int, consumed: np.ndarray, upcoming: np.ndarray) -> State:
        """Notes which tasks would exceed their passes with their next batch."""
        ended = step >= self._stop
        if self.max_epochs is not None:
            exhausted = upcoming > self.max_epochs * (1 + _SLACK)
            ended = ended | exhausted
            if not np.array_equal(exhausted, state[_EXHAUSTED] > 0):
                state = {**state, _EXHAUSTED: exhausted.astype(np.int64)}
        inner = self._inner(state)
        after = self.inner.advance(inner, step, consumed, np.where(ended, np.inf, upcoming))
        return state if after is inner else self._with(state, after)

    def skip(self, state: State, scores: ScoreBook) -> State:
        """Lets the schedule skip the scores."""
        return self._with(state, self.inner.skip(self._inner(state), scores))

    def forget_scores(self, state: State) -> State:
        """Starts to count worse scores again; tasks that overfit still do."""
        result = self._with(state, self.inner.forget_scores(self._inner(state)))
        if self._patience:
            start = self.init()
            restarted = (_STREAK, _COUNT, _LAST, _TRAINED, _BATCHES, _STEP, _DRAWABLE)
            result |= {key: start[key] for key in restarted}
        return result

    def rebalance(self, state: State, kept: np.ndarray) -> State:
        """Rebalances the state of the schedule."""
        return self._with(state, self.inner.rebalance(self._inner(state), kept))

    def notes(self, step: int, state: State) -> list[str]:
        """Returns which tasks have reached `max_epochs`, and which overfit."""
        found = self.inner.notes(step, self._inner(state))
        nothing = np.zeros(self.num_tasks, np.int64)
        exhausted, overfitted = (state.get(key, nothing) > 0 for key in (_EXHAUSTED, _OVERFITTED))
        for task in np.flatnonzero(exhausted):
            assert self.max_epochs is not None  # Otherwise no task is exhausted.
            found.append(
                f"task {self.tasks[task].name!r} has reached its limit of "
                f"{self.max_epochs[task]:g} epochs"
            )
        for task in np.flatnonzero(overfitted):
            found.append(
                f"task {self.tasks[task].name!r} overfits: its scores became worse in "
                f"{self._patience} validations in a row. Its probability is at most the floor, "
                f"{self.floor:g}"
            )
        if exhausted[self._present(step)].all():
            found.append(
                "all tasks that may be drawn have reached their limits of epochs, so training "
                "repeats them. Lower trainer.train_steps, or raise max_epochs"
            )
        return found

    def _count(self, state: State, step: int, scores: ScoreBook) -> None:
        new = (scores.counts != state[_COUNT]) & np.isfinite(scores.scores)
        with np.errstate(invalid="ignore"):
            change = scores.scores - state[_LAST]
        worse = np.where(scores.directions, change < 0, change > 0)
        trained = self._trained(state, step, scores, new)
        # A score that takes effect late may be of weights from before these batches, so the task
        # must have been trained before the last score took effect, too.
        late = (scores.steps * self._batches_per_step < step) & (state[_TRAINED] == 0)
        counts = new & trained & ~late
        streak = np.where(counts, np.where(worse, state[_STREAK] + 1, 0), state[_STREAK])
        state[_STREAK] = streak.astype(np.int64)
        state[_TRAINED] = np.where(new, trained, state[_TRAINED]).astype(np.int64)
        state[_BATCHES] = np.where(new, scores.loss_weight, state[_BATCHES])
        state[_STEP] = np.where(new, step, state[_STEP]).astype(np.int64)
        state[_LAST] = np.where(new, scores.scores, state[_LAST])
        state[_COUNT] = np.array(scores.counts, np.int64)
        reached = streak >= self._patience
        state[_OVERFITTED] = ((state[_OVERFITTED] > 0) | reached).astype(np.int64)
        drawable = self.probabilities(step, state) > _NOTHING
        state[_DRAWABLE] = np.where(new, drawable, state[_DRAWABLE]).astype(np.int64)

    def _trained(self, state: State, step: int, scores: ScoreBook, asked: np.ndarray) -> np.ndarray:
        """Returns which tasks were trained since their last score took effect, bool[N].

        Passes do not tell: those of mixed batches count when a pool is drawn, which may be many
        validations before its batches are trained.

        Args:
            state: the state so far.
            step: number of batches consumed.
            scores: the score book, whose losses tell how many batches of each task were trained.
            asked: bool[N], tasks of interest; the result is not specified for the others.
        """
        if scores.loss_weight.any():
            return scores.loss_weight - state[_BATCHES] > _NOTHING
        # Nothing records losses, for example in `model.fit`: a task counts if it could be drawn.
        # Its last score tells of the beginning of the interval, in which it may have been ended.
        result, first = ~asked | (state[_DRAWABLE] > 0), state[_STEP]
        if not result.all():
            for earlier in self._steps_between(int(first[~result].min()), step):
                result |= (self.probabilities(earlier, state) > _NOTHING) & (earlier >= first)
                if result.all():
                    break
        return result

    def _steps_between(self, first: int, stop: int) -> list[int]:
        """Returns steps in [first, stop), the last one first: all, or enough of many."""
        if stop - first <= 2 * _LOOKS:
            return list(range(stop - 1, first - 1, -1))
        # `round_robin` draws each task in N steps in a row.
        found = {*range(max(first, stop - max(_LOOKS, 2 * self.num_tasks)), stop)}
        found.update(np.linspace(first, stop - 1, _LOOKS).astype(int).tolist())
        edges = np.concatenate((self._start, self._stop - 1))
        found.update(edges[(edges >= first) & (edges < stop)].astype(int).tolist())
        return sorted(found, reverse=True)

    def _inner(self, state: State) -> State:
        return {key: value for key, value in state.items() if not key.startswith("limits/")}

    def _with(self, state: State, inner: State) -> State:
        own = {key: value for key, value in state.items() if key.startswith("limits/")}
        return {**inner, **own}
