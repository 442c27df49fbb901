"""Text in, text out: order, empty lines, limits, and reading a model directory."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.decoding.checkpoint_files import find_checkpoints
from keras_mtl.decoding.loading import load_model
from keras_mtl.decoding.model_search import Batch, ModelSearch, step_sizes
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.suppressed import suppressed_ids
from keras_mtl.decoding.translator import Translator
from keras_mtl.decoding.translators import load_translator
from keras_mtl.errors import CheckpointError, ExportError, InputError, KerasMtlError
from tests.decoding import tiny_model
from tests.decoding.tiny_model import LINES


@pytest.fixture(scope="module")
def made(copy_trained_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("translator") / "model"
    return path, *tiny_model.load(copy_trained_model(path))


@pytest.fixture(scope="module")
def translator(made):
    return Translator.from_model_dir(made[0])


def test_order_and_empty_lines(translator):
    whole = translator.translate(LINES, "en-fr")
    assert [bool(text) for text in whole][:2] == [True, False]
    assert whole[3] == ""
    assert not any("\n" in text or "\r" in text for text in whole)
    single = [translator.translate([line], "en-fr")[0] for line in LINES]
    assert whole == single  # Neither order nor batch nor padding changes a translation.
    assert translator.translate([], "en-fr") == []
    assert translator.translate(["", " "], "en-fr") == ["", ""]


def test_lines_are_cleaned_as_training_data(translator):
    assert translator.translate(["caf\u00e9  x"], "en-fr") == translator.translate(
        [" cafe\u0301\u00a0x"], "en-fr"
    )


def test_n_best(translator):
    found = translator.hypotheses(LINES, "en-uk")
    assert [len(hypotheses) for hypotheses in found] == [2, 1, 2, 1, 2, 2, 2]
    for hypotheses in found:
        scores = [hypothesis.score for hypothesis in hypotheses]
        assert scores == sorted(scores, reverse=True)
    assert found[1][0].score == 0
    assert all(h.length <= translator.options.sentence_max_length(99) for f in found for h in f)


@pytest.mark.nightly
def test_the_model_learned_something(made):
    """A mix-up of tags, tokens or positions between training and decoding would show here."""
    _, model, vocabulary, tasks = made
    tiny_model.train(model, vocabulary, tasks, 450)
    translator = Translator(model, vocabulary, tasks, BeamOptions(max_length=24))
    for task, pairs in tiny_model.PAIRS.items():
        assert translator.translate([s for s, _ in pairs], task) == [t for _, t in pairs]


def test_prefix(translator):
    found = translator.hypotheses(LINES, "en-ja", prefixes=["赤", "", "", "", "", "", "猫が"])
    assert found[0][0].text.startswith("赤")
    assert found[6][0].text.startswith("猫が")
    assert found[2] == translator.hypotheses(LINES, "en-ja")[2]
    with pytest.raises(InputError, match=r"line 1: its prefix has \d+ tokens"):
        translator.hypotheses(["two"], "en-ja", prefixes=["猫" * 30])
    with pytest.raises(InputError, match="7 lines and 1 prefixes: give one"):
        translator.hypotheses(LINES, "en-ja", prefixes=["猫"])


def test_long_lines(translator, monkeypatch):
    long = "\U0001f600" * 20  # 80 bytes, so at least 80 tokens.
    lines = ["two trees", long]
    with pytest.raises(InputError, match=r"line 8 has 8\d tokens, .* maximum of 46"):
        translator.hypotheses(lines, "en-fr", first_line=7)
    # The attribute of one translator, because each traces its search.
    monkeypatch.setattr(translator, "on_long_line", "skip")
    assert translator.translate(lines, "en-fr") == [translator.translate(lines[:1], "en-fr")[0], ""]
    monkeypatch.setattr(translator, "on_long_line", "truncate")
    cut = translator.translate(lines, "en-fr")
    assert cut[1] == cut[1].strip()


def test_bad_arguments(made, translator):
    path, model, vocabulary, tasks = made
    with pytest.raises(InputError, match="unknown task 'en-fe'; did you mean 'en-fr'"):
        translator.translate(["x"], "en-fe")
    with pytest.raises(InputError, match="max_length=99 of decoding exceeds the model's 48"):
        Translator(model, vocabulary, tasks, BeamOptions(max_length=99))
    with pytest.raises(InputError, match="batch_size=0"):
        Translator(model, vocabulary, tasks, batch_size=0)
    with pytest.raises(InputError, match="did you mean 'beam_size'"):
        Translator.from_model_dir(path, {"beam_sizes": 3})


def test_only_text_is_produced(made, translator):
    _, _, vocabulary, _ = made
    ids = suppressed_ids(vocabulary)
    assert {0, 1, 3, *(vocabulary.tag_id(t) for t in ("fr", "uk", "ja"))} < set(ids)
    assert vocabulary.eos_id not in ids
    newline = [i for i in ids if vocabulary.piece(i) == "<0x0A>"]
    assert len(newline) == 1
    assert set(ids) == set(translator.options.suppress)


def test_xla_gives_the_same_strings(made):
    options = {"beam_size": 2, "max_length": 16}
    graph = Translator.from_model_dir(made[0], options, batch_size=8)
    xla = Translator.from_model_dir(made[0], options, batch_size=8, jit_compile=True)
    assert xla.translate(LINES, "en-fr") == graph.translate(LINES, "en-fr")


def test_alignments_cost_nothing_unless_asked_for(made):
    """The graph without them computes no attention a second time and keeps none."""
    _, model, vocabulary, _ = made
    search = ModelSearch(model, vocabulary, BeamOptions(beam_size=2, max_length=16))
    rows, ids = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, None], tf.int32)

    def softmaxes(alignments):
        function = tf.function(search.search, autograph=False)
        graph = function.get_concrete_function(Batch(ids, rows, rows), 16, alignments).graph
        nodes = [n for f in graph.as_graph_def().library.function for n in f.node_def]
        return sum(node.op == "Softmax" for node in nodes)

    assert softmaxes(True) == softmaxes(False) + 1


def test_step_sizes():
    assert step_sizes(100) == [16, 32, 64, 100]
    assert step_sizes(16) == [16]
    assert step_sizes(5) == [5]


def test_nan_names_the_line(made, tmp_path):
    model = load_model(made[0]).model
    variable = model.trainable_variables[0]
    variable.assign(np.full(variable.shape, np.nan))
    translator = Translator(model, made[2], made[3], BeamOptions(max_length=8))
    with pytest.raises(KerasMtlError, match=r"line 3: the model's output is not a number at .* 0"):
        translator.hypotheses(["", "two trees"], "en-fr", first_line=2)


def test_checkpoints(made, tmp_path):
    """The best one first; a damaged one is reported and the one before it taken."""
    path = tmp_path / "model"
    shutil.copytree(made[0], path)
    model = load_model(path).model
    for prefix in ("ckpt-9", "ckpt-100", "best/ckpt-30"):
        (path / "best").mkdir(exist_ok=True)
        tiny_model.save(model, path / prefix)
    names = [p.removeprefix(f"{path}/") for p in find_checkpoints(path)]
    assert names == ["best/ckpt-30", "ckpt-100", "ckpt-30", "ckpt-9"]
    assert load_model(path, path / "ckpt-9").checkpoint.endswith("ckpt-9")
    data = path / "best" / "ckpt-30.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1000])
    told = []
    assert load_model(path, log=told.append).checkpoint.endswith("model/ckpt-100")
    assert "best/ckpt-30 cannot be read" in told[0]
    with pytest.raises(CheckpointError, match="best/ckpt-30 cannot be read"):
        load_model(path, path / "best" / "ckpt-30")
    with pytest.raises(CheckpointError, match="ckpt-77 contains no checkpoint"):
        load_model(path, path / "ckpt-77")


def test_what_does_not_belong_together(made, tmp_path):
    path = tmp_path / "model"
    with pytest.raises(CheckpointError, match="does not exist"):
        load_model(path)
    path.mkdir()
    with pytest.raises(CheckpointError, match="is a directory without a model; give"):
        load_model(path)
    shutil.rmtree(path)
    shutil.copytree(made[0], path)
    tasks = json.loads((path / "tasks.json").read_text())
    (path / "tasks.json").write_text(json.dumps({**tasks, "vocabulary_hash": "00"}))
    with pytest.raises(CheckpointError, match="is not the vocabulary that was used to train"):
        load_model(path)
    (path / "tasks.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tasks\.json cannot be read"):
        load_model(path)
    (path / "tasks.json").write_text(json.dumps(tasks))
    params = (path / "params.yaml").read_text()
    (path / "params.yaml").write_text(params.replace("hidden_dim: 32", "hidden_dim: 64"))
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_model(path)
    (path / "saved_model.pb").write_bytes(b"junk")
    with pytest.raises(InputError, match="SavedModel that is damaged or was"):
        load_translator(path)
    (path / "saved_model.pb").write_bytes(b"count_tokens max_source_tokens")
    with pytest.raises(ExportError, match="cannot be loaded"):
        load_translator(path)
    with pytest.raises(InputError, match="which has no checkpoint"):
        load_translator(path, {"beam_size": 2}, checkpoint="x")


@pytest.mark.nightly  # decoding/test_translators.py has a model with several decoders.
def test_a_decoder_for_each_language(tmp_path):
    """The tasks have different decoders, which come back in their order."""
    model, vocabulary, tasks = tiny_model.make_model_dir(tmp_path / "m", sharing="encoder", steps=6)
    loaded = Translator.from_model_dir(tmp_path / "m")
    assert loaded.model.decoder_names == ("fr", "uk", "ja")
    live = Translator(model, vocabulary, tasks, loaded.options, batch_size=3)
    found = []
    for task in tiny_model.PAIRS:
        found.append(loaded.hypotheses(LINES[:1], task))
        assert found[-1] == live.hypotheses(LINES[:1], task)
    assert found[0] != found[1] != found[2] != found[0]
