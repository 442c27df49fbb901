"""RNMT+ and the hybrid: the equations, padding, packing, gradients, decoding step by step."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from rnmt_reference import Reference

from keras_mtl.decoding.beam_search import beam_search
from keras_mtl.decoding.op_beam_search import op_beam_search
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.layers.recurrence import unroll
from keras_mtl.models import RNMT

HYBRID = {"intermediate_dim": 16, "positions": "sinusoidal"}
LAYERS = (3, 3)  # Residual connections begin at the third layer.
SOURCES = [[5, 6, 7, 2], [8, 9, 2]]
TARGETS = [[5, 6, 2], [7, 8, 9, 4, 2]]


def make(**fields):
    keras.utils.set_random_seed(4)
    sizes = {"vocabulary_size": 20, "hidden_dim": 8, "num_heads": 2, "max_length": 12}
    sizes |= {"encoder_layers": LAYERS[0], "decoder_layers": LAYERS[1], "seed": 1}
    model = RNMT(**{**sizes, **fields})
    generator = np.random.default_rng(0)
    for variable in model.trainable_variables:  # Scales and offsets, too.
        variable.assign_add(generator.normal(0, 0.3, variable.shape).astype(np.float32))
    return model


def rows(sequences, length):
    return np.array([[*ids, *[0] * (length - len(ids))] for ids in sequences], np.int32)


def inputs(extra=0):
    return {"source": rows(SOURCES, 4 + extra), "target": rows(TARGETS, 5 + extra)}


# The hybrid has the decoder of RNMT+, and the encoder of the Transformer.
@pytest.fixture(scope="module", params=["rnmt", pytest.param("hybrid", marks=pytest.mark.nightly)])
def model(request):
    return make(transformer_encoder=None if request.param == "rnmt" else HYBRID)


def unpadded(model, i, **extra):
    pair = {"source": rows([SOURCES[i]], len(SOURCES[i]))}
    return model({**pair, "target": rows([TARGETS[i]], len(TARGETS[i])), **extra})[0]


def test_logits_are_those_of_the_equations():
    model = make()
    reference = Reference(model)
    outputs = model(inputs()).numpy()
    for i, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        expected = reference.logits(source, target, LAYERS)
        np.testing.assert_allclose(outputs[i, : len(target)], expected, atol=3e-4, rtol=1e-3)


def test_padding_changes_nothing(model):
    plain, padded = model(inputs()), model(inputs(extra=3))
    for i, target in enumerate(TARGETS):
        for found in (plain, padded):
            expected = unpadded(model, i)
            np.testing.assert_allclose(found[i, : len(target)], expected, atol=1e-5)


def test_pairs_of_a_packed_row_do_not_see_each_other(model):
    def joined(parts, width):
        return rows([list(itertools.chain(*parts))], width)

    packed = {"source": joined(SOURCES, 9), "target": joined(TARGETS, 9)}
    for side, sentences in (("source", SOURCES), ("target", TARGETS)):
        segments = [[i + 1] * len(ids) for i, ids in enumerate(sentences)]
        packed[f"{side}_segments"] = joined(segments, 9)
        packed[f"{side}_positions"] = joined([list(range(len(ids))) for ids in sentences], 9)
    outputs = model(packed)[0]
    np.testing.assert_allclose(outputs[:3], unpadded(model, 0), atol=1e-5)
    np.testing.assert_allclose(outputs[3:8], unpadded(model, 1), atol=1e-5)


def test_steps_with_beams_compute_the_same(model):
    expected = model(inputs()).numpy()
    shifted = np.concatenate([np.ones([2, 1], np.int32), inputs()["target"][:, :-1]], 1)
    state = model.start(model.encode(inputs()["source"]), tf.zeros([2], tf.int32), 2, 8)
    for index in range(5):
        # The other beam sees other tokens, and the two change places after each step.
        ids = np.stack([shifted[:, index], np.full(2, 3)], 1)
        ids = ids[:, ::-1] if index % 2 else ids
        weights = []
        logits, state = model.step(tf.constant(ids), tf.constant(index), state, weights)
        np.testing.assert_allclose(logits[:, index % 2], expected[:, index], atol=1e-5)
        np.testing.assert_allclose(tf.reduce_sum(weights[0], -1), np.ones([2, 2]), atol=1e-5)
        assert np.all(weights[0][1, :, 3] == 0)  # Padding of the second source.
        state = model.reorder(state, tf.constant([[1, 0]] * 2))


def test_gradients_of_the_loop_are_those_of_plain_steps():
    generator = np.random.default_rng(1)

    def array(*shape):
        return tf.constant(generator.normal(size=shape))

    kernel, x, scale = array(3, 4), array(5, 2, 4), array(4)
    mask = tf.constant(generator.integers(0, 2, [5, 2, 1]), tf.float64)
    keep = tf.constant([[1, 1], [1, 0], [1, 1], [0, 1], [1, 1]], tf.float64)[..., None]
    initial = [tf.zeros([2, 3], tf.float64), tf.zeros([2, 4], tf.float64)]
    upstream = array(5, 2, 3)

    def cell(gates, states, sequences, weights):
        memory = tf.tanh(gates) * weights[0] + 0.5 * states[1] * sequences[0]
        return [tf.sin(memory[:, :3]) + 0.1 * states[0], memory]

    def plainly(kernel, x, scale):
        states, outputs = initial, []
        for t in range(5):
            states = [each * keep[t] for each in states]
            states = cell(x[t] + states[0] @ kernel, states, [mask[t]], [scale])
            outputs.append(states[0])
        return tf.stack(outputs)

    def looped(kernel, x, scale):
        return unroll(cell, kernel, x, initial, [scale], [mask], keep)[0]

    results = []
    for function in (plainly, looped):
        with tf.GradientTape() as tape:
            tape.watch([kernel, x, scale])
            outputs = function(kernel, x, scale)
            total = tf.reduce_sum(outputs * upstream)
        results.append([outputs, *tape.gradient(total, [kernel, x, scale])])
    for plain, loop in zip(*results, strict=True):
        np.testing.assert_allclose(loop, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.nightly  # 70 losses; the test of the loop protects the gradients that are our own.
def test_gradients_of_the_model_by_finite_differences():
    model = make(dropout=0.0, attention_dropout=0.0)

    @tf.function(autograph=False)
    def loss():
        return tf.reduce_sum(model.token_losses(inputs(), 0.1, training=True)[0])

    with tf.GradientTape() as tape:
        value = loss()
    gradients = tape.gradient(value, model.trainable_variables)
    generator = np.random.default_rng(2)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        before = variable.numpy()
        direction = generator.normal(size=variable.shape).astype(np.float32)
        direction *= 1e-2 / np.linalg.norm(direction)
        ends = []
        for sign in (1, -1):
            variable.assign(before + sign * direction)
            ends.append(float(loss()))
        variable.assign(before)
        slope = float(tf.reduce_sum(tf.convert_to_tensor(gradient) * direction))
        assert (ends[0] - ends[1]) / 2 == pytest.approx(slope, rel=0.05, abs=2e-4), variable.path


def test_each_target_language_may_have_a_decoder():
    model = make(sharing="encoder", decoders=("fr", "de"), tie_embeddings=False)
    index = model.variable_decoder_index()
    assert {0, 1, None} == set(index)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model.token_losses({**inputs(), "decoder": np.array([1, 1])})[0])
    gradients = tape.gradient(loss, model.trainable_variables)
    for owner, gradient in zip(index, gradients, strict=True):
        used = gradient is not None and np.any(tf.convert_to_tensor(gradient))
        assert used == (owner != 0)
    copy = RNMT.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    found, expected = (each({**inputs(), "decoder": np.array([1, 1])}) for each in (copy, model))
    np.testing.assert_array_equal(found, expected)


def test_bfloat16_keeps_memory_cells_and_norms_in_float32():
    with_policy = {"dtype": "mixed_bfloat16"}
    model, plain = make(**with_policy), make()
    outputs = model(inputs())
    assert outputs.dtype == tf.bfloat16
    state = model.start(model.encode(inputs()["source"]), tf.zeros([2], tf.int32), 1, 8)
    layer = state["cache"]["layer_1"]
    assert (layer["output"].dtype, layer["memory"].dtype) == (tf.bfloat16, tf.float32)
    difference = np.abs(tf.cast(outputs, tf.float32) - plain(inputs()))
    assert difference.max() < 0.1 * np.abs(plain(inputs())).max()


def test_both_searches_find_the_same(model):
    source = rows(SOURCES, 4)
    options = BeamOptions(beam_size=3, num_hypotheses=2, max_length=5)
    memory = model.encode(source)
    state = model.start(memory, tf.zeros([2], tf.int32), 3, 5)
    found = beam_search(model.step, state, model.reorder, 2, 20, options)

    def step(rows, state):
        index = tf.reduce_max(rows.position)
        logits, after = model.step(rows.token[:, None], index, state)
        return logits[:, 0], after

    state = model.start(memory, tf.zeros([2], tf.int32), 1, 5)
    other = op_beam_search(step, state, 2, 20, options)
    np.testing.assert_array_equal(found.ids, other.ids)
    np.testing.assert_allclose(found.scores, other.scores, rtol=1e-5)


@pytest.mark.nightly  # Compiles the model; tests of the trainer compile other models.
@pytest.mark.parametrize("encoder", [None, HYBRID], ids=["rnmt", "hybrid"])
def test_xla_drops_and_computes_the_same(encoder):
    model = make(transformer_encoder=encoder, dropout=0.3, attention_dropout=0.3)
    start = model.seed_generator.state.numpy()

    def step(source, target):
        with tf.GradientTape() as tape:
            pair = {"source": source, "target": target}
            loss = tf.reduce_sum(model.token_losses(pair, 0.1, training=True)[0])
        return loss, [
            tf.convert_to_tensor(gradient)
            for gradient in tape.gradient(loss, model.trainable_variables)
        ]

    results = []
    for jit in (False, True):
        model.seed_generator.state.assign(start)
        loss, gradients = tf.function(step, jit_compile=jit, autograph=False)(
            *map(tf.constant, inputs().values())
        )
        results.append([loss.numpy(), *(each.numpy() for each in gradients)])
    for plain, compiled in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=1e-3, atol=1e-4)
