"""MGDA: the direction along which all tasks improve at the same rate."""

import tensorflow as tf

from keras_mtl.balancing.base import GRADIENTS, Balancer, Seen, State
from keras_mtl.balancing.registry import choice, integer, register
from keras_mtl.balancing.simplex import min_norm

_NORMALIZATIONS = ("none", "l2", "loss", "loss+")


@register
class Mgda(Balancer):
    """Q Σ α_i g_i, with Q = Σ q_i and α = argmin of ‖Σ α_i g_i / s_i‖² over the simplex.

    This is the shortest convex combination of the gradients. For two tasks
    α_1 = clip((g_2 − g_1) · g_2 / ‖g_1 − g_2‖², 0, 1). The probabilities of a sampling schedule
    affect only the noise of the g_i. The factor Q keeps the size of the plain step.

    Args:
        num_tasks: number of tasks N, >= 1.
        seed: has no effect.
        normalize: s_i: `none` (1), `l2` (‖g_i‖), `loss` (L_i) or `loss+` (L_i ‖g_i‖).
        iterations: largest number of steps of the solver, >= 1.

    Reference: Désidéri 2012, "Multiple-gradient descent algorithm (MGDA) for multiobjective
    optimization"; Sener & Koltun 2018, arXiv 1810.04650, equation 3 and algorithms 1 (two
    tasks) and 2; the values of `normalize` are from the authors' code.
    """

    name = "mgda"
    uses = GRADIENTS
    shared_only = True

    def __init__(
        self, num_tasks: int, seed: int = 0, *, normalize: str = "none", iterations: int = 100
    ) -> None:
        super().__init__(num_tasks, seed)
        self.normalize = choice(self.name, "normalize", normalize, _NORMALIZATIONS)
        self.iterations = integer(self.name, "iterations", iterations, least=1)

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Returns Q α_i / q_i, float32 [N], because the step multiplies by q_i."""
        del state
        gram = seen.gramian
        scale = tf.ones([self.num_tasks])
        if self.normalize in ("l2", "loss+"):
            scale *= tf.sqrt(tf.linalg.diag_part(gram))
        if self.normalize in ("loss", "loss+"):
            scale *= seen.known_losses
        inverse = tf.math.divide_no_nan(1.0, scale)
        alpha = min_norm(inverse[:, None] * gram * inverse[None, :], seen.present, self.iterations)
        return tf.math.divide_no_nan(tf.reduce_sum(seen.shares) * alpha, seen.shares)
