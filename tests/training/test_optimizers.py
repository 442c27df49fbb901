"""Adam equals Keras' own where they overlap; NaN gradients leave everything untouched."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.errors import ConfigError
from keras_mtl.training.learning_rate import WarmupSchedule
from keras_mtl.training.optimizers import Adam


def variable(*values):
    return keras.Variable(np.array(values, np.float32))


def test_equals_keras_adam():
    rng = np.random.default_rng(0)
    ours, theirs = variable(1.0, -2.0, 3.0), variable(1.0, -2.0, 3.0)
    first = Adam(0.1, beta_1=0.9, beta_2=0.98, epsilon=1e-9)
    second = keras.optimizers.Adam(0.1, beta_1=0.9, beta_2=0.98, epsilon=1e-9)
    for _ in range(20):
        gradient = tf.constant(rng.normal(size=3), tf.float32)
        first.apply([gradient], [ours])
        second.apply([gradient], [theirs])
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=2e-6)


def test_nan_gradient_changes_nothing_and_counts_as_an_update():
    weights = variable(1.0, 2.0)
    optimizer = Adam(0.1, average_momentum=0.5)
    optimizer.apply([tf.constant([0.5, 0.5])], [weights])
    before = [v.numpy() for v in [weights, *optimizer.variables[2:]]]
    optimizer.apply([tf.constant([np.nan, np.nan])], [weights])
    after = [v.numpy() for v in [weights, *optimizer.variables[2:]]]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    assert int(optimizer.iterations.numpy()) == 2


def test_nan_is_elementwise():
    weights = variable(1.0, 2.0)
    Adam(0.1).apply([tf.constant([np.nan, 1.0])], [weights])
    assert weights.numpy()[0] == 1.0
    assert weights.numpy()[1] < 2.0


def test_average_follows_the_weights_even_when_the_first_update_is_skipped():
    weights = variable(4.0)
    optimizer = Adam(0.1, average_momentum=0.9)
    optimizer.apply([tf.constant([np.nan])], [weights])
    np.testing.assert_array_equal(optimizer.averages[0].numpy(), [4.0])
    for _ in range(200):
        optimizer.apply([tf.constant([1.0])], [weights])
    # Weights fall by 0.1 a step, so an average with momentum 0.9 lags by 0.9 / 0.1 steps.
    lag = optimizer.averages[0].numpy()[0] - weights.numpy()[0]
    assert lag == pytest.approx(0.9, abs=0.02)


def test_weight_decay_leaves_vectors_alone():
    matrix, vector = keras.Variable(np.ones((2, 2), np.float32)), variable(1.0, 1.0)
    optimizer = Adam(0.1, decoupled_weight_decay=0.5)
    optimizer.apply([tf.zeros([2, 2]), tf.zeros([2])], [matrix, vector])
    np.testing.assert_allclose(matrix.numpy(), 0.95, rtol=1e-6)
    np.testing.assert_array_equal(vector.numpy(), 1.0)


def test_refuses_clipping_before_the_sum():
    with pytest.raises(ValueError, match="global_clipnorm"):
        Adam(global_clipnorm=1.0)


def test_config_round_trip():
    optimizer = Adam(
        WarmupSchedule("transformer", 2.0, 400, 64),
        decoupled_weight_decay=0.1,
        average_momentum=0.9,
    )
    copy = Adam.from_config(optimizer.get_config())
    assert copy.get_config() == optimizer.get_config()


def test_transformer_schedule_is_equation_3():
    schedule = WarmupSchedule("transformer", 1.0, 4000, 512)
    for step in (1, 100, 4000, 4001, 100_000):
        expected = 512**-0.5 * min(step**-0.5, step * 4000**-1.5)
        assert float(schedule(step - 1)) == pytest.approx(expected, rel=1e-5)


def test_linear_schedule_warms_up_and_ends_at_zero():
    schedule = WarmupSchedule("linear", 0.5, 10, total_steps=110)
    assert float(schedule(9)) == pytest.approx(0.5)
    assert float(schedule(60)) == pytest.approx(0.25)
    assert float(schedule(110)) == 0.0
    assert float(schedule(200)) == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lineer", 1.0, 10), "linear"),
        (("constant", 0.0, 10), "learning_rate"),
        (("constant", 1.0, 0), "warmup_steps"),
        (("linear", 1.0, 10, 1, 10), "train_steps"),
    ],
)
def test_schedule_errors_name_the_field(arguments, message):
    with pytest.raises(ConfigError, match=message):
        WarmupSchedule(*arguments)
