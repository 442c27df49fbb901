"""The linear adaptive schedule: weights by the distance to the baseline."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mtl.schedules.adaptive import RatioSchedule
from keras_mtl.schedules.registry import number, register
from keras_mtl.schedules.tasks import TaskInfo


@register
class SimpleAdaptive(RatioSchedule):
    """w_i = 1 + epsilon - min(1, r_i)^alpha, with r_i = score / baseline.

    It already reacts strongly to a task a little below its baseline: with the defaults, r = 0.9
    and r = 1 give weights of 3 : 1, while `inverse_ratio` gives 1.1 : 1. It is therefore more
    likely to oscillate when scores are updated rarely; see `ema` and `max_change`.

    Args:
        tasks: the tasks, each with a baseline.
        alpha: >= 0; 0 is uniform. With a large value the weight of a task falls only when it is
            close to its baseline.
        epsilon: weight of a task at its baseline, >= 0. With 0 such a task is not drawn while
            another task lags; when all tasks have reached their baselines, the schedule is uniform
            (or the prior).
        **shared: prior, prior_temperature, ema, max_change, floor: see `AdaptiveSchedule`.

    Reference: Lingvo's SimpleAdaptiveScheduler (two tasks, same defaults).
    """

    name = "simple_adaptive"

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
        hint = "the weight of a task at its baseline"
        self.epsilon = number(self.name, "epsilon", epsilon, least=0, hint=hint)

    def ratio_weights(self, ratios: np.ndarray) -> np.ndarray:
        """Returns the weights by the formula of the class."""
        # The capped power is taken from 1 first: 1 + epsilon - 1 would leave a rounding error.
        return (1 - np.minimum(1.0, ratios) ** self.alpha) + self.epsilon
