"""The implicit schedule: fixed probabilities, and updates scaled by how far a task lags."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mtl.schedules.adaptive import RatioSchedule, bounded
from keras_mtl.schedules.base import State, apply_floor, normalize
from keras_mtl.schedules.registry import number, register
from keras_mtl.schedules.score_book import ScoreBook
from keras_mtl.schedules.tasks import TaskInfo


@register
class Implicit(RatioSchedule):
    """Scales the learning rate or the gradient of each task.

    With r_i = score / baseline and R the mean of r:

        w_i = 1 + sign(R - r_i) min(gamma, (max_j r_j)^alpha |R - r_i|^beta)

    then w <- N w / sum(w), with no w_i below 1 - gamma. The factors stay near 1 while all scores
    are low. `probabilities` returns the prior and does not change; `scales` returns w.

    State: the state of `RatioSchedule` without `probabilities`, and `scales` float64[N], w.

    Args:
        tasks: the tasks, each with a baseline.
        gamma: largest deviation of a factor from 1 before normalization, in [0, 1].
        alpha: >= 0; a larger value keeps the factors near 1 for longer while scores are low.
        beta: > 0; a smaller value amplifies small gaps more.
        **shared: prior, prior_temperature, ema, max_change, floor: see `AdaptiveSchedule`.
            Here max_change limits the change of each factor, and prior and floor set the fixed
            probabilities.

    Reference: the implicit schedule of Jean, Firat, Johnson 2019, arXiv 1909.06434. The defaults
    are our own: the constants of the paper were not available.
    """

    name = "implicit"
    scaling = True

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        gamma: float = 0.9,
        alpha: float = 2.0,
        beta: float = 0.5,
        **shared: Any,
    ) -> None:
        super().__init__(tasks, **shared)
        hint = "a factor never falls below 1 - gamma"
        self.gamma = number(self.name, "gamma", gamma, least=0, most=1, hint=hint)
        hint = "larger keeps the factors near 1 for longer"
        self.alpha = number(self.name, "alpha", alpha, least=0, hint=hint)
        hint = "smaller amplifies small gaps"
        self.beta = number(self.name, "beta", beta, above=0, hint=hint)
        self._probabilities = super().init()["probabilities"]
        self._probabilities.setflags(write=False)

    def init(self) -> State:
        """Returns the state before the first score: all factors are 1."""
        state = super().init()
        del state["probabilities"]  # They are fixed, and follow the sizes when these change.
        return {**state, "scales": np.ones(self.num_tasks)}

    def weights(self, step: int, state: State) -> np.ndarray:
        """Returns the probabilities of the prior."""
        del step, state
        return self._probabilities

    def probabilities(self, step: int, state: State) -> np.ndarray:
        """Returns the probabilities of the prior at every step, read-only."""
        del step, state
        return self._probabilities

    def scales(self, step: int, state: State) -> np.ndarray:
        """Returns the factors of the last update, float64[N], mean 1."""
        del step
        return state["scales"]

    def ratio_weights(self, ratios: np.ndarray) -> np.ndarray:
        """Returns the factors before normalization, float64[N] in [1 - gamma, 1 + gamma]."""
        gap = ratios.mean() - ratios
        # With a small beta, a rounding error of the mean (1e-16) would become a factor of 1 + 1e-8.
        gap = np.where(np.abs(gap) <= 1e-12 * ratios.max(), 0.0, gap)
        size = np.minimum(self.gamma, ratios.max() ** self.alpha * np.abs(gap) ** self.beta)
        return 1 + np.sign(gap) * size

    def factors(self, ratios: np.ndarray) -> np.ndarray:
        """Returns the factors, float64[N], mean 1, none below 1 - gamma."""
        weights = self.ratio_weights(ratios)
        shares = apply_floor(normalize(weights), (1 - self.gamma) / self.num_tasks)
        return shares * self.num_tasks

    def update(self, state: State, step: int, scores: ScoreBook) -> State:
        """Learns from the scores since the last update."""
        del step
        if not self.fresh(state, scores).any():
            return dict(state)
        state = self.taken_in(state, scores)
        scales = bounded(state["scales"], self.factors(state["ratios"]), self.max_change)
        return {**state, "scales": scales}

    def rebalance(self, state: State, kept: np.ndarray) -> State:
        """Makes the mean of the factors 1."""
        del kept
        scales = normalize(state["scales"]) * self.num_tasks  # Also if all are 0.
        return {**state, "scales": bounded(scales, self.factors(state["ratios"]), self.max_change)}
