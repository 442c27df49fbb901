"""docs/how-to/extending.md: its reader, metrics and sub-layers work.

The contract of schedules tries its schedule.
"""

import importlib.util
import math
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from keras_mtl import metrics
from keras_mtl.cli import main
from keras_mtl.configuration import plugins, presets
from keras_mtl.data import corpora
from keras_mtl.data.corpora import base
from keras_mtl.errors import InputError
from keras_mtl.layers.registry import FEED_FORWARDS, NORMS, SELF_ATTENTIONS

PAGE = (Path(__file__).parents[1] / "docs" / "how-to" / "extending.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Imports an example of the page as a plug-in; what it registers is forgotten again."""
    monkeypatch.setattr(metrics.registry, "_METRICS", dict(metrics.registry._METRICS))
    monkeypatch.setattr(base._READERS, "classes", dict(base._READERS.classes))
    for registry in (SELF_ATTENTIONS, FEED_FORWARDS, NORMS):
        monkeypatch.setattr(registry, "classes", dict(registry.classes))
    monkeypatch.setattr(presets, "_PRESETS", dict(presets._PRESETS))
    monkeypatch.setattr(sys, "path", list(sys.path))

    def load(word):
        (code,) = (each for each in CODE if word in each)
        (tmp_path / f"extending_{word}.py").write_text(code, encoding="utf-8")
        plugins.load([f"{tmp_path}/extending_{word}"])
        del sys.modules[f"extending_{word}"]  # Another test imports its own.

    return load


def test_the_reader(example, tmp_path):
    example("ThreeLines")
    (tmp_path / "a.txt").write_bytes(b"one\nun\n\ntwo\n\xff\n\nthree\ntrois\n\n")
    made = corpora.create_reader("three_lines", "en", "fr", {"file": str(tmp_path / "*.txt")})
    stream = corpora.read_pairs(made, 1.0)
    assert [(p.source, p.target, p.line) for p in stream] == [
        ("one", "un", 1),
        ("three", "trois", 7),
    ]
    assert stream.report() == [f"{tmp_path}/a.txt:4: a line that cannot be read"]
    assert made.paths() == [str(tmp_path / "a.txt")]


def test_the_metrics(example):
    example("exact_match")
    assert metrics.score("exact_match", ["a", "b"], ["a", "c"]).value == 50.0
    assert metrics.loss_score("token_bits", 3 * math.log(4), 3).value == pytest.approx(2.0)
    assert not metrics.higher_is_better("token_bits")


def test_a_learned_metric(example, monkeypatch):
    class Model:
        def predict(self, data, batch_size, gpus):
            assert data[1] == {"src": "two", "mt": "b", "ref": "d"}
            return types.SimpleNamespace(system_score=0.25)

    fake = types.SimpleNamespace(load_from_checkpoint=lambda path: Model())
    monkeypatch.setitem(sys.modules, "comet", fake)
    monkeypatch.setenv("COMET_MODEL", "model.ckpt")
    example("comet_score")
    texts = ["a", "b"], ["c", "d"]
    assert metrics.score("comet", *texts, sources=["one", "two"]).value == 0.25
    with pytest.raises(InputError, match="'comet' compares translations with their sources"):
        metrics.score("comet", *texts)


def test_the_preset(example):
    example("register_preset")
    assert "translation/mine" in presets.available()
    assert presets.preset("translation/mine").task.model.size == "small"


X = np.random.default_rng(0).normal(size=(3, 6, 8)).astype(np.float32)


def test_the_sub_layers(example, tmp_path):
    from tests.layers.battery import check_layer

    example("SquaredReluFeedForward")
    block = {"intermediate_dim": 16, "activation": "relu", "dropout": 0.2, "seed": 1}
    for cls, arguments, trainable in (
        (FEED_FORWARDS.classes["squared_relu"], {**block, "use_bias": True}, 4),
        (NORMS.classes["scale"], {"epsilon": 1e-5}, 1),
    ):
        check_layer(cls, arguments, [X], X.shape, tmp_path, trainable=trainable)
    # The formulas.
    squared = FEED_FORWARDS.classes["squared_relu"](**block)
    squared.build(X.shape)
    hidden, output = (weight.numpy() for weight in squared.trainable_variables)
    np.testing.assert_allclose(squared(X), np.maximum(X @ hidden, 0) ** 2 @ output, atol=1e-5)
    norm = NORMS.classes["scale"]()
    length = np.linalg.norm(X, axis=-1, keepdims=True)
    np.testing.assert_allclose(norm(X), 8**0.5 * X / length, atol=1e-5)


def test_the_self_attention(example):
    from keras_mtl.configuration.schema import TransformerConfig
    from keras_mtl.models.factory import build_transformer, check_sublayers

    example("QueryKeyNorm")
    config = TransformerConfig(
        size="tiny", hidden_dim=8, num_heads=2, intermediate_dim=16, self_attention="query_key_norm"
    )
    config.self_attention_parameters = {"initial": 3.0}
    config.positions = "rotary"
    check_sublayers(config, "mixed_bfloat16")
    config.positions = "none"
    layer = build_transformer(config, 11).decoders[0].layers[0].self_attention
    assert type(layer).__name__ == "QueryKeyNorm"
    query, key = (np.random.default_rng(i).normal(size=(3, 4)).astype(np.float32) for i in (0, 1))
    turned, other = (x.numpy() for x in layer.transform(query, key, None))
    cosines = query @ key.T / np.linalg.norm(query, axis=1)[:, None] / np.linalg.norm(key, axis=1)
    np.testing.assert_allclose(turned @ other.T, 3 * 2 * cosines, atol=1e-5)


def test_a_model_with_the_sub_layers_decodes_step_by_step_and_is_saved(example, tmp_path):
    import keras
    import tensorflow as tf

    from keras_mtl.configuration.schema import TransformerConfig
    from keras_mtl.models.factory import build_transformer, check_sublayers

    example("SquaredReluFeedForward")
    config = TransformerConfig(
        size="tiny", hidden_dim=8, num_heads=2, intermediate_dim=16, sharing="encoder",
        feed_forward="squared_relu", norm="scale",
    )  # fmt: skip
    config.norm_parameters = {"epsilon": 1e-5}
    for policy in ("mixed_bfloat16", "float32"):
        check_sublayers(config, policy)
    model = build_transformer(config, 11, ("fr", "de"))
    final = model.decoders[1].final_norm
    assert (type(final).__name__, final.epsilon) == ("ScaleNorm", 1e-5)
    block = model.encoder.layers[0].feed_forward
    assert (type(block).__name__, block.intermediate_dim) == ("SquaredReluFeedForward", 16)

    source, target = np.random.default_rng(1).integers(3, 11, (2, 2, 5)).astype(np.int32)
    inputs = {"source": source, "target": target, "decoder": np.ones(2, np.int32)}
    full = model(inputs).numpy()
    state = model.start(model.encode(source), inputs["decoder"], 1, 5)
    shifted = np.concatenate([np.ones([2, 1], np.int32), target[:, :-1]], axis=1)
    for index in range(5):
        logits, state = model.step(shifted[:, index : index + 1], tf.constant(index), state)
        np.testing.assert_allclose(logits[:, 0], full[:, index], atol=1e-5)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(inputs), full)
    prefix = tf.train.Checkpoint(model=model).write(str(tmp_path / "ckpt"))
    other = build_transformer(config, 11, ("fr", "de"))
    tf.train.Checkpoint(model=other).read(prefix).assert_consumed()
    np.testing.assert_array_equal(other(inputs), full)


def test_the_subcommand(tmp_path, monkeypatch, capsys):
    """The module and the line of the page are a subcommand."""
    section = PAGE.split("\n## Subcommands\n")[1].split("\n## ")[0]
    code, line = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (tmp_path / "tasks.py").write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("keras_mtl.cli.tasks", tmp_path / "tasks.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, spec.name, module)
    added = eval("{" + line + "}", {"Command": main.Command})
    monkeypatch.setattr(main, "COMMANDS", {**main.COMMANDS, **added})

    config = tmp_path / "run.yaml"
    config.write_text(
        "task:\n  pairs:\n  - {source: en, target: fr}\n  - {source: de, target: fr}\n"
        "  data: {corpora: [{reader: cldr, options: {pairs: 9}}]}\n",
        encoding="utf-8",
    )
    assert main.main(["tasks", "--config_file", str(config)]) == 0
    assert capsys.readouterr().out == "en-fr\nde-fr\n"
    assert main.main(["tasks", "--config_file", str(config), "--source", "de"]) == 0
    assert capsys.readouterr().out == "de-fr\n"
    assert main.main(["tasks", "--config_file", str(tmp_path / "none.yaml")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main.main([]) == 0
    assert "print the tasks of a configuration" in capsys.readouterr().out
