"""The engine's file of a Transformer: every weight is in it, where the reader looks for it."""

import keras
import numpy as np
import pytest

from keras_mtl.configuration.overriding import set_values
from keras_mtl.configuration.schema import TransformerConfig
from keras_mtl.decoding.engine_file import vocabulary_of
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.engine import library, open_model_file
from keras_mtl.engine.arrays import quantize_rows, transformer_arrays
from keras_mtl.engine.model_file import write_model_file
from keras_mtl.errors import ExportError
from keras_mtl.export.engine_file import export_engine_file
from keras_mtl.models.factory import build_transformer
from tests.decoding.tiny_model import make_vocabulary
from tests.native.engine_case import SUBLAYERS

TASKS = [TranslationTask("en-fr", "en", "fr", 0), TranslationTask("en-uk", "en", "uk", 1)]
VARIANTS = {
    "tied": {},
    "separate": {"tie_embeddings": False, "positions": "learned", "sharing": "encoder"},
    "gelu": {"activation": "gelu", "encoder_layers": 1, "decoder_layers": 3, "sharing": "encoder"},
    "other sub-layers": {
        "feed_forward": "gated",
        "norm": "rms_norm",
        "norm_position": "post",
        "positions": "rotary",
        "transparent_attention": True,
    },
    "two vocabularies": {"tie_embeddings": False, "tie_projection": True, "sharing": "encoder"},
}


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def vocabularies():
    return {separate: make_vocabulary(separate) for separate in (False, True)}


@pytest.fixture(scope="module")
def vocabulary(variant, vocabularies):
    return vocabularies[variant == "two vocabularies"]


@pytest.fixture(scope="module")
def model(variant, vocabulary):
    config = TransformerConfig()
    sizes = {"hidden_dim": 24, "num_heads": 3, "intermediate_dim": 40, "max_length": 30}
    set_values(config, {"size": "tiny", **sizes, **VARIANTS[variant]})
    own = {"source_vocabulary_size": vocabulary.source_size}
    model = build_transformer(config, vocabulary.size, ("fr", "uk"), **own)
    generator = np.random.default_rng(1)  # Biases and norms start as constants, all alike.
    for weight in model.trainable_variables:
        weight.assign(generator.normal(size=weight.shape))
    return model


def tasks_of(model):
    return TASKS if len(model.decoders) == 2 else [TranslationTask("en-fr", "en", "fr")]


@pytest.mark.parametrize("weight_type", ["float32", "int8"])
def test_file_holds_the_model(model, vocabulary, weight_type, tmp_path):
    path = export_engine_file(
        model, vocabulary, tasks_of(model), tmp_path / "model.kmtl", weight_type=weight_type
    )
    file = open_model_file(path, verify=True)
    file.check_transformer()
    arrays = transformer_arrays(model)
    stored = sum(array.size for name, array in arrays.items() if "positions" not in name)
    trained = sum(np.prod(weight.shape) for weight in model.trainable_variables)
    learned = 2 * 30 * 24 if model.get_config()["positions"] == "learned" else 0
    assert stored + learned == trained
    for name, array in arrays.items():
        have = np.asarray(file.tensor(name))
        if weight_type == "int8" and name.endswith(".weight"):
            scale = np.asarray(file.tensor(name.replace(".weight", ".scale")))
            have = have * scale[:, None]
            assert np.abs(have - array).max() <= scale.max() * 0.5001
        else:
            np.testing.assert_array_equal(have, array)
    assert bytes(file.tensor("vocabulary")) == vocabulary.model_bytes
    if vocabulary.has_source:
        assert bytes(file.tensor("source_vocabulary")) == vocabulary.source.model_bytes
    assert file.format_version == (3 if vocabulary.has_source else 1)
    assert vocabulary_of(file).hash == vocabulary.hash
    tags = [vocabulary.source.tag_id(task.target) for task in tasks_of(model)]
    assert file.hyperparameters["task_tags"] == tags
    for name in SUBLAYERS:
        assert file.hyperparameters[name] == model.get_config()[name]
    assert vocabulary.eos_id not in file.hyperparameters["not_text"]


def test_kernels_are_transposed(model):
    layer = model.decoders[0].layers[0].cross_attention
    arrays = transformer_arrays(model)
    have = arrays["decoder.0.layer.0.cross_attention.key_value.weight"]
    np.testing.assert_array_equal(have, np.asarray(layer.key_value.kernel).T)


def test_reader_refuses_what_does_not_fit_together(model, vocabulary, tmp_path):
    path = export_engine_file(model, vocabulary, tasks_of(model), tmp_path / "model.kmtl")
    file = open_model_file(path)
    tensors = {name: np.asarray(file.tensor(name)) for name in file.tensor_names}
    values = file.hyperparameters
    for changes, message in [
        ({"num_heads": 5}, "num_heads: 5 does not divide hidden_dim, 24"),
        ({"hidden_dim": 2**62}, "hyperparameter hidden_dim: 4611686018427387904 is not in"),
        ({"encoder_layers": 4000}, r"tensor encoder\.layer\.\d+\.\S+: it is missing"),
        ({"intermediate_dim": 41}, r"is float32 \[40, 24\]; expected float32 \[41, 24\]"),
        ({"weight_type": "int8"}, "expected int8"),
        ({"activation": "swish"}, "hyperparameter activation: 'swish' is not one of"),
        ({"layer_norm_epsilon": 0.0}, "layer_norm_epsilon"),
        ({"eos_id": vocabulary.size}, "hyperparameter eos_id"),
        ({"not_text": [2]}, "hyperparameter not_text: id 2"),
        ({"task_decoders": [9] * len(values["task_names"])}, "route 9 does not exist"),
        ({"task_sources": ["en"] * 9}, "task_names: the lists"),
        ({"max_length": "30"}, "max_length: it is not an integer"),
    ]:
        forged = write_model_file(tmp_path / "forged", {**values, **changes}, tensors)
        with pytest.raises(ExportError, match=message):
            open_model_file(forged, verify=True).check_transformer()
    if vocabulary.has_source:
        for changes, message in [
            ({"source_vocabulary_size": 280}, "source_embedding.weight: it is float32 .285, 24"),
            ({"tie_embeddings": 1}, "tie_embeddings: 1, but sources have a vocabulary"),
            ({"tie_projection": 0}, r"decoder\.0\.projection\.weight: it is missing"),
            ({"task_tags": [285, 285]}, "task_tags: id 285 is not in the vocabulary"),
        ]:
            forged = write_model_file(tmp_path / "forged", {**values, **changes}, tensors)
            with pytest.raises(ExportError, match=message):
                open_model_file(forged, verify=True).check_transformer()
        rest = {name: each for name, each in tensors.items() if name != "source_vocabulary"}
        forged = write_model_file(tmp_path / "forged", values, rest)
        with pytest.raises(ExportError, match="tensor source_vocabulary: it is missing"):
            open_model_file(forged).check_transformer()
    del values["decoders"]
    forged = write_model_file(tmp_path / "forged", values, tensors)
    with pytest.raises(ExportError, match="hyperparameter decoders: it is missing"):
        open_model_file(forged).check_transformer()


def test_names_of_sub_layers(model, vocabulary, tmp_path):
    """A file of an older version has no names, and an unknown name is an error."""
    path = export_engine_file(model, vocabulary, tasks_of(model), tmp_path / "model.kmtl")
    file = open_model_file(path)
    tensors = {name: np.asarray(file.tensor(name)) for name in file.tensor_names}
    values = file.hyperparameters
    older = {name: value for name, value in values.items() if name not in SUBLAYERS}
    forged = open_model_file(write_model_file(tmp_path / "forged", older, tensors))
    if model.get_config()["norm"] == "layer_norm":
        forged.check_transformer()
    else:
        # An engine that knows none of the names refuses the file in this way, too.
        with pytest.raises(ExportError, match="_positions: it is missing"):
            forged.check_transformer()
    missing = {
        ("feed_forward", "standard"): r"feed_forward\.intermediate\.weight: it is missing",
        ("feed_forward", "gated"): r"feed_forward\.gate\.weight: it is missing",
        ("norm", "layer_norm"): r"norm\.beta: it is missing",
        ("norm_position", "pre"): r"encoder\.memory_norm\.gamma: it is missing",
        ("transparent_attention", 1): r"attention\.layer_scores: it is missing",
        ("transparent_attention", 2): r"transparent_attention: 2 is not in \[0, 1\]",
        ("positions", "learned"): "tensor source_positions: it is missing",
        ("positions", "rotary"): "tensor rotary_positions: it is missing",
        (
            "positions",
            "relative",
        ): "positions: 'relative' is not one of sinusoidal, learned, rotary",
        ("norm", "batch_norm"): "norm: 'batch_norm' is not one of layer_norm, rms_norm",
        ("norm_position", 1): "hyperparameter norm_position: it is not a text",
    }
    for (name, value), message in missing.items():
        # The tensors of the other kinds of positions replace each other.
        if values[name] == value or {values[name], value} == {"sinusoidal", "learned"}:
            continue
        forged = write_model_file(tmp_path / "forged", {**values, name: value}, tensors)
        with pytest.raises(ExportError, match=message):
            open_model_file(forged, verify=True).check_transformer()


def test_writer_refuses(model, vocabulary, tmp_path):
    path = tmp_path / "model.kmtl"
    with pytest.raises(ExportError, match="weight_type='int4'"):
        export_engine_file(model, vocabulary, TASKS, path, weight_type="int4")
    weight = model.encoder.layers[0].attention_norm.gamma
    before = weight.numpy()
    weight.assign(np.full_like(before, np.nan))
    with pytest.raises(
        ExportError, match=r"weight encoder\.layer\.0\.attention_norm\.gamma contains"
    ):
        export_engine_file(model, vocabulary, tasks_of(model), path)
    weight.assign(before)
    export_engine_file(model, vocabulary, tasks_of(model), path)
    with pytest.raises(ExportError, match=r"model\.kmtl exists. Give --overwrite"):
        export_engine_file(model, vocabulary, tasks_of(model), path)
    export_engine_file(model, vocabulary, tasks_of(model), path, overwrite=True)
    other = tmp_path / "thesis.txt"
    other.write_text("mine")
    with pytest.raises(ExportError, match=r"thesis\.txt exists and is not an engine file"):
        export_engine_file(model, vocabulary, tasks_of(model), other, overwrite=True)
    assert other.read_text() == "mine"
    with pytest.raises(ExportError, match="is a directory"):
        export_engine_file(model, vocabulary, tasks_of(model), tmp_path)


def test_rows_are_quantized_half_to_even():
    matrix = np.array([[127, 0.5, 1.5, -2.5], [0, 0, 0, 0], [-254, 1, 3, 5]], np.float32)
    values, scales = quantize_rows(matrix)
    np.testing.assert_array_equal(scales, np.float32([1, 1, 2]))
    np.testing.assert_array_equal(values, [[127, 0, 2, -2], [0, 0, 0, 0], [-127, 0, 2, 2]])


def test_rows_are_quantized_as_the_engine_and_keras_do():
    generator = np.random.default_rng(5)
    matrix = generator.normal(size=[300, 64]).astype(np.float32)
    matrix[:100] = generator.integers(-127, 128, [100, 64]) / np.float32(3)  # Many near halves.
    matrix[7] = 1e-35
    values, scales = quantize_rows(matrix)
    of_engine, scales_of_engine = library.core().testing.quantize("generic", matrix)
    np.testing.assert_array_equal(values, of_engine)
    np.testing.assert_array_equal(scales, scales_of_engine)
    rows = np.abs(matrix).max(axis=1) > 1
    of_keras, inverse = keras.quantizers.abs_max_quantize(matrix[rows], axis=1, epsilon=0.0)
    np.testing.assert_array_equal(values[rows], of_keras)
    np.testing.assert_allclose(scales[rows], 1 / np.asarray(inverse)[:, 0], rtol=1e-6)
