"""The SavedModel with the engine inside: the strings of the engine, in a fresh process."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.cli import main
from keras_mtl.decoding.saved_model_translator import SavedModelTranslator
from keras_mtl.decoding.translators import translator_of_model_dir
from keras_mtl.errors import ExportError, InputError
from keras_mtl.export.native_saved_model import export_native_saved_model
from tests.decoding import tiny_model
from tests.decoding.tiny_model import LINES, PAIRS

TEXTS = [*LINES, "caf\ufeffe\u0301", "<2ja> two trees", "</s><unk> <0x41>\u2581x"]

SERVE = """
import json, sys
import tensorflow as tf, tensorflow_text
try:
    tf.saved_model.load(sys.argv[1])
    missing = ""
except (RuntimeError, tf.errors.OpError) as error:
    missing = str(error)
from keras_mtl.engine import load_ops
load_ops()
model = tf.saved_model.load(sys.argv[1])
texts, tasks = json.loads(sys.argv[2])
serve = model.signatures["serving_default"]
found = serve(text=tf.constant(texts), task=tf.constant(tasks))
empty = serve(text=tf.constant([], tf.string), task=tf.constant(tasks[0]))
light = ("engine", "engine.library", "engine.ops", "errors")
heavy = {name for name in sys.modules if name.startswith("keras_mtl.")}
heavy = sorted(heavy - {f"keras_mtl.{name}" for name in light})
print("RESULT" + json.dumps({
    "missing": missing,
    "heavy": heavy,
    "texts": [[s.decode() for s in row] for row in found["translations"].numpy()],
    "scores": found["scores"].numpy().tolist(),
    "lengths": found["lengths"].numpy().tolist(),
    "empty": list(empty["translations"].shape),
}))
"""


@pytest.fixture(scope="module")
def model_dir(copy_trained_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("native") / "model"
    return path, *tiny_model.load(copy_trained_model(path, "encoder"))


def test_fresh_process_gives_the_strings_of_the_engine(model_dir, tmp_path, capsys):
    """A batch of mixed tasks, each with its own decoder, and options that only the engine has."""
    path = model_dir[0]
    out = tmp_path / "native"
    words = ["--model_dir", path, "--output", out, "--format", "saved_model_native"]
    words += ["--weight_type", "int8", "--options", "beam_size=3,no_repeat_ngram=2"]
    assert main.main(["export", *map(str, words)]) == 0, capsys.readouterr().err
    names = [list(PAIRS)[i % len(PAIRS)] for i in range(len(TEXTS))]
    command = [sys.executable, "-c", SERVE, out, json.dumps([TEXTS, names])]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.split("RESULT")[1])
    options = {"beam_size": 3, "no_repeat_ngram": 2}
    ours = translator_of_model_dir(path, options, backend="native", compute_type="int8")
    for row, (line, task) in enumerate(zip(TEXTS, names, strict=True)):
        want = ours.hypotheses([line], task)[0]
        assert result["texts"][row][: len(want)] == [h.text for h in want]
        scores = np.array(result["scores"][row][: len(want)], np.float32)
        np.testing.assert_array_equal(scores, np.array([h.score for h in want], np.float32))
        assert result["lengths"][row][: len(want)] == [h.length for h in want]
    assert result["empty"] == [0, 2]
    assert result["heavy"] == []
    assert "KerasMtl>Translate" in result["missing"]
    # Our own translator loads the operations by itself.
    served = SavedModelTranslator(out, batch_size=4).hypotheses(TEXTS, "en-fr")
    assert served == ours.hypotheses(TEXTS, "en-fr")
    assert served[0][0].tokens
    served = SavedModelTranslator(out, batch_size=4).hypotheses(TEXTS, "en-fr", alignments=True)
    assert served == ours.hypotheses(TEXTS, "en-fr", alignments=True)
    assert served[0][0].alignment.shape == (
        *(len(served[0][0].token_scores), len(served[0][0].source_tokens)),
    )


def test_signatures_are_those_of_the_portable_one(model_dir, tmp_path):
    path, model, vocabulary, tasks = model_dir
    ours = translator_of_model_dir(path, backend="native")
    out = export_native_saved_model(model, vocabulary, tasks, ours.options, tmp_path / "out")
    signatures = tf.saved_model.load(str(out)).signatures
    about = signatures["tasks"]()
    assert [name.decode() for name in about["name"].numpy()] == list(PAIRS)
    assert json.loads(about["options"].numpy())["max_length"] == 24
    assert signatures["count_tokens"](text=tf.constant(["", "two trees"]))["tokens"].shape == 2
    found = signatures["serving_default"](text=tf.constant([""]), task=tf.constant("en-fr"))
    assert found["translations"].numpy().tolist() == [[b"", b""]]
    assert found["scores"].numpy().tolist() == [[0.0, -np.inf]]
    serve = signatures["serving_default"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="unknown task en-xx"):
        serve(text=tf.constant(["x"]), task=tf.constant("en-xx"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="split it"):
        serve(text=tf.constant(["two trees " * 40]), task=tf.constant("en-fr"))
    with pytest.raises(ExportError, match="overwrite"):
        export_native_saved_model(model, vocabulary, tasks, ours.options, out)
    options = ours.options.replace(max_length=999)
    with pytest.raises(InputError, match="max_length=999"):
        export_native_saved_model(model, vocabulary, tasks, options, tmp_path / "long")


def test_a_damaged_asset_is_an_error_that_names_it(model_dir, tmp_path):
    path, model, vocabulary, tasks = model_dir
    ours = translator_of_model_dir(path)
    out = export_native_saved_model(model, vocabulary, tasks, ours.options, tmp_path / "out")
    asset = out / "assets" / "model.kmtl"
    asset.write_bytes(asset.read_bytes()[:1000])
    serve = tf.saved_model.load(str(out)).signatures["serving_default"]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"model\.kmtl"):
        serve(text=tf.constant(["two trees"]), task=tf.constant("en-fr"))
