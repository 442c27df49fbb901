"""Tasks are drawn at fixed rates; their updates are scaled by how far behind they are."""

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
    """Factors on the learning rate or the gradient of each task.

    With r_i = score / baseline and R the mean of r:

        w_i = 1 + sign(R - r_i) min(gamma, (max_j r_j)^alpha |R - r_i|^beta)

    then w <- N w / sum(w), and no w_i below 1 - gamma. Weights stay near 1 while all scores are
    low. `probabilities` is the prior and does not change; `scales` gives w.

    State: that of `RatioSchedule` without `probabilities`; `scales` float64[N], w.

    Args:
        tasks: the tasks, each with a baseline.
        gamma: largest deviation of a factor from 1 before renormalizing, in [0, 1].
        alpha: how long factors stay near 1 while scores are low, >= 0.
        beta: small amplifies small gaps, > 0.
        **shared: prior, prior_temperature, ema, max_change, floor: see `AdaptiveSchedule`.
            max_change bounds the change of any factor here; prior and floor set the fixed
            probabilities.

    Reference: the implicit schedule of Jean, Firat, Johnson 2019, arXiv 1909.06434, in the form in
    which it is known to the field; the constants printed there were not available.
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
        """No score yet: all factors 1."""
        state = super().init()
        del state["probabilities"]  # fixed, and follows the sizes when they change
        return {**state, "scales": np.ones(self.num_tasks)}

    def weights(self, step: int, state: State) -> np.ndarray:
        """The prior's probabilities."""
        del step, state
        return self._probabilities

    def probabilities(self, step: int, state: State) -> np.ndarray:
        """The prior's probabilities, whatever the step; read-only."""
        del step, state
        return self._probabilities

    def scales(self, step: int, state: State) -> np.ndarray:
        """The factors of the last update."""
        del step
        return state["scales"]

    def ratio_weights(self, ratios: np.ndarray) -> np.ndarray:
        """The factors before renormalizing, float64[N] in [1 - gamma, 1 + gamma]."""
        gap = ratios.mean() - ratios
        # A small power would make a rounding error of the mean (1e-16) a factor of 1 + 1e-8.
        gap = np.where(np.abs(gap) <= 1e-12 * ratios.max(), 0.0, gap)
        size = np.minimum(self.gamma, ratios.max() ** self.alpha * np.abs(gap) ** self.beta)
        return 1 + np.sign(gap) * size

    def factors(self, ratios: np.ndarray) -> np.ndarray:
        """The factors, float64[N], mean 1, none below 1 - gamma."""
        weights = self.ratio_weights(ratios)
        shares = apply_floor(normalize(weights), (1 - self.gamma) / self.num_tasks)
        return shares * self.num_tasks

    def update(self, state: State, step: int, scores: ScoreBook) -> State:
        """Takes in the scores that are new."""
        del step
        if not self.fresh(state, scores).any():
            return dict(state)
        state = self.taken_in(state, scores)
        scales = bounded(state["scales"], self.factors(state["ratios"]), self.max_change)
        return {**state, "scales": scales}

    def rebalance(self, state: State, kept: np.ndarray) -> State:
        """Factors have mean 1 again."""
        del kept
        scales = normalize(state["scales"]) * self.num_tasks  # Also where all are 0.
        return {**state, "scales": bounded(scales, self.factors(state["ratios"]), self.max_change)}
