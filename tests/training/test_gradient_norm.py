"""Updates whose gradient is far larger than usual are skipped and counted."""

import numpy as np
import pytest
import tensorflow as tf
from balance_case import Model
from trainer_case import batch, dataset

from keras_mtl.training.step.gradient_norm import GradientNormTracker
from keras_mtl.training.step.optimizers import Adam
from keras_mtl.training.step.trainer import MultiTaskTrainer


@pytest.fixture(scope="module")
def accepts():
    """Traced once; it takes a tracker's state, so that all tests can use it."""
    tracker = GradientNormTracker(4.0)
    step = tf.function(tracker.accepts).get_concrete_function(tf.TensorSpec([]))

    def run(norms, state=None):
        tracker.restore(state or GradientNormTracker(4.0).collect())
        found = [bool(step(tf.constant(norm, tf.float32))) for norm in norms]
        return found, tracker.collect()

    return run


def usual(count, seed=1):
    return np.exp(np.random.default_rng(seed).normal(0.5, 0.1, count))


def test_only_outliers_are_skipped(accepts):
    norms = usual(600)
    found, state = accepts(norms)
    assert all(found)
    moments = state["gradient_norm/moments"]
    assert moments[0] == pytest.approx(0.5, abs=0.02)
    assert np.sqrt(moments[1]) == pytest.approx(0.1, abs=0.02)
    norms[[50, 300, 400]] = np.exp(0.5 + 0.6)  # 6 deviations above the mean.
    norms[500] = np.exp(0.5 - 2)
    found, state = accepts(norms)
    assert np.flatnonzero(~np.array(found)).tolist() == [300, 400]  # 50 is among the first 100.
    assert state["gradient_norm/counts"].tolist() == [600, 2]


def test_a_gradient_that_is_not_finite_changes_nothing(accepts):
    _, before = accepts(usual(150))
    found, after = accepts([np.nan, np.inf], before)
    assert found == [True, True]  # The caller skips them anyway.
    assert all(np.array_equal(after[key], before[key]) for key in before)


def test_the_mean_follows_gradients_that_stay_large(accepts):
    _, state = accepts(usual(300))
    found, _ = accepts(10 * usual(300), state)
    assert not any(found[:10])
    assert all(found[-100:])
    # Also from norms that were all equal.
    _, state = accepts(np.ones(200))
    found, _ = accepts(np.full(300, 10.0), state)
    assert not found[0]
    assert all(found[-100:])


def test_a_restored_tracker_continues(accepts):
    norms = np.concatenate([usual(150), usual(150) * 1.3])
    found, state = accepts(norms)
    first, middle = accepts(norms[:170])
    second, again = accepts(norms[170:], middle)
    assert first + second == found
    assert all(np.array_equal(again[key], state[key]) for key in state)


def test_the_trainer_skips_and_counts_them():
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        model = Model(1)
        optimizer = Adam(0.01)
        optimizer.build(model.trainable_variables)
        tracker = GradientNormTracker(4.0)
    trainer = MultiTaskTrainer(
        model, optimizer, strategy, 2, [0, 0], jit_compile=False, norm_tracker=tracker
    )
    one = batch(np.random.default_rng(1), 0)
    trainer.set_dataset(strategy.experimental_distribute_dataset(dataset([one] * 4)))
    # As if the norms of 200 updates had been far below that of this batch.
    small = {"gradient_norm/moments": np.float32([-9, 0.01]), "gradient_norm/counts": [200, 0]}
    tracker.restore(small)
    before = [weight.numpy() for weight in model.trainable_variables]
    totals = trainer.train(tf.constant(2))
    assert totals["skipped"] == 2
    assert totals["gradient_norm"] == 0
    assert tracker.outliers == 2
    for weight, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(weight, value)
    tracker.restore({**small, "gradient_norm/moments": np.float32([9, 0.01])})
    totals = trainer.train(tf.constant(2))
    assert totals["skipped"] == 0
    assert tracker.outliers == 0
    assert not np.array_equal(model.trainable_variables[0], before[0])
