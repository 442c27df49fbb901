"""Products of float rows with int8 weights, with the same bits in C++ and plain TensorFlow."""

from typing import Any

import tensorflow as tf

from keras_mtl.engine import load_ops, ops_are_available
from keras_mtl.errors import InputError, nearest
from keras_mtl.quantization.int8 import quantize, scaled_product

BACKENDS = ("auto", "native", "tf")


def quantized_matmul(
    x: tf.Tensor, weights: tf.Tensor, scales: tf.Tensor, backend: str = "auto"
) -> tf.Tensor:
    """Multiplies rows, which are quantized to int8 on the fly, by int8 weights.

    Each row has its own scale, absmax / 127, and halves round to even. The sum of products is
    exact, and the result is `sum * (scale of the row * scale of the column)`. Both backends give
    the same bits: eagerly, in a graph and compiled by XLA.

    Values that are not finite are never hidden. A row of `x` with an infinity or NaN gives NaN
    in every column, and a column whose scale is NaN gives NaN in every row. A row of zeros gives
    zeros.

    The gradient is that of the same product without rounding of `x` (straight-through estimator).

    Args:
        x: float32 [..., K].
        weights: int8 [K, N]; K at most 131072.
        scales: float32 [N], value of one int8 step in each column of `weights`.
        backend: `native`: the operation `KerasMtl>QuantizedMatMul`, which runs on CPUs and
            cannot be compiled by XLA; `tf`: plain TensorFlow, for every device and XLA; `auto`:
            `native` if it is built, TensorFlow sees no accelerator and the function is not
            compiled, else `tf`.

    Returns:
        float32 [..., N].

    Raises:
        InputError: the backend is unknown, or `weights` has more than 131072 rows.
        NativeError: the backend is `native`, but the operation cannot be loaded.
    """
    check_backend(backend)
    x = tf.convert_to_tensor(x)
    if x.shape.rank == 1:
        return quantized_matmul(x[None], weights, scales, backend)[0]
    if backend == "native" or (backend == "auto" and _native_fits()):
        return load_ops().keras_mtl_quantized_mat_mul(x=x, weights=weights, scales=scales)
    return _plain(x, weights, scales)


def check_backend(backend: str) -> None:
    """Raises InputError if a backend is unknown."""
    if backend not in BACKENDS:
        raise InputError(f"backend={backend!r} is unknown{nearest(backend, BACKENDS)}")


def _native_fits() -> bool:
    from tensorflow.python.ops import control_flow_util  # It has no public name.

    if control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        return False
    if tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"):
        return False
    return ops_are_available()


@tf.custom_gradient
def _plain(x: tf.Tensor, weights: tf.Tensor, scales: tf.Tensor) -> Any:
    rows, row_scales, finite = quantize(x, -1)
    product = scaled_product(rows, tf.cast(weights, tf.float32), row_scales, scales, finite)
    return product, lambda upstream: _gradients(upstream, weights, scales, product)


def _gradients(
    upstream: tf.Tensor, weights: tf.Tensor, scales: tf.Tensor, product: tf.Tensor
) -> tuple[tf.Tensor, None, tf.Tensor]:
    to_x = tf.linalg.matmul(upstream * scales, tf.cast(weights, tf.float32), transpose_b=True)
    # The derivative is product / scale; in a column of scale 0, the product is 0 too.
    slope = tf.math.divide_no_nan(upstream * product, scales)
    return to_x, None, tf.reduce_sum(slope, axis=tf.range(tf.rank(upstream) - 1))


@tf.RegisterGradient("KerasMtl>QuantizedMatMul")
def _quantized_matmul_gradient(op: Any, upstream: tf.Tensor) -> Any:
    return _gradients(upstream, op.inputs[1], op.inputs[2], op.outputs[0])
