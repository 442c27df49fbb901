"""QuantizedDense gives the same bits in every way of running it, and hides no broken value."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl import layers
from keras_mtl.errors import InputError

# (features, units, rows): below, at and above the kernels' panels, and two parts of exact sums.
SHAPES = [(8, 5, 18), (70, 65, 64), (512, 300, 33), (1500, 64, 5)]


def bits(array):
    return np.asarray(array).view(np.int32)


def make(units, features, **options):
    """A built layer whose weights have the magnitudes of a trained one."""
    layer = layers.QuantizedDense(units, bias_initializer="random_normal", **options)
    layer.build((None, features))
    return layer


def inputs(features, rows):
    return np.random.default_rng(features).normal(size=(rows, features)).astype(np.float32)


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_eager_graph_and_xla_give_the_same_bits(shape, use_bias):
    features, units, rows = shape
    x = tf.constant(inputs(features, rows))
    layer = make(units, features, use_bias=use_bias, backend="tf")
    native = make(units, features, use_bias=use_bias, backend="native")
    native.set_weights(layer.get_weights())
    expected = bits(layer(x))
    found = {
        "native, eager": native(x),
        "native, graph": tf.function(native, autograph=False)(x),
        "tf, graph": tf.function(layer, autograph=False)(x),
        "tf, XLA": tf.function(layer, autograph=False, jit_compile=True)(x),
    }
    for name, outputs in found.items():
        np.testing.assert_array_equal(bits(outputs), expected, err_msg=name)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_lower_precision_has_the_same_bits_too(policy):
    features, units, rows = SHAPES[1]
    x = tf.constant(inputs(features, rows))
    layer = make(units, features, dtype=policy, backend="tf")
    eager = layer(x)
    assert eager.dtype == keras.DTypePolicy(policy).compute_dtype
    for jit in (False, True):
        outputs = tf.function(layer, autograph=False, jit_compile=jit)(x)
        np.testing.assert_array_equal(*(tf.cast(a, tf.float32) for a in (outputs, eager)))


class DifferentBits(keras.metrics.Metric):
    """Number of predictions that differ from the labels in any bit."""

    def __init__(self):
        super().__init__(name="different_bits")
        self.count = self.add_weight(shape=(), initializer="zeros", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        same = tf.bitcast(y_true, tf.int32) == tf.bitcast(y_pred, tf.int32)
        self.count.assign_add(tf.reduce_sum(tf.cast(~same, tf.float32)))

    def result(self):
        return self.count


@pytest.mark.parametrize(
    ("backend", "compile_options"),
    [("native", {}), ("tf", {}), ("tf", {"jit_compile": True}), ("auto", {"run_eagerly": True})],
)
def test_fit_evaluate_and_predict_have_the_bits_of_a_call(backend, compile_options):
    """The metric sees the outputs inside `fit`; a rate of 0 leaves the weights as they are."""
    model = keras.Sequential(
        [keras.Input([70]), *(make(n, f, backend=backend) for f, n in ((70, 65), (65, 7)))]
    )
    x = inputs(70, 48)
    y = np.array(model(x))
    model.compile(keras.optimizers.SGD(0.0), "mse", metrics=[DifferentBits()], **compile_options)
    options = {"batch_size": 16, "verbose": 0}
    assert model.fit(x, y, epochs=1, **options).history["different_bits"] == [0]
    assert model.evaluate(x, y, return_dict=True, **options)["different_bits"] == 0
    np.testing.assert_array_equal(bits(model.predict(x, **options)), bits(y))
    changed = model.evaluate(x, y + np.eye(48, 7, dtype="f"), return_dict=True, **options)
    assert changed["different_bits"] > 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(value):
    dense = keras.layers.Dense(4, name="head")
    dense.build((None, 3))
    kernel = np.ones((3, 4), np.float32)
    kernel[1, 2] = value
    dense.kernel.assign(kernel)
    with pytest.raises(InputError, match=r"'head': 1 values .*first is -?(nan|inf) at \[1, 2\]"):
        layers.QuantizedDense.from_dense(dense)
    with pytest.raises(InputError, match="are not finite"):
        layers.QuantizedDense(4, kernel_initializer=lambda shape, dtype=None: kernel)(kernel[:, :3])
    dense.quantize("int8")
    with pytest.raises(InputError, match=r"'head': kernel_scale is (nan|0\.0) in column 2"):
        layers.QuantizedDense.from_dense(dense)
    # Weights that are set later are not looked at: the column says it.
    for backend in ("native", "tf"):
        layer = layers.QuantizedDense(4, backend=backend)
        layer.build((None, 3))
        layer.set_weights(dense.get_weights())
        for call in (layer, tf.function(layer, autograph=False)):
            outputs = np.array(call(tf.ones([2, 3])))
            assert np.isnan(outputs).tolist() == [[False, False, True, False]] * 2


@pytest.mark.parametrize("backend", ["native", "tf"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_nan(backend, value):
    layer = make(65, 70, backend=backend)
    x = inputs(70, 6)
    expected = np.array(layer(x))
    x[4, 69] = value
    calls = [layer, tf.function(layer, autograph=False)]
    if backend == "tf":
        calls.append(tf.function(layer, autograph=False, jit_compile=True))
    for call in calls:
        outputs = np.array(call(tf.constant(x)))
        assert np.isnan(outputs[4]).all()
        others = [0, 1, 2, 3, 5]
        np.testing.assert_array_equal(bits(outputs[others]), bits(expected[others]))
