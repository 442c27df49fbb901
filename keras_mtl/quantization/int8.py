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


def exact_product(rows: tf.Tensor, columns: tf.Tensor, whole: tf.Tensor | None = None) -> tf.Tensor:
    """Returns the product of float32 `[..., K]` and `[K, N]` of whole numbers, float32 `[..., N]`.

    The sums are exact, and rounded once if they exceed 24 bits. They are computed in float32, in
    parts of K whose sums are exact in any order. This also holds on devices that round factors to 8
    bits (TF32, bfloat16), because int8 needs 7 bits.

    Args:
        rows: float32 [..., K].
        columns: float32 [K, N].
        whole: bool [], whether the factors are whole numbers; None means that they are.

    Raises:
        InputError: K is unknown or above `MOST_DEPTH`.
    """
    depth = columns.shape[0]
    if depth is None:
        raise InputError("weights must have a static first dimension")
    if depth > MOST_DEPTH:
        raise InputError(f"weights have {depth} rows; at most {MOST_DEPTH} give exact sums")
    begins = range(0, depth, _EXACT_DEPTH)
    ends = [min(begin + _EXACT_DEPTH, depth) for begin in begins]
    parts = [
        tf.linalg.matmul(rows[..., begin:end], columns[begin:end])
        for begin, end in zip(begins, ends, strict=True)
    ]
    if len(parts) == 1:
        # The sum of integers has no -0, which TensorFlow's product with one column has on some
        # processors.
        return tf.where(parts[0] == 0.0, 0.0, parts[0])
    exact = tf.cast(tf.add_n([tf.cast(part, tf.int32) for part in parts]), tf.float32)
    return exact if whole is None else tf.where(whole, exact, tf.add_n(parts))


def scaled_product(
    rows: tf.Tensor,
    columns: tf.Tensor,
    row_scales: tf.Tensor,
    scales: tf.Tensor,
    finite: tf.Tensor,
    whole: tf.Tensor | None = None,
) -> tf.Tensor:
    """Returns the product of quantized rows and columns, as the engine scales it.

    Args:
        rows: integers, float32 [..., K].
        columns: integers, float32 [K, N].
        row_scales: float32 that broadcasts to [..., 1].
        scales: float32 that broadcasts to [..., N].
        finite: bool [..., 1]: the other rows of the result are NaN.
        whole: see `exact_product`.
    """
    product = exact_product(rows, columns, whole) * (row_scales * scales)
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
    active: tf.Tensor | None = None,
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
        active: bool [], whether the factors are rounded; None: they are. Values are selected, so
            that there is one product and no condition.

    Returns:
        float32 [..., N]; NaN where a factor is not finite.
    """

    @tf.custom_gradient
    def product(x: tf.Tensor, kernel: tf.Tensor) -> Any:
        rows, row_scales, finite = quantize(x, -1, limit, levels)
        columns, scales, valid = quantize(kernel, 0, kernel_limit, levels)
        scales = tf.where(valid, scales, float("nan"))
        if active is not None:
            rows, row_scales = tf.where(active, rows, x), tf.where(active, row_scales, 1.0)
            columns, scales = tf.where(active, columns, kernel), tf.where(active, scales, 1.0)
        y = scaled_product(rows, columns, row_scales, scales, finite, active)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            to_x = tf.linalg.matmul(upstream * scales, columns, transpose_b=True)
            flat = tf.reshape(rows * row_scales, [-1, kernel.shape[0]])
            to_kernel = tf.linalg.matmul(
                flat, tf.reshape(upstream, [-1, tf.shape(kernel)[1]]), transpose_a=True
            )
            return (
                _inside(to_x, x, limit, active),
                _inside(to_kernel, kernel, kernel_limit, active),
            )

        return y, gradient

    return product(x, kernel)


def rounded(
    values: tf.Tensor,
    axis: int,
    limit: tf.Tensor | None = None,
    levels: int = LEVELS,
    active: tf.Tensor | None = None,
) -> tf.Tensor:
    """Returns values rounded to what int8 can hold, with the gradients of `trained_product`.

    Args:
        values: float32.
        axis: see `quantize`.
        limit: see `quantize`.
        levels: the largest integer.
        active: see `trained_product`.
    """

    @tf.custom_gradient
    def rounding(values: tf.Tensor) -> Any:
        integers, scales, finite = quantize(values, axis, limit, levels)
        result = integers * tf.where(finite, scales, float("nan"))
        if active is not None:
            result = tf.where(active, result, values)
        return result, lambda upstream: _inside(upstream, values, limit, active)

    return rounding(values)


def _inside(
    gradient: tf.Tensor, values: tf.Tensor, limit: tf.Tensor | None, active: tf.Tensor | None
) -> tf.Tensor:
    """Returns a gradient with zeros for values that are clipped."""
    if limit is None:
        return gradient
    inside = tf.abs(values) <= limit
    if active is not None:
        inside |= ~active
    return tf.where(inside, gradient, tf.zeros([], gradient.dtype))
