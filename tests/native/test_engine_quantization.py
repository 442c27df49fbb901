"""The engine computes in int8 what quantization-aware training computed."""

import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.decoding.engine_file import weight_tensors
from keras_mtl.engine import Engine, library, open_model_file
from keras_mtl.errors import ExportError
from keras_mtl.models.quantizers import model_ranges
from keras_mtl.quantization.ranges import measuring
from tests.native.engine_case import SIZES, random_arrays, write_engine_file
from tests.native.test_engine import (
    ISAS,
    config_of,
    engine_log_probabilities,
    keras_log_probabilities,
    make_model,
    sentences,
)

SOURCES, TARGETS = sentences(0, 3, 9), sentences(1, 3, 7)
LARGE = {"start_cap": 3.0, "end_cap": 3.0}


def trained(domains, **changes):
    """A model whose ranges were measured on a batch of each decoder."""
    model = make_model(quantization={"domains": domains}, **changes)
    ranges = model_ranges(model)
    ids = np.random.default_rng(2).integers(3, 131, (2, 6, 8)).astype(np.int32)
    for decoder in range(len(model.decoders)):
        inputs = {"source": ids[0], "target": ids[1], "decoder": np.full(6, decoder, np.int32)}
        with measuring() as found:
            model.token_losses(inputs, training=True)
        if ranges:
            ranges.advance(ranges.sums(found, {"decoder": tf.constant(decoder)}), 1, True)
    return model


def compared(model, isa, decoder=0):
    """Log-probabilities of the model and of the engine, [tokens, vocabulary]."""
    wanted = [
        keras_log_probabilities(model, source, target, decoder)
        for source, target in zip(SOURCES, TARGETS, strict=True)
    ]
    testing = library.core().testing
    engine = testing.Model(config_of(model), weight_tensors(model, "int8"), "int8", isa)
    found = engine_log_probabilities(testing.Decoder(engine), SOURCES, TARGETS, decoder)
    return np.concatenate(wanted), np.concatenate(found)


@pytest.mark.parametrize(
    ("domains", "changes"),
    [
        ([{"kind": "static"}], {}),
        # Nightly, because each model is traced.
        pytest.param(
            [{"kind": "scheduled_clip", **LARGE}],
            {"tie_embeddings": False},
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            [{"kind": "static", "match": "decoder.*"}, {}],
            {
                "tie_embeddings": False,
                "sharing": "encoder",
                "decoders": ("fr", "de"),
                "feed_forward": "gated",
                "transparent_attention": True,
                "norm_position": "post",
                "positions": "rotary",
            },
            marks=pytest.mark.nightly,  # Three decoders to trace; the cases above have the rest.
        ),
        pytest.param([{}], {}, marks=pytest.mark.nightly),
    ],
)
def test_a_trained_model_is_the_same_in_the_engine(domains, changes):
    model = trained(domains, dropout=0.0, attention_dropout=0.0, **changes)
    decoder = len(model.decoders) - 1
    first = None
    for isa in ISAS:
        wanted, found = compared(model, isa, decoder)
        first = found if first is None else first
        np.testing.assert_array_equal(found, first, err_msg=isa)
    differences = np.abs(found - wanted).max(axis=1)
    # Float sums in another order may move an input over the middle between two integers. Without
    # rounding in the model, the median is above 0.05.
    assert np.median(differences) < 2e-4
    assert differences.max() < 0.5


def write(path, ranges, weight_type="int8", sizes=SIZES):
    arrays = random_arrays(sizes)
    for name, value in ranges.items():
        arrays[f"{name}.input_range"] = np.array(value, np.float32)
    return write_engine_file(path, arrays, sizes, weight_type=weight_type)


def scores(path, compute_type="int8"):
    engine = Engine(path, compute_type=compute_type)
    found = engine.score([[3, 7, 9, 2], [3, 5, 2]], [[8, 9, 2], [7, 2]])
    return np.concatenate([np.ravel(each) for each in found])


def test_fixed_ranges_are_in_files_of_version_2_and_change_int8_only(tmp_path):
    ranges = {"encoder.layer.0.attention.qkv": [1.0], "embedding": [2.0]}
    plain, fixed = write(tmp_path / "plain", {}), write(tmp_path / "fixed", ranges)
    assert [open_model_file(path).format_version for path in (plain, fixed)] == [1, 2]
    assert np.abs(scores(plain) - scores(fixed)).max() > 1e-3
    np.testing.assert_array_equal(scores(plain, "float32"), scores(fixed, "float32"))
    wide = write(tmp_path / "wide", ranges, "float32")
    np.testing.assert_array_equal(scores(wide), scores(fixed))
    np.testing.assert_array_equal(
        scores(wide, "float32"), scores(write(tmp_path / "f", {}, "float32"), "float32")
    )


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"embedding": [0.0]}, "'embedding.input_range' is 0.0.*must be above 0"),
        ({"embedding": [-1.0]}, r"embedding.input_range' is -1.*must be above 0"),
        ({"embedding": [np.nan]}, "embedding.input_range' contains nan"),
        ({"embedding": [np.inf]}, "embedding.input_range' contains inf"),
        ({"embedding": [1.0, 2.0]}, r"embedding.input_range.*\[2\].*\[1\]"),
        (
            {"encoder.layer.1.feed_forward.gate": [1.0]},
            r"encoder.layer.1.feed_forward.gate.input_range' differs from that of .value",
        ),
    ],
)
def test_damaged_ranges_are_errors(ranges, message, tmp_path):
    sizes = {**SIZES, "feed_forward": "gated"}
    path = write(tmp_path / "file", ranges, sizes=sizes)
    with pytest.raises(ExportError, match=message):
        Engine(path)
