"""Decompositions of N x N Gram matrices, shared by several methods.

Gram matrices are sums of float32 products over all shared variables, so their smallest eigenvalues
are noise and may be negative. The functions below ignore or raise them.
"""

from typing import NamedTuple

import tensorflow as tf

# Eigenvalues below this share of the largest one, times N, count as 0: about the error of a Gram
# matrix that was summed in float32.
_RANK_TOLERANCE = 1e-6
# Least eigenvalue of a matrix of cosines for a Cholesky decomposition in float32.
_LEAST_EIGENVALUE = 1e-5
# Squared length below which directions cancel.
_CANCELED = 1e-6


class Eigen(NamedTuple):
    """A decomposition of a symmetric matrix.

    Attributes:
        values: eigenvalues, float32 [N]; 1 for those that count as 0.
        vectors: eigenvectors in columns, float32 [N, N].
        kept: whether an eigenvalue is above 0, bool [N].
    """

    values: tf.Tensor
    vectors: tf.Tensor
    kept: tf.Tensor

    def apply(self, powers: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
        """Returns V diag(powers) Vᵀ vector over the eigenvectors that count, float32 [N]."""
        projections = tf.linalg.matvec(self.vectors, vector, transpose_a=True)
        projections = tf.where(self.kept, powers * projections, 0.0)
        return tf.linalg.matvec(self.vectors, projections)


def eigen(gram: tf.Tensor) -> Eigen:
    """Decomposes a symmetric matrix, float32 [N, N]."""
    values, vectors = tf.linalg.eigh(gram)
    largest = tf.reduce_max(values)
    kept = values > _RANK_TOLERANCE * gram.shape[0] * tf.maximum(largest, 0.0)
    return Eigen(tf.where(kept, values, 1.0), vectors, kept)


def norms_of(gram: tf.Tensor) -> tf.Tensor:
    """Returns the norms of the gradients, float32 [N]."""
    return tf.sqrt(tf.maximum(tf.linalg.diag_part(gram), 0.0))


def cosines_of(gram: tf.Tensor) -> tf.Tensor:
    """Returns the cosines of the gradients, float32 [N, N]; 0 for a gradient of 0."""
    inverse = tf.math.divide_no_nan(1.0, norms_of(gram))
    return inverse[:, None] * gram * inverse[None, :]


def definite_cosines(gram: tf.Tensor) -> tf.Tensor:
    """Returns the cosines with every eigenvalue raised to at least 1e-5, float32 [N, N].

    A gradient of 0 is orthogonal to all others and has a cosine of 1 with itself.
    """
    cosines = cosines_of(gram)
    cosines = tf.linalg.set_diag(cosines, tf.ones([gram.shape[0]]))
    values, vectors = tf.linalg.eigh(cosines)
    raised = tf.maximum(values, _LEAST_EIGENVALUE) - values
    # Adds only what is missing, so that a well-conditioned matrix is not changed by rounding.
    return cosines + tf.matmul(vectors * raised, vectors, transpose_b=True)


def solve_definite(matrix: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    """Returns matrix⁻¹ vector for positive definite float32 [..., N, N] and float32 [..., N]."""
    return tf.linalg.cholesky_solve(tf.linalg.cholesky(matrix), vector[..., None])[..., 0]


class EqualCosines(NamedTuple):
    """The direction d = Σ x_i g_i / ‖g_i‖ that has an inner product of 1 with each g_i / ‖g_i‖.

    Attributes:
        coefficients: x, float32 [N]; 0 for a gradient of 0. All are 0 if there is no such direction
            because the gradients cancel.
        cosines: float32 [N, N], of the gradients.
        norms: ‖g_i‖, float32 [N].
        square: ‖d‖², float32 [], at least 1 unless the gradients are dependent.
    """

    coefficients: tf.Tensor
    cosines: tf.Tensor
    norms: tf.Tensor
    square: tf.Tensor


def equal_cosines(gram: tf.Tensor) -> EqualCosines:
    """Returns the direction of equal cosines; of least squares if the gradients are dependent."""
    norms, cosines = norms_of(gram), cosines_of(gram)
    ones = tf.cast(norms > 0, tf.float32)
    decomposed = eigen(cosines)
    coefficients = decomposed.apply(1.0 / decomposed.values, ones)
    square = tf.tensordot(ones, coefficients, 1)
    coefficients = tf.where(square > _CANCELED, coefficients, 0.0)
    return EqualCosines(coefficients, cosines, norms, square)
