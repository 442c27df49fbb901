"""Adapters are trained on a frozen model: a language is added, the others stay as they are."""

import copy
import json
import re
import shutil

import numpy as np
import pytest
from tiny_run import CONFIG

import keras_mtl
from keras_mtl.cli import main
from keras_mtl.decoding.loading import load_model
from keras_mtl.errors import CheckpointError
from keras_mtl.models.variables import variables_by_name
from tests.training.same_run import tensors

LINES = ["one red house", "two trees", "good morning", "the cat sleeps", "a red cat"]
ADAPTERS = [
    {"name": "language", "dim": 4, "groups": {"gl": ["gl"]}},
    {"name": "low", "kind": "lora", "rank": 2, "per": "task", "groups": {"new": ["en-gl"]}},
]


def added_language(old, data_dir):
    """Adds Galician to a model of other languages: only its adapters are trained."""
    config = copy.deepcopy(CONFIG)
    task, trainer = config["task"], config["trainer"]
    task["pairs"] = [
        {"source": "en", "target": target, "max_pairs": 100} for target in ("fr", "uk", "ja", "gl")
    ]
    task["data"] |= {
        "data_dir": str(data_dir),
        "max_length": 48,
        "bucket_lengths": [48],
        "vocabulary": {"model_file": str(old / "vocabulary.model")},
    }
    task["decoding"] = {"max_length": 24, "num_hypotheses": 2}
    task["model"] |= {"max_length": 48, "init": [{"from": str(old)}], "adapters": ADAPTERS}
    trainer["freeze"] = ["(?!.*/adapters_).*"]
    trainer["schedule"] = {"name": "constant", "parameters": {"weights": [1, 0, 0, 3]}}
    trainer["optimizer"]["learning_rate"] = 10.0
    trainer |= {"train_steps": 6, "checkpoint_interval": 3, "steps_per_loop": 3}
    trainer["evaluation"] |= {"tasks": ["en-fr", "en-gl"], "interval": 3}
    return config


def train(config, directory, steps=None):
    config = copy.deepcopy(config)
    config["trainer"]["train_steps"] = steps or config["trainer"]["train_steps"]
    file = directory.with_suffix(".json")
    file.write_text(json.dumps(config))
    keras_mtl.train(keras_mtl.load_config(file), directory, mode="train", log=lambda _: None)


@pytest.fixture(scope="module")
def old(copy_trained_model, tmp_path_factory):
    return copy_trained_model(tmp_path_factory.mktemp("old") / "old")


@pytest.fixture(scope="module")
def run(old, tmp_path_factory):
    root = tmp_path_factory.mktemp("added")
    config = added_language(old, root / "data")
    train(config, root / "run")
    return root / "run", config


def found(path, task, **options):
    hypotheses = keras_mtl.load_translator(path, **options).hypotheses(LINES, task)
    return [[(h.text, h.score) for h in each] for each in hypotheses]


@pytest.mark.nightly
def test_only_the_adapters_are_trained(run, old):
    directory, _ = run
    before, after = (
        {name: value.numpy() for name, value in variables_by_name(load_model(d).model).items()}
        for d in (old, directory)
    )
    for name, value in after.items():
        if "adapters_" in name:
            start = np.ones_like(value) if name.endswith("gamma") else np.zeros_like(value)
            assert not np.array_equal(value, start), name
        elif name != "embedding/embeddings":
            np.testing.assert_array_equal(value, before[name], err_msg=name)
    names = [name for name in tensors(directory) if name.startswith("moments/")]
    assert len(names) == 2 * sum("adapters_" in name for name in after)


@pytest.mark.nightly
def test_every_backend_and_format_has_them(run, old, tmp_path, capsys):
    directory, _ = run
    texts = {}
    for backend in ("native", "tf"):
        for task in ("en-fr", "en-uk", "en-ja"):
            expected, got = (found(path, task, backend=backend) for path in (old, directory))
            assert [[h[0] for h in each] for each in expected] == [
                [h[0] for h in each] for each in got
            ]
        texts[backend] = found(directory, "en-gl", backend=backend)
    for one, other in zip(*texts.values(), strict=True):
        assert [h[0] for h in one] == [h[0] for h in other]
    base, small, both = (str(tmp_path / name) for name in ("base", "small", "both"))
    keras_mtl.export_model(old, base, format="engine")
    keras_mtl.export_model(directory, small, format="adapters", base=base)
    assert main.main(["add-adapters", "--model", base, "--adapters", small, "--output", both]) == 0
    assert found(both, "en-gl") == texts["native"]
    assert found(both, "en-fr") == found(directory, "en-fr", backend="native")
    for format in ("saved_model", "saved_model_native"):
        path = keras_mtl.export_model(directory, tmp_path / format, format=format)
        for task in ("en-gl", "en-fr"):
            want = found(directory, task, backend="native")
            got = found(path, task)
            assert [[h[0] for h in each] for each in got] == [[h[0] for h in each] for each in want]
    capsys.readouterr()
    words = ["--model_dir", str(directory), "--output", str(tmp_path / "ct2")]
    assert main.main(["export", *words, "--format", "ctranslate2"]) == 2
    assert (
        "task.model.adapters is not empty, and CTranslate2 has no adap" in capsys.readouterr().err
    )
    assert main.main(["inspect", "--model_dir", str(directory)]) == 0
    out = capsys.readouterr().out
    assert "adapters language: bottleneck per target, dim 4, in encoder and decoder" in out
    assert re.search(r"^  no adapter: en-fr, en-uk, en-ja\n  gl: en-gl", out, re.M)
    assert re.search(r"^encoder/adapters_0 +\d+ ", out, re.M)


@pytest.mark.nightly
@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("granularity", ["batch", "example"])
def test_a_resumed_run_is_the_same(run, old, tmp_path, granularity, packing):
    _, config = run
    config = copy.deepcopy(config)
    config["task"]["data"] |= {
        "granularity": granularity,
        "packing": packing,
        "data_dir": str(tmp_path / "data"),
        "tokens_per_batch": 768,
        "bucket_lengths": [] if packing else [48],
    }
    config["trainer"]["freeze"] = []
    train(config, tmp_path / "whole")
    train(config, tmp_path / "parts", steps=3)
    train(config, tmp_path / "parts")
    whole, parts = (tensors(tmp_path / name) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert any("adapter_low_new" in name for name in whole)
    for name, value in whole.items():
        np.testing.assert_array_equal(value, parts[name], err_msg=name)
    batches = [(tmp_path / name / "batches.tsv").read_text() for name in ("whole", "parts")]
    assert batches[0] == batches[1]


@pytest.mark.nightly
@pytest.mark.parametrize(
    "changes",
    [
        {"runtime": {"distribution_strategy": "mirrored", "num_replicas": 2}},
        {
            "runtime": {"jit_compile": True},
            "task": {"data": {"packing": True}, "model": {"recompute": "layer"}},
        },
    ],
    ids=["mirrored", "jit-packing-recompute"],
)
def test_other_ways_to_train(run, old, tmp_path, run_python, changes):
    """In a process of its own, because TensorFlow makes two devices only at its start."""
    _, config = run
    config = copy.deepcopy(config)
    config["runtime"] |= changes["runtime"]
    for section, values in changes.get("task", {}).items():
        config["task"][section] |= values
    config["task"]["data"] |= {
        "granularity": "example",
        "bucket_lengths": [] if "task" in changes else [48],
        "tokens_per_batch": 768,
        "data_dir": str(tmp_path / "data"),
    }
    file = tmp_path / "run.json"
    file.write_text(json.dumps(config))
    code = "import sys; from keras_mtl.cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = ["train", "--config_file", str(file), "--model_dir", str(tmp_path / "run")]
    done = run_python(code, *words, timeout=300)
    assert done.returncode == 0, done.stderr
    before, after = (
        {name: value.numpy() for name, value in variables_by_name(load_model(d).model).items()}
        for d in (old, tmp_path / "run")
    )
    for name, value in after.items():
        if "adapters_" not in name and name != "embedding/embeddings":
            np.testing.assert_array_equal(value, before[name], err_msg=name)
    moved = [name for name, value in after.items() if name.endswith("up_kernel") and value.any()]
    assert len(moved) == 2  # After the layer of the encoder, and after that of the decoder.


@pytest.mark.nightly
def test_other_adapters_need_another_directory(run, tmp_path):
    directory, config = run
    copied = tmp_path / "run"
    shutil.copytree(directory, copied)
    other = copy.deepcopy(config)
    other["task"]["model"]["adapters"] = [{"name": "language", "dim": 5}]
    with pytest.raises(CheckpointError, match=r"task.model.adapters\S* was .* depend on it"):
        train(other, copied)
