"""A run starts from a trained model: a language is added to it."""

import copy
import json
import re
import shutil

import numpy as np
import pytest
from tiny_run import CONFIG

import keras_mtl
from keras_mtl.configuration.files import load_params
from keras_mtl.configuration.initial_weights import InitConfig
from keras_mtl.configuration.schema import BalancingConfig
from keras_mtl.decoding.loading import load_model
from keras_mtl.errors import ConfigError, InputError
from keras_mtl.models.factory import build_transformer
from keras_mtl.models.variables import freeze, variables_by_name
from keras_mtl.training.run.first_weights import take_first_weights
from keras_mtl.training.run.weight_sources import check_sources
from keras_mtl.training.step.balancing import check_shared_variables
from keras_mtl.training.step.optimizers import Adam
from tests.training.same_run import tensors

LINES = ["one red house", "two trees", "good morning", "the cat sleeps", "a red cat"]


def added_language(old, data_dir, **model):
    """Adds Galician to a model of other languages: only its decoder is trained."""
    config = copy.deepcopy(CONFIG)
    task, trainer = config["task"], config["trainer"]
    task["pairs"] = [
        {"source": "en", "target": "gl", "max_pairs": 100},
        {"source": "en", "target": "fr", "max_pairs": 100},
    ]
    task["data"]["data_dir"] = str(data_dir)
    task["data"]["max_length"] = 48
    task["data"]["bucket_lengths"] = [48]
    task["data"]["vocabulary"] = {"model_file": str(old / "vocabulary.model")}
    task["decoding"] = {"max_length": 24}  # As the old model has it, for equal translations.
    rules = [
        {"match": "decoder_gl/(.*)", "to": r"decoder_fr/\1"},
        {"match": ".*", "to": r"\g<0>"},
    ]
    task["model"] |= {
        "sharing": "encoder",
        "max_length": 48,
        "init": [{"from": str(old), "rules": rules}],
        **model,
    }
    trainer["freeze"] = ["embedding/.*", "encoder/.*", "decoder_fr/.*"]
    trainer["schedule"] = {"name": "uniform"}
    trainer |= {"train_steps": 4, "checkpoint_interval": 2, "steps_per_loop": 2}
    return config


def train(config, directory):
    file = directory.with_suffix(".json")
    file.write_text(json.dumps(config))
    lines: list[str] = []
    keras_mtl.train(keras_mtl.load_config(file), directory, mode="train", log=lines.append)
    return lines


def translations(directory, task):
    return keras_mtl.load_translator(directory, backend="native").translate(LINES, task)


@pytest.fixture(scope="module")
def old(copy_trained_model, tmp_path_factory):
    return copy_trained_model(tmp_path_factory.mktemp("old") / "old", "encoder")


@pytest.fixture(scope="module")
def run(old, tmp_path_factory):
    """The directory of a run with one language more, and its lines."""
    root = tmp_path_factory.mktemp("added")
    lines = train(added_language(old, root / "data"), root / "run")
    return root / "run", lines


def test_only_the_decoder_of_the_new_language_is_trained(run, old):
    before, after = (load_model(directory) for directory in (old, run[0]))
    assert after.vocabulary.size == before.vocabulary.size + 1
    expected, found = (
        {name: value.numpy() for name, value in variables_by_name(loaded.model).items()}
        for loaded in (before, after)
    )
    table = expected.pop("embedding/embeddings"), found.pop("embedding/embeddings")
    for i in range(before.vocabulary.size):  # The new tag has moved the ids of the pieces.
        j = i if before.vocabulary.piece(i) == after.vocabulary.piece(i) else i + 1
        np.testing.assert_array_equal(table[0][i], table[1][j])
    for name, value in found.items():
        equal = np.array_equal(value, expected[name.replace("decoder_gl", "decoder_fr")])
        assert equal is not name.startswith("decoder_gl"), name
    names = [name for name in tensors(run[0]) if name.startswith("moments/")]
    trained = sum(name.startswith("decoder_gl") for name in found)
    assert len(names) == 2 * trained
    assert translations(old, "en-fr") == translations(run[0], "en-fr")


def test_what_each_variable_took_is_written(run, old):
    directory, lines = run
    record = json.loads((directory / "initial_weights.json").read_text())
    assert record["sources"][0]["checkpoint"] == str(old / "ckpt-30")
    assert len(record["sources"][0]["weights_hash"]) == 16
    assert {entry["status"] for entry in record["variables"]} == {"loaded", "remapped"}
    text = "\n".join(lines)
    assert re.search(
        r"^decoder_gl/layer_0 +20 +[\d,]+ +loaded from \[0\] +from decoder_fr/layer_0", text, re.M
    )
    assert re.search(
        r"^embedding .* remapped from \[0\] +320 of 321 rows follow their pieces", text, re.M
    )
    assert "not used from [0]: decoder_uk/layer_0" in text


def built(old, **settings):
    """A model like that of `old`, its variables, and what it took from a source."""
    loaded = load_model(old)
    config = load_params(old).task.model
    model = build_transformer(config, loaded.vocabulary.size, loaded.tasks.decoders)
    optimizer = Adam()
    optimizer.build(model.trainable_variables)
    found = take_first_weights(model, loaded.vocabulary, [InitConfig(**settings)], optimizer)
    return loaded.model, model, optimizer, found


def test_balancing_needs_variables_of_all_tasks(run):
    model = load_model(run[0]).model
    count = len(model.trainable_variables)
    settings = BalancingConfig("pcgrad")
    check_shared_variables(settings, model, [None] * count, 2)
    freeze(model, ["embedding/.*", "encoder/.*"])
    rest = [None] * len(model.trainable_variables)
    check_shared_variables(BalancingConfig("dwa"), model, rest, 2)  # It compares losses.
    with pytest.raises(ConfigError, match=r"'pcgrad' compares the gradients .* there are none"):
        check_shared_variables(settings, model, rest, 2)


@pytest.mark.parametrize("weight_type", ["float32", "int8"])
def test_an_engine_file_gives_its_weights(old, tmp_path, weight_type):
    file = tmp_path / "model.kmtl"
    keras_mtl.export_model(old, file, format="engine", weight_type=weight_type)
    before, after, _, found = built(old, from_=str(file))
    assert {entry["status"] for entry in found.record["variables"]} == {"loaded"}
    for name, value in variables_by_name(before).items():
        given = variables_by_name(after)[name].numpy()
        if weight_type == "float32" or value.ndim == 1:
            np.testing.assert_array_equal(given, value.numpy(), err_msg=name)
        else:
            step = np.abs(value.numpy()).max() / 127
            np.testing.assert_allclose(given, value.numpy(), atol=step / 2 * 1.001, err_msg=name)
    with pytest.raises(ConfigError, match=r"init\[0\].moments = true, but .* is an engine file"):
        built(old, from_=str(file), moments=True)


def test_moments_continue(run):
    directory, _ = run
    _, model, optimizer, _ = built(directory, from_=str(directory / "ckpt-4"), moments=True)
    saved = tensors(directory)
    trained = [v.path for v in model.trainable_variables if "/decoder_gl/" in v.path]
    place = [v.path for v in model.trainable_variables].index(trained[0])
    for number in range(len(trained)):
        for slot in ("momentum", "velocity"):
            expected = saved[f"moments/{slot}/{number}/.ATTRIBUTES/VARIABLE_VALUE"]
            slots = optimizer.momentums if slot == "momentum" else optimizer.velocities
            np.testing.assert_array_equal(slots[place + number].numpy(), expected)
            assert np.abs(expected).max() > 0
            # The frozen variables of the source had none.
            assert not slots[0].numpy().any()


def test_a_model_for_fit_takes_them_too(old):
    model = build_transformer(load_params(old).task.model, load_model(old).vocabulary.size, ["gl"])
    rules = [
        {"match": "decoder_gl/(.*)", "to": r"decoder_fr/\1"},
        {"match": ".*", "to": r"\g<0>"},
    ]
    file = old / "vocabulary.model"
    lines = keras_mtl.warm_start(model, file, {"from": str(old), "rules": rules})
    assert any(line.startswith("decoder_gl/layer_0") and "loaded" in line for line in lines)
    before = variables_by_name(load_model(old).model)
    for name, value in variables_by_name(model).items():
        origin = name.replace("decoder_gl", "decoder_fr")
        np.testing.assert_array_equal(value.numpy(), before[origin].numpy(), err_msg=name)
    with pytest.raises(ConfigError, match=r"moments = true: the optimizer of model.fit takes no"):
        keras_mtl.warm_start(model, file, {"from": str(old), "moments": True})
    other = build_transformer(load_params(old).task.model, 99, ["gl"])
    with pytest.raises(InputError, match=r"vocabulary has \d+ ids, but the model has 99"):
        keras_mtl.warm_start(other, file, old)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gone", "gone does not exist; give a model directory, a checkpoint in one, or an engine"),
        ("gs://bucket/run", "is a URL. Copy it to a local directory"),
        ("params.yaml", "is a configuration file; give a model directory"),
        ("ckpt-7", "ckpt-7 does not exist"),
    ],
)
def test_what_is_no_source(old, source, message):
    path = source if "://" in source else str(old / source)
    with pytest.raises(ConfigError, match=f"init\\[0\\].from.*{message}"):
        check_sources([InitConfig(path)])


@pytest.mark.parametrize("place", ["", "best", "best/macro", "best/tasks/en-fr", "pending/8-9"])
def test_a_source_may_be_any_checkpoint_of_a_run(old, tmp_path, place):
    for name in ("params.yaml", "tasks.json", "vocabulary.model"):
        shutil.copy(old / name, tmp_path)
    prefix = tmp_path / place / "ckpt-8"
    prefix.parent.mkdir(parents=True, exist_ok=True)
    prefix.with_suffix(".index").touch()
    check_sources([InitConfig(str(prefix)), InitConfig(str(prefix.parent))])


@pytest.mark.nightly
def test_a_resumed_run_does_not_start_again(run, old, tmp_path):
    directory, _ = run
    copied = tmp_path / "run"
    shutil.copytree(directory, copied)
    for file in copied.glob("ckpt-4.*"):
        file.unlink()
    shutil.copy(directory.with_suffix(".json"), copied.with_suffix(".json"))
    config = json.loads(copied.with_suffix(".json").read_text())
    lines = train(config, copied)
    assert not any("initial weights" in line for line in lines)
    expected, found = tensors(directory), tensors(copied)
    for name, value in expected.items():
        np.testing.assert_array_equal(value, found[name], err_msg=name)
