"""The loss scale over many updates, and over restarts."""

import tensorflow as tf

from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.training.run.building import build_loss_scale
from keras_mtl.training.step.loss_scale import DynamicLossScale


def updates(scale, *finite):
    for value in finite:
        scale.update(tf.constant(value))
    return float(scale.value)


def test_it_doubles_after_updates_without_overflow_and_halves_at_each():
    scale = DynamicLossScale(tokens=4096, updates_to_grow=3)
    assert float(scale.value) == 8.0
    assert updates(scale, True, True) == 8.0
    assert updates(scale, True) == 16.0
    assert updates(scale, True, True, False) == 8.0
    # Counting starts again behind an overflow.
    assert updates(scale, True, True) == 8.0
    assert updates(scale, True) == 16.0
    assert updates(scale, False, False) == 4.0


def test_it_stays_within_its_range():
    scale = DynamicLossScale(tokens=4096, updates_to_grow=1)
    assert updates(scale, *[False] * 60) == 2.0**-24
    assert updates(scale, *[True] * 60) == 2.0**24


def test_a_checkpoint_keeps_it_and_one_of_float32_changes_nothing():
    scale, again = (DynamicLossScale(tokens=100, updates_to_grow=3) for _ in range(2))
    updates(scale, False, True, True)
    again.restore({"counters": 1})
    assert float(again.value) == 2.0**15 / 128
    again.restore(scale.collect())
    for finite in (True, True, True, True, False):
        assert updates(scale, finite) == updates(again, finite)


def test_only_float16_has_one():
    tokens = 2 * ExperimentConfig().task.data.tokens_per_batch
    assert build_loss_scale("mixed_bfloat16", tokens) is None
    assert float(build_loss_scale("mixed_float16", tokens).value) == 4.0
