"""Two convex problems over the simplex, solved in N x N.

Both are solved by Frank-Wolfe with pairwise steps: weight moves from the worst vertex that has any
to the best one, as far as is best. That converges linearly, is exact after one step for two tasks,
and needs no projection (the pairwise variant of Lacoste-Julien & Jaggi 2015, arXiv 1511.05932).
"""

from collections.abc import Callable

import tensorflow as tf

# Of the slope, relative to what is minimised and to the largest norm: about float32's resolution.
_TOLERANCE = 1e-4
_LEAST_TOLERANCE = 1e-9
_TINY = 1e-12


def min_norm(gram: tf.Tensor, present: tf.Tensor, iterations: int) -> tf.Tensor:
    """argmin of wᵀ M w over the simplex of the tasks that are present.

    Args:
        gram: M, float32 [N, N], positive semidefinite.
        present: bool [N], at least one.
        iterations: most steps.

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
    """argmin of g_wᵀ g_0 + radius ‖g_0‖ ‖g_w‖ over the simplex, with g_w = Σ w_i g_i.

    Args:
        gram: M, float32 [N, N], inner products of the g_i.
        towards: float32 [N], g_0 as coefficients of the g_i.
        radius: >= 0.
        present: bool [N], at least one.
        iterations: most steps.

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
        # F(γ) = linear γ + radius √(square + 2 cross γ + curvature γ²): where its slope is 0.
        norm = tf.sqrt(square)
        straight = slope_along - radius * tf.math.divide_no_nan(cross, norm)
        curvature = tf.maximum(curvature, _TINY)
        rest = tf.maximum(square * curvature - tf.square(cross), 0.0)
        room = radius**2 * curvature - tf.square(straight)
        turn = -tf.sign(straight) * tf.abs(straight) * tf.sqrt(rest / tf.maximum(room, _TINY))
        # Without room the linear part wins all the way.
        return tf.where(room > 0, (turn - cross) / curvature, -tf.sign(straight) * float("inf"))

    return _pairwise(gram, present, iterations, slope, reach, unit=tf.sqrt)


def _scaled(gram: tf.Tensor) -> tf.Tensor:
    """Divides by the largest squared norm, so that tolerances mean the same for any gradients."""
    return tf.math.divide_no_nan(gram, tf.reduce_max(tf.linalg.diag_part(gram)))


def _pairwise(
    gram: tf.Tensor,
    present: tf.Tensor,
    iterations: int,
    slope: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    reach: Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor],
    unit: Callable[[tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """Runs the algorithm.

    Args:
        gram: float32 [N, N].
        present: bool [N].
        iterations: most steps.
        slope: from weights and gram · weights to the gradient of what is minimised, [N].
        reach: from the slope along a direction d, wᵀMw, wᵀMd and dᵀMd to the best step along it.
        unit: from wᵀMw to what the tolerance is relative to.
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
        # Exactly 0 where a vertex gives up all it has, so that it is not taken from again.
        emptied = (step >= most) & (tf.range(count) == worst)
        return turn + 1, tf.where(emptied, 0.0, weights + step * direction), moving

    _, weights, _ = tf.while_loop(
        unfinished,
        move,
        (tf.constant(0), start, tf.constant(True)),
        maximum_iterations=iterations,
    )
    return weights
