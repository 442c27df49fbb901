"""UPGrad: projects each gradient on the directions that make no task worse, then sums."""

import tensorflow as tf

from keras_mtl.balancing.base import GRADIENTS, Balancer, Seen, State
from keras_mtl.balancing.registry import integer, register
from keras_mtl.balancing.spectral import definite_cosines, norms_of, solve_definite

# Relative to vectors of length 1: about the resolution of float32.
_TOLERANCE = 1e-6
# After this number of exchanges of all infeasible entries, only one is exchanged at a time, which
# cannot cycle.
_FULL_EXCHANGES = 12


@register
class UPGrad(Balancer):
    """Σ_i π(h_i), where π projects on the cone of directions d with d · g_j >= 0 for every task j.

    h_i = q_i g_i is the contribution of task i to the plain step. The projection of h_i is
    Σ_j v_j h_j, where v minimizes ‖Σ_j v_j h_j‖² subject to v >= e_i. The sum is a step that makes
    no task worse. Without conflicts it is the plain step.

    Args:
        num_tasks: number of tasks N, >= 1.
        seed: has no effect.
        iterations: largest number of iterations of the solver, >= 1.

    Reference: Quinton & Rey 2024, arXiv 2406.16232, equations 3 and 4 and proposition 1. The solver
    exchanges sets of active constraints: Júdice & Pires 1994, "A block principal pivoting
    algorithm for large-scale strictly monotone linear complementarity problems".
    """

    name = "upgrad"
    uses = GRADIENTS
    shared_only = True

    def __init__(self, num_tasks: int, seed: int = 0, *, iterations: int = 100) -> None:
        super().__init__(num_tasks, seed)
        self.iterations = integer(self.name, "iterations", iterations, least=1)

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Returns the sum over i of the coefficients of h_j in π(h_i), float32 [N]."""
        del state
        gram = seen.contributions
        norms = norms_of(gram)
        rows = projections(definite_cosines(gram), self.iterations)
        # Row i belongs to h_i / ‖h_i‖ and holds coefficients of the h_j / ‖h_j‖.
        return tf.math.divide_no_nan(tf.linalg.matvec(rows, norms, transpose_a=True), norms)


def projections(cosines: tf.Tensor, iterations: int) -> tf.Tensor:
    """Projects each of N unit vectors on the dual cone of all of them.

    For each i it solves the complementarity problem z >= 0, C (e_i + z) >= 0, z · C (e_i + z) = 0.

    Args:
        cosines: C, positive definite, float32 [N, N].
        iterations: largest number of iterations.

    Returns:
        Coefficients e_i + z of the vectors in row i, float32 [N, N], >= 0.
    """
    count = cosines.shape[0]
    places = tf.range(count)
    identity = tf.eye(count)

    def solve(free: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns z, which is 0 where it is not free, and the slopes C (e_i + z), 0 where free."""
        both = free[:, :, None] & free[:, None, :]
        matrix = tf.where(both, cosines, 0.0) + tf.linalg.diag(tf.where(free, 0.0, 1.0))
        z = solve_definite(matrix, tf.where(free, -cosines, 0.0))
        slopes = tf.matmul(identity + z, cosines)
        return z, tf.where(free, 0.0, slopes)

    def infeasible(free: tf.Tensor) -> tf.Tensor:
        z, slopes = solve(free)
        return tf.where(free, z, slopes) < -_TOLERANCE

    def unfinished(turn: tf.Tensor, free: tf.Tensor, wrong: tf.Tensor) -> tf.Tensor:
        del turn, free
        return tf.reduce_any(wrong)

    def exchange(turn: tf.Tensor, free: tf.Tensor, wrong: tf.Tensor) -> tuple[tf.Tensor, ...]:
        last = tf.reduce_max(tf.where(wrong, places, -1), axis=1)
        chosen = wrong & ((turn < _FULL_EXCHANGES) | (places == last[:, None]))
        free = free ^ chosen
        return turn + 1, free, infeasible(free)

    none = tf.zeros([count, count], tf.bool)
    _, free, _ = tf.while_loop(
        unfinished,
        exchange,
        (tf.constant(0), none, infeasible(none)),
        maximum_iterations=iterations,
    )
    return identity + tf.maximum(solve(free)[0], 0.0)
