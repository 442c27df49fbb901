"""Schedules that were tried in the comparison and are not part of keras_mtl.

The sweeps next to this file import this module as a plug-in. Results are in
docs/explanation/evidence.md.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mtl.schedules.adaptive import RatioSchedule
from keras_mtl.schedules.base import State
from keras_mtl.schedules.inverse_ratio import InverseRatio
from keras_mtl.schedules.measured import MeasuredSchedule
from keras_mtl.schedules.parameters import sizes_of
from keras_mtl.schedules.registry import number, register
from keras_mtl.schedules.score_book import ScoreBook
from keras_mtl.schedules.tasks import TaskInfo
from keras_mtl.schedules.temperature import size_weights


@register
class DevProgress(MeasuredSchedule):
    """w_i = max(0, d_i)^alpha, with d_i the smoothed decrease of the dev loss per interval.

    A task whose dev loss no longer falls gets only the floor. Before the second measurement, the
    probabilities are the prior.

    State: `loss` and `decrease` float64[N], latest dev loss and d.

    Args:
        tasks: the tasks.
        alpha: > 0. Part of the decrease is due to a task's own batches, so with 1, tasks that get
            more would soon get all.
        **shared: pairs, interval, prior, prior_temperature, ema (of d), max_change, floor: see
            `MeasuredSchedule`.
    """

    name = "dev_progress"
    quantity = "dev_loss"

    def __init__(
        self, tasks: Sequence[TaskInfo], *, alpha: float = 0.5, ema: float = 0.7, **shared: Any
    ) -> None:
        super().__init__(tasks, ema=ema, **shared)
        hint = "1 is proportional to the decrease"
        self.alpha = number(self.name, "alpha", alpha, above=0, hint=hint)

    def init(self) -> State:
        """Returns the state before the first measurement."""
        count = self.num_tasks
        return {
            **super().init(),
            "loss": np.full(count, np.nan),
            "decrease": np.full(count, np.nan),
        }

    def update(self, state: State, step: int, scores: ScoreBook) -> State:
        """Learns from a new measurement."""
        del step
        losses = self.measured(state, scores, self.quantity)
        if losses is None:
            return dict(state)
        new = state["loss"] - losses
        old = state["decrease"]
        decrease = np.where(np.isnan(old), new, self.ema * old + (1 - self.ema) * new)
        state = {**self.skip(state, scores), "loss": losses, "decrease": decrease}
        if np.isnan(decrease).any():
            return state
        weights = np.maximum(decrease, 0.0) ** self.alpha
        if not weights.any():
            weights = np.ones(self.num_tasks)
        return {**state, "probabilities": self.move(state, weights)}


@register
class AdaptiveTemperature(RatioSchedule):
    """Temperature sampling whose exponent a = 1/T follows the ratios of score to baseline.

    After each validation, a is lowered by `gain` times the slope of the ratios over log n_i, and
    kept in [0, 1]. So the sampling becomes more even while small tasks lag behind large ones, and
    more proportional while large tasks lag.

    State: `exponent` float64 scalar, a.

    Args:
        tasks: the tasks, each with a baseline.
        gain: >= 0.
        prior_temperature: the first T, > 0.
        **shared: ema (of the ratios), max_change, floor: see `AdaptiveSchedule`.
    """

    name = "adaptive_temperature"

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        gain: float = 1.0,
        prior_temperature: float = 3.0,
        **shared: Any,
    ) -> None:
        super().__init__(tasks, prior="temperature", prior_temperature=prior_temperature, **shared)
        self.gain = number(self.name, "gain", gain, least=0, hint="0 keeps the temperature")
        self._first = 1 / prior_temperature
        self._sizes = sizes_of(self.name, self.tasks)

    def init(self) -> State:
        """Returns the state before the first score."""
        return {**super().init(), "exponent": np.array(self._first)}

    def ratio_weights(self, ratios: np.ndarray) -> np.ndarray:
        """Returns ones: after a change of the tasks, the first temperature until a new score."""
        return np.ones_like(ratios)

    def update(self, state: State, step: int, scores: ScoreBook) -> State:
        """Learns from the scores since the last update."""
        del step
        if not self.fresh(state, scores).any():
            return dict(state)
        state = self.taken_in(state, scores)
        known = self._sizes > 0
        places = np.log(self._sizes[known])
        places = places - places.mean()
        slope = (places * state["ratios"][known]).sum() / (places**2).sum()
        exponent = np.clip(state["exponent"] - self.gain * slope, 0.0, 1.0)
        weights = size_weights(self._sizes, float(exponent))
        return {
            **state,
            "exponent": np.array(exponent),
            "probabilities": self.move_to(state, weights),
        }


@register
class GroupedInverseRatio(InverseRatio):
    """`inverse_ratio` with the mean ratio of each group of tasks instead of that of each task.

    Args:
        tasks: the tasks, each with a baseline.
        groups: lists of names of tasks, for example languages of a family.
        **shared: see `InverseRatio`.
    """

    name = "grouped_inverse_ratio"

    def __init__(
        self, tasks: Sequence[TaskInfo], *, groups: Sequence[Sequence[str]], **shared: Any
    ) -> None:
        super().__init__(tasks, **shared)
        names = [task.name for task in tasks]
        # Tasks outside of all groups are groups of their own.
        self._group = np.arange(len(tasks))
        for group in groups:
            places = [names.index(name) for name in group]
            self._group[places] = min(places)

    def ratio_weights(self, ratios: np.ndarray) -> np.ndarray:
        """Returns the weights for the mean ratios of the groups."""
        sums = np.bincount(self._group, ratios, self.num_tasks)
        counts = np.bincount(self._group, minlength=self.num_tasks)
        return super().ratio_weights((sums / np.maximum(counts, 1))[self._group])


@register
class UncappedInverseRatio(InverseRatio):
    """`inverse_ratio` without the cap at the baseline: a task above it gets less and less.

    Args:
        tasks: the tasks, each with a baseline.
        **shared: see `InverseRatio`.
    """

    name = "uncapped_inverse_ratio"

    def ratio_weights(self, ratios: np.ndarray) -> np.ndarray:
        """Returns 1 / (r_i^alpha + epsilon)."""
        return 1 / (ratios**self.alpha + self.epsilon)
