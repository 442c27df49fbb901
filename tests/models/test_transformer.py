import hashlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl import layers
from keras_mtl.errors import InputError
from keras_mtl.models import Transformer
from tests import processes

RNG = np.random.default_rng(0)
VARIANTS = {
    "full, tied, sinusoidal": {},
    "full, untied, learned": {"tie_embeddings": False, "positions": "learned"},
    "encoder, tied, learned": {
        "sharing": "encoder",
        "decoders": ("fr", "de", "it"),
        "positions": "learned",
    },
    "encoder, untied, sinusoidal": {
        "sharing": "encoder",
        "decoders": ("fr", "de"),
        "tie_embeddings": False,
    },
    "gated, rms_norm, post, rotary": {
        "activation": "silu",
        "feed_forward": "gated",
        "norm": "rms_norm",
        "norm_position": "post",
        "positions": "rotary",
        "tie_embeddings": False,
        "tie_projection": True,
        "source_vocabulary_size": 31,
    },
    "encoder, rms_norm, none, transparent": {
        "sharing": "encoder",
        "decoders": ("fr", "de"),
        "norm": "rms_norm",
        "positions": "none",
        "encoder_layers": 2,
        "transparent_attention": True,
    },
}


def make(**changes):
    arguments = {
        "vocabulary_size": 23,
        "hidden_dim": 16,
        "num_heads": 2,
        "intermediate_dim": 32,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "max_length": 16,
        "seed": 3,
    }
    keras.utils.set_random_seed(1)
    return Transformer(**{**arguments, **changes})


def batch(decoder=0, rows=4, length=7):
    generator = np.random.default_rng(1)
    source, target = generator.integers(3, 23, (2, rows, length)).astype(np.int32)
    source[1, 4:] = 0
    target[2, 5:] = 0
    return {
        "source": tf.constant(source),
        "target": tf.constant(target),
        "decoder": tf.fill([rows], decoder),
    }


def train_step(model, jit):
    @tf.function(jit_compile=jit, autograph=False)
    def step(inputs):
        with tf.GradientTape() as tape:
            loss, tokens, _ = model.token_losses(inputs, 0.1, training=True, drop_padding=not jit)
            mean = tf.reduce_sum(loss) / tf.reduce_sum(tokens)
        gradients = tape.gradient(mean, model.trainable_variables)
        return mean, [tf.convert_to_tensor(gradient) for gradient in gradients]

    return step


@pytest.fixture(params=VARIANTS, scope="module")
def variant(request):
    return VARIANTS[request.param]


def test_steps_equal_the_full_pass(variant):
    check_steps(variant, jit=False)


# With learned positions XLA compiles a program for each index.
@pytest.mark.parametrize(
    "name",
    ["full, tied, sinusoidal"]
    + [pytest.param(name, marks=pytest.mark.nightly) for name in list(VARIANTS)[1:]],
)
def test_steps_equal_the_full_pass_with_xla(name):
    check_steps(VARIANTS[name], jit=True)


def check_steps(variant, jit):
    model = make(**variant)
    decoder = 1 if "decoders" in variant else 0
    inputs = batch(decoder)
    full = model(inputs).numpy()
    assert full.shape == (4, 7, 23)
    memory = model.encode(inputs["source"])
    sums = (2,) if "transparent_attention" in variant else ()
    assert memory["memory"].shape == (4, *sums, 7, 16)
    np.testing.assert_array_equal(memory["mask"], inputs["source"] != 0)
    shifted = np.concatenate([np.ones([4, 1], np.int32), inputs["target"][:, :-1]], axis=1)
    # Beam 1 of a sentence takes its tokens, beams 0 and 2 others; then the beams are permuted.
    state = model.start(memory, inputs["decoder"], 3, 7)
    order = np.tile([2, 1, 0], (4, 1)).astype(np.int32)

    def advance(ids, index, state, order):
        logits, state = model.step(ids, index, state)
        return logits, model.reorder(state, order)

    compiled = tf.function(advance, jit_compile=jit, autograph=False)
    for index in range(3 if jit else 7):
        ids = np.stack([shifted[:, index] * 0 + 5, shifted[:, index], shifted[:, index]], 1)
        logits, state = compiled(tf.constant(ids), tf.constant(index), state, order)
        assert logits.dtype == tf.float32
        np.testing.assert_allclose(logits[:, 1], full[:, index], atol=1e-5)


def test_reorder_moves_the_history_of_beams():
    model = make()
    inputs = batch()
    memory = model.encode(inputs["source"])
    histories = np.array([[5, 6, 7], [8, 9, 10]], np.int32)
    order = np.array([[1, 0], [0, 0], [1, 1], [0, 1]], np.int32)

    def follow(first, then):
        """Logits after `first [rows, 2, time]`, reordered by `then`, and one token more."""
        state = model.start(memory, inputs["decoder"], 2, 6)
        for index in range(3):
            _, state = model.step(tf.constant(first[:, :, index]), tf.constant(index), state)
        state = model.reorder(state, tf.constant(then))
        return model.step(tf.fill([4, 2], 11), tf.constant(3), state)[0]

    base = np.tile(histories[None], (4, 1, 1))
    moved = np.stack([histories[row] for row in order])
    identity = np.tile([0, 1], (4, 1)).astype(np.int32)
    np.testing.assert_allclose(follow(base, order), follow(moved, identity), atol=1e-6)


# Two that differ in everything that training depends on; tests of the trainer have the sinusoids.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("full, untied, learned", marks=pytest.mark.nightly),
        pytest.param("encoder, tied, learned", marks=pytest.mark.nightly),
        pytest.param("gated, rms_norm, post, rotary", marks=pytest.mark.nightly),
        pytest.param("encoder, rms_norm, none, transparent", marks=pytest.mark.nightly),
    ],
)
def test_xla_trains_the_same_and_only_the_chosen_decoder(name):
    variant = VARIANTS[name]
    # A layer of each kind: the steps above have two decoder layers.
    plain, compiled = (make(**variant, decoder_layers=1) for _ in range(2))
    owners = plain.variable_decoder_index()
    assert len(owners) == len(plain.trainable_variables)
    steps = train_step(plain, False), train_step(compiled, True)
    decoders = len(variant.get("decoders", "1"))
    assert set(owners) == ({None} if decoders == 1 else {None, *range(decoders)})
    for decoder in range(decoders):
        inputs = batch(decoder)
        (loss, gradients), (jit_loss, jit_gradients) = (step(inputs) for step in steps)
        assert float(loss) == pytest.approx(float(jit_loss), rel=1e-5)
        for variable, owner, a, b in zip(
            plain.trainable_variables, owners, gradients, jit_gradients, strict=True
        ):
            np.testing.assert_allclose(a, b, atol=1e-5)
            if owner in (None, decoder):
                assert np.abs(a).max() > 0, variable.path
            else:
                np.testing.assert_array_equal(a, np.zeros(a.shape))
                np.testing.assert_array_equal(b, np.zeros(a.shape))
    # One program for all decoders.
    assert steps[1].experimental_get_tracing_count() == 1


def test_each_decoder_is_its_own():
    model = make(**VARIANTS["encoder, tied, learned"])
    for index in range(3):
        expected = {id(variable) for variable in model.decoders[index].trainable_variables}
        assert {id(variable) for variable in model.decoder_variables(index)} == expected
    before = [model(batch(decoder)).numpy() for decoder in range(3)]
    for variable in model.decoder_variables(1):
        variable.assign(variable + 0.1)
    after = [model(batch(decoder)).numpy() for decoder in range(3)]
    np.testing.assert_array_equal(before[0], after[0])
    assert np.abs(before[1] - after[1]).max() > 1e-3
    np.testing.assert_array_equal(before[2], after[2])
    assert np.abs(before[0] - before[2]).max() > 1e-3
    with pytest.raises(InputError, match="3 decoders"):
        model({key: value for key, value in batch().items() if key != "decoder"})


def test_padding_changes_no_real_logit(variant):
    model = make(**variant)
    inputs = batch()
    logits = model(inputs).numpy()
    longer = {
        "source": tf.pad(inputs["source"], [[0, 0], [0, 5]]),
        "target": tf.pad(inputs["target"], [[0, 0], [0, 3]]),
        "decoder": inputs["decoder"],
    }
    np.testing.assert_allclose(model(longer)[:, :7], logits, atol=2e-6)
    # An empty row, as the last batch of an epoch has, changes no other row and stays finite.
    empty = {key: tf.concat([value, value[:1] * 0], 0) for key, value in inputs.items()}
    with_empty = model(empty).numpy()
    np.testing.assert_allclose(with_empty[:4], logits, atol=2e-6)
    assert np.isfinite(with_empty).all()


def test_a_prediction_sees_only_the_tokens_before_it():
    model = make()
    inputs = batch()
    changed = inputs["target"].numpy()
    changed[:, 3:] = 5
    first, second = model(inputs).numpy(), model({**inputs, "target": changed}).numpy()
    np.testing.assert_array_equal(first[:, :4], second[:, :4])
    assert np.abs(first[:, 4:] - second[:, 4:]).max() > 1e-3


def test_a_file_keeps_the_model(variant, tmp_path):
    model = make(**variant)
    inputs = batch()
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
    assert loaded.get_config() == model.get_config()
    assert [v.path for v in loaded.variables] == [v.path for v in model.variables]


@pytest.mark.nightly
def test_mixed_bfloat16_trains_near_float32():
    inputs = batch()
    # A smooth activation: at the kink of ReLU rounding decides whether a gradient is there at all.
    options = {"activation": "gelu", "dropout": 0.0, "decoder_layers": 1}
    options |= {"attention_dropout": 0.0, "activation_dropout": 0.0}
    exact = make(**options)
    mixed = make(**options, dtype="mixed_bfloat16")
    mixed.set_weights(exact.get_weights())
    assert mixed(inputs).dtype == tf.bfloat16
    assert all(variable.dtype == "float32" for variable in mixed.trainable_variables)
    loss, gradients = train_step(exact, False)(inputs)
    for jit in (False, True):
        mixed_loss, mixed_gradients = train_step(mixed, jit)(inputs)
        assert mixed_loss.dtype == tf.float32
        assert float(mixed_loss) == pytest.approx(float(loss), rel=0.01)
        for a, b in zip(gradients, mixed_gradients, strict=True):
            assert b.dtype == tf.float32
            np.testing.assert_allclose(b, a, atol=0.1 * np.abs(a).max() + 1e-3)
    memory = mixed.encode(inputs["source"])
    logits, _ = mixed.step(
        tf.ones([4, 2], tf.int32), tf.constant(0), mixed.start(memory, inputs["decoder"], 2, 4)
    )
    assert logits.dtype == tf.float32


def test_too_long_is_an_error():
    model = make()
    with pytest.raises(InputError, match="source of 17 tokens is longer"):
        model.encode(tf.ones([1, 17], tf.int32))
    with pytest.raises(InputError, match="target of 17 tokens"):
        model({"source": tf.ones([1, 4], tf.int32), "target": tf.ones([1, 17], tf.int32)})
    memory = model.encode(tf.ones([1, 4], tf.int32))
    with pytest.raises(InputError, match="max_length 17 exceeds"):
        model.start(memory, tf.zeros([1], tf.int32), 2, 17)


def train_from(directory, first):
    """Trains to step 5, from the checkpoint of a step or from the start."""
    model = make(**VARIANTS["encoder, untied, sinusoidal"], decoder_layers=1)
    optimizer = keras.optimizers.Adam(1e-2)
    optimizer.build(model.trainable_variables)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
    if first:
        checkpoint.read(f"{directory}/{first}").assert_consumed()
    step = train_step(model, True)  # A whole run's test goes without XLA.
    for i in range(first, 5):
        loss, gradients = step(batch(i % 2))
        optimizer.apply(gradients, model.trainable_variables)
        print(i, float(loss).hex())
        checkpoint.write(f"{directory}/{i + 1}")
    np.savez(f"{directory}/from-{first}.npz", *[v.numpy() for v in model.variables])


@pytest.mark.nightly
def test_a_checkpoint_continues_bit_for_bit_in_a_new_process(tmp_path):
    def run(first):
        code, output, error = processes.Forked(train_from, str(tmp_path), first).finish()
        assert code == 0, error
        return output.splitlines()

    assert run(0)[2:] == run(2)
    with (
        np.load(tmp_path / "from-0.npz") as undisturbed,
        np.load(tmp_path / "from-2.npz") as resumed,
    ):
        assert undisturbed.files == resumed.files
        for name in undisturbed.files:
            np.testing.assert_array_equal(undisturbed[name], resumed[name])


def drop_on_two_replicas():
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        layer = layers.Dropout(0.5, seed=1)
        model = make(decoder_layers=1)
    run = tf.function(lambda: strategy.run(lambda: layer(tf.ones([50, 50]), training=True)))
    draws = [strategy.experimental_local_results(run()) for _ in range(2)]
    flat = [mask.numpy() for pair in draws for mask in pair]
    for i in range(4):
        for j in range(i):
            assert abs(np.mean(flat[i] == flat[j]) - 0.5) < 0.1, (i, j)
    step = train_step(model, None)
    loss, _ = strategy.run(step, args=(batch(),))
    losses = [float(value) for value in strategy.experimental_local_results(loss)]
    assert losses[0] != losses[1], losses
    print("good")


@pytest.mark.nightly
def test_replicas_drop_differently():
    code, output, error = processes.Forked(drop_on_two_replicas).finish()
    assert (code, output) == (0, "good\n"), error[-3000:]


@pytest.mark.parametrize(
    ("changes", "golden"),
    [
        ({"name": "transformer"}, "856f71905839646e"),
        (
            {"sharing": "encoder", "decoders": ("fr", "de"), "tie_embeddings": False,
             "positions": "learned", "name": "transformer_2"},
            "84c8dc425513ef43",
        ),
    ],
)  # fmt: skip
def test_weights_have_the_names_and_shapes_that_checkpoints_know(changes, golden):
    """Values from before sub-layers could be replaced: older checkpoints must stay readable."""
    model = make(vocabulary_size=50, encoder_layers=2, **changes)
    lines = "\n".join(f"{variable.path} {variable.shape}" for variable in model.variables)
    assert hashlib.sha256(lines.encode()).hexdigest()[:16] == golden
