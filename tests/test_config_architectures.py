"""`task.model.architecture`: what a configuration may ask of each one; free of TensorFlow."""

import pytest
import yaml

from keras_mtl.cli import main as cli
from keras_mtl.configuration import architectures, sublayers
from keras_mtl.configuration.model_sizes import resolved, sizes_of
from tests.config_case import MINIMAL, load
from tests.config_case import message as refused

REASON = "task.model.architecture is 'rnmt', and only TensorFlow runs recurrent layers"
RNMT = "task.model.architecture=rnmt"


def test_sizes_belong_to_the_architecture():
    base = resolved(load(RNMT).task.model)
    assert (base["hidden_dim"], base["encoder_layers"], base["decoder_layers"]) == (1024, 6, 8)
    hybrid = resolved(load("task.model.architecture=hybrid").task.model)
    assert (hybrid["intermediate_dim"], hybrid["dropout"]) == (4096, 0.3)
    assert "task.model.size = 'big'" in refused(RNMT, "task.model.size=big")
    assert "did you mean 'rnmt'?" in refused("task.model.architecture=rnnt")
    assert [name for name in architectures.ARCHITECTURES if sizes_of(name)["tiny"]] == [
        "transformer",
        "rnmt",
        "hybrid",
    ]


@pytest.mark.parametrize(
    ("field", "value", "hybrid_has_it"),
    [
        ("intermediate_dim", "64", True),
        ("activation", "gelu", True),
        ("activation_dropout", "0.1", True),
        ("feed_forward", "gated", True),
        ("norm", "rms_norm", True),
        ("norm_position", "post", True),
        ("positions", "rotary", True),
        ("recompute", "layer", True),
        ("transparent_attention", "true", False),
        ("adapters", "[{name: a, kind: lora}]", False),
        ("quantization", "{domains: [{kind: dynamic}]}", False),
    ],
)
def test_fields_of_other_architectures_are_refused(field, value, hybrid_has_it):
    message = refused(RNMT, f"task.model.{field}={value}")
    assert f"task.model.{field} " in message
    assert "but task.model.architecture is 'rnmt'; remove it" in message
    words = ["task.model.architecture=hybrid", f"task.model.{field}={value}"]
    if hybrid_has_it:
        load(*words)
    else:
        assert "but task.model.architecture is 'hybrid'; remove it" in refused(*words)


def test_what_only_the_engine_can_do_is_refused():
    assert sublayers.only_tensorflow(load(RNMT).task.model) == REASON
    for override in ("backend=native", "compute_type=int8", "lag=5"):
        assert REASON in refused(RNMT, f"trainer.evaluation.{override}")


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("export --format engine --output x --model_dir", "saved_model or saved_model_native"),
        ("export --format ctranslate2 --output x --model_dir", "Export a SavedModel instead"),
        (
            "export --format saved_model_native --weight_type int8 --output x --model_dir",
            "with float32 weights. Omit it",
        ),
        ("benchmark --model", "benchmark measures the C++ engine"),
        ("translate --task en-fr --backend native --model", "Use backend tf or auto"),
    ],
)
def test_commands_that_need_the_engine_refuse(words, remedy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    values = {"task": {**yaml.safe_load(MINIMAL)["task"], "model": {"architecture": "rnmt"}}}
    (tmp_path / "run" / "params.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "run" / "tasks.json").write_text(
        '{"vocabulary_hash": "h", "tasks": '
        '[{"name": "en-fr", "source": "en", "target": "fr", "decoder": 0}]}'
    )
    assert cli.main([*words.split(), "run"]) == 2
    message = capsys.readouterr().err
    assert REASON in message
    assert remedy in message
