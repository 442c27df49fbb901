"""What translates: a model directory, an engine file, the backends, and when weights are read."""

import dataclasses
import shutil
import sys

import numpy as np
import pytest

from keras_mtl.decoding.engine_translator import EngineTranslator
from keras_mtl.decoding.model_scorer import model_scores
from keras_mtl.decoding.scoring import TextScorer, engine_scores
from keras_mtl.decoding.translator import Translator
from keras_mtl.decoding.translators import (
    choose_backend,
    load_scorer,
    load_translator,
    make_translator,
)
from keras_mtl.engine import Engine, NativeError, is_model_file, library
from keras_mtl.errors import ExportError, InputError
from keras_mtl.export.engine_file import export_engine_file
from keras_mtl.export.model_dir import export_weights
from tests.decoding import tiny_model
from tests.decoding.tiny_model import LINES, PAIRS


@pytest.fixture(scope="module")
def trained(copy_trained_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("translators") / "model"
    model, vocabulary, tasks = tiny_model.load(copy_trained_model(path, "encoder"))
    export_engine_file(model, vocabulary, tasks, path.parent / "model.kmtl")
    return path, model, vocabulary, tasks


def test_both_backends_and_the_engine_file_translate_alike(trained):
    path = trained[0]
    in_tensorflow = load_translator(path, backend="tf")
    assert isinstance(in_tensorflow, Translator)
    on_engine = load_translator(path, backend="native", workers=2)
    options = dataclasses.asdict(in_tensorflow.options)
    from_file = load_translator(path.parent / "model.kmtl", options)
    assert isinstance(from_file, EngineTranslator)
    for task in PAIRS:
        want = in_tensorflow.hypotheses(LINES, task)
        for translator in (on_engine, from_file):
            for have, expected in zip(translator.hypotheses(LINES, task), want, strict=True):
                assert [(h.text, h.length) for h in have] == [(h.text, h.length) for h in expected]
                np.testing.assert_allclose(
                    [h.score for h in have], [h.score for h in expected], atol=1e-4
                )
    for translator in (on_engine, from_file):
        pairs = zip(
            translator.hypotheses(LINES, "en-uk", alignments=True),
            in_tensorflow.hypotheses(LINES, "en-uk", alignments=True),
            strict=True,
        )
        for h, w in (both for found in pairs for both in zip(*found, strict=True)):
            assert (h.ids, h.tokens, h.ended, h.source_tokens) == (
                *(w.ids, w.tokens, w.ended, w.source_tokens),
            )
            np.testing.assert_allclose(h.token_scores, w.token_scores, atol=1e-4)
            np.testing.assert_allclose(h.token_scores.sum(), h.log_probability, atol=1e-4)
            if h.ids:
                assert len(h.tokens) == len(h.ids) == len(h.token_scores) - h.ended
                assert h.source_tokens[0] == "<2uk>"
                assert h.source_tokens[-1] == "</s>"
                assert h.alignment.shape == (len(h.token_scores), len(h.source_tokens))
                np.testing.assert_allclose(h.alignment, w.alignment, atol=1e-5)
                np.testing.assert_allclose(h.alignment.sum(1), 1, atol=1e-5)
            assert "".join(h.tokens).replace("▁", " ").split() == h.text.split() or any(
                token.startswith("<0x") for token in h.tokens
            )
    prefixed = [
        translator.hypotheses(LINES[:1], "en-fr", prefixes=["le"])[0][0].text
        for translator in (in_tensorflow, on_engine)
    ]
    assert prefixed[0] == prefixed[1]
    assert prefixed[0].startswith("le")


def test_engine_takes_new_weights_when_refreshed(trained):
    _, model, vocabulary, tasks = trained
    options = load_translator(trained[0], backend="tf").options
    translator = make_translator(model, vocabulary, tasks, options, backend="native")
    before = translator.hypotheses(["two trees"], "en-fr")
    weight = model.decoders[0].final_norm.beta
    old = weight.numpy()
    try:
        weight.assign(old + np.linspace(-3, 3, old.size))
        assert translator.hypotheses(["two trees"], "en-fr") == before
        translator.refresh()
        after = translator.hypotheses(["two trees"], "en-fr")
        assert after[0][0].score != before[0][0].score
    finally:
        weight.assign(old)
    diverged = make_translator(model, vocabulary, tasks, options, backend="native")
    try:
        weight.assign(old * np.nan)
        with pytest.raises(ExportError, match="training has diverged"):
            diverged.translate(["two trees"], "en-fr")
    finally:
        weight.assign(old)


@pytest.mark.nightly  # contracts/test_searches.py compares the searches.
def test_samples_and_biases_are_equal_on_both_backends(trained):
    """The same draws for the same line numbers, with a coverage penalty and a bias."""
    path, biases = trained[0], ["une maison", *[""] * (len(LINES) - 1)]
    options = {"sampling": True, "seed": 7, "num_hypotheses": 2, "coverage_penalty": 0.2}
    found = [
        load_translator(path, options, backend=backend).hypotheses(LINES, "en-fr", biases=biases)
        for backend in ("native", "tf")
    ]
    for mine, other in zip(*found, strict=True):
        assert [h.ids for h in mine] == [h.ids for h in other]
        np.testing.assert_allclose([h.score for h in mine], [h.score for h in other], rtol=1e-4)
    options = {"lingvo_pruning": True, "merge_paths": True, "eoc_id": 3}
    with pytest.raises(InputError, match="merge_paths=True: only the native search"):
        load_translator(path, options, backend="tf").translate(LINES, "en-fr")
    with pytest.raises(InputError, match="7 lines and 1 biases: give one bias per line"):
        load_translator(path, backend="native").hypotheses(LINES, "en-fr", biases=[""])


def test_long_lines_and_options_beyond_the_model(trained):
    path = trained[0].parent / "model.kmtl"
    translator = EngineTranslator(path)
    assert translator.options.max_length == 48
    with pytest.raises(InputError, match=r"line 3 has \d+ tokens, .* maximum of 46"):
        translator.translate(["a", "b", "two trees " * 40], "en-fr")
    skipping = EngineTranslator(path, on_long_line="skip")
    assert skipping.translate(["two trees " * 40], "en-fr") == [""]
    with pytest.raises(InputError, match=r"unknown task 'en-ft'.*'en-fr'"):
        translator.translate([""], "en-ft")
    with pytest.raises(InputError, match="max_length=99 of decoding exceeds"):
        EngineTranslator(path, {"max_length": 99})
    assert is_model_file(path)
    assert not is_model_file(path.parent)


def test_a_sentence_passes_few_modules_on_its_way_to_the_engine_and_back(trained):
    translator = EngineTranslator(trained[0].parent / "model.kmtl")
    modules = set()

    def note(frame, event, _):
        name = frame.f_globals.get("__name__", "")
        if event == "call" and name.startswith("keras_mtl."):
            modules.add(name.removeprefix("keras_mtl."))

    sys.setprofile(note)
    try:
        translator.hypotheses(LINES, "en-fr", alignments=True)
    finally:
        sys.setprofile(None)
    assert modules == {
        *("decoding.text_translator", "decoding.tasks", "decoding.options"),
        *("data.cleaning", "data.vocabulary", "configuration.adapters"),
        *("decoding.engine_search", "engine.engine", "engine.arguments", "engine.hypothesis"),
    }


def test_an_engine_file_is_opened_once(trained, tmp_path, monkeypatch):
    """Everything comes from the one mapping, so a file that is replaced meanwhile does no harm."""
    path = tmp_path / "model.kmtl"
    shutil.copyfile(trained[0].parent / "model.kmtl", path)
    want = EngineTranslator(path).translate(LINES, "en-fr")
    open_first = Engine.__init__

    def open_and_remove(self, *args, **kwargs):
        open_first(self, *args, **kwargs)
        path.unlink()

    monkeypatch.setattr(Engine, "__init__", open_and_remove)
    assert load_translator(path).translate(LINES, "en-fr") == want


def test_auto_falls_back_for_what_only_tensorflow_runs():
    reason = "task.model.norm is 'rms', and only TensorFlow runs sub-layers of plug-ins"
    lines = []
    assert choose_backend("auto", lines.append, only_tensorflow=reason) == "tf"
    assert lines == [f"decoding with TensorFlow: {reason}"]
    assert choose_backend("tf", only_tensorflow=reason) == "tf"
    with pytest.raises(InputError, match=r"task.model.norm is 'rms'.*\. Use backend tf or"):
        choose_backend("native", only_tensorflow=reason)


def test_auto_falls_back_with_a_line(monkeypatch):
    assert choose_backend("auto") == "native"
    lines = []

    def broken():
        raise NativeError("the C++ core keras_mtl._core is not built")

    monkeypatch.setattr(library, "core", broken)
    assert choose_backend("auto", lines.append) == "tf"
    assert lines == ["decoding with TensorFlow: the C++ core keras_mtl._core is not built"]
    with pytest.raises(NativeError):
        choose_backend("native")
    with pytest.raises(InputError, match="backend='cpp' is unknown"):
        choose_backend("cpp")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "tf"}, "backend tf cannot read it"),
        ({"checkpoint": "x"}, "has no checkpoints"),
    ],
)
def test_engine_file_refuses(trained, arguments, message):
    with pytest.raises(InputError, match=message):
        load_translator(trained[0].parent / "model.kmtl", **arguments)


def test_engine_file_of_a_model_directory_has_its_options(trained, tmp_path):
    path = export_weights("engine", trained[0], tmp_path / "model.kmtl")
    want = load_translator(trained[0], backend="native")
    have = load_translator(path)
    assert have.options == want.options
    assert have.options.max_length == 24
    assert load_translator(path, {"max_length": 9}).options == want.options.replace(max_length=9)
    for task in PAIRS:
        assert have.hypotheses(LINES, task) == want.hypotheses(LINES, task)


def test_nothing_there_is_a_message(tmp_path):
    for load in (load_translator, load_scorer):
        with pytest.raises(InputError, match="nothing does not exist; give a model directory"):
            load(tmp_path / "nothing")


def test_tensorflow_computes_in_float32_alone(trained):
    with pytest.raises(InputError, match="compute_type=int8"):
        load_translator(trained[0], backend="tf", compute_type="int8")


def test_scores_of_both_backends(trained):
    path, model, vocabulary, tasks = trained
    engine = Engine(path.parent / "model.kmtl")
    scorers = [
        TextScorer(score, vocabulary, tasks, model.max_length)
        for score in (engine_scores(engine), model_scores(model, batch_size=2))
    ]
    sources = ["two trees", "", "good morning, the cat", "one red house"]
    targets = ["deux arbres", "bonjour", "", "猫が眠る"]
    for task in PAIRS:
        found = [scorer.score(sources, targets, task) for scorer in scorers]
        for have, want, pieces in zip(*found, scorers[0].pieces(targets), strict=True):
            assert len(have) == len(want) == len(pieces)
            np.testing.assert_allclose(have, want, atol=1e-4)
    with pytest.raises(InputError, match="2 sources and 1 translations"):
        scorers[0].score(["a", "b"], ["c"], "en-fr")
    with pytest.raises(InputError, match=r"translation of line 8 has \d+ tokens"):
        scorers[0].score(["a"], ["two trees " * 40], "en-fr", first_line=8)
    assert scorers[0].score([], [], "en-fr") == []
