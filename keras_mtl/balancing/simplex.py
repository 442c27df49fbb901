"""Solvers of two convex problems over the simplex, given an N x N Gram matrix.

Both use Frank-Wolfe with pairwise steps: each step moves the optimal amount of weight from the
worst vertex that has weight to the best vertex. The method converges linearly, is exact after one
step for two tasks, and needs no projection (Lacoste-Julien & Jaggi 2015, arXiv 1511.05932).
"""

from collections.abc import Callable

import tensorflow as tf

# Tolerances of the slope, relative to the objective and to the largest norm: about the resolution
# of float32.
_TOLERANCE = 1e-4
_LEAST_TOLERANCE = 1e-9
_TINY = 1e-12


def min_norm(gram: tf.Tensor, present: tf.Tensor, iterations: int) -> tf.Tensor:
    """Returns the argmin of wᵀ M w over the simplex of the present tasks.

    Args:
        gram: M, float32 [N, N], positive semidefinite.
        present: bool [N], at least one.
        iterations: largest number of steps.

    Returns:
        float32 [N], >= 0, sums to 1; 0 for absent tasks.
    """
    gram = _scaled(gram)

    def slope(weights: tf.Tensor, products: tf.Tensor) -> tf.Tensor:
        del weights
        return products

    def reach(
        slope_along: tf.Tensor, square: tf.Tensor, cross: tf.Tensor, curvature: tf.Tensor
    ) -> tf.Tensor:
        del square, cross
        return -slope_along / tf.maximum(curvature, _TINY)

    return _pairwise(gram, present, iterations, slope, reach, unit=lambda square: square)


def worst_case(
    gram: tf.Tensor, towards: tf.Tensor, radius: float, present: tf.Tensor, iterations: int
) -> tf.Tensor:
    """Returns the argmin of g_wᵀ g_0 + radius ‖g_0‖ ‖g_w‖ over the simplex, g_w = Σ w_i g_i.

    Args:
        gram: M, float32 [N, N], inner products of the g_i.
        towards: float32 [N], g_0 as coefficients of the g_i.
        radius: factor of the norm, >= 0.
        present: bool [N], at least one.
        iterations: largest number of steps.

    Returns:
        float32 [N], >= 0, sums to 1; 0 for absent tasks.
    """
    gram = _scaled(gram)
    linear = tf.linalg.matvec(gram, towards)
    length = tf.sqrt(tf.maximum(tf.tensordot(towards, linear, 1), 0.0))
    # The argmin does not depend on the size of g_0.
    linear = tf.math.divide_no_nan(linear, length)

    def slope(weights: tf.Tensor, products: tf.Tensor) -> tf.Tensor:
        norm = tf.sqrt(tf.maximum(tf.tensordot(weights, products, 1), 0.0))
        return linear + radius * tf.math.divide_no_nan(products, norm)

    def reach(
        slope_along: tf.Tensor, square: tf.Tensor, cross: tf.Tensor, curvature: tf.Tensor
    ) -> tf.Tensor:
        # The zero of the slope of F(γ) = linear γ + radius √(square + 2 cross γ + curvature γ²).
        norm = tf.sqrt(square)
        straight = slope_along - radius * tf.math.divide_no_nan(cross, norm)
        curvature = tf.maximum(curvature, _TINY)
        rest = tf.maximum(square * curvature - tf.square(cross), 0.0)
        room = radius**2 * curvature - tf.square(straight)
        turn = -tf.sign(straight) * tf.abs(straight) * tf.sqrt(rest / tf.maximum(room, _TINY))
        # Without room the linear part dominates everywhere.
        return tf.where(room > 0, (turn - cross) / curvature, -tf.sign(straight) * float("inf"))

    return _pairwise(gram, present, iterations, slope, reach, unit=tf.sqrt)


def _scaled(gram: tf.Tensor) -> tf.Tensor:
    """Divides by the largest squared norm, so that tolerances do not depend on the gradients."""
    return tf.math.divide_no_nan(gram, tf.reduce_max(tf.linalg.diag_part(gram)))


def _pairwise(
    gram: tf.Tensor,
    present: tf.Tensor,
    iterations: int,
    slope: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    reach: Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor],
    unit: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """Minimizes by Frank-Wolfe with pairwise steps.

    Args:
        gram: float32 [N, N].
        present: bool [N].
        iterations: largest number of steps.
        slope: function of weights and gram · weights that returns the gradient, [N].
        reach: function of the slope along a direction d, wᵀMw, wᵀMd and dᵀMd that returns the best
            step along d.
        unit: function of wᵀMw that returns the value to which the tolerance is relative.

    Returns:
        The weights, float32 [N].
    """
    count = gram.shape[0]
    some = tf.cast(present, tf.float32)
    start = tf.math.divide_no_nan(some, tf.reduce_sum(some))
    far = tf.constant(float("inf"))

    def pair(weights: tf.Tensor) -> tuple[tf.Tensor, ...]:
        products = tf.linalg.matvec(gram, weights)
        slopes = slope(weights, products)
        best = tf.argmin(tf.where(present, slopes, far), output_type=tf.int32)
        worst = tf.argmax(tf.where(weights > 0, slopes, -far), output_type=tf.int32)
        return products, slopes, tf.one_hot(best, count) - tf.one_hot(worst, count), worst

    def unfinished(turn: tf.Tensor, weights: tf.Tensor, moving: tf.Tensor) -> tf.Tensor:
        del turn, weights
        return moving

    def move(turn: tf.Tensor, weights: tf.Tensor, moving: tf.Tensor) -> tuple[tf.Tensor, ...]:
        del moving
        products, slopes, direction, worst = pair(weights)
        along = tf.tensordot(slopes, direction, 1)
        square = tf.maximum(tf.tensordot(weights, products, 1), 0.0)
        step = reach(
            along,
            square,
            tf.tensordot(direction, products, 1),
            tf.tensordot(direction, tf.linalg.matvec(gram, direction), 1),
        )
        most = tf.gather(weights, worst)
        moving = along < -(_TOLERANCE * unit(square) + _LEAST_TOLERANCE)
        step = tf.where(moving, tf.clip_by_value(step, 0.0, most), 0.0)
        # Exactly 0 if a vertex loses all its weight, so that no weight is taken from it again.
        emptied = (step >= most) & (tf.range(count) == worst)
        return turn + 1, tf.where(emptied, 0.0, weights + step * direction), moving

    _, weights, _ = tf.while_loop(
        unfinished,
        move,
        (tf.constant(0), start, tf.constant(True)),
        maximum_iterations=iterations,
    )
    return weights
