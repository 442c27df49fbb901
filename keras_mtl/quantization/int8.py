"""The engine's int8 arithmetic in TensorFlow: the same integers, in training and elsewhere.

Rows of activations and columns of weights are symmetric: a value is an integer in [-127, 127] times
a scale. `cc/kernels/rows-inl.h` computes the same integers from the same floats, and
`keras_mtl.engine.arrays.quantize_rows` those of weights. Every function gives the same bits
eagerly, in a graph and compiled by XLA.
"""

from typing import Any

import tensorflow as tf

from keras_mtl.errors import InputError

LEVELS = 127
"""Largest magnitude of an integer. The engine has no -128."""

MOST_DEPTH = 1 << 17
"""Number of products of 127 * 128 that int32 can add up, rounded down to a power of 2."""

# A row below this magnitude counts as zeros, so that 127 / absmax is finite; see
# cc/kernels/rows-inl.h.
_TINY = 1e-30
# Bits of a float32 NaN without its payload: the exponent and the quiet bit.
_NAN_BITS = 0x7FC00000
# float32 has 24 bits, so it adds up to 1040 products of 127 * 127 exactly; a power of 2 below.
_EXACT_DEPTH = 1024


def quantize(
    values: tf.Tensor, axis: int, limit: tf.Tensor | None = None, levels: int = LEVELS
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Quantizes values symmetrically.

    Args:
        values: float32.
        axis: the axis whose values share a scale: the last one for rows of activations, the first
            one for the columns of a kernel.
        limit: float32 that broadcasts to the values with a size of 1 on the axis: the magnitude
            that becomes the largest integer; larger values become that integer, too. None takes the
            largest magnitude of the values that share a scale.
        levels: the largest integer.

    Returns:
        The integers, float32 of the shape of the values; the scales, float32, with a size of 1 on
        the axis; and bool of the shape of the scales: whether all the values are finite. If they
        are not, the integers and the scale are unspecified.
    """
    finite = tf.reduce_all(tf.math.is_finite(values), axis=axis, keepdims=True)
    clips = limit is not None
    if limit is None:
        limit = tf.reduce_max(tf.abs(values), axis=axis, keepdims=True)
    used = finite & (limit >= _TINY)
    limit = tf.where(used, limit, float(levels))
    integers = tf.round(tf.where(used, values, 0.0) * (float(levels) / limit))
    if clips:
        integers = tf.clip_by_value(integers, -float(levels), float(levels))
    # XLA replaces a division by a constant with a product, which rounds differently. To XLA, this
    # divisor is not a constant.
    steps = tf.where(used, float(levels), 1.0)
    return integers, tf.where(used, limit / steps, 1.0), finite


def exact_product(rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Returns the product of float32 `[..., K]` and `[K, N]` of whole numbers, float32 `[..., N]`.

    The sums are exact, and rounded once if they exceed 24 bits. They are computed in float32, in
    parts of K whose sums are exact in any order. This also holds on devices that round factors to 8
    bits (TF32, bfloat16), because int8 needs 7 bits.

    Raises:
        InputError: K is unknown or above `MOST_DEPTH`.
    """
    depth = columns.shape[0]
    if depth is None:
        raise InputError("weights must have a static first dimension")
    if depth > MOST_DEPTH:
        raise InputError(f"weights have {depth} rows; at most {MOST_DEPTH} give exact sums")
    if depth <= _EXACT_DEPTH:
        return tf.linalg.matmul(rows, columns)
    total = tf.zeros([*tf.unstack(tf.shape(rows)[:-1]), tf.shape(columns)[1]], tf.int32)
    for begin in range(0, depth, _EXACT_DEPTH):
        end = min(begin + _EXACT_DEPTH, depth)
        part = tf.linalg.matmul(rows[..., begin:end], columns[begin:end])
        total += tf.cast(part, tf.int32)
    return tf.cast(total, tf.float32)


def scaled_product(
    rows: tf.Tensor, columns: tf.Tensor, row_scales: tf.Tensor, scales: tf.Tensor, finite: tf.Tensor
) -> tf.Tensor:
    """Returns the product of quantized rows and columns, as the engine scales it.

    Args:
        rows: integers, float32 [..., K].
        columns: integers, float32 [K, N].
        row_scales: float32 that broadcasts to [..., 1].
        scales: float32 that broadcasts to [..., N].
        finite: bool [..., 1]: the other rows of the result are NaN.
    """
    product = exact_product(rows, columns) * (row_scales * scales)
    # Setting bits makes NaN of rows with an infinity or NaN. The integer operation also keeps XLA
    # from fusing the product with a following sum, which would round once instead of twice.
    nan_bits = tf.where(finite, 0, _NAN_BITS)
    return tf.bitcast(tf.bitwise.bitwise_or(tf.bitcast(product, tf.int32), nan_bits), tf.float32)


def trained_product(
    x: tf.Tensor,
    kernel: tf.Tensor,
    limit: tf.Tensor | None = None,
    kernel_limit: tf.Tensor | None = None,
    levels: int = LEVELS,
) -> tf.Tensor:
    """Returns the product of inputs and weights as the engine computes it, with gradients.

    The gradient is that of the product of the rounded factors; rounding itself counts as the
    identity (straight-through estimator), and clipping as constant.

    Args:
        x: float32 [..., K].
        kernel: float32 [K, N].
        limit: see `quantize`; None gives each row its own scale.
        kernel_limit: see `quantize`; None gives each column its own scale.
        levels: the largest integer.

    Returns:
        float32 [..., N]; NaN where a factor is not finite.
    """

    @tf.custom_gradient
    def product(x: tf.Tensor, kernel: tf.Tensor) -> Any:
        rows, row_scales, finite = quantize(x, -1, limit, levels)
        columns, scales, valid = quantize(kernel, 0, kernel_limit, levels)
        scales = tf.where(valid, scales, float("nan"))
        y = scaled_product(rows, columns, row_scales, scales, finite)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            to_x = tf.linalg.matmul(upstream * scales, columns, transpose_b=True)
            flat = tf.reshape(rows * row_scales, [-1, kernel.shape[0]])
            to_kernel = tf.linalg.matmul(
                flat, tf.reshape(upstream, [-1, tf.shape(kernel)[1]]), transpose_a=True
            )
            return _inside(to_x, x, limit), _inside(to_kernel, kernel, kernel_limit)

        return y, gradient

    return product(x, kernel)


def rounded(
    values: tf.Tensor, axis: int, limit: tf.Tensor | None = None, levels: int = LEVELS
) -> tf.Tensor:
    """Returns values rounded to what int8 can hold, with the gradients of `trained_product`.

    Args:
        values: float32.
        axis: see `quantize`.
        limit: see `quantize`.
        levels: the largest integer.
    """

    @tf.custom_gradient
    def rounding(values: tf.Tensor) -> Any:
        integers, scales, finite = quantize(values, axis, limit, levels)
        result = integers * tf.where(finite, scales, float("nan"))
        return result, lambda upstream: _inside(upstream, values, limit)

    return rounding(values)


def _inside(gradient: tf.Tensor, values: tf.Tensor, limit: tf.Tensor | None) -> tf.Tensor:
    """Returns a gradient with zeros for values that are clipped."""
    if limit is None:
        return gradient
    return tf.where(tf.abs(values) <= limit, gradient, tf.zeros([], gradient.dtype))
