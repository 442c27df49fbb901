"""Runs of models of which tasks have their own copies of stacks."""

import copy
import json

import numpy as np
import pytest
from tiny_run import CONFIG

import keras_mtl
from keras_mtl.cli import main
from keras_mtl.errors import CheckpointError
from keras_mtl.models.variables import variables_by_name
from tests.training.same_run import assert_same_run, tensors

LINES = ["one red house", "two trees", "good morning", "the cat sleeps", "a red cat"]
STACKS = {
    "encoder": {"per": "target", "groups": {"romance": ["fr", "es"], "own": ["gl"]}},
    "decoder": {"per": "target"},
}


def train(config, directory, steps, mode="train"):
    config = copy.deepcopy(config)
    config["trainer"]["train_steps"] = steps
    file = directory.with_suffix(".json")
    file.write_text(json.dumps(config))
    keras_mtl.train(keras_mtl.load_config(file), directory, mode=mode, log=lambda _: None)


def run_config(root, stacks, weights):
    config = copy.deepcopy(CONFIG)
    config["task"]["model"] |= {"sharing": "by_stack", "stacks": stacks}
    config["task"]["data"] |= {"data_dir": str(root / "data"), "bucket_lengths": [64]}
    trainer = config["trainer"]
    trainer["schedule"] = {"name": "constant", "parameters": {"weights": weights}}
    trainer |= {"checkpoint_interval": 3, "steps_per_loop": 3}
    trainer["evaluation"]["interval"] = 3
    return config


@pytest.mark.nightly
def test_a_run_resumes_translates_and_is_exported(tmp_path, capsys):
    config = run_config(tmp_path, STACKS, [1, 1, 1])
    for name, steps in (("whole", 6), ("parts", 3), ("parts", 6)):
        train(config, tmp_path / name, steps, "train_and_eval")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    directory = tmp_path / "whole"
    expected = keras_mtl.load_translator(directory)
    for format in ("saved_model", "saved_model_native"):
        exported = keras_mtl.load_translator(
            keras_mtl.export_model(directory, tmp_path / format, format=format)
        )
        for task in ("en-fr", "en-es", "en-gl"):
            assert exported.translate(LINES, task) == expected.translate(LINES, task)
    capsys.readouterr()
    for format in ("engine", "ctranslate2"):
        words = ["--model_dir", str(directory), "--output", str(tmp_path / "no")]
        assert main.main(["export", *words, "--format", format]) == 2
        assert "task.model.sharing is 'by_stack', and only TensorFlow" in capsys.readouterr().err
    config["task"]["model"]["stacks"]["encoder"]["groups"] = {"all": ["fr", "es", "gl"]}
    with pytest.raises(CheckpointError, match=r"task\.model\.stacks"):
        train(config, directory, 9)


@pytest.mark.nightly
@pytest.mark.parametrize("packing", [False, True])
def test_only_the_copies_of_drawn_tasks_change(tmp_path, packing):
    stacks = {"encoder": {"per": "task"}, "embeddings": {"per": "target"}}
    config = run_config(tmp_path, stacks, [1, 0, 1])
    config["task"]["data"]["packing"] = packing
    config["trainer"]["optimizer"]["ema_momentum"] = 0.0
    if packing:
        config["task"]["data"]["bucket_lengths"] = []
    train(config, tmp_path / "run", 3)
    first = tensors(tmp_path / "run")
    train(config, tmp_path / "run", 6)
    second = tensors(tmp_path / "run")
    from keras_mtl.decoding.loading import load_model

    names = list(variables_by_name(load_model(tmp_path / "run").model))
    assert any(name.startswith("encoder_en-es/") for name in names)
    changed = {name for name in first if not np.array_equal(first[name], second[name])}
    weights = [name for name in changed if name.startswith("model/")]
    # tf.train.Checkpoint names the copies by attribute: the second is that of en-es.
    assert any("encoder/" in name for name in weights)
    assert any("encoder_copy_2/" in name for name in weights)
    assert not any("_copy_1/" in name for name in weights)
