"""Exporting, loading and serving print nothing on standard error, with TensorFlow's default log."""

import os
import re
import subprocess
import sys

import pytest

from keras_mtl.configuration.overriding import set_values
from keras_mtl.configuration.schema import TransformerConfig
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.export.ctranslate2 import export_ctranslate2
from keras_mtl.export.engine_file import export_engine_file
from keras_mtl.export.native_saved_model import export_native_saved_model
from keras_mtl.export.saved_model import export_saved_model
from keras_mtl.models.factory import build_transformer
from tests.decoding.tiny_model import LANGUAGES, make_vocabulary

SERVE = """
import sys
import tensorflow as tf, tensorflow_text

def serve(path):
    signatures = tf.saved_model.load(path).signatures
    text = tf.constant(["two trees", "", "the cat"])
    for task in (tf.constant("en-fr"), tf.constant(["en-fr", "en-uk", "en-ja"])):
        signatures["serving_default"](text=text, task=task)
    signatures["hypotheses"](text=text, task=tf.constant("en-fr"))
    signatures["tasks"]()
    signatures["count_tokens"](text=text)

tf.random.normal([2]) # Looks for a GPU.
portable, native = sys.argv[1:]
print("BEGIN", file=sys.stderr, flush=True)
serve(portable)
assert not any(name.startswith("keras_mtl") for name in sys.modules)
from keras_mtl.engine import load_ops
load_ops()
serve(native)
print("served")
"""
# Start-up lines of TensorFlow: what it looks for on the machine, and how it was built.
START = re.compile(
    r"cuda|cudart|GPU|cpu_feature_guard|To enable the following instructions|port\.cc"
)


@pytest.fixture(scope="module")
def trained():
    config = TransformerConfig()
    set_values(
        config,
        {"size": "tiny", "hidden_dim": 16, "num_heads": 2, "intermediate_dim": 16,
         "encoder_layers": 1, "decoder_layers": 1, "max_length": 48, "sharing": "encoder"}
    )  # fmt: skip
    vocabulary = make_vocabulary()
    model = build_transformer(config, vocabulary.size, tuple(LANGUAGES.values()))
    tasks = [TranslationTask(n, "en", t, i) for i, (n, t) in enumerate(LANGUAGES.items())]
    return model, vocabulary, tasks


@pytest.mark.nightly  # test_export_formats.py guards what exports print.
def test_saved_models(trained, tmp_path, capfd):
    options = BeamOptions(max_length=20)
    capfd.readouterr()
    portable = export_saved_model(*trained, options, tmp_path / "portable")
    native = export_native_saved_model(*trained, options, tmp_path / "native")
    assert capfd.readouterr() == ("", "")
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    arguments = [sys.executable, "-c", SERVE, str(portable), str(native)]
    done = subprocess.run(
        arguments, capture_output=True, text=True, env=environment, check=False, timeout=100
    )
    assert (done.returncode, done.stdout) == (0, "served\n"), done.stderr[-3000:]
    lines = done.stderr.split("BEGIN\n")[1].splitlines()
    assert [line for line in lines if not START.search(line)] == []


def test_other_formats(trained, tmp_path, capfd):
    capfd.readouterr()
    export_engine_file(*trained, tmp_path / "model.kmtl")
    export_ctranslate2(*trained, tmp_path / "ctranslate2")
    assert capfd.readouterr() == ("", "")
