"""ConFIG: the direction with the same cosine to every gradient, as long as the gradients are."""

import tensorflow as tf

from keras_mtl.balancing.base import GRADIENTS, Balancer, Seen, State
from keras_mtl.balancing.registry import register
from keras_mtl.balancing.spectral import equal_cosines


@register
class ConFIG(Balancer):
    """(Σ q_i g_i · u) u, where u is the unit vector with the same cosine to every g_i.

    It is the direction of IMTL-G with another length: that of the plain step along u. No task gets
    worse. Shares affect only the length.

    Args:
        num_tasks: number of tasks N, >= 1.
        seed: has no effect.

    Reference: Liu, Chu, Thuerey 2024, "ConFIG", arXiv 2408.11104, equation 2.
    """

    name = "config"
    uses = GRADIENTS
    shared_only = True

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Returns the combination as factors of the q_i g_i, float32 [N]."""
        del state
        found = equal_cosines(seen.gramian)
        # Inner products of the unit gradients with √square u.
        along = tf.linalg.matvec(found.cosines, found.coefficients)
        length = tf.reduce_sum(seen.shares * found.norms * along)
        factor = tf.math.divide_no_nan(length, found.square)
        combination = factor * tf.math.divide_no_nan(found.coefficients, found.norms)
        return tf.math.divide_no_nan(combination, seen.shares)
