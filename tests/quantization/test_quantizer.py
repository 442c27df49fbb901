"""The state of a quantizer over training, and what each domain computes in each phase."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.configuration.quantization import QuantizationDomainConfig
from keras_mtl.errors import ConfigError
from keras_mtl.layers import Dense
from keras_mtl.models import Transformer
from keras_mtl.models.quantizers import model_ranges, quantizers
from keras_mtl.quantization.construction import quantized
from keras_mtl.quantization.quantizer import Quantizer
from keras_mtl.quantization.ranges import measuring

SIZES = {
    "vocabulary_size": 31,
    "hidden_dim": 16,
    "num_heads": 2,
    "intermediate_dim": 24,
    "encoder_layers": 1,
    "decoder_layers": 1,
}
X = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)


class Host(keras.layers.Layer):
    """A layer whose only part is a dense layer; its name is the first part of the name of that."""

    def __init__(self, **domain):
        super().__init__(name="host")
        self.dense = Dense(4, use_bias=False, name="dense")
        with quantized({"domains": [domain]} if domain else None):
            self.build((None, 6))

    def build(self, input_shape):
        self.dense.build(input_shape)
        self.dense.kernel.assign(np.random.default_rng(1).normal(size=(6, 4)))
        self.built = True

    def call(self, inputs, training=False):
        return self.dense(inputs, training=training)

    def advance(self, step, accepted=True):
        """Makes the update after a forward pass of training; returns its outputs."""
        ranges = model_ranges(self)
        with measuring() as found:
            outputs = self(X, training=True)
        ranges.advance(ranges.sums(found, {}), step, accepted)
        return outputs.numpy()

    @property
    def state(self):
        return self.dense.quantizer.state.numpy()


def states(steps, measured=None, **domain):
    """States after each of some steps; `measured` are the ranges of a batch of each."""
    quantizer, state, found = Quantizer("x", QuantizationDomainConfig(**domain)), tf.zeros([3]), []
    for step in range(1, steps + 1):
        low_high = measured[step - 1] if measured else (0.0, 0.0)
        state = quantizer.next_state(state, tf.constant([*low_high, 1.0]), step, True)
        found.append(state.numpy())
    return np.array(found)


def test_a_moving_average_begins_with_the_first_range():
    measured = [(-4.0, 4.0), (-2.0, 2.0), (-8.0, 8.0)]
    found = states(3, measured, kind="static", ema_decay=0.5, start_step=2)
    np.testing.assert_allclose(found[:, 2], [4, 3, 5.5])
    np.testing.assert_allclose(found[:, 1], -found[:, 2])
    assert found[:, 0].tolist() == [0, 2, 2]


def test_calibrated_ranges_stay_as_they_are():
    measured = [(-1.0, 3.0), (-1.0, 1.0), (-9.0, 9.0)]
    found = states(
        3, measured, kind="passive_asymmetric", ema_decay=0.5, start_step=2, freeze_step=2
    )
    np.testing.assert_allclose(found[:, 1:], [[-1, 3], [-1, 2], [-1, 2]])


def test_ranges_of_a_skipped_or_broken_step_do_not_count():
    quantizer = Quantizer("x", QuantizationDomainConfig(kind="static"))
    state = tf.constant([2.0, -1.0, 1.0])
    for measured, accepted in (
        ([-9.0, 9.0, 1.0], False),
        ([-9.0, np.inf, 1.0], True),
        ([np.nan, 9.0, 1.0], True),
        ([0.0, 0.0, 0.0], True),  # A decoder that no batch used.
    ):
        after = quantizer.next_state(state, tf.constant(measured), 7, accepted)
        np.testing.assert_array_equal(after, state)
    twice = quantizer.next_state(state, tf.constant([-6.0, 6.0, 2.0]), 7, True)
    np.testing.assert_allclose(twice[2], 0.99 + 0.01 * 3)


def test_averaged_weights_have_the_mean_of_known_ranges_and_the_newest_phase():
    newest_first = [np.float32(state) for state in ([2, -3, 3], [0, -1, 1], [0, 0, 0])]
    for kind, want in (
        ("static", [2, -2, 2]),
        ("passive_asymmetric", [2, -2, 2]),
        ("dynamic", [2, -3, 3]),
        ("scheduled_clip", [2, -3, 3]),
    ):
        quantizer = Quantizer("x", QuantizationDomainConfig(kind=kind))
        np.testing.assert_array_equal(quantizer.mean_state(newest_first), want, err_msg=kind)
        np.testing.assert_array_equal(quantizer.mean_state(newest_first[2:]), [0, 0, 0])


def test_before_its_start_step_a_layer_is_not_quantized():
    plain, layer = Host()(X).numpy(), Host(kind="dynamic", start_step=2)
    for step in (1, 2):
        np.testing.assert_array_equal(layer.advance(step), plain)
    rounded = layer.advance(3)
    assert 1e-4 < np.abs(rounded - plain).max() < 0.1
    np.testing.assert_array_equal(layer(X), rounded)


def test_static_inputs_are_clipped_to_the_learned_range():
    layer = Host(kind="static", ema_decay=0.0)
    assert X.max() < -X.min()  # The range is symmetric.
    dynamic = Host(kind="dynamic")(X).numpy()
    np.testing.assert_array_equal(layer.advance(1), dynamic)  # No range is known yet.
    largest = np.abs(X).max()
    np.testing.assert_allclose(layer.state, [2, -largest, largest])
    np.testing.assert_array_equal(layer(10 * X), layer(np.clip(10 * X, -largest, largest)))


def test_scheduled_clip_goes_through_its_phases():
    layer = Host(
        kind="scheduled_clip", clip_start_step=1, clip_end_step=2, start_step=3, start_cap=2.0
    )
    kernel = layer.dense.kernel.numpy()
    np.testing.assert_array_equal(layer.advance(1), Host()(X))
    limit = 2 * 127 / 128
    clipped = np.clip(X, -limit, limit) @ np.clip(kernel, -limit, limit)
    np.testing.assert_allclose(layer.advance(2), clipped, rtol=1e-5)
    layer.advance(3)
    limit, step = 127 / 128, 1 / 128
    rounded = [np.rint(np.clip(a, -limit, limit) / step) * step for a in (X, kernel)]
    np.testing.assert_allclose(layer(X), rounded[0] @ rounded[1], rtol=1e-5)


def test_the_rounded_value_of_scheduled_clip_is_that_of_lingvo():
    quantizer = Quantizer("x", QuantizationDomainConfig(kind="scheduled_clip"))
    quantizer.state = tf.constant([2.0, -0.9921875, 0.9921875])
    values = quantizer.inputs(tf.constant([[100.0], [0.123456], [-0.123456]]), training=False)
    assert values.numpy().ravel().tolist() == [0.9921875, 0.125, -0.125]


def test_passive_ranges_are_those_of_the_batch_in_training_and_learned_ones_later():
    layer = Host(kind="passive_asymmetric", bits=4, ema_decay=0.0)
    first = layer.advance(1)
    np.testing.assert_allclose(layer.state[1:], [X.min(), X.max()])
    np.testing.assert_allclose(layer(X), first, rtol=1e-6)
    assert np.abs(first - Host()(X)).max() > 0.01
    outside = np.clip(10 * X, X.min(), X.max())
    np.testing.assert_allclose(layer(10 * X), layer(outside), rtol=1e-6)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_passive_values_are_levels_between_least_and_greatest(bits):
    quantizer = Quantizer("x", QuantizationDomainConfig(kind="passive_asymmetric", bits=bits))
    quantizer.state = tf.constant([2.0, 0.0, 1.0])
    levels = np.linspace(0, 1, 2**bits)[:, None].astype(np.float32)
    np.testing.assert_allclose(quantizer.inputs(tf.constant(levels), False), levels, atol=1e-6)


def make(quantization, **arguments):
    return Transformer(**SIZES, quantization=quantization, **arguments)


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        ({"domains": [{"match": "encodr/.*"}]}, r"domains\[0\].match = 'encodr/\.\*' matches no"),
        ({"domains": [{}], "exclude": ["projection"]}, r"exclude\[0\] = 'projection' matches no"),
        (
            {"domains": [{"match": ".*/gate"}, {"kind": "static"}]},
            "gate is in 'dynamic', but .*value is in 'static'. .*same input",
        ),
    ],
)
def test_domains_must_fit_the_layers(quantization, message):
    with pytest.raises(ConfigError, match=message):
        make(quantization, feed_forward="gated")


def test_decoders_that_share_a_program_have_the_same_domains():
    with pytest.raises(ConfigError, match=r"decoder_de/.* share a program"):
        make({"domains": [{"match": "decoder_fr/.*"}]}, sharing="encoder", decoders=["fr", "de"])


def test_a_layer_belongs_to_the_first_domain_that_matches():
    settings = {
        "domains": [
            {"kind": "static", "match": ".*/feed_forward/.*"},
            {"kind": "dynamic", "match": "(encoder|decoder)/.*"},
        ],
        "exclude": [".*/attention/output"],
    }
    model = make(settings)
    kinds = {each.name: each.kind for each in quantizers(model)}
    assert len(kinds) == 10
    assert kinds["encoder/layer_0/feed_forward/output"] == "static"
    assert kinds["encoder/layer_0/attention/qkv"] == "dynamic"
    assert "encoder/layer_0/attention/output" not in kinds
    assert "embedding" not in kinds
    again = Transformer.from_config(model.get_config())
    assert {each.name: each.kind for each in quantizers(again)} == kinds


def test_a_file_of_weights_keeps_a_quantized_model(tmp_path):
    settings = {"domains": [{"kind": "static", "start_step": 2}]}
    model = make(settings)
    for number, each in enumerate(quantizers(model)):
        each.state.assign([0.0, -1.0 - number, 2.0 + number])
    model.save_weights(tmp_path / "model.weights.h5")
    again = make(settings)
    again.load_weights(tmp_path / "model.weights.h5")
    assert len(model.weights) > 20
    for old, new in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(old, new, err_msg=old.path)
