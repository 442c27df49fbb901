"""FairGrad: the step that is fair to the tasks in the sense of α-fairness."""

import tensorflow as tf

from keras_mtl.balancing.base import GRADIENTS, Balancer, Seen, State
from keras_mtl.balancing.registry import integer, number, register
from keras_mtl.balancing.spectral import definite_cosines, norms_of, solve_definite

# Step sizes that the line search of Newton's method compares.
_STEP_SIZES = tuple(0.5**k for k in range(8))
# Share of the distance to the boundary of the positive numbers that one step may take.
_WITHIN = 0.9
# Largest relative change of a coefficient at which the method has converged in float32.
_TOLERANCE = 1e-6


@register
class FairGrad(Balancer):
    """d = Σ q_i w_i g_i with w_i = (g_i · d)^(−a): tasks that improve less get more weight.

    d maximizes Σ q_i (g_i · d)^(1 − a) / (1 − a) over steps of its length. a = 1 is proportional
    fairness, which is Nash-MTL; a large a approaches the step that is best for the task that
    improves least. With shares of 1 the equation is that of the paper, G w = w^(−1/a). The method
    also sets the length of the step: with a = 1 it is √(Σ q_i), whatever the gradients are.

    Args:
        num_tasks: number of tasks N, >= 1.
        seed: has no effect.
        a: exponent of fairness, >= 0.5.
        iterations: largest number of iterations of the solver, >= 1.

    Reference: Ban & Ji 2024, arXiv 2402.15638, algorithm 1; a = 1 is the default of the authors'
    code. Shares in the objective are our extension.
    """

    name = "fairgrad"
    uses = GRADIENTS
    shared_only = True

    def __init__(
        self, num_tasks: int, seed: int = 0, *, a: float = 1.0, iterations: int = 50
    ) -> None:
        super().__init__(num_tasks, seed)
        self.a = number(self.name, "a", a, least=0.5)
        self.iterations = integer(self.name, "iterations", iterations, least=1)

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Returns the weights by the formula of the class, float32 [N]."""
        del state
        return fair_weights(seen, self.a, self.iterations)


def fair_weights(seen: Seen, a: float, iterations: int) -> tf.Tensor:
    """Returns w with w_i = (g_i · Σ q_j w_j g_j)^(−a), float32 [N] > 0; 0 for a gradient of 0.

    Args:
        seen: data of the step.
        a: > 0.
        iterations: largest number of iterations.
    """
    gram, shares = seen.gramian, seen.shares
    norms = norms_of(gram)
    active = norms > 0
    # For coefficients b_i = q_i w_i ‖g_i‖ of the unit vectors, C b = k b^(−1/a).
    targets = tf.pow(tf.where(active, shares, 1.0), 1 / a)
    targets *= tf.pow(tf.where(active, norms, 1.0), 1 / a - 1)
    largest = tf.reduce_max(tf.where(active, targets, 0.0))
    targets = tf.where(active, tf.math.divide_no_nan(targets, largest), 1.0)
    coefficients = _solve(definite_cosines(gram), targets, a, iterations)
    coefficients *= tf.pow(largest, a / (1 + a))
    return tf.where(active, tf.math.divide_no_nan(coefficients, shares * norms), 0.0)


def _solve(cosines: tf.Tensor, targets: tf.Tensor, a: float, iterations: int) -> tf.Tensor:
    """Returns b > 0 with C b = k b^(−1/a): the minimum of a convex function, by Newton's method.

    Args:
        cosines: C, positive definite, float32 [N, N].
        targets: k, float32 [N], in (0, 1].
        a: > 0.
        iterations: largest number of iterations.

    Returns:
        float32 [N].
    """
    sizes = tf.constant(_STEP_SIZES)

    def slope(b: tf.Tensor) -> tf.Tensor:
        """Returns the gradient of the function, float32 of the shape [..., N] of b."""
        return tf.linalg.matvec(cosines, b) - targets * tf.pow(b, -1 / a)

    def unfinished(b: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
        del b
        return change > _TOLERANCE

    def step(b: tf.Tensor, change: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        del change
        curvature = cosines + tf.linalg.diag(targets * tf.pow(b, -1 / a - 1) / a)
        direction = solve_definite(curvature, -slope(b))
        room = tf.where(direction < 0, -b / direction, 1.0 / _WITHIN)
        longest = tf.minimum(1.0, _WITHIN * tf.reduce_min(room))
        candidates = b + longest * sizes[:, None] * direction
        # The slopes, unlike the values, are exact near the minimum.
        along = tf.abs(tf.linalg.matvec(slope(candidates), direction))
        b = tf.gather(candidates, tf.argmin(along, output_type=tf.int32))
        return b, longest * tf.reduce_max(tf.abs(direction) / b)

    # Exact if the gradients are orthogonal.
    start = tf.pow(targets, a / (1 + a))
    b, _ = tf.while_loop(unfinished, step, (start, tf.constant(1.0)), maximum_iterations=iterations)
    return b
