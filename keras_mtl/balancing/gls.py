"""Geometric loss strategy: descends the geometric mean of the losses."""

import tensorflow as tf

from keras_mtl.balancing.base import LOSSES, Balancer, Seen, State
from keras_mtl.balancing.registry import register

_LEAST_LOSS = 1e-8


@register
class GeometricLoss(Balancer):
    """w_i = M / L_i, where M is the geometric mean of the losses, weighted with the shares.

    With Q = Σ q_i, M = Π L_i^(q_i / Q), and the step is Q times the gradient of M. A change of the
    unit of one loss changes the size of the step, but not its direction.

    Args:
        num_tasks: number of tasks N, >= 1.
        seed: has no effect.

    Reference: Chennupati, Sistu, Yogamani, Rawashdeh 2019, "MultiNet++", arXiv 1904.08492,
    which has equal shares, for which the step is N times that of GLS in LibMTL
    (github.com/median-research-group/LibMTL).
    """

    name = "gls"
    uses = LOSSES

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Returns the weights by the formula of the class, float32 [N]."""
        del state
        losses = tf.maximum(seen.known_losses, _LEAST_LOSS)
        total = tf.reduce_sum(seen.shares)
        mean = tf.math.divide_no_nan(tf.reduce_sum(seen.shares * tf.math.log(losses)), total)
        return tf.exp(mean) / losses
