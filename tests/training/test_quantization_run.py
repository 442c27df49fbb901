"""A run with quantization-aware training, and its exports."""

import copy
import json

import numpy as np
import pytest
from tiny_run import CONFIG

import keras_mtl
from keras_mtl.decoding.loading import load_model
from keras_mtl.decoding.translators import load_translator
from keras_mtl.engine import open_model_file
from keras_mtl.errors import ExportError
from keras_mtl.models.quantizers import quantizers

pytestmark = pytest.mark.nightly  # Three runs with exports; tests of the parts protect the same.

LINES = ["January", "the first week", "two hours ago", ""]
STATIC = {"kind": "static", "start_step": 5, "freeze_step": 5}
CLIP = {"kind": "scheduled_clip", "start_step": 10, "start_cap": 8.0, "end_cap": 6.0}
PASSIVE = {"kind": "passive_asymmetric", "start_step": 5}


@pytest.fixture
def train(tmp_path):
    def run(*domains, compute_type="float32", **quantization):
        config = copy.deepcopy(CONFIG)
        config["task"]["data"]["data_dir"] = str(tmp_path / "data")
        config["task"]["model"]["quantization"] = {"domains": list(domains), **quantization}
        config["trainer"] |= {"train_steps": 30, "schedule": {"name": "uniform"}}
        config["trainer"] |= {"checkpoint_interval": 10, "max_to_keep": 3}
        config["trainer"]["optimizer"] = {"warmup_steps": 10, "learning_rate": 1.0}
        config["trainer"]["evaluation"] |= {"backend": "native", "compute_type": compute_type}
        (tmp_path / "config.json").write_text(json.dumps(config))
        config = keras_mtl.load_config(tmp_path / "config.json")
        keras_mtl.train(config, tmp_path / "run", log=lambda line: None)
        return tmp_path / "run"

    return run


def exported(run, form, weight_type="float32"):
    path = run.parent / f"{form}-{weight_type}"
    keras_mtl.export_model(run, path, format=form, weight_type=weight_type)
    return path


def test_learned_ranges_reach_every_format(train):
    run = train(STATIC, compute_type="int8", exclude=["embedding"])
    states = {each.name: each.state.numpy() for each in quantizers(load_model(run).model)}
    file = open_model_file(exported(run, "engine", "int8"))
    assert file.format_version == 2
    for name, (phase, low, high) in states.items():
        assert phase == 2
        assert high == -low > 0
        tensor = name.replace("layer_", "layer.").replace("/", ".")
        tensor = tensor.replace("decoder.", "decoder.0.") + ".input_range"
        np.testing.assert_array_equal(file.tensor(tensor), [high], err_msg=name)
    assert "embedding.input_range" not in file.tensor_names
    wanted = load_translator(run, backend="tf").translate(LINES, "en-fr")
    saved = load_translator(exported(run, "saved_model")).translate(LINES, "en-fr")
    assert saved == wanted
    int8 = load_translator(run.parent / "engine-int8").translate(LINES, "en-fr")
    options = {"backend": "native", "compute_type": "int8"}
    assert load_translator(run, **options).translate(LINES, "en-fr") == int8
    native = exported(run, "saved_model_native", "int8")
    assert load_translator(native).translate(LINES, "en-fr") == int8
    exported(run, "ctranslate2", "int8")


def test_clipped_models_need_int8(train):
    run = train(CLIP, compute_type="int8")
    path = exported(run, "engine", "int8")
    scale = open_model_file(path).tensor("encoder.layer.0.attention.qkv.scale")
    np.testing.assert_array_equal(scale, np.float32(6 * 127 / 128) / np.float32(127))
    assert load_translator(path).translate(LINES, "en-fr")
    for form, weight_type in (("engine", "float32"), ("ctranslate2", "int8")):
        with pytest.raises(ExportError, match="clips the inputs of layers"):
            exported(run, form, weight_type)


def test_an_average_has_the_mean_of_the_ranges(train):
    run = train(STATIC | {"start_step": 15, "freeze_step": 25}, compute_type="int8")
    mean = run.parent / "mean"
    prefixes = keras_mtl.average_checkpoints(run, mean, last=3)
    of_steps = [load_model(run, prefix).model for prefix in prefixes]  # 30, 20, 10
    phases = [quantizers(model)[0].state.numpy()[0] for model in of_steps]
    assert phases == [2, 2, 0]
    averaged = load_model(mean).model
    for each, *states in zip(*map(quantizers, [averaged, *of_steps]), strict=True):
        found = [each.state.numpy() for each in states]
        assert len({state[2] for state in found}) == 3, each.name
        np.testing.assert_allclose(each.state.numpy()[1:], np.mean(found, axis=0)[1:], rtol=1e-6)
        assert each.state.numpy()[0] == 2
    file = open_model_file(exported(mean, "engine", "int8"))
    (high,) = file.tensor("encoder.layer.0.attention.qkv.input_range")
    assert high in [each.state.numpy()[2] for each in quantizers(averaged)]
    assert load_translator(mean, backend="native", compute_type="int8").translate(LINES, "en-fr")


def test_models_with_zero_points_are_exported_as_floats(train):
    run = train(PASSIVE)
    assert open_model_file(exported(run, "engine")).format_version == 1
    exported(run, "ctranslate2")
    for form in ("engine", "ctranslate2"):
        with pytest.raises(ExportError, match="has zero points"):
            exported(run, form, "int8")
