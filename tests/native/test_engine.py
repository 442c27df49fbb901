"""The C++ engine computes what the Keras model computes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.engine import library
from keras_mtl.engine.arrays import quantize_rows, transformer_arrays
from keras_mtl.errors import ExportError, InputError
from keras_mtl.models import Transformer

ISAS = library.ISAS[: library.ISAS.index(library.core().isa()) + 1]
BOS = 1


def config_of(model) -> dict:
    values = model.get_config()
    names = (
        "vocabulary_size",
        "hidden_dim",
        "num_heads",
        "intermediate_dim",
        "encoder_layers",
        "decoder_layers",
        "max_length",
        "activation",
        "feed_forward",
        "norm",
        "norm_position",
        "positions",
        "transparent_attention",
        "tie_embeddings",
        "tie_projection",
    )
    own = {"source_vocabulary_size": model.source_vocabulary_size, "decoders": len(model.decoders)}
    return {**{name: values[name] for name in names}, **own}


def quantized(weights):
    """Matrices in int8, as an int8 model file has them."""
    result = dict(weights)
    for name in weights:
        if name.endswith(".weight"):
            scale = f"{name.removesuffix('.weight')}.scale"
            result[name], result[scale] = quantize_rows(weights[name])
    return result


def make_model(seed=0, **changes):
    """A small model whose biases and norms are not at their initial values."""
    keras.utils.set_random_seed(seed)
    arguments = {
        "vocabulary_size": 131,
        "hidden_dim": 36,
        "num_heads": 3,
        "intermediate_dim": 50,
        "encoder_layers": 2,
        "decoder_layers": 3,
        "max_length": 20,
        **changes,
    }
    model = Transformer(**arguments)
    random = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        if variable.name == "layer_scores":
            variable.assign(random.normal(0, 1, variable.shape))
        elif variable.name in ("bias", "beta"):
            variable.assign(random.normal(0, 0.3, variable.shape))
        elif variable.name == "gamma":
            variable.assign(random.normal(1, 0.3, variable.shape))
    return model


def keras_log_probabilities(model, source, target, decoder=0):
    """float32 [time, vocabulary] of one sentence."""
    inputs = {
        "source": np.array([source], np.int32),
        "target": np.array([target], np.int32),
        "decoder": np.array([decoder], np.int32),
    }
    return tf.nn.log_softmax(model(inputs)[0]).numpy()


def engine_log_probabilities(decoder, sources, targets, which=0):
    """List of float32 [time, vocabulary]; sentences leave the batch as they end."""
    handles = decoder.admit(sources, which)
    results = [[] for _ in sources]
    for time in range(max(map(len, targets))):
        live = [i for i, target in enumerate(targets) if len(target) > time]
        rows = [[handles[i], 0, 0, targets[i][time - 1] if time else BOS] for i in live]
        step = decoder.step(np.array(rows, np.int32), all=True)
        for i, row in zip(live, step["all"], strict=True):
            results[i].append(row)
    for handle in handles:
        decoder.release(handle)
    return [np.stack(result) for result in results]


def sentences(seed, count, longest, vocabulary=131):
    random = np.random.default_rng(seed)
    return [
        random.integers(3, vocabulary, random.integers(1, longest + 1)).tolist()
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation": "gelu", "positions": "learned"},
        {"activation": "silu", "tie_embeddings": False},
        {"hidden_dim": 128, "num_heads": 2, "intermediate_dim": 256, "encoder_layers": 3},
        {"encoder_layers": 0, "decoder_layers": 1, "vocabulary_size": 2053},
        {"feed_forward": "gated", "activation": "silu", "norm": "rms_norm", "positions": "rotary"},
        {
            "feed_forward": "gated",
            "norm_position": "post",
            "positions": "none",
            "tie_embeddings": False,
            "tie_projection": True,
            "source_vocabulary_size": 160,
        },
        {
            "norm": "rms_norm",
            "norm_position": "post",
            "positions": "rotary",
            "hidden_dim": 128,
            "num_heads": 2,
            "tie_embeddings": False,
        },
        {"transparent_attention": True, "encoder_layers": 3},
        pytest.param(
            {"transparent_attention": True, "norm_position": "post", "decoder_layers": 1},
            marks=pytest.mark.nightly,
        ),
    ],
    ids=lambda changes: "-".join(map(str, changes.values())) or "default",
)
def test_float32_log_probabilities_equal_keras(changes):
    model = make_model(**changes)
    weights = transformer_arrays(model)
    sources = sentences(1, 4, 20, changes.get("source_vocabulary_size", 131))
    targets = sentences(2, 4, 20)
    want = [keras_log_probabilities(model, s, t) for s, t in zip(sources, targets, strict=True)]
    for isa in ISAS:
        engine = library.core().testing.Model(config_of(model), weights, "float32", isa)
        got = engine_log_probabilities(library.core().testing.Decoder(engine), sources, targets)
        for g, w in zip(got, want, strict=True):
            np.testing.assert_allclose(g, w, rtol=0, atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_each_decoder_of_a_shared_encoder(tied):
    model = make_model(sharing="encoder", decoders=("de", "fr"), tie_embeddings=tied)
    weights = transformer_arrays(model)
    engine = library.core().testing.Model(config_of(model), weights, "float32", ISAS[-1])
    decoder = library.core().testing.Decoder(engine)
    (source,), (target,) = sentences(3, 1, 20), sentences(4, 1, 20)
    for which in (0, 1):
        (got,) = engine_log_probabilities(decoder, [source], [target], which)
        want = keras_log_probabilities(model, source, target, which)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "feed_forward": "gated",
            "norm": "rms_norm",
            "positions": "rotary",
            "transparent_attention": True,
        },
    ],
    ids=["standard", "other sub-layers"],
)
def test_int8_is_close_and_does_not_depend_on_who_quantized(changes):
    model = make_model(hidden_dim=128, num_heads=4, intermediate_dim=256, **changes)
    weights = transformer_arrays(model)
    config = config_of(model)
    sources, targets = sentences(5, 6, 20), sentences(6, 6, 20)
    results = {}
    for name, arrays in (("float32", weights), ("int8", quantized(weights))):
        for isa in ISAS:
            engine = library.core().testing.Model(config, arrays, "int8", isa)
            decoder = library.core().testing.Decoder(engine)
            results[name, isa] = np.concatenate(engine_log_probabilities(decoder, sources, targets))
    first = results["float32", "generic"]
    for key, result in results.items():
        np.testing.assert_array_equal(result, first, err_msg=str(key))
    want = np.concatenate(
        [keras_log_probabilities(model, s, t) for s, t in zip(sources, targets, strict=True)]
    )
    # Rounding to 8 bits moves a logit by a few hundredths, of a spread of some units.
    error = np.abs(first - want)
    assert error.mean() < 0.05 * want.std()
    assert error.max() > 1e-4  # it is int8


def test_rows_do_not_depend_on_the_batch():
    model = make_model()
    weights = transformer_arrays(model)
    sources, targets = sentences(7, 9, 20), sentences(8, 9, 20)
    for compute in ("float32", "int8"):
        engine = library.core().testing.Model(config_of(model), weights, compute, ISAS[-1])
        decoder = library.core().testing.Decoder(engine, threads=2)
        together = engine_log_probabilities(decoder, sources, targets)
        for i in (0, 4, 8):
            (alone,) = engine_log_probabilities(decoder, [sources[i]], [targets[i]])
            np.testing.assert_array_equal(together[i], alone)


def test_candidates_wanted_and_allowed_agree_with_all():
    model = make_model()
    engine = library.core().testing.Model(
        config_of(model), transformer_arrays(model), "float32", ISAS[-1]
    )
    decoder = library.core().testing.Decoder(engine)
    (handle,) = decoder.admit([[5, 6, 7]])
    rows = np.array([[handle, 0, 0, BOS]], np.int32)
    allowed = np.zeros(131, bool)
    allowed[[4, 9, 130]] = True
    step = decoder.step(rows, top=8, all=True, wanted=[9], allowed=allowed.tolist())
    everything = step["all"][0]
    assert np.isneginf(everything[~allowed]).all()
    np.testing.assert_allclose(np.exp(everything[allowed]).sum(), 1, rtol=1e-6)
    assert step["wanted"][0] == everything[9]
    order = np.argsort(-everything, kind="stable")[:3]
    np.testing.assert_array_equal(step["tokens"][0, :3], order)
    assert (step["tokens"][0, 3:] == -1).all()
    np.testing.assert_array_equal(step["log_probabilities"][0, :3], everything[order])


def test_bad_input_raises_value_error():
    model = make_model()
    weights = transformer_arrays(model)
    config = config_of(model)
    engine = library.core().testing.Model(config, weights, "float32", ISAS[-1])
    decoder = library.core().testing.Decoder(engine)
    with pytest.raises(InputError, match=r"source 0 contains id 131.*\[0, 131\)"):
        decoder.admit([[131]])
    with pytest.raises(InputError, match=r"source 1 has 21 tokens.*max_length, 20"):
        decoder.admit([[5], [5] * 21])
    with pytest.raises(InputError, match="sentence 3 has not been admitted"):
        decoder.step(np.array([[3, 0, 0, 1]], np.int32))
    del weights["decoder.0.final_norm.gamma"]
    with pytest.raises(ExportError, match=r"'decoder\.0\.final_norm\.gamma' is missing"):
        library.core().testing.Model(config, weights, "float32", ISAS[-1])
