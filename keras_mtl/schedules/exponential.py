"""The exponential schedule: from one set of weights to another at an exponential rate."""

from collections.abc import Mapping, Sequence

import numpy as np

from keras_mtl.schedules.base import Schedule, State
from keras_mtl.schedules.parameters import per_task
from keras_mtl.schedules.registry import number, register
from keras_mtl.schedules.tasks import TaskInfo

Weights = Mapping[str, float] | Sequence[float]


class ShiftedExponential(Schedule):
    """Base class of the schedules w_i(t) = p1_i + b_i * exp(-alpha t).

    Args:
        tasks: the tasks.
        alpha: rate per step, >= 0.
        p0: weights at step 0, {task name: weight} or a list, each >= 0 and at least one above 0.
        p1: weights at the end, in the same form.
        floor: least probability of every task, in [0, 1/N].
    """

    # b_i = start_factor * p0_i - p1_i
    start_factor = 1.0

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        alpha: float,
        p0: Weights,
        p1: Weights,
        floor: float = 0.0,
    ) -> None:
        super().__init__(tasks, floor=floor)
        hint = "a rate per step; 63 % of the change is done after 1/alpha steps"
        self.alpha = number(self.name, "alpha", alpha, least=0, hint=hint)
        self.p0 = per_task(self.name, "p0", p0, self.tasks, weights=True)
        self.p1 = per_task(self.name, "p1", p1, self.tasks, weights=True)

    def weights(self, step: int, state: State) -> np.ndarray:
        """Returns the weights by the formula of the class."""
        del state
        decay = np.exp(-self.alpha * step)
        # Grouped so that no term is negative: rounding cannot bring a weight below 0.
        return self.p1 * (1 - decay) + self.start_factor * self.p0 * decay

    def never_drawn(self) -> np.ndarray:
        """Returns which tasks have the weight 0 at the start and at the end, bool[N]."""
        if self.floor > 0:
            return super().never_drawn()
        # With alpha = 0, the end is never approached.
        return (self.p0 == 0) & ((self.p1 == 0) | (self.alpha == 0))


@register
class Exponential(ShiftedExponential):
    """w_i(t) = p1_i + (p0_i - p1_i) exp(-alpha t).

    Args:
        tasks: the tasks.
        alpha: rate per step, >= 0.
        p0: weights at step 0, {task name: weight} or a list, each >= 0 and at least one above 0.
        p1: weights at the end, in the same form.
        floor: least probability of every task, in [0, 1/N].

    Reference: Kiperwasser & Ballesteros 2018, arXiv 1804.08915; Lingvo's ExponentialScheduler.
    As in Lingvo, t is the step, so alpha is small: 1e-5 spreads the change over some
    100,000 steps.
    """

    name = "exponential"
