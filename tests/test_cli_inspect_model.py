"""`inspect --model`: what each kind of model holds, and what other paths are called."""

import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.cli import main
from keras_mtl.cli.inspect_model import print_checkpoints
from keras_mtl.configuration.overriding import set_values
from keras_mtl.configuration.schema import TransformerConfig
from keras_mtl.decoding.model_kinds import ModelKind, model_kind, not_usable
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.engine.model_file import write_model_file
from keras_mtl.errors import CheckpointError
from keras_mtl.export.ctranslate2 import export_ctranslate2
from keras_mtl.export.engine_file import export_engine_file
from keras_mtl.export.native_saved_model import export_native_saved_model
from keras_mtl.export.saved_model import export_saved_model
from keras_mtl.models.factory import build_transformer
from tests.decoding.tiny_model import LANGUAGES, make_vocabulary

OPTIONS = BeamOptions(beam_size=3, max_length=16, no_repeat_ngram=2)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A directory with a model of several decoders in each format."""
    config = TransformerConfig()
    set_values(
        config,
        {"size": "tiny", "hidden_dim": 16, "num_heads": 2, "intermediate_dim": 24,
         "encoder_layers": 1, "decoder_layers": 1, "max_length": 24, "sharing": "encoder"}
    )  # fmt: skip
    vocabulary = make_vocabulary()
    model = build_transformer(config, vocabulary.size, tuple(LANGUAGES.values()))
    tasks = [TranslationTask(n, "en", t, i) for i, (n, t) in enumerate(LANGUAGES.items())]
    directory = tmp_path_factory.mktemp("models")
    trained = model, vocabulary, tasks
    export_engine_file(*trained, directory / "m.kmtl", weight_type="int8", options=OPTIONS)
    export_ctranslate2(*trained, directory / "ctranslate2")
    export_native_saved_model(*trained, OPTIONS, directory / "native")
    export_saved_model(*trained, OPTIONS.replace(no_repeat_ngram=0), directory / "portable")
    return directory


def inspect(capsys, *words):
    code = main.main(["inspect", *map(str, words)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("argument", ["--model", "--model_dir"])
def test_an_engine_file(argument, models, capsys):
    code, out, err = inspect(capsys, argument, models / "m.kmtl", "--verify")
    assert code == 0, err
    lines = {name: value.strip() for name, _, value in (x.partition(":") for x in out.splitlines())}
    assert lines["file"].startswith("engine file, format version 1, ")
    assert lines["architecture"] == (
        "Transformer 1 + 1 layers, hidden_dim 16, intermediate_dim 24, 2 heads, vocabulary 320, "
        "weights int8"
    )
    assert lines["decoders"] == "fr, uk, ja"
    assert lines["compute type"].startswith("int8 by default")
    assert lines["vocabulary"].startswith("320 ids, language tags: fr, ja, uk, hash ")
    assert lines["decoding"] == "beam_size 3, max_length 16, no_repeat_ngram 2"
    assert lines["checksums"].endswith("are correct")
    assert [line.split() for line in out.splitlines()[-5:-1]] == [
        ["task", "direction", "tag", "decoder"],
        ["en-fr", "en", "->", "fr", "4", "fr"],
        ["en-uk", "en", "->", "uk", "6", "uk"],
        ["en-ja", "en", "->", "ja", "5", "ja"],
    ]


def test_parameters_are_those_of_the_model(tmp_path, capsys):
    model = build_transformer(_config(), 320, ("",))
    trained = sum(np.prod(variable.shape) for variable in model.trainable_variables)
    tasks = [TranslationTask("en-fr", "en", "fr", 0)]
    for weight_type in ("float32", "int8"):
        path = tmp_path / weight_type
        export_engine_file(model, make_vocabulary(), tasks, path, weight_type=weight_type)
        _, out, _ = inspect(capsys, "--model", path)
        assert f"{trained:,} without positions" in out
        assert "default options" in out


def _config():
    config = TransformerConfig()
    set_values(config, {"size": "tiny", "hidden_dim": 16, "num_heads": 2, "max_length": 24})
    return config


def test_damage_is_found_by_verify(models, tmp_path, capsys):
    data = bytearray((models / "m.kmtl").read_bytes())
    data[len(data) // 2] ^= 1
    damaged = tmp_path / "damaged.kmtl"
    damaged.write_bytes(data)
    assert inspect(capsys, "--model", damaged)[0] == 0  # Only the table was looked at.
    code, _, err = inspect(capsys, "--model", damaged, "--verify")
    assert code == 2
    assert "damaged.kmtl" in err
    assert "checksum" in err
    damaged.write_bytes(data[:-64])
    code, _, err = inspect(capsys, "--model", damaged)
    assert code == 2
    assert "damaged.kmtl" in err
    other = write_model_file(tmp_path / "other.kmtl", {"a": 1}, {})
    code, _, err = inspect(capsys, "--model", other)
    assert code == 2
    assert "other.kmtl" in err


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("native", "exported SavedModel with C++ operations, "),
        ("portable", "exported SavedModel, "),
    ],
)
def test_saved_models(name, first, models, capsys):
    code, out, err = inspect(capsys, "--model", models / name, "--verify")
    assert code == 0, err
    assert out.startswith(f"directory:    {first}")
    assert "at most 22 tokens" in out
    assert "beam_size 3" in out
    assert "en-uk  en -> uk" in out
    assert out.rstrip().endswith("are correct")
    assert ("assets/model.kmtl:\nfile:         engine file" in out) == (name == "native")


def test_ctranslate2(models, capsys):
    code, out, _ = inspect(capsys, "--model", models / "ctranslate2")
    assert code == 0
    for language in LANGUAGES.values():
        assert f"ctranslate2.Translator('{models}/ctranslate2/{language}')" in out
    assert "en-uk  en -> uk   <2uk>" in out
    code, _, err = inspect(capsys, "--model", models / "ctranslate2", "--verify")
    assert code == 2
    assert "no checksums" in err
    for command in ("translate", "score", "benchmark"):
        words = [command, "--model", str(models / "ctranslate2")]
        words += [] if command == "benchmark" else ["--task", "en-fr"]
        words += ["--tsv", "/dev/null"] if command == "score" else []
        assert main.main(words) == 2
        err = capsys.readouterr().err
        assert "ctranslate2 is a CTranslate2 model; run it with ctranslate2.Translator(" in err


def test_checkpoints(tmp_path, capsys):
    for step in (1, 2):
        checkpoint = tf.train.Checkpoint(x=tf.Variable(tf.range(1000)))
        checkpoint.write(str(tmp_path / f"ckpt-{step}"))
    print_checkpoints(str(tmp_path), verify=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["ckpt-2", "ckpt-1"]
    assert "used by default" in lines[2]
    assert all(line.endswith("2 tensors are correct") for line in lines[2:])
    file = tmp_path / "ckpt-1.data-00000-of-00001"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    print_checkpoints(str(tmp_path), verify=False)
    with pytest.raises(CheckpointError, match="ckpt-1 is damaged"):
        print_checkpoints(str(tmp_path), verify=True)


@pytest.mark.parametrize(
    ("files", "path", "kind", "remedy"),
    [
        (["params.yaml", "tasks.json"], "", ModelKind.MODEL_DIR, ""),
        (["params.yaml"], "", ModelKind.RUN, "train it with `keras-mtl train`"),
        (["data/manifest.json"], "", ModelKind.RUN, "train it with `keras-mtl train`"),
        (["manifest.json", "vocabulary.model"], "", ModelKind.PREPARED_DATA, "--model_dir"),
        (["ckpt-5.index"], "", ModelKind.CHECKPOINTS, "--checkpoint "),
        (["ckpt-5.index"], "ckpt-5", ModelKind.CHECKPOINT, "--checkpoint "),
        (["ckpt-5.index"], "ckpt-5.index", ModelKind.CHECKPOINT, "/ckpt-5"),
        (["saved_model.pb"], "", ModelKind.OTHER_SAVED_MODEL, "keras-mtl export"),
        (["model.bin", "config.json"], "", ModelKind.CTRANSLATE2, "ctranslate2.Translator"),
        (["fr/model.bin"], "", ModelKind.CTRANSLATE2, "/fr'"),
        (["x"], "", ModelKind.DIRECTORY, "give a model"),
        (["x"], "x", ModelKind.FILE, "give a model"),
        (["m.keras"], "m.keras", ModelKind.KERAS_FILE, "give a model"),
        (["a.yaml"], "a.yaml", ModelKind.CONFIGURATION, "give a model"),
        (["vocabulary.model"], "vocabulary.model", ModelKind.VOCABULARY, "give a model"),
        ([], "no", ModelKind.MISSING, "does not exist; give a model"),
    ],
)
def test_what_a_path_holds(files, path, kind, remedy, tmp_path):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert model_kind(tmp_path / path) is kind
    if kind is not ModelKind.MODEL_DIR:
        message = not_usable(tmp_path / path, "a model")
        assert remedy in message
        assert kind is ModelKind.MISSING or f" is {kind.value}; " in message


def test_a_model_dir_that_is_something_else_chooses_no_configuration(tmp_path, capsys):
    (tmp_path / "model.bin").touch()
    assert main.main(["evaluate", "--model_dir", str(tmp_path)]) == 2
    assert "is a CTranslate2 model; run it with" in capsys.readouterr().err


def test_verify_needs_a_model(capsys):
    assert inspect(capsys, "--verify")[0] == 2
    code, _, err = inspect(capsys, "--model", "a", "--model_dir", "b")
    assert code == 2
    assert "not both" in err
