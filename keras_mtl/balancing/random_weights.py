"""Random loss weighting: the baseline that other methods should beat."""

import tensorflow as tf

from keras_mtl.balancing.base import Balancer, Seen, State
from keras_mtl.balancing.registry import register


@register
class RandomWeights(Balancer):
    """w = N softmax(z), with z ~ N(0, I) drawn at each step.

    The factor N, which is not in the paper, makes the mean of the weights 1. The expectation of
    each weight is 1, so the expected step is the plain step.

    Args:
        num_tasks: number of tasks N, >= 1.
        seed: seed of the draws.

    Reference: Lin, Ye, Zhang, Tsang 2022, arXiv 2111.10603, algorithm 1.
    """

    name = "random"

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Returns the weights by the formula of the class, float32 [N]."""
        del state
        return self.num_tasks * tf.nn.softmax(self.normal(seen.step, [self.num_tasks]))
