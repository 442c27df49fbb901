"""The section `task.model.quantization`: checks, and what `inspect` says."""

import dataclasses
import json

import pytest

import keras_mtl
from keras_mtl.cli.inspect_quantization import quantization_lines
from keras_mtl.configuration.quantization import (
    QuantizationConfig,
    QuantizationDomainConfig,
    domain_number,
    not_in_ctranslate2,
    not_in_weights,
    of_mapping,
)
from keras_mtl.errors import ConfigError

LAYERS = ["embedding", "encoder/layer_0/attention/qkv", "encoder/layer_0/feed_forward/output"]


def config(*domains, exclude=(), **evaluation):
    model = {"quantization": {"domains": list(domains), "exclude": list(exclude)}}
    task = {
        "pairs": [{"source": "en", "target": "fr"}],
        "data": {"corpora": [{"reader": "cldr"}]},
        "model": model,
    }
    trainer = {"evaluation": evaluation}
    return keras_mtl.load_config(overrides=json.dumps({"task": task, "trainer": trainer}))


def domain(**fields):
    return QuantizationDomainConfig(**fields)


def test_the_section_is_read_and_survives_json():
    settings = config({"kind": "static", "match": "encoder/.*"}, exclude=["embedding"])
    section = settings.task.model.quantization
    assert section.domains[0].kind == "static"
    assert of_mapping(json.loads(json.dumps(dataclasses.asdict(section)))) == section
    assert of_mapping(None) == QuantizationConfig()


def test_a_layer_belongs_to_the_first_domain_unless_it_is_excluded():
    settings = QuantizationConfig(
        [domain(match="encoder/.*/attention/.*"), domain(match="encoder/.*")],
        [".*/feed_forward/output"],
    )
    assert [domain_number(settings, layer) for layer in LAYERS] == [None, 0, None]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "statik"}, r"domains\[0\].kind = 'statik' is unknown; did you mean 'static'"),
        ({"match": "("}, r"domains\[0\].match = '\(' is not a regular expression"),
        ({"start_step": -1}, r"domains\[0\].start_step = -1: must be >= 0"),
        ({"bits": 8}, r"domains\[0\].bits = 8: only kind: scheduled_clip and passive_asymmetric"),
        ({"kind": "static", "ema_decay": 1.0}, r"ema_decay = 1.0: must be >= 0 and < 1"),
        ({"kind": "static", "freeze_step": 0}, r"freeze_step = 0: no range would ever be measured"),
        ({"kind": "passive_asymmetric", "bits": 17}, r"bits = 17: must be >= 2 and <= 16"),
        ({"kind": "scheduled_clip", "bits": 9}, r"bits = 9: must be >= 2 and <= 8"),
        ({"kind": "scheduled_clip", "end_cap": 0.0}, r"end_cap = 0.0: must be > 0"),
        (
            {"kind": "scheduled_clip", "start_step": 5, "clip_end_step": 6},
            r"clip_end_step = 6 is after .*start_step = 5",
        ),
        (
            {"kind": "scheduled_clip", "start_step": 5, "clip_start_step": 6},
            r"clip_start_step = 6 is after the end of clipping, step 5",
        ),
    ],
)
def test_wrong_values_are_reported(fields, message):
    with pytest.raises(ConfigError, match=message):
        config(fields, compute_type="int8")


def test_names_differ_and_exclusions_need_domains():
    with pytest.raises(ConfigError, match=r"domains\[1\].name = '': .*\[0\] is also named"):
        config({}, {})
    with pytest.raises(ConfigError, match=r"exclude = \['embedding'\], but there are no domains"):
        config(exclude=["embedding"])


def test_validation_computes_what_was_trained():
    clip, passive = {"kind": "scheduled_clip"}, {"kind": "passive_asymmetric"}
    with pytest.raises(ConfigError, match=r"compute_type = 'float32': .*clips the inputs"):
        config(clip)
    with pytest.raises(ConfigError, match=r"compute_type = 'int8': .*has zero points"):
        config(passive, compute_type="int8")
    for each, evaluation in (
        (clip, {"compute_type": "int8"}),
        (clip, {"backend": "tf"}),
        (passive, {}),
        ({"kind": "static"}, {}),
        ({}, {"compute_type": "int8"}),
    ):
        config(each, **evaluation)


def test_formats_that_cannot_hold_a_domain_are_refused_with_the_reason():
    int8_domains = [domain(), domain(kind="static")]
    for weight_type in ("float32", "int8"):
        assert not not_in_weights(int8_domains, weight_type)
        assert not not_in_ctranslate2(int8_domains, weight_type)
    clip = [domain(kind="scheduled_clip", name="cells")]
    assert "'cells' of task.model.quantization clips" in not_in_weights(clip, "float32")
    assert not not_in_weights(clip, "int8")
    assert "CTranslate2" in not_in_ctranslate2(clip, "int8")
    narrow = [domain(kind="scheduled_clip", bits=4)]
    assert "has 4 bits" in not_in_weights(narrow, "int8")
    passive = [domain(kind="passive_asymmetric")]
    assert not not_in_weights(passive, "float32")
    assert "zero points" in not_in_weights(passive, "int8")
    assert "zero points" in not_in_ctranslate2(passive, "int8_float32")


def test_inspect_describes_each_domain_and_what_is_refused():
    settings = QuantizationConfig(
        [
            domain(kind="static", match="encoder/.*attention.*", start_step=1000, freeze_step=900),
            domain(kind="scheduled_clip", match="encoder/.*", start_step=50, end_cap=2.0),
        ],
        [],
    )
    lines = quantization_lines(settings, LAYERS)
    assert lines[0] == (
        "quantization static: int8 from step 1,000, with one scale for all inputs of a layer; "
        "ranges of inputs with a decay of 0.99 until step 900; layers: 1"
    )
    assert lines[1] == (
        "quantization scheduled_clip: clipped from ±8 at step 0 to ±2 at step 50, int8 from step "
        "50; layers: 1"
    )
    assert lines[2] == "  not quantized: embedding"
    assert any(line.startswith("no export to CTranslate2: ") for line in lines)
    assert quantization_lines(QuantizationConfig(), LAYERS) == []
    (dynamic,) = quantization_lines(QuantizationConfig([domain()]), LAYERS)
    assert dynamic == (
        "quantization dynamic: int8 from step 0, with a scale for each row of inputs; layers: 3"
    )
