"""QuantizedDense and the product inside: the same bits in C++ and in TensorFlow, Keras' weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_mtl import layers
from keras_mtl.engine import library, load_ops
from keras_mtl.errors import InputError
from keras_mtl.layers.quantized_dense import quantize_columns
from keras_mtl.layers.quantized_matmul import quantized_matmul
from tests.layers import battery

X = np.random.default_rng(0).normal(size=(3, 6, 8)).astype(np.float32)
SEEDED = keras.initializers.serialize(keras.initializers.GlorotUniform(seed=4))


def test_battery_in_plain_tensorflow(tmp_path):
    """That of the default backend is among the other layers'."""
    kwargs = {"units": 5, "backend": "tf", "kernel_initializer": SEEDED}
    battery.check_layer(layers.QuantizedDense, kwargs, [X], (3, 6, 5), tmp_path, trainable=1)


@settings(max_examples=60, deadline=None)
@example(rows=6, depth=1, columns=1, exponent=0, seed=1)  # -0 on some processors
@given(
    rows=st.integers(0, 40),
    depth=st.sampled_from([1, 3, 63, 64, 65, 130, 1100]),
    columns=st.sampled_from([1, 15, 64, 65, 130]),
    exponent=st.integers(-28, 30),
    seed=st.integers(0, 2**32 - 1),
)
def test_native_and_tensorflow_give_the_same_bits(rows, depth, columns, exponent, seed):
    generator = np.random.default_rng(seed)
    x = (generator.normal(size=(rows, depth)) * 10.0**exponent).astype(np.float32)
    if rows > 4:
        x[0] = 0
        x[1, 0] = np.inf
        x[2, -1] = np.nan
        x[3] = 1e-31
        x[4] = np.abs(x[4]).max()  # All at the edge of the range.
    weights = generator.integers(-128, 128, (depth, columns)).astype(np.int8)
    scales = generator.random(columns).astype(np.float32)
    found = [quantized_matmul(x, weights, scales, backend).numpy() for backend in ("native", "tf")]
    np.testing.assert_array_equal(*(array.view(np.int32) for array in map(_one_nan, found)))


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("columns", [1, 15, 64])
@pytest.mark.parametrize("depth", [1, 3, 1100])
def test_a_row_of_zeros_gives_positive_zeros(mode, columns, depth):
    def product(x):
        weights = tf.fill([depth, columns], tf.constant(-5, tf.int8))
        return quantized_matmul(x, weights, tf.ones([columns]), "tf")

    if mode != "eager":
        product = tf.function(product, jit_compile=mode == "xla")
    found = product(tf.zeros([6, depth])).numpy()
    assert not found.any()
    assert not np.signbit(found).any()


def _one_nan(array):
    """NaNs have many bit patterns, and an operation may give any of them."""
    return np.where(np.isnan(array), np.float32("nan"), array)


@pytest.mark.parametrize("backend", ["native", "tf"])
def test_a_vector_is_a_row(backend):
    weights, scales = tf.constant([[1, 2], [3, -4], [5, 6]], tf.int8), tf.constant([0.5, 0.25])
    x = tf.constant([0.1, -0.3, 0.2])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, scales])
        single = quantized_matmul(x, weights, scales, backend)
        row = quantized_matmul(x[None], weights, scales, backend)[0]
    assert single.shape == [2]
    for ours, theirs in ((single, row), *(
        (tape.gradient(single, v), tape.gradient(row, v)) for v in (x, scales)
    )):  # fmt: skip
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("backend", ["native", "tf"])
def test_more_rows_than_exact_sums_allow_are_refused(backend):
    weights = tf.zeros([2**17 + 1, 1], tf.int8)
    with pytest.raises((InputError, tf.errors.InvalidArgumentError), match="at most 131072"):
        quantized_matmul(tf.zeros([1, 2**17 + 1]), weights, tf.ones([1]), backend)


def test_many_layers_keep_their_weights_packed():
    """By what it does: more layers than were kept once, and each changed in between."""
    generator = np.random.default_rng(3)
    x = tf.constant(generator.normal(size=(2, 70)), tf.float32)
    scales = tf.ones([33])
    variables = [
        tf.Variable(generator.integers(-127, 128, (70, 33)), dtype=tf.int8) for _ in range(80)
    ]
    for turn in range(3):
        for variable in variables:
            found = quantized_matmul(x, variable, scales, "native")
            np.testing.assert_array_equal(found, quantized_matmul(x, variable, scales, "tf"))
            if turn == 1:
                variable[turn, 5].assign(tf.constant(7, tf.int8))


def test_sums_are_exact_at_their_largest():
    """127 * 127 times a depth that float32 sums could not represent."""
    depth = 5000
    weights = np.full([depth, 3], 127, np.int8)
    weights[0, 1] = 126
    for backend in ("native", "tf"):
        x = np.full([1, depth], 127.0, np.float32)
        product = quantized_matmul(x, weights, np.ones(3, np.float32), backend)
        exact = [127 * 127 * depth, 127 * 127 * depth - 127, 127 * 127 * depth]
        np.testing.assert_array_equal(product[0], np.array(exact, np.float32))


def test_every_instruction_set_gives_the_same_bits(monkeypatch):
    generator = np.random.default_rng(8)
    x = generator.normal(size=(9, 100)).astype(np.float32)
    weights = generator.integers(-127, 128, (100, 70)).astype(np.int8)
    expected = quantized_matmul(x, weights, np.ones(70, np.float32), "tf")

    def product():  # In its own function, so that the kernel is made again.
        function = tf.function(quantized_matmul, autograph=False)
        return function(x, weights, np.ones(70, np.float32), "native")

    for isa in library.ISAS[: library.ISAS.index(library.core().isa()) + 1]:
        monkeypatch.setenv("KERAS_MTL_ISA", isa)
        np.testing.assert_array_equal(product(), expected)
    monkeypatch.setenv("KERAS_MTL_ISA", "sse")
    with pytest.raises(tf.errors.InvalidArgumentError, match="isa='sse' is unknown"):
        product()


def test_weights_that_changed_are_seen():
    """The kernel keeps packed weights; a variable is assigned to in place."""
    weights = tf.Variable(np.ones([8, 5], np.int8))
    scales = tf.constant(np.ones(5, np.float32))

    @tf.function(autograph=False)
    def product():
        return quantized_matmul(tf.fill([1, 8], 127.0), weights, scales, "native")

    np.testing.assert_array_equal(product(), np.full([1, 5], 127 * 8, np.float32))
    weights.assign(np.full([8, 5], 2, np.int8))
    np.testing.assert_array_equal(product(), np.full([1, 5], 2 * 127 * 8, np.float32))


def test_weights_of_keras_int8():
    """A layer quantized by Keras, loaded in each way, gives Keras' numbers."""
    x = np.random.default_rng(1).normal(size=(50, 40)).astype(np.float32)
    dense = keras.layers.Dense(30, activation="tanh")
    float_outputs = np.array(dense(x))
    dense.bias.assign(np.random.default_rng(2).normal(size=30))
    dense.quantize("int8")
    expected = np.array(dense(x))
    copied = layers.QuantizedDense(30, activation="tanh")
    copied(x)
    copied.set_weights(dense.get_weights())
    for layer in (layers.QuantizedDense.from_dense(dense), copied):
        np.testing.assert_array_equal(layer.kernel, dense._kernel)
        # Keras divides by absmax + 1e-7, so a value in 50 * 40 may round to its neighbor.
        np.testing.assert_allclose(layer(x), expected, atol=2e-3)
        assert np.abs(np.array(layer(x)) - expected).mean() < 1e-5
    assert np.abs(expected - float_outputs).max() > 1e-3  # int8 is not float32.


def test_from_a_float_layer():
    x = np.random.default_rng(3).normal(size=(20, 40)).astype(np.float32)
    dense = layers.Dense(7, use_bias=False)
    exact = np.array(dense(x))
    layer = layers.QuantizedDense.from_dense(dense, backend="tf")
    assert layer.bias is None
    np.testing.assert_allclose(layer(x), exact, atol=0.02 * np.abs(exact).max())


def test_a_model_that_keras_quantized_and_saved(tmp_path):
    """The way of docs/how-to/tensorflow_ops.md: read Keras' file, replace its layers."""
    model = keras.Sequential([keras.Input([40]), keras.layers.Dense(6, name="first")])
    model.quantize("int8", filters=["first"])
    model.save(tmp_path / "int8.keras")
    saved = keras.models.load_model(tmp_path / "int8.keras")
    ours = keras.models.clone_model(
        saved, clone_function=lambda layer: layers.QuantizedDense.from_dense(layer)
    )
    x = np.random.default_rng(3).normal(size=(20, 40)).astype(np.float32)
    assert isinstance(ours.layers[0], layers.QuantizedDense)
    np.testing.assert_allclose(ours(x), model(x), atol=5e-3)


def test_gradient_is_that_of_the_dequantized_product():
    x = tf.constant(X[0])
    values = np.random.default_rng(5).normal(size=(8, 5)).astype("f")
    kernel, scale = quantize_columns(values, "layer")
    direction = np.random.default_rng(6).normal(size=(6, 5)).astype(np.float32)
    found = []
    for backend in ("native", "tf"):
        scales = tf.constant(1 / scale)
        with tf.GradientTape() as tape:
            tape.watch([x, scales])
            product = quantized_matmul(x, tf.constant(kernel), scales, backend)
            loss = tf.reduce_sum(product * direction)
        found.append(tape.gradient(loss, [x, scales]))
    expected = direction @ (kernel / scale).T
    for to_x, to_scales in found:
        np.testing.assert_allclose(to_x, expected, rtol=1e-5, atol=1e-5)
        expected_scales = (direction * np.array(product) * scale).sum(0)
        np.testing.assert_allclose(to_scales, expected_scales, rtol=1e-4, atol=1e-5)


def test_xla_refuses_the_operation():
    forced = layers.QuantizedDense(5, backend="native")
    forced(X)
    assert not forced.supports_jit
    with pytest.raises(tf.errors.InvalidArgumentError, match="KerasMtl>QuantizedMatMul"):
        tf.function(forced, jit_compile=True, autograph=False)(tf.constant(X))


def test_operation_checks_its_shapes():
    ops = load_ops()
    x, weights, scales = np.ones([2, 3], "f"), np.ones([4, 5], np.int8), np.ones(5, "f")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"x has shape \[2,3\]"):
        ops.keras_mtl_quantized_mat_mul(x=x, weights=weights, scales=scales)

    @tf.function(input_signature=[tf.TensorSpec([None, 2, 4])], autograph=False)
    def product(x):
        result = ops.keras_mtl_quantized_mat_mul(x=x, weights=weights, scales=scales)
        assert result.shape.as_list() == [None, 2, 5]
        return result

    assert product(np.zeros([0, 2, 4], "f")).shape == (0, 2, 5)


def test_arguments_are_checked():
    with pytest.raises(InputError, match=r"backend='nativ'.*did you mean 'native'"):
        layers.QuantizedDense(3, backend="nativ")
    with pytest.raises(InputError, match="units=0"):
        layers.QuantizedDense(0)
    with pytest.raises(InputError, match="has no weights yet"):
        layers.QuantizedDense.from_dense(keras.layers.Dense(3))
