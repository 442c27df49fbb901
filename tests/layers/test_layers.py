import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl import layers
from keras_mtl.layers import attention
from keras_mtl.layers.rotary import rotary_table, rotate
from keras_mtl.models.decoder import TransformerDecoder
from keras_mtl.models.encoder import TransformerEncoder
from keras_mtl.models.recurrent_decoder import RecurrentDecoder
from keras_mtl.models.recurrent_encoder import RecurrentEncoder
from tests.layers import battery

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 6, 8)).astype(np.float32)
MEMORY = RNG.normal(size=(3, 5, 12)).astype(np.float32)
IDS = RNG.integers(1, 11, (3, 6)).astype(np.int32)
SEEDED = keras.initializers.serialize(keras.initializers.GlorotUniform(seed=4))
DROPOUTS = {"dropout": 0.2, "attention_dropout": 0.2, "activation_dropout": 0.2}
# A bias of the keys shifts all scores of a query alike, so softmax hides a part of the fused bias
# only; no variable is without gradient.
CASES = [
    (layers.Dropout, {"rate": 0.3, "seed": 3}, [X], X.shape, 0),
    (layers.Dense, {"units": 5, "activation": "relu"}, [X], (3, 6, 5), 2),
    (
        layers.QuantizedDense,
        {"units": 5, "activation": "relu", "kernel_initializer": SEEDED},
        [X],
        (3, 6, 5),
        1,  # The kernel is int8.
    ),
    (layers.LayerNorm, {"epsilon": 1e-6}, [X], X.shape, 2),
    (layers.RMSNorm, {"epsilon": 1e-6}, [X], X.shape, 1),
    (layers.FeedForward, {"intermediate_dim": 16, "dropout": 0.2, "seed": 1}, [X], X.shape, 4),
    (
        layers.GatedFeedForward,
        {"intermediate_dim": 16, "activation": "silu", "dropout": 0.2, "seed": 1},
        [X],
        X.shape,
        6,
    ),
    (
        layers.SelfAttention,
        {"num_heads": 2, "dropout": 0.2, "rotary": True, "seed": 1},
        [X],
        X.shape,
        4,
    ),
    (
        layers.TransparentAttention,
        {"memories": 2, "dropout": 0.2, "seed": 1},
        [RNG.normal(size=(3, 4, 6, 8)).astype(np.float32)],
        (3, 2, 6, 8),
        1,
    ),
    (layers.CrossAttention, {"num_heads": 2, "dropout": 0.2, "seed": 1}, [X, MEMORY], X.shape, 6),
    (layers.PositionEmbedding, {"max_length": 6}, [X], X.shape, 1),
    (layers.SinePositionEncoding, {"max_wavelength": 1e4}, [X], X.shape, 0),
    (
        layers.TokenEmbedding,
        {"vocabulary_size": 11, "hidden_dim": 8, "mask_id": None},
        [IDS],
        X.shape,
        1,
    ),
    (
        layers.TransformerEncoderLayer,
        {"intermediate_dim": 16, "num_heads": 2, "activation": "gelu", "seed": 1, **DROPOUTS},
        [X],
        X.shape,
        12,
    ),
    (
        layers.TransformerDecoderLayer,
        {"intermediate_dim": 16, "num_heads": 2, "activation": "silu", "seed": 1, **DROPOUTS},
        [X, MEMORY],
        X.shape,
        20,
    ),
    (
        TransformerEncoder,
        {"num_layers": 1, "intermediate_dim": 16, "num_heads": 2, "seed": 1, **DROPOUTS},
        [X],
        X.shape,
        14,
    ),
    (
        TransformerDecoder,
        {
            "num_layers": 1,
            "intermediate_dim": 16,
            "num_heads": 2,
            "vocabulary_size": 11,
            "seed": 1,
            **DROPOUTS,
        },
        [X, MEMORY],
        (3, 6, 11),
        23,
    ),
    (layers.LayerNormLSTM, {"units": 4, "bidirectional": True}, [X], X.shape, 4),
    (
        layers.AdditiveAttention,
        {"dim": 8, "num_heads": 2, "dropout": 0.2, "seed": 1},
        [X, MEMORY],
        X.shape,
        4,
    ),
    (RecurrentEncoder, {"num_layers": 1, "dim": 8, "dropout": 0.2, "seed": 1}, [X], X.shape, 6),
    (
        RecurrentDecoder,
        {
            "num_layers": 2,
            "dim": 8,
            "num_heads": 2,
            "dropout": 0.2,
            "attention_dropout": 0.2,
            "vocabulary_size": 11,
            "seed": 1,
        },
        [X, MEMORY],
        (3, 6, 11),
        13,
    ),
]


ELSEWHERE = (
    *(TransformerEncoder, TransformerDecoder, RecurrentEncoder, RecurrentDecoder),
    *(layers.TransformerEncoderLayer, layers.TransformerDecoderLayer),
    *(layers.LayerNormLSTM, layers.AdditiveAttention),
)


def marked(case):
    """Stacks and their layers are in models of other tests, as are recurrent layers."""
    marks = pytest.mark.nightly if case[0] in ELSEWHERE else ()
    return pytest.param(case, id=case[0].__name__, marks=marks)


@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_battery(case, tmp_path):
    make, kwargs, inputs, shape, trainable = case
    battery.check_layer(make, kwargs, inputs, shape, tmp_path, trainable=trainable)


def test_battery_covers_every_public_layer():
    public = {name for name in layers.__all__ if isinstance(getattr(layers, name), type)}
    public.remove("AttentionLSTM")  # It has two outputs; RecurrentDecoder tests it.
    assert {case[0].__name__ for case in CASES} >= public


def test_padding_changes_nothing():
    wide = RNG.normal(size=(2, 9, 12)).astype(np.float32)
    one = layers.SelfAttention(2)
    battery.check_padding(lambda x, mask: one(x, mask=mask), wide, 5)
    encoder = TransformerEncoder(2, 16, 2)
    battery.check_padding(lambda x, mask: encoder(x, mask=mask), wide, 5)
    cross = layers.CrossAttention(2)
    battery.check_padding(lambda m, mask: cross(X[:2], m, memory_mask=mask), wide, 5)
    decoder = TransformerDecoder(2, 16, 2)
    battery.check_padding(lambda m, mask: decoder(X[:2], m, memory_mask=mask), wide, 5)


def test_a_row_of_padding_alone_stays_finite():
    outputs = layers.SelfAttention(2)(X, mask=np.zeros([3, 6], bool))
    assert np.isfinite(outputs).all()


def test_causal_attention_does_not_look_ahead():
    layer = layers.SelfAttention(2)
    changed = X.copy()
    changed[:, 4:] += 1.0
    first, second = (layer(x, use_causal_mask=True).numpy() for x in (X, changed))
    np.testing.assert_array_equal(first[:, :4], second[:, :4])
    assert np.abs(first[:, 4:] - second[:, 4:]).max() > 1e-3


def test_self_attention_equals_plain_arithmetic():
    layer = layers.SelfAttention(2)
    outputs = layer(X).numpy()
    kernel, _, output_kernel, _ = layer.get_weights()
    query, key, value = np.split(X @ kernel, 3, axis=-1)
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        scores = query[..., head] @ key[..., head].transpose(0, 2, 1) / 2.0
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        heads.append(weights / weights.sum(-1, keepdims=True) @ value[..., head])
    np.testing.assert_allclose(outputs, np.concatenate(heads, -1) @ output_kernel, atol=1e-5)


def test_fused_kernels_are_drawn_like_single_ones():
    for parts in (1, 2, 3):
        kernel = np.array(attention.glorot(parts)((64, parts * 64)))
        assert np.abs(kernel).max() == pytest.approx(math.sqrt(6 / 128), rel=1e-2)


def test_sinusoids_are_tensor2tensors():
    signal = layers.SinePositionEncoding()(np.zeros([1, 5, 8], np.float32))[0].numpy()
    for position in range(5):
        for i in range(4):
            angle = position / 10_000 ** (i / 3)
            assert signal[position, i] == pytest.approx(math.sin(angle), abs=1e-6)
            assert signal[position, 4 + i] == pytest.approx(math.cos(angle), abs=1e-6)


@pytest.mark.parametrize("make", [layers.SinePositionEncoding, layers.PositionEmbedding])
def test_positions_from_a_start(make):
    layer = make(max_length=6) if make is layers.PositionEmbedding else make()
    full = layer(X)
    for start in (2, tf.constant(2)):
        np.testing.assert_allclose(layer(X[:, 2:4], start_index=start), full[:, 2:4], atol=1e-6)


def test_rotary_scores_depend_on_distances():
    x = RNG.normal(size=(1, 2, 6, 8)).astype(np.float32)
    far = np.array([[[3, 4, 6, 7, 9, 30]]])
    scores = []
    for positions in (far, far + 1000):
        table = rotary_table(positions, 8)
        np.testing.assert_allclose(
            np.linalg.norm(rotate(x, *table), axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-5
        )
        scores.append(tf.matmul(rotate(x, *table), rotate(x, *table), transpose_b=True))
    np.testing.assert_allclose(*scores, atol=2e-3)
    assert np.abs(scores[0] - np.matmul(x, x.swapaxes(2, 3))).max() > 0.5
    # Equation 14 of the paper, as complex numbers: x e^(i m θ).
    pairs = x[..., :4] + 1j * x[..., 4:]
    turned = pairs * np.exp(1j * far[..., None] * 10_000.0 ** (-np.arange(4) / 4))
    expected = np.concatenate([turned.real, turned.imag], axis=-1)
    np.testing.assert_allclose(rotate(x, *rotary_table(far, 8)), expected, atol=1e-5)


def test_rms_norm_and_gate_are_their_equations():
    norm = layers.RMSNorm(epsilon=0.25)
    norm.build(X.shape)
    norm.gamma.assign(np.arange(8.0))
    expected = X / np.sqrt(np.mean(X**2, axis=-1, keepdims=True) + 0.25) * np.arange(8.0)
    np.testing.assert_allclose(norm(X), expected, atol=1e-6)
    block = layers.GatedFeedForward(16, activation="silu")
    block.build(X.shape)
    for variable in block.trainable_variables:
        variable.assign(RNG.normal(size=variable.shape))
    w, a, v, b, u, c = (variable.numpy() for variable in block.trainable_variables)
    gate = X @ w + a
    expected = (gate / (1 + np.exp(-gate)) * (X @ v + b)) @ u + c
    np.testing.assert_allclose(block(X), expected, atol=1e-4)


def test_transparent_attention_is_its_equation():
    outputs = RNG.normal(size=(2, 4, 5, 8)).astype(np.float32)
    layer = layers.TransparentAttention(3)
    np.testing.assert_allclose(layer(outputs)[:, 1], outputs.mean(1), atol=1e-6)
    scores = RNG.normal(size=(4, 3))
    layer.layer_scores.assign(scores)
    weights = np.exp(scores) / np.exp(scores).sum(0)
    for memory in range(3):
        expected = sum(weights[i, memory] * outputs[:, i] for i in range(4))
        np.testing.assert_allclose(layer(outputs)[:, memory], expected, atol=1e-6)


def test_embedding_scale_mask_and_logits():
    layer = layers.TokenEmbedding(11, 8)
    ids = np.array([[3, 4, 0]], np.int32)
    rows = layer(ids)
    table = layer.embeddings.numpy()
    np.testing.assert_allclose(rows, table[ids] * math.sqrt(8), rtol=1e-6)
    np.testing.assert_array_equal(layer.compute_mask(ids), [[True, True, False]])
    np.testing.assert_allclose(layer.logits(rows), rows @ table.T, atol=1e-5)
    wide = layers.TokenEmbedding(500, 64)
    wide(ids)
    assert np.std(wide.embeddings.numpy()) == pytest.approx(64**-0.5, rel=0.02)


def test_layer_norm_statistics_stay_float32_under_bfloat16():
    # 256 and 257 are one number in bfloat16's compute type only after the input is rounded; here
    # the mean of many small offsets would be lost by bfloat16 sums.
    x = tf.cast(np.linspace(-1, 1, 4096, dtype=np.float32)[None], tf.bfloat16)
    outputs = layers.LayerNorm(dtype="mixed_bfloat16")(x)
    values = tf.cast(x, tf.float32).numpy()
    expected = (values - values.mean()) / values.std()
    np.testing.assert_allclose(tf.cast(outputs, tf.float32), expected, atol=0.008)


class TestDropout:
    def test_share_and_scale(self):
        for rate in (0.1, 0.5, 0.9):
            outputs = layers.Dropout(rate, seed=1)(tf.ones([200, 500]), training=True).numpy()
            assert (outputs == 0).mean() == pytest.approx(rate, abs=0.005)
            rounded = round(rate * 2**16) / 2**16
            np.testing.assert_allclose(outputs[outputs > 0], 1 / (1 - rounded), rtol=1e-6)
            # Rows, columns and neighbors are independent.
            kept = outputs > 0
            deviation = math.sqrt(rate * (1 - rate) / 500)
            assert np.abs(kept.mean(1) - (1 - rate)).max() < 6 * deviation
            assert np.mean(kept[:, 1:] & kept[:, :-1]) == pytest.approx((1 - rate) ** 2, abs=0.01)
            assert np.mean(kept[1:] & kept[:-1]) == pytest.approx((1 - rate) ** 2, abs=0.01)

    def test_calls_differ_and_seeds_repeat(self):
        x = tf.ones([64, 64])
        first, again = layers.Dropout(0.5, seed=1), layers.Dropout(0.5, seed=1)
        a, b = first(x, training=True), first(x, training=True)
        assert np.mean(a.numpy() == b.numpy()) == pytest.approx(0.5, abs=0.06)
        np.testing.assert_array_equal(again(x, training=True), a)
        np.testing.assert_array_equal(again(x, training=True), b)

    def test_off_outside_training(self):
        np.testing.assert_array_equal(layers.Dropout(0.5)(X), X)
        np.testing.assert_array_equal(layers.Dropout(0.0)(X, training=True), X)

    @pytest.mark.parametrize("shape", [(1,), (7, 9), (2, 4096), (3, 4099), (0, 5)])
    @pytest.mark.parametrize("static", [True, False])
    def test_masks_are_hashes_of_positions(self, shape, static):
        """Checkpoints of older versions resume with the same masks."""
        layer = layers.Dropout(0.5, seed=1)
        seed = np.asarray(layer.seed_generator.state.numpy(), np.int64)
        key = tf.random.stateless_uniform(
            [2], seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
        ).numpy()
        size = math.prod(shape)
        value = np.arange((size + 1) // 2, dtype=np.uint32) * (key[1] | 1) + key[0]
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
            value = (value ^ (value >> np.uint32(shift))) * np.uint32(factor)
        expected = value.view(np.uint16)[:size].reshape(shape) >= 2**15
        call = tf.function(
            lambda x: layer(x, training=True),
            input_signature=[tf.TensorSpec(shape if static else [None] * len(shape))],
        )
        np.testing.assert_array_equal(call(np.ones(shape, np.float32)).numpy() > 0, expected)

    def test_no_range_is_as_long_as_the_input(self):
        """TensorFlow computes ranges of known length before it compiles a program with XLA."""
        layer = layers.Dropout(0.5, seed=1)
        call = tf.function(lambda x: layer(x, training=True))
        graph = call.get_concrete_function(tf.TensorSpec([256, 8, 128, 128])).graph
        ranges = [op for op in graph.get_operations() if op.type == "Range"]
        assert ranges
        for op in ranges:
            assert tf.get_static_value(op.inputs[1]) <= 4096

    def test_layers_share_one_state(self):
        generator = keras.random.SeedGenerator(4)
        layer = layers.TransformerEncoderLayer(16, 2, 0.1, 0.1, 0.1, seed=generator)
        layer(X)
        assert [v.path for v in layer.non_trainable_variables] == [generator.state.path]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: layers.Dropout(1.0), "rate must be in"),
        (lambda: layers.SelfAttention(3)(X), "num_heads=3 does not divide 8"),
        (lambda: layers.CrossAttention(0), "num_heads must be at least 1"),
        (lambda: layers.FeedForward(4, "tanh"), "not 'tanh'"),
        (lambda: layers.SinePositionEncoding()(X[..., :7]), "must be even, not 7"),
    ],
)
def test_bad_arguments_say_what_is_wrong(build, words):
    with pytest.raises(ValueError, match=words):
        build()
