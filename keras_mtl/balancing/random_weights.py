"""Random loss weighting: the baseline that a clever method has to beat."""

import tensorflow as tf

from keras_mtl.balancing.base import Balancer, Seen, State
from keras_mtl.balancing.registry import register


@register
class RandomWeights(Balancer):
    """w = N softmax(z) with z ~ N(0, I) drawn again at each step.

    The factor N, which the paper has not, keeps the mean at 1. The expectation of each weight is 1,
    so on average the step is the plain one.

    Args:
        num_tasks: N.
        seed: of the draws.

    Reference: Lin, Ye, Zhang, Tsang 2022, arXiv 2111.10603, algorithm 1.
    """

    name = "random"

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """The formula above."""
        del state
        return self.num_tasks * tf.nn.softmax(self.normal(seen.step, [self.num_tasks]))
