"""GradDrop: each coordinate keeps one sign, drawn by how much the tasks agree."""

import tensorflow as tf

from keras_mtl.balancing.base import Combiner, Seen
from keras_mtl.balancing.registry import number, register


@register
class GradDrop(Combiner):
    """Σ_i (leak + (1 − leak) m_i) h_i for each coordinate, with h_i = q_i g_i.

    P = ½ (1 + Σ h_i / Σ |h_i|) is the purity of the sign, and u is uniform in [0, 1). If u < P in
    a coordinate, m_i is 1 for positive h_i and 0 for negative ones; otherwise it is the opposite.
    The expectation is the plain step. If all tasks agree on a sign, the result is the plain step
    itself. The paper masks the gradient of a shared activation. This class masks the gradients of
    shared variables, which every model has.

    Args:
        num_tasks: number of tasks N, >= 1.
        seed: seed of u.
        leak: share of every gradient that is never masked, in [0, 1]; 1 is the plain step.

    Reference: Chen et al. 2020, arXiv 2010.06808, algorithm 1.
    """

    name = "graddrop"

    def __init__(self, num_tasks: int, seed: int = 0, *, leak: float = 0.0) -> None:
        super().__init__(num_tasks, seed)
        self.leak = number(self.name, "leak", leak, least=0, most=1)

    def combine(self, contributions: tf.Tensor, seen: Seen, number: int) -> tf.Tensor:
        """Returns the gradient by the formula of the class."""
        total = tf.reduce_sum(contributions, axis=0)
        size = tf.reduce_sum(tf.abs(contributions), axis=0)
        purity = 0.5 * (1.0 + tf.math.divide_no_nan(total, size))
        positive = self.uniform(seen.step, tf.shape(total), number) < purity
        kept = tf.where(positive, tf.maximum(contributions, 0.0), tf.minimum(contributions, 0.0))
        return self.leak * total + (1 - self.leak) * tf.reduce_sum(kept, axis=0)
