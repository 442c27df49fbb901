"""The portable SavedModel: served by TensorFlow and tensorflow-text alone, as `translate` does."""

import functools
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.cli import main
from keras_mtl.data.cleaning import normalize
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.translator import Translator
from keras_mtl.decoding.translators import load_translator
from keras_mtl.errors import ExportError, InputError
from keras_mtl.export.saved_model import export_model_dir, export_saved_model
from keras_mtl.export.translation_module import normalize_text
from tests.decoding import tiny_model
from tests.decoding.tiny_model import LINES, PAIRS

TEXTS = [*LINES, "caf\ufeffe\u0301", "<2ja> two trees", "</s><unk> <0x41>\u2581x"]

SERVE = """
import json, sys
import tensorflow as tf, tensorflow_text
assert not any(name.startswith("keras_mtl") for name in sys.modules)
texts, tasks = json.loads(sys.argv[1])
text = lambda t: [[s.decode() for s in row] for row in t.numpy()]

def results(path):
    model = tf.saved_model.load(path)
    serve = model.signatures["serving_default"]
    found = {task: serve(text=tf.constant(texts), task=tf.constant(task)) for task in tasks}
    mixed = serve(text=tf.constant(texts), task=tf.constant([tasks[i % len(tasks)]
                  for i in range(len(texts))]))
    about = model.signatures["tasks"]()
    errors = []
    for bad in [dict(text=tf.constant(texts), task=tf.constant("en-xx")),
                dict(text=tf.constant(["x", "two trees " * 40]), task=tf.constant(tasks[0]))]:
        try:
            serve(**bad)
        except tf.errors.InvalidArgumentError as error:
            errors.append(error.message)
    empty = [serve(text=tf.constant(x, tf.string), task=tf.constant(tasks[0]))
             for x in ([], ["", " "])]
    return {
        "found": {t: [text(r["translations"]), r["scores"].numpy().tolist()]
                  for t, r in found.items()},
        "mixed": text(mixed["translations"]),
        "tasks": [name.decode() for name in about["name"].numpy()],
        "options": json.loads(about["options"].numpy()),
        "errors": errors,
        "empty": [text(r["translations"]) for r in empty],
    }

print("RESULT" + json.dumps([results(path) for path in sys.argv[2:]]))
"""


@pytest.fixture(scope="module")
def served(copy_trained_model, tmp_path_factory):
    """A function of the sharing: model directory, exported model, and what a fresh process gives.

    The process starts away from this repository.
    """
    directory = tmp_path_factory.mktemp("served")

    def serve(sharing):
        model = copy_trained_model(directory / sharing, sharing)
        path = export_model_dir(model, directory / f"out-{sharing}" / "model")
        arguments = [sys.executable, "-P", "-c", SERVE, json.dumps([TEXTS, list(PAIRS)]), path]
        done = subprocess.run(
            list(map(str, arguments)), capture_output=True, text=True, cwd="/", check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        (result,) = json.loads(done.stdout.split("RESULT")[1])
        return model, path, result

    return serve


@pytest.mark.slow
@pytest.mark.parametrize("sharing", ["full", pytest.param("encoder", marks=pytest.mark.nightly)])
def test_fresh_process_gives_the_strings_of_translate(served, sharing):
    model, path, result = served(sharing)
    assert os.listdir(path.parent) == ["model"]
    translator = Translator.from_model_dir(model)
    for i, task in enumerate(PAIRS):
        texts, scores = result["found"][task]
        want = translator.hypotheses(TEXTS, task)
        for row, (hypotheses, line) in enumerate(zip(want, TEXTS, strict=True)):
            assert texts[row][: len(hypotheses)] == [h.text for h in hypotheses], line
            have = scores[row][: len(hypotheses)]
            np.testing.assert_allclose(have, [h.score for h in hypotheses], rtol=1e-4)
            if row % len(PAIRS) == i:
                assert result["mixed"][row] == texts[row]
    assert result["tasks"] == list(PAIRS)
    assert result["options"]["max_length"] == 24
    assert result["empty"] == [[], [["", ""], ["", ""]]]
    assert "unknown task en-xx; known: en-fr, en-uk, en-ja" in result["errors"][0]
    assert "sentence 1 of the batch has" in result["errors"][1]
    exported = load_translator(path, batch_size=2)
    assert exported.translate(TEXTS, "en-uk") == translator.translate(TEXTS, "en-uk")
    assert exported.options == translator.options


@pytest.fixture(scope="module")
def made(copy_trained_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model"
    return path, *tiny_model.load(copy_trained_model(path))


def test_text_is_cleaned_in_the_graph_as_in_python():
    spaces = [chr(i) for i in range(0x3100) if chr(i).isspace()]
    texts = [f" a{space}{space}b{space}" for space in [*spaces, "\u00ad", "\u200b", "\ufeff"]]
    texts += ["", "e\u0301", "\u1100\u1161", "\u212b", "A\u030a\u200b", "x\u200dy", "\U0001f600"]
    have = [text.decode() for text in normalize_text(tf.constant(texts)).numpy()]
    assert have == [normalize(text) for text in texts]
    assert normalize_text(tf.constant([b"a\xff"])).numpy()[0].decode() == "a\ufffd"


@pytest.mark.nightly  # test_export_formats.py guards what exists.
def test_an_existing_folder_is_refused(made, tmp_path):
    """Nothing of the user's is lost, and nothing half-written is left."""
    _, model, vocabulary, tasks = made
    options = BeamOptions(beam_size=1, max_length=8)
    path = tmp_path / "x"
    export_saved_model(model, vocabulary, tasks, options, path)
    before = (path / "saved_model.pb").stat().st_mtime_ns
    with pytest.raises(ExportError, match=r"exists\. Give --overwrite"):
        export_saved_model(model, vocabulary, tasks, options, path)
    export_saved_model(model, vocabulary, tasks, options, path, overwrite=True)
    assert (path / "saved_model.pb").stat().st_mtime_ns != before
    assert os.listdir(tmp_path) == ["x"]
    (tmp_path / "mine").mkdir()
    with pytest.raises(ExportError, match="is not an exported model"):
        export_model_dir(made[0], tmp_path / "mine", overwrite=True)
    with pytest.raises(InputError, match="did you mean 'beam_size'"):
        export_model_dir(made[0], tmp_path / "new", options={"beam_siz": 2})
    assert sorted(os.listdir(tmp_path)) == ["mine", "x"]


def translate(monkeypatch, capsys, arguments, text):
    """Runs the subcommand; returns (exit code, standard output, standard error)."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    code = main.main(["translate", *map(str, arguments)])
    return code, *capsys.readouterr()


def check_options_as_an_input(model_dir, exported, more=()):
    """The signature `with_options` gives what a model directory with these options gives."""
    options = {
        "beam_size": 3, "num_hypotheses": 3, "alpha": 0.6, "no_repeat_ngram": 2, "max_length": 20,
        "coverage_penalty": 0.3, "repetition_penalty": 1.2, "max_length_factor": None,
    }  # fmt: skip
    for given, alignments in [(options, True), *more]:
        have = load_translator(exported, given).hypotheses(LINES, "en-uk", alignments=alignments)
        want = Translator.from_model_dir(model_dir, given)
        for mine, other in zip(
            have, want.hypotheses(LINES, "en-uk", alignments=alignments), strict=True
        ):
            assert [h.ids for h in mine] == [w.ids for w in other]
            for h, w in zip(mine, other, strict=True):
                np.testing.assert_allclose(h.score, w.score, atol=1e-4)
                assert h.source_tokens == w.source_tokens
                assert (h.alignment is None) == (w.alignment is None)
                if h.alignment is not None:
                    np.testing.assert_allclose(h.alignment, w.alignment, atol=1e-5)
    for bad, message in [
        ({"max_length": 99}, "was exported with max_length=24"),
        ({"suppress": [3]}, "the export fixed suppress"),
        ({"beam_size": 0}, "beam_size=0: give a whole number"),
    ][: 3 if more else 1]:
        with pytest.raises(InputError, match=message):
            load_translator(exported, bad)


@pytest.mark.nightly
def test_more_options_as_an_input(made, tmp_path):
    path = export_model_dir(made[0], tmp_path / "x")
    check_options_as_an_input(made[0], path, [({"lingvo_pruning": True}, False), ({}, True)])
    sampled = load_translator(path, {"sampling": True, "seed": 3, "top_k": 5, "top_p": 0.9})
    assert sampled.translate(LINES, "en-uk") == sampled.translate(LINES, "en-uk")


@pytest.mark.nightly  # test_translators.py reads SavedModels, too.
def test_command_line(made, tmp_path, capsys, monkeypatch):
    path = made[0]
    assert main.main(["export", "--model_dir", str(path), "--output", str(tmp_path / "x")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "x")
    assert main.main(["export", "--model_dir", str(path), "--output", str(tmp_path / "x")]) == 2
    assert "exists. Give --overwrite" in capsys.readouterr().err
    run = functools.partial(translate, monkeypatch, capsys)
    text = "\n".join(LINES).encode() + b"\n"
    want = Translator.from_model_dir(path).translate(LINES, "en-uk")
    for model in (path, tmp_path / "x"):
        code, out, err = run(["--model", model, "--task", "en-uk", "--chunk_lines", "3"], text)
        assert code == 0, err
        assert out.split("\n")[:-1] == want
        assert "7 lines" in err
        assert "tokens/s" in err
    exported = load_translator(tmp_path / "x")
    for have, expected in zip(
        exported.hypotheses(LINES, "en-uk"),
        Translator.from_model_dir(path).hypotheses(LINES, "en-uk"),
        strict=True,
    ):
        for h, w in zip(have, expected, strict=True):
            assert (h.ids, h.tokens, h.ended) == (w.ids, w.tokens, w.ended)
            np.testing.assert_allclose(h.token_scores, w.token_scores, atol=1e-4)
    check_options_as_an_input(path, tmp_path / "x")
    code, _, err = run(["--model", path, "--task", "en-fe"], b"")
    assert code == 2
    assert "unknown task 'en-fe'; did you mean 'en-fr'?" in err
    arguments = ["--model", path, "--task", "en-fr", "--n_best", "2"]
    code, out, err = run(arguments, b"two trees\n\nca\xe9f\n")
    assert code == 2
    assert "standard input, line 3: byte 3 (0xe9) is not UTF-8" in err
    assert [line.split("\t")[0] for line in out.splitlines()] == ["1", "1", "2"]
