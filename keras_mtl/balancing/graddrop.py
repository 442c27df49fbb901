"""GradDrop: each coordinate follows one sign, drawn by how much the tasks agree on it."""

import tensorflow as tf

from keras_mtl.balancing.base import Combiner, Seen
from keras_mtl.balancing.registry import number, register


@register
class GradDrop(Combiner):
    """Σ_i (leak + (1 − leak) m_i) h_i, coordinate by coordinate, with h_i = q_i g_i.

    P = ½ (1 + Σ h_i / Σ |h_i|) is the purity of the sign. With u uniform in [0, 1), m_i keeps the
    positive h_i where u < P and the negative ones elsewhere. The expectation is the plain step, and
    where all agree it is the plain step itself. The paper masks the gradient of a shared
    activation, here it is that of the shared variables, which any model has.

    Args:
        num_tasks: N.
        seed: of u.
        leak: share of every gradient that passes in any case, in [0, 1]; 1 is the plain step.

    Reference: Chen et al. 2020, arXiv 2010.06808, algorithm 1.
    """

    name = "graddrop"

    def __init__(self, num_tasks: int, seed: int = 0, *, leak: float = 0.0) -> None:
        super().__init__(num_tasks, seed)
        self.leak = number(self.name, "leak", leak, least=0, most=1)

    def combine(self, contributions: tf.Tensor, seen: Seen, number: int) -> tf.Tensor:
        """The formula above."""
        total = tf.reduce_sum(contributions, axis=0)
        size = tf.reduce_sum(tf.abs(contributions), axis=0)
        purity = 0.5 * (1.0 + tf.math.divide_no_nan(total, size))
        positive = self.uniform(seen.step, tf.shape(total), number) < purity
        kept = tf.where(positive, tf.maximum(contributions, 0.0), tf.minimum(contributions, 0.0))
        return self.leak * total + (1 - self.leak) * tf.reduce_sum(kept, axis=0)
