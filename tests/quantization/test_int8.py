"""The int8 arithmetic of training has the engine's integers, on every instruction set."""

import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.engine import library
from keras_mtl.engine.arrays import quantize_rows
from keras_mtl.quantization import int8

ISAS = library.ISAS[: library.ISAS.index(library.core().isa()) + 1]
# rows, columns, depth: below, at and above the kernels' panels, and two parts of exact sums.
SHAPES = [(1, 1, 1), (7, 131, 63), (5, 64, 64), (3, 70, 1500)]


def arrays(rows, columns, depth):
    random = np.random.default_rng(depth)
    x = random.normal(size=(rows, depth)).astype(np.float32)
    x[0] *= 1e-3
    kernel = random.normal(size=(depth, columns)).astype(np.float32)
    kernel[:, -1] = 0.0
    return x, kernel


def bits(array):
    return np.asarray(array, np.float32).view(np.int32)


@pytest.mark.parametrize("limit", [None, 1.7])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_training_computes_what_the_engine_computes(shape, limit):
    x, kernel = arrays(*shape)
    weights, scales = quantize_rows(kernel.T)
    columns, column_scales, _ = int8.quantize(tf.constant(kernel), 0)
    np.testing.assert_array_equal(columns, weights.T)
    np.testing.assert_array_equal(bits(column_scales[0]), bits(scales))
    rows, row_scales, _ = int8.quantize(tf.constant(x), -1, limit)
    product = int8.trained_product(tf.constant(x), tf.constant(kernel), limit)
    zeros = np.zeros(shape[1], np.float32)
    for isa in ISAS:
        testing = library.core().testing
        integers, engine_scales = testing.quantize(isa, x, limit or 0.0)
        np.testing.assert_array_equal(rows, integers, err_msg=isa)
        np.testing.assert_array_equal(bits(row_scales[:, 0]), bits(engine_scales), err_msg=isa)
        outputs = testing.dense_int8(isa, x, weights, scales, zeros, "none", limit or 0.0)
        np.testing.assert_array_equal(bits(product), bits(outputs), err_msg=isa)


@pytest.mark.parametrize("limit", [None, 1.7])
def test_eager_graph_and_xla_give_the_same_bits(limit):
    x, kernel = map(tf.constant, arrays(5, 40, 1100))

    def product(x, kernel):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = int8.trained_product(x, kernel, limit)
        return y, *tape.gradient(y, [x, kernel])

    expected = product(x, kernel)
    for jit in (False, True):
        found = tf.function(product, autograph=False, jit_compile=jit)(x, kernel)
        np.testing.assert_array_equal(bits(found[0]), bits(expected[0]))
        for gradient, other in zip(found[1:], expected[1:], strict=True):
            np.testing.assert_allclose(gradient, other, rtol=1e-4, atol=1e-4)


def test_gradients_pass_straight_through_rounding_and_stop_at_the_limit():
    x, kernel = map(tf.constant, arrays(4, 6, 8))
    upstream = tf.constant(np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32))
    for limit, kernel_limit in ((None, None), (1.0, 0.8)):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = int8.trained_product(x, kernel, limit, kernel_limit)
        to_x, to_kernel = tape.gradient(y, [x, kernel], upstream)
        near_x = int8.rounded(x, -1, limit).numpy()
        near_kernel = int8.rounded(kernel, 0, kernel_limit).numpy()
        inside = np.abs(x) <= (limit or np.inf), np.abs(kernel) <= (kernel_limit or np.inf)
        np.testing.assert_allclose(to_x, upstream @ near_kernel.T * inside[0], atol=1e-5)
        np.testing.assert_allclose(to_kernel, near_x.T @ upstream * inside[1], atol=1e-5)
        np.testing.assert_allclose(y, near_x @ near_kernel, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_not_hidden(value):
    x, kernel = arrays(3, 4, 5)
    for limit in (None, 1.0):
        broken = x.copy()
        broken[1, 2] = value
        y = np.array(int8.trained_product(tf.constant(broken), tf.constant(kernel), limit))
        assert np.isnan(y[1]).all()
        assert np.isfinite(y[[0, 2]]).all()
        broken = kernel.copy()
        broken[0, 3] = value
        y = np.array(int8.trained_product(tf.constant(x), tf.constant(broken), limit))
        assert np.isnan(y[:, 3]).all()
        assert np.isfinite(y[:, :3]).all()
