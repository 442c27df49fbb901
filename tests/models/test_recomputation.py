"""Layers that are computed again in the backward pass train as if they were not."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_transformer import VARIANTS, batch, make

from keras_mtl.layers import TransformerEncoderLayer
from keras_mtl.layers.recomputation import call_recomputed


def losses_and_gradients(model, inputs):
    variables = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        loss, _, _ = model.token_losses(inputs, 0.1, training=True)
    # As balancing does: a gradient of each part, from one forward pass.
    parts = [
        tape.gradient(loss, variables, tf.constant(part), tf.UnconnectedGradients.ZERO)
        for part in ([1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0])
    ]
    return loss, [[tf.convert_to_tensor(gradient) for gradient in part] for part in parts]


@pytest.mark.nightly
def test_a_model_with_dropout_and_several_decoders_trains_the_same():
    arguments = {**VARIANTS["encoder, untied, sinusoidal"], "decoder_layers": 1}
    inputs = batch(decoder=1)
    plain = make(**arguments)
    saving = make(**arguments, logits_chunk=10, recompute="layer")
    # The optimizer of graphs must not move the draws of dropout.
    step = tf.function(lambda: losses_and_gradients(saving, inputs), autograph=False)
    for _ in range(2):
        expected = losses_and_gradients(plain, inputs)
        for one, other in zip(tf.nest.flatten(expected), tf.nest.flatten(step()), strict=True):
            np.testing.assert_allclose(other, one, rtol=0, atol=2e-6 * np.abs(one).max())
    # The next step draws from where this one stopped.
    state = plain.seed_generator.state
    np.testing.assert_array_equal(state, saving.seed_generator.state)


@pytest.mark.nightly
def test_xla_computes_again_with_the_same_draws():
    generator = keras.random.SeedGenerator(1)
    with_dropout = {"dropout": 0.2, "attention_dropout": 0.2, "activation_dropout": 0.2}
    layer = TransformerEncoderLayer(
        32, 2, **with_dropout, activation="gelu", seed=generator, dtype="mixed_bfloat16"
    )
    layer.build((None, None, 16))
    x = tf.constant(np.random.default_rng(0).normal(size=[3, 5, 16]), tf.bfloat16)
    mask = tf.constant([[True] * 5, [True] * 3 + [False] * 2, [True] * 5])

    def step(call):
        variables = [variable.value for variable in layer.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = call(x, mask=mask, training=True)
            total = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 2)
        return outputs, [tf.convert_to_tensor(g) for g in tape.gradient(total, [x, *variables])]

    def compiled(call):
        return tf.function(lambda: step(call), jit_compile=True, autograph=False)

    saving = compiled(lambda *args, **options: call_recomputed(generator, layer, *args, **options))
    expected, expected_gradients = step(layer)
    generator.state.assign([1, 0])
    outputs, gradients = saving()
    for one, other in zip([expected, *expected_gradients], [outputs, *gradients], strict=True):
        one, other = (tf.cast(value, tf.float32).numpy() for value in (one, other))
        np.testing.assert_allclose(other, one, rtol=0, atol=0.03 * np.abs(one).max())
    # XLA would merge both computations if it saw that they are equal.
    texts = [
        function.experimental_get_compiler_ir()(stage="optimized_hlo")
        for function in (saving, compiled(layer))
    ]
    again, once = (text.count(" dot(") for text in texts)
    # The layer has 6 products, and nothing needs the result of the last one again.
    assert again == once + 5
