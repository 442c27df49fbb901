"""IMTL-G: the step with the same projection on the gradient of every task."""

import tensorflow as tf

from keras_mtl.balancing.base import GRADIENTS, Balancer, Seen, State
from keras_mtl.balancing.registry import register
from keras_mtl.balancing.spectral import equal_cosines


@register
class ImtlG(Balancer):
    """Q Σ α_i g_i with Q = Σ q_i, Σ α_i = 1 and the same cosine with every g_i.

    The shares of a sampling schedule affect only the noise of the g_i. The factor Q keeps the size
    of the plain step. Coefficients may be negative. If their sum is, the formula of the paper
    descends no task; keras_mtl then takes the opposite step, for which the coefficients sum to −1.

    Args:
        num_tasks: number of tasks N, >= 1.
        seed: has no effect.

    Reference: Liu et al. 2021, "Towards Impartial Multi-task Learning", ICLR,
    openreview.net/forum?id=IMPnRXEWpvr; independent gradients give the α of IMTL in LibMTL
    (github.com/median-research-group/LibMTL). Dependent gradients are treated as in
    Quinton & Rey 2024, arXiv 2406.16232.
    """

    name = "imtl_g"
    uses = GRADIENTS
    shared_only = True

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Returns Q α_i / q_i, float32 [N], because the step multiplies by q_i."""
        del state
        found = equal_cosines(seen.gramian)
        alpha = tf.math.divide_no_nan(found.coefficients, found.norms)
        alpha = tf.math.divide_no_nan(alpha, tf.abs(tf.reduce_sum(alpha)))
        return tf.math.divide_no_nan(tf.reduce_sum(seen.shares) * alpha, seen.shares)
