"""Adapters in the model: what they compute, and for which rows."""

import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.configuration.adapters import AdapterChoice, AdapterSet, route_of
from keras_mtl.errors import ConfigError, InputError
from keras_mtl.models import Transformer
from keras_mtl.models.variables import variable_name

SIZES = {
    "vocabulary_size": 31,
    "hidden_dim": 16,
    "num_heads": 2,
    "intermediate_dim": 24,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
}
BOTH = ("encoder", "decoder")
SETS = (
    AdapterSet("language", "bottleneck", ("fr", "ca", "gl"), BOTH, 4),
    AdapterSet("low", "lora", ("x", "y"), BOTH, 2, 8.0, ".*(attention/.*|intermediate)"),
    AdapterSet("task", "embedding", ("x",), BOTH, 1),
)
ROUTES = [
    route_of(0, [AdapterChoice("", i, count) for i, count in zip(chosen, (3, 2, 1), strict=True)])
    for chosen in ((0, 1, 0), (-1, -1, -1), (2, -1, -1), (-1, 0, -1), (2, 1, 0))
]
SOURCE = np.array([[5, 6, 7, 2], [8, 9, 2, 0], [5, 7, 2, 0], [9, 9, 6, 2], [4, 2, 0, 0]], np.int32)
TARGET = np.array([[8, 9, 2], [5, 2, 0], [7, 7, 2], [6, 2, 0], [5, 5, 2]], np.int32)


def make(sets=SETS, **arguments):
    tf.keras.utils.set_random_seed(1)
    return Transformer(**SIZES, adapters=sets, **arguments)


def randomize(model, seed=0):
    """Gives every weight a random value, as if the model had been trained."""
    random = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        if "adapters_" in variable.path:
            scale = 0.3 if len(variable.shape) == 2 else 0.1
            change = random.normal(size=variable.shape) * scale
            variable.assign(variable.numpy() + change.astype(np.float32))
    return model


@pytest.fixture(scope="module")
def model():
    return randomize(make())


def inputs(rows=slice(None), route=None):
    routes = np.array(ROUTES, np.int32)[rows] if route is None else np.array(route, np.int32)
    return {
        "source": tf.constant(SOURCE[rows]),
        "target": tf.constant(TARGET[rows]),
        "decoder": tf.constant(routes),
    }


def by_name(model):
    return {variable_name(each): each for each in model.weights if "float" in each.dtype}


def test_new_adapters_change_nothing():
    plain, adapted = make(()), make()
    ours = by_name(adapted)
    for name, variable in by_name(plain).items():
        ours[name].assign(variable)
    data = inputs()
    np.testing.assert_array_equal(plain(data), adapted(data))
    assert sum("adapters_" in name for name in ours) == 3 * (3 * 6) + 2 * 2 * (3 + 6 + 6) + 2


def test_each_row_uses_its_own_adapters(model):
    """A mixed batch, a batch of one task, and single sentences give the same."""
    mixed = model(inputs()).numpy()
    for i, route in enumerate(ROUTES):
        np.testing.assert_allclose(model(inputs([i]))[0], mixed[i], rtol=1e-5, atol=1e-5)
        whole = model(inputs(route=[route])).numpy()
        np.testing.assert_allclose(whole[i], mixed[i], rtol=1e-5, atol=1e-5)
        assert np.abs(whole - mixed).max() > 0.01


def test_rows_without_adapters_are_those_of_the_base(model):
    base = make(())
    ours = by_name(model)
    for name, variable in by_name(base).items():
        variable.assign(ours[name])
    plain = base(inputs()).numpy()
    np.testing.assert_array_equal(model(inputs([1]))[0], base(inputs([1]))[0])
    np.testing.assert_allclose(model(inputs()).numpy()[1], plain[1], rtol=1e-6, atol=1e-6)


def test_a_bottleneck_computes_what_the_paper_says():
    adapted = randomize(make(SETS[:1]))
    member = adapted.encoder.adapters[0].members(0)[2]
    x = np.random.default_rng(3).normal(size=(2, 3, 16)).astype(np.float32)
    weights = [
        getattr(member, name).numpy()
        for name in ("gamma", "beta", "down_kernel", "down_bias", "up_kernel", "up_bias")
    ]
    gamma, beta, down, down_bias, up, up_bias = weights
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    hidden = np.maximum((normal * gamma + beta) @ down + down_bias, 0)
    want = x + hidden @ up + up_bias
    from keras_mtl.layers.adapters import bottleneck

    members = adapted.encoder.adapters[0].members(0)
    for index in ([2], [2, 2], [[2, 2, 2], [2, 2, 2]]):
        found = bottleneck(tf.constant(x), members, tf.constant(index))
        np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)


def test_lora_is_a_change_of_kernels():
    adapted = randomize(make(SETS[1:2]))
    plain = make(())
    kernels = by_name(plain)
    for name, variable in kernels.items():
        variable.assign(by_name(adapted)[name])
    for stack in (adapted.encoder, adapted.decoders[0]):
        for adapters, layer in zip(stack.adapters, stack.layers, strict=True):
            for dense in adapters.adapted:
                down, up = adapters.members(0)[1].pair(dense)
                kernel = kernels[f"{stack.name}/{layer.name}/{dense}/kernel"]
                kernel.assign_add(8.0 / 2 * down.numpy() @ up.numpy())
    want = plain(inputs()).numpy()
    route = [route_of(0, [AdapterChoice("task", 1, 2)])]
    found = adapted(inputs(route=route))
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)


def test_packed_rows(model):
    """Two pairs of different tasks in one row have their own adapters."""
    alone = [model.token_losses(inputs([i]))[0].numpy()[0] for i in range(3)]
    source = np.array([[5, 6, 7, 2, 8, 9, 2, 0], [5, 7, 2, 0, 0, 0, 0, 0]], np.int32)
    target = np.array([[8, 9, 2, 5, 2, 0], [7, 7, 2, 0, 0, 0]], np.int32)
    routes = np.array([[ROUTES[0]] * 3 + [ROUTES[1]] * 2 + [0], [ROUTES[2]] * 3 + [0] * 3])
    data = {
        "source": source,
        "target": target,
        "source_segments": [[1, 1, 1, 1, 2, 2, 2, 0], [1, 1, 1, 0, 0, 0, 0, 0]],
        "target_segments": [[1, 1, 1, 2, 2, 0], [1, 1, 1, 0, 0, 0]],
        "source_positions": [[0, 1, 2, 3, 0, 1, 2, 0], [0, 1, 2, 0, 0, 0, 0, 0]],
        "target_positions": [[0, 1, 2, 0, 1, 0], [0, 1, 2, 0, 0, 0]],
        "decoder": routes,
    }
    data = {name: tf.constant(value, tf.int32) for name, value in data.items()}
    losses = model.token_losses(data)[0].numpy()
    found = [losses[0, :3].sum(), losses[0, 3:5].sum(), losses[1, :3].sum()]
    np.testing.assert_allclose(found, alone, rtol=1e-5)


def test_the_gradient_of_other_adapters_is_zero(model):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model.token_losses(inputs([0, 1]))[0])
    variables = model.trainable_variables
    gradients = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    for variable, gradient in zip(variables, gradients, strict=True):
        used = variable.path.split("/")[-2] in ("low_y", "language_fr", "task_x")
        if "adapters_" in variable.path:
            nonzero = bool(np.any(tf.convert_to_tensor(gradient).numpy()))
            assert nonzero == used, variable.path


@pytest.mark.nightly
def test_recomputed_layers_have_the_same_gradients(model):
    again = make(recompute="layer")
    for ours, theirs in zip(again.weights, model.weights, strict=True):
        ours.assign(theirs)
    found = []
    for each in (model, again):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(each.token_losses(inputs(), training=True)[0])
        gradients = tape.gradient(loss, each.trainable_variables)
        found.append([tf.convert_to_tensor(gradient).numpy() for gradient in gradients])
    for want, got in zip(*found, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_steps_compute_what_whole_sequences_do(model):
    data = inputs()
    logits = model(data).numpy()
    memory = model.encode(data["source"], decoder=data["decoder"])
    state = model.start(memory, data["decoder"], 1, 3)
    ids = np.ones([5, 1], np.int32)
    for index in range(3):
        found, state = model.step(tf.constant(ids), tf.constant(index), state)
        np.testing.assert_allclose(found[:, 0], logits[:, index], rtol=1e-4, atol=1e-4)
        ids = TARGET[:, index : index + 1]


def test_the_configuration_makes_the_same_model(model):
    config = model.get_config()
    again = Transformer.from_config(config)
    assert [v.path for v in again.weights] == [v.path for v in model.weights]
    assert again.adapter_sets == model.adapter_sets


@pytest.mark.nightly
def test_fit_and_saved_weights(tmp_path):
    model = make()
    model.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(inputs(), TARGET, epochs=3, batch_size=5, verbose=0).history["loss"]
    assert history[-1] < history[0]
    model.save_weights(tmp_path / "model.weights.h5")
    again = make()
    again.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(model(inputs()), again(inputs()))


def test_wrong_use(model):
    data = inputs()
    del data["decoder"]
    with pytest.raises(InputError, match=r"the model has adapters, but inputs\['decoder'\] is mis"):
        model(data)
    wrong = AdapterSet("low", "lora", ("x",), BOTH, 2, 8.0, "atention/qkv")
    with pytest.raises(
        ConfigError, match=r"'atention/qkv' .* fits no dense layer of .*attention/qk"
    ):
        make((wrong,))
