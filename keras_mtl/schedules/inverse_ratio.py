"""The inverse-ratio schedule: weights by the inverse of the ratio of score to baseline."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mtl.schedules.adaptive import RatioSchedule
from keras_mtl.schedules.registry import number, register
from keras_mtl.schedules.tasks import TaskInfo


@register
class InverseRatio(RatioSchedule):
    """w_i = 1 / (min(1, r_i)^alpha + epsilon), with r_i = score / baseline.

    It favors tasks that are far from their baseline most. Scores above the baseline count as equal
    to it; when all tasks have reached it, the schedule is uniform (or the prior).

    Args:
        tasks: the tasks, each with a baseline.
        alpha: how strongly lagging tasks are favored, >= 0; 0 is uniform. A task at 0.9 of its
            baseline gets 1.1 times the weight of a task at its baseline if alpha is 1, and 1.6
            times if it is 5.
        epsilon: limits the ratio of two weights to (1 + epsilon) / epsilon, >= 1e-9.
        **shared: prior, prior_temperature, ema, max_change, floor: see `AdaptiveSchedule`.

    Reference: Jean, Firat, Johnson 2019, arXiv 1909.06434; Lingvo's
    InverseRatioAdaptiveScheduler (two tasks, same defaults).
    """

    name = "inverse_ratio"

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        alpha: float = 1.0,
        epsilon: float = 0.05,
        **shared: Any,
    ) -> None:
        super().__init__(tasks, **shared)
        self.alpha = number(self.name, "alpha", alpha, least=0, hint="0 is uniform, 1 the default")
        hint = "with 0 a task without a score would have an infinite weight"
        self.epsilon = number(self.name, "epsilon", epsilon, least=1e-9, hint=hint)

    def ratio_weights(self, ratios: np.ndarray) -> np.ndarray:
        """Returns the weights by the formula of the class."""
        return 1 / (np.minimum(1.0, ratios) ** self.alpha + self.epsilon)
