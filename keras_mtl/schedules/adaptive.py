"""Base classes of the adaptive schedules: prior, smoothing, limited change, and their state.

An adaptive schedule computes its probabilities when it is updated and keeps them in its state. A
draw only looks them up, and an update can limit their change.
"""

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mtl.schedules.base import Schedule, State, apply_floor, normalize
from keras_mtl.schedules.parameters import sizes_of
from keras_mtl.schedules.registry import choice, number
from keras_mtl.schedules.score_book import ScoreBook, missing_baseline
from keras_mtl.schedules.tasks import TaskInfo
from keras_mtl.schedules.temperature import size_weights

PRIORS = ("none", "proportional", "temperature")


class AdaptiveSchedule(Schedule):
    """Base class of schedules that learn during training.

    State: `probabilities` float64[N], and the entries that a subclass adds.

    Args:
        tasks: the tasks.
        prior: factor on the weights: `none` (1), `proportional` (n_i) or `temperature`
            (n_i^(1/prior_temperature)).
        prior_temperature: temperature of that prior, > 0.
        ema: share of the old value in the smoothed value, in [0, 1); 0 is off.
        max_change: largest change of any probability in one update, in (0, 1]; 1 is off.
        floor: least probability of every task, in [0, 1/N].
    """

    adaptive = True

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        prior: str = "none",
        prior_temperature: float = 5.0,
        ema: float = 0.0,
        max_change: float = 1.0,
        floor: float = 0.0,
    ) -> None:
        super().__init__(tasks, floor=floor)
        choice(self.name, "prior", prior, PRIORS)
        temperature = number(self.name, "prior_temperature", prior_temperature, above=0)
        exponent = {"none": 0.0, "proportional": 1.0, "temperature": 1 / temperature}[prior]
        self.prior = (
            np.ones(self.num_tasks)
            if prior == "none"
            else size_weights(sizes_of(self.name, self.tasks), exponent)
        )
        hint = "0 is off, 1 would ignore every new value"
        self.ema = number(self.name, "ema", ema, least=0, below=1, hint=hint)
        hint = "0 would never change anything, 1 is off"
        self.max_change = number(self.name, "max_change", max_change, above=0, most=1, hint=hint)

    def init(self) -> State:
        """Returns the state before the first update: the probabilities of the prior."""
        return {"probabilities": self._with_prior(np.ones(self.num_tasks))}

    def weights(self, step: int, state: State) -> np.ndarray:
        """Returns the probabilities of the last update."""
        del step
        return state["probabilities"]

    def probabilities(self, step: int, state: State) -> np.ndarray:
        """Returns the probabilities of the last update; do not write to them."""
        del step
        # They already have the floor, unless it was raised after they were saved.
        return apply_floor(state["probabilities"], self.floor)

    def move(self, state: State, weights: np.ndarray) -> np.ndarray:
        """Returns probabilities for new weights, with prior, floor and limited change.

        Args:
            state: the state so far.
            weights: float64[N], >= 0.

        Returns:
            float64[N], sums to 1.
        """
        old = state["probabilities"]
        return bounded(old, self._with_prior(weights), self.max_change)

    def move_to(self, state: State, probabilities: np.ndarray) -> np.ndarray:
        """Returns probabilities nearer to given ones, with floor and limited change, but no prior.

        Args:
            state: the state so far.
            probabilities: float64[N], >= 0.

        Returns:
            float64[N], sums to 1.
        """
        target = apply_floor(normalize(probabilities), self.floor)
        return bounded(state["probabilities"], target, self.max_change)

    def rebalance(self, state: State, kept: np.ndarray) -> State:
        """Makes the probabilities sum to 1."""
        del kept
        probabilities = apply_floor(normalize(state["probabilities"]), self.floor)
        return {**state, "probabilities": probabilities}

    def check_book(self, scores: ScoreBook) -> None:
        """Raises ValueError if the book is for other tasks, or has them in another order."""
        names = tuple(task.name for task in self.tasks)
        if scores.names != names:
            raise ValueError(f"the score book is for {scores.names}, but the schedule for {names}")

    def _with_prior(self, weights: np.ndarray) -> np.ndarray:
        mixed = self.prior * normalize(weights)
        if not mixed.any():  # Only empty tasks have a weight, and the prior excludes them.
            mixed = self.prior
        return apply_floor(normalize(mixed), self.floor)


class RatioSchedule(AdaptiveSchedule):
    """Base class of schedules that act on the ratio of score to baseline.

    State: `ratios` float64[N], smoothed, 0 before the first score; `seen_count` and `seen_step`
    int64[N], number and step of the latest score that was used. An update without a new score
    changes nothing.

    Args:
        tasks: the tasks, each with a baseline.
        **shared: see `AdaptiveSchedule`.
    """

    uses_scores = True

    def __init__(self, tasks: Sequence[TaskInfo], **shared: Any) -> None:
        super().__init__(tasks, **shared)
        for task in self.tasks:
            if task.baseline is None:
                raise missing_baseline(task.name)

    @abc.abstractmethod
    def ratio_weights(self, ratios: np.ndarray) -> np.ndarray:
        """Returns weights, float64[N] >= 0, for ratios, float64[N] >= 0."""

    def init(self) -> State:
        """Returns the state before the first score."""
        return {
            **super().init(),
            "ratios": np.zeros(self.num_tasks),
            "seen_count": np.zeros(self.num_tasks, np.int64),
            "seen_step": np.full(self.num_tasks, -1, np.int64),
        }

    def update(self, state: State, step: int, scores: ScoreBook) -> State:
        """Learns from the scores since the last update."""
        del step
        if not self.fresh(state, scores).any():
            return dict(state)
        state = self.taken_in(state, scores)
        return {**state, "probabilities": self.move(state, self.ratio_weights(state["ratios"]))}

    def rebalance(self, state: State, kept: np.ndarray) -> State:
        """Computes probabilities for the ratios of the remaining and the new tasks."""
        state = super().rebalance(state, kept)
        return {**state, "probabilities": self.move(state, self.ratio_weights(state["ratios"]))}

    def fresh(self, state: State, scores: ScoreBook) -> np.ndarray:
        """Returns which tasks have a score that was not used yet, bool[N]."""
        self.check_book(scores)
        # The step distinguishes a new book (for example of another metric) from the previous one.
        other = (scores.counts != state["seen_count"]) | (scores.steps != state["seen_step"])
        return other & (scores.counts > 0)

    def taken_in(self, state: State, scores: ScoreBook) -> State:
        """Returns the state with smoothed new ratios; a task's first score counts in full."""
        fresh = self.fresh(state, scores)
        ema = np.where(state["seen_count"] == 0, 0.0, self.ema)
        smoothed = ema * state["ratios"] + (1 - ema) * scores.ratios()
        return {
            **state,
            "ratios": np.where(fresh, smoothed, state["ratios"]),
            "seen_count": np.where(fresh, scores.counts, state["seen_count"]),
            "seen_step": np.where(fresh, scores.steps, state["seen_step"]),
        }


def bounded(old: np.ndarray, new: np.ndarray, most: float) -> np.ndarray:
    """Moves from `old` towards `new` so that no entry changes by more than `most`.

    All entries move by the same fraction of their distance. This keeps the sum, and every floor
    that both arrays respect. `most` = 1 is no limit, also for factors, which may change by more.
    """
    largest = np.abs(new - old).max()
    if most == 1 or largest <= most:
        return new
    return old + (most / largest) * (new - old)
