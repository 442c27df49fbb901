"""Aligned-MTL: gradients made orthogonal and of equal length before they are summed."""

import tensorflow as tf

from keras_mtl.balancing.base import GRADIENTS, Balancer, Seen, State
from keras_mtl.balancing.registry import choice, register
from keras_mtl.balancing.spectral import eigen

_SCALES = ("min", "rmse")


@register
class AlignedMTL(Balancer):
    """Σ α_i g_i with α = √λ V Λ^(−1/2) Vᵀ q, where G = V Λ Vᵀ is the Gram matrix of the g_i.

    α is the plain step's q after the principal components of the gradients were made equally long,
    so that the condition number of the system of gradients is 1. Components of length 0 are left
    out. The direction does not depend on the sizes of the components; nearly dependent gradients
    make the step short.

    Args:
        num_tasks: number of tasks N, >= 1.
        seed: has no effect.
        scale: √λ, the common length of the components: `min` (that of the shortest one) or `rmse`
            (their root mean square).

    Reference: Senushkin, Patakin, Kuznetsov, Konushin 2023, "Independent Component Alignment for
    Multi-Task Learning", CVPR, arXiv 2305.19000, algorithm 1 (`min`); `rmse` is from the authors'
    code.
    """

    name = "aligned_mtl"
    uses = GRADIENTS
    shared_only = True

    def __init__(self, num_tasks: int, seed: int = 0, *, scale: str = "min") -> None:
        super().__init__(num_tasks, seed)
        self.scale = choice(self.name, "scale", scale, _SCALES)

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Returns α_i / q_i, float32 [N], because the step multiplies by q_i."""
        del state
        decomposed = eigen(seen.gramian)
        values, kept = decomposed.values, decomposed.kept
        if self.scale == "min":
            square = tf.reduce_min(tf.where(kept, values, float("inf")))
            square = tf.where(tf.reduce_any(kept), square, 0.0)
        else:
            total = tf.reduce_sum(tf.where(kept, values, 0.0))
            square = tf.math.divide_no_nan(total, tf.reduce_sum(tf.cast(kept, tf.float32)))
        alpha = decomposed.apply(tf.sqrt(square / values), seen.shares)
        return tf.math.divide_no_nan(alpha, seen.shares)
