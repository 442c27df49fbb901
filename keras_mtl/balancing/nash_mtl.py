"""Nash-MTL: the step on which the tasks agree as the players of a bargaining game."""

import tensorflow as tf

from keras_mtl.balancing.base import GRADIENTS, Balancer, Seen, State
from keras_mtl.balancing.fairgrad import fair_weights
from keras_mtl.balancing.registry import integer, number, register


@register
class NashMTL(Balancer):
    """d = Σ q_i w_i g_i with w_i = 1 / (g_i · d), scaled down to a norm of at most max_norm.

    Of all steps of one length, d has the largest Σ q_i log(g_i · d): the bargaining solution of
    Nash, with the shares as bargaining powers. Before max_norm, the norm of d is √(Σ q_i), whatever
    the gradients are.

    Args:
        num_tasks: number of tasks N, >= 1.
        seed: has no effect.
        max_norm: largest norm of the step, > 0.
        iterations: largest number of iterations of the solver, >= 1.

    Reference: Navon et al. 2022, arXiv 2202.01017, algorithm 1; max_norm is from the authors'
    code. The paper approximates the solution by a sequence of convex problems;
    keras_mtl solves it by Newton's method at every step. The paper has equal shares.
    """

    name = "nash_mtl"
    uses = GRADIENTS
    shared_only = True

    def __init__(
        self, num_tasks: int, seed: int = 0, *, max_norm: float = 1.0, iterations: int = 50
    ) -> None:
        super().__init__(num_tasks, seed)
        self.max_norm = number(self.name, "max_norm", max_norm, above=0)
        self.iterations = integer(self.name, "iterations", iterations, least=1)

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Returns the weights by the formula of the class, float32 [N]."""
        del state
        weights = fair_weights(seen, 1.0, self.iterations)
        square = tf.tensordot(weights, tf.linalg.matvec(seen.contributions, weights), 1)
        norm = tf.sqrt(tf.maximum(square, 0.0))
        return weights * tf.minimum(1.0, tf.math.divide_no_nan(self.max_norm, norm))
