"""Sub-layers of plug-ins: which are accepted, and what each must do."""

import re

import keras
import pytest
import tensorflow as tf

from keras_mtl import layers
from keras_mtl.configuration.schema import TransformerConfig
from keras_mtl.errors import ConfigError
from keras_mtl.layers import registry
from keras_mtl.models.factory import check_sublayers


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """What a test registers is forgotten after it."""
    for known in (registry.SELF_ATTENTIONS, registry.FEED_FORWARDS, registry.NORMS):
        monkeypatch.setattr(known, "classes", dict(known.classes))


class Plain(keras.layers.Layer):
    """A norm that keeps the contract; the bad ones below each break it in one way."""

    def build(self, input_shape):
        self.scale = self.add_weight(name="scale", shape=(input_shape[-1],))
        self.built = True

    def call(self, inputs):
        return inputs * self.scale


def check(cls, **parameters):
    registry.register_norm("mine")(cls)
    config = TransformerConfig(size="tiny", hidden_dim=8, norm="mine")
    config.norm_parameters = parameters
    check_sublayers(config)


class LateWeights(Plain):
    def build(self, input_shape):
        super().build(input_shape)
        self.inner = keras.layers.Dense(input_shape[-1])

    def call(self, inputs):
        return self.inner(inputs) * self.scale


class OtherShape(Plain):
    def call(self, inputs):
        return tf.reduce_sum(inputs * self.scale, axis=-1)


class OtherType(Plain):
    def call(self, inputs):
        return tf.cast(inputs * self.scale, tf.float64)


class InAList(Plain):
    def build(self, input_shape):
        super().build(input_shape)
        self.inner = [keras.layers.Dense(input_shape[-1])]
        self.inner[0].build(input_shape)

    def call(self, inputs):
        return self.inner[0](inputs) * self.scale


class OwnDropout(Plain):
    def build(self, input_shape):
        super().build(input_shape)
        self.drop = keras.layers.Dropout(0.5, seed=1)

    def call(self, inputs, training=False):
        return self.drop(inputs * self.scale, training=training)


class MovingMean(Plain):
    def build(self, input_shape):
        super().build(input_shape)
        self.mean = self.add_weight(name="mean", shape=(input_shape[-1],), trainable=False)

    def call(self, inputs):
        return inputs * self.scale - self.mean


class NotFinite(Plain):
    def call(self, inputs):
        return tf.math.log(inputs) * self.scale


class Noisy(Plain):
    def call(self, inputs):
        return inputs * self.scale + tf.random.uniform(tf.shape(inputs))


class OverTime(Plain):
    def call(self, inputs):
        return (inputs - tf.reduce_mean(inputs, axis=1, keepdims=True)) * self.scale


class NextToken(Plain):
    def call(self, inputs):
        return (inputs + tf.pad(inputs[:, 1:], [[0, 0], [0, 1], [0, 0]])) * self.scale


class CountsPositions(Plain):
    def call(self, inputs):
        return inputs * self.scale + tf.cast(tf.range(tf.shape(inputs)[1]), tf.float32)[:, None]


class Unused(Plain):
    def call(self, inputs):
        return inputs + 0.0


class StaticTime(Plain):
    def call(self, inputs):
        return tf.reshape(inputs, [-1, inputs.shape[1] * 1, 8]) * self.scale


class NoKeywords(Plain):
    def __init__(self):
        super().__init__()


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (LateWeights, "creates the variable .*kernel when it is called; create it in build"),
        (OtherShape, r"returns float32 \(2, 5\) for float32 \(2, 5, 8\); return the shape"),
        (OtherType, "returns float64 .* for float32"),
        (InAList, "keeps the layer of the variable .*kernel in a list, which checkpoints do not"),
        (OwnDropout, r"which is not trained; .*keras_mtl\.layers\.Dropout\(rate, seed=seed\)"),
        (
            MovingMean,
            "has the variable norm/mean, which is not trained",
        ),
        (NotFinite, "returns values that are not finite"),
        (Noisy, "is random when training is false"),
        (OverTime, "is not position-wise"),
        (NextToken, "is not position-wise: .*training must not see the next token"),
        (CountsPositions, "is not position-wise"),
        (Unused, "does not use the variable .*scale in training; remove it"),
        (
            StaticTime,
            r"cannot be used:\n.*test_sublayers\.py line \d+: return tf\.reshape.*\n"
            r"  TypeError: unsupported operand type.*\n  repair the layer, or use another one$",
        ),
        (NoKeywords, "(?s)cannot be used:\n.*TypeError: .*unexpected keyword argument"),
    ],
)
def test_what_breaks_the_contract_is_named_before_training(cls, message):
    with pytest.raises(ConfigError, match=message) as error:
        check(cls)
    assert str(error.value).startswith("task.model.norm 'mine' ")


class LooksAhead(layers.SelfAttention):
    def call(self, inputs, mask=None, use_causal_mask=False, positions=None, training=False):
        return super().call(inputs, mask=mask, positions=positions, training=training)


class IgnoresMask(layers.SelfAttention):
    def call(self, inputs, mask=None, use_causal_mask=False, positions=None, training=False):
        return super().call(inputs, use_causal_mask=use_causal_mask, training=training)


class ForgetsPositions(layers.SelfAttention):
    def transform(self, query, key, positions):
        return super().transform(query, key, tf.zeros_like(positions))


class OtherSteps(layers.SelfAttention):
    def step(self, inputs, index, cache):
        outputs, cache = super().step(inputs, index, cache)
        return outputs * 0.9, cache


class NoSteps(keras.layers.Layer):
    def __init__(self, num_heads, dropout, rotary, seed, **kwargs):
        super().__init__(**kwargs)

    def call(self, inputs, mask=None, use_causal_mask=False, positions=None, training=False):
        return inputs


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (LooksAhead, "looks ahead although use_causal_mask is true"),
        (IgnoresMask, "attends to positions that are false in mask"),
        (OtherSteps, r"computes other outputs in step\(\) than in call\(\) at position 0"),
        (NoSteps, "(?s)cannot be used:.*AttributeError: 'NoSteps' object has no attribute 'start'"),
        (ForgetsPositions, None),  # It agrees with itself.
    ],
)
def test_self_attention_of_plugins(cls, message):
    registry.register_self_attention("mine")(cls)
    config = TransformerConfig(size="tiny", hidden_dim=8, num_heads=2, self_attention="mine")
    config.positions = "rotary"
    if message is None:
        check_sublayers(config)
        return
    with pytest.raises(ConfigError, match=message) as error:
        check_sublayers(config)
    assert str(error.value).startswith("task.model.self_attention 'mine' ")


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_what_keeps_the_contract_passes_and_the_policy_is_put_back(policy):
    registry.register_norm("mine")(Plain)
    registry.register_feed_forward("own")(type("Own", (layers.FeedForward,), {}))
    config = TransformerConfig(size="tiny", hidden_dim=8, feed_forward="own", norm="mine")
    check_sublayers(config, policy)
    assert keras.config.dtype_policy().name == "float32"


def test_names_and_parameters():
    class Sharp(Plain):
        def __init__(self, *, power, **kwargs):
            super().__init__(**kwargs)
            self.power = power

    check(Sharp, power=2)
    for parameters, message in (
        ({}, "normalization 'mine' needs the parameter 'power'"),
        ({"powr": 2, "power": 1}, "has no parameter 'powr'; did you mean 'power'?"),
        ({"dtype": "float64", "power": 1}, "has no parameter 'dtype'"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            check(Sharp, **parameters)
    for changes, message in (
        ({"norm": "layernorm"}, "task.model.norm = 'layernorm' is not known; did you mean 'layer_"),
        ({"feed_forward": "standart"}, "task.model.feed_forward = 'standart' is not known; did"),
        ({"norm_parameters": {"epsilon": 1}}, "'layer_norm' has no parameter 'epsilon'"),
        ({"feed_forward_parameters": {"a": 1}}, "'standard' has no parameter 'a'; it ta"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            check_sublayers(TransformerConfig(size="tiny", **changes))


def test_only_layers_with_the_arguments_are_registered():
    for register, name, cls, message in (
        (
            layers.register_norm,
            "layer_norm",
            Plain,
            "'layer_norm' of Plain is taken by keras_mtl.layers.layer_norm.LayerNorm; choose",
        ),
        (layers.register_norm, "f", print, "'f' is <built-in function print>; decorate a keras"),
        (
            layers.register_feed_forward,
            "bare",
            Plain,
            "'bare' (Plain) does not take intermediate_dim, activation, dropout, seed; "
            "its constructor",
        ),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            register(name)(cls)
    with pytest.raises(ConfigError, match=r"'Plain' has no name; .*@register_norm\(\"my_name\"\)"):
        layers.register_norm(Plain)
