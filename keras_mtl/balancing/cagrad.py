"""CAGrad: the direction near the plain step that is best for the worst task."""

import tensorflow as tf

from keras_mtl.balancing.base import GRADIENTS, Balancer, Seen, State
from keras_mtl.balancing.registry import integer, number, register
from keras_mtl.balancing.simplex import worst_case


@register
class CAGrad(Balancer):
    """g_0 + c ‖g_0‖ g_w / ‖g_w‖ with w = argmin of g_wᵀ g_0 + c ‖g_0‖ ‖g_w‖ over the simplex.

    g_0 = Σ q_i g_i is the plain step, and g_w = Σ w_i g_i. Of all directions within c ‖g_0‖ of g_0,
    this one improves the worst task most. c = 0 gives the plain step; for large c the direction
    approaches that of MGDA.

    Args:
        num_tasks: number of tasks N, >= 1.
        seed: has no effect.
        c: radius in parts of ‖g_0‖, in [0, 1). For this range the paper proves convergence to a
            stationary point of the plain sum (theorem 3.2).
        iterations: largest number of steps of the solver, >= 1.

    Reference: Liu, Liu, Jin, Stone, Liu 2021, arXiv 2110.14048, algorithm 1 and equation 3.
    """

    name = "cagrad"
    uses = GRADIENTS
    shared_only = True

    def __init__(
        self, num_tasks: int, seed: int = 0, *, c: float = 0.5, iterations: int = 100
    ) -> None:
        super().__init__(num_tasks, seed)
        self.c = number(self.name, "c", c, least=0, below=1)
        self.iterations = integer(self.name, "iterations", iterations, least=1)

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Returns the combination as factors of the q_i g_i, float32 [N]."""
        del state
        gram, shares = seen.gramian, seen.shares
        simplex = worst_case(gram, shares, self.c, seen.present, self.iterations)
        length_0, length_w = (
            tf.sqrt(tf.maximum(tf.tensordot(x, tf.linalg.matvec(gram, x), 1), 0.0))
            for x in (shares, simplex)
        )
        added = self.c * tf.math.divide_no_nan(length_0, length_w) * simplex
        return 1.0 + tf.math.divide_no_nan(added, shares)
