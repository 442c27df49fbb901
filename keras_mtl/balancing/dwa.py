"""Dynamic weight average: losses that fall slowly get larger weights."""

import numpy as np
import tensorflow as tf

from keras_mtl.balancing.base import Balancer, Seen, State
from keras_mtl.balancing.registry import integer, number, register


@register
class DynamicWeightAverage(Balancer):
    """w = N softmax(r / T) with r_i = L_i(e − 1) / L_i(e − 2), the mean losses of intervals.

    The weights are 1 in the first two intervals. A task without a loss in an interval keeps its
    previous mean.

    Args:
        num_tasks: number of tasks N, >= 1.
        seed: has no effect.
        temperature: T > 0; a large value gives even weights.
        interval: number of steps of an interval, >= 1; an epoch in the paper.

    Reference: Liu, Johns, Davison 2019, arXiv 1803.10704, equation 7.
    """

    name = "dwa"

    def __init__(
        self, num_tasks: int, seed: int = 0, *, temperature: float = 2.0, interval: int = 100
    ) -> None:
        super().__init__(num_tasks, seed)
        self.temperature = number(self.name, "temperature", temperature, above=0)
        self.interval = integer(self.name, "interval", interval, least=1)

    def init(self) -> dict[str, np.ndarray]:
        """Returns the sum and number of losses of the interval and the means of the last two."""
        names = ("sum", "count", "last", "before_last")
        return {name: np.zeros(self.num_tasks, np.float32) for name in names}

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Returns the weights by the formula of the class, float32 [N]."""
        del seen
        known = (state["last"] > 0) & (state["before_last"] > 0)
        ratio = tf.math.divide_no_nan(state["last"], state["before_last"])
        ratio = tf.where(known, ratio, 1.0)
        return self.num_tasks * tf.nn.softmax(ratio / self.temperature)

    def update(self, state: State, seen: Seen) -> State:
        """Adds the losses; the last step of an interval also computes the means."""
        total = state["sum"] + tf.where(seen.present, seen.known_losses, 0.0)
        count = state["count"] + tf.cast(seen.present, tf.float32)
        mean = tf.where(count > 0, tf.math.divide_no_nan(total, count), state["last"])
        ends = tf.equal((seen.step + 1) % self.interval, 0)
        return {
            "sum": tf.where(ends, 0.0, total),
            "count": tf.where(ends, 0.0, count),
            "last": tf.where(ends, mean, state["last"]),
            "before_last": tf.where(ends, state["last"], state["before_last"]),
        }
