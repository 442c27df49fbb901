"""Baselines: the task's own, that of the file, and files that are wrong."""

import json

import pytest

import keras_mtl
from keras_mtl.configuration import baselines
from keras_mtl.configuration.files import load_experiment, save_params
from keras_mtl.configuration.schema import ExperimentConfig, PairConfig
from keras_mtl.errors import ConfigError
from keras_mtl.training.run.baselines import measure_baselines, single_task_config


def of_tasks(path="", own=None):
    pairs = [PairConfig("", "en", "fr", baseline=own), PairConfig("x", "en", "de")]
    return baselines.of_tasks(pairs, str(path))


def test_a_tasks_own_baseline_is_above_that_of_the_file(tmp_path):
    path = tmp_path / "baselines.json"
    path.write_text(json.dumps({"en-fr": 30, "x": 20.5}))
    assert of_tasks(path) == ({"en-fr": 30.0, "x": 20.5}, ())
    found, (line,) = of_tasks(path, 31.0)
    assert found == {"en-fr": 31.0, "x": 20.5}
    assert line == f"en-fr: the baseline 31 of task.pairs is used, not the 30 of {path}"
    assert of_tasks() == ({"en-fr": None, "x": None}, ())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", r"holds \[1\]; give a JSON file such as"),
        ("{", "cannot be read: .*`keras-mtl baselines` writes it"),
        ('{"en-fr": 0}', "the baseline of task 'en-fr' is 0; it must be a number above 0"),
        ('{"en-fr": "30"}', "is '30'; it must be a number"),
        ('{"en-fr": NaN}', "is nan; it must be a number"),
        ('{"en-it": 30}', r"baselines\.json: unknown task 'en-it'; did you mean 'en-fr'"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, text, message):
    path = tmp_path / "baselines.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        of_tasks(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.json' does not exist; `keras-mtl baselines"):
        of_tasks(tmp_path / "no.json")


def test_baselines_are_not_trained_by_several_workers(tmp_path):
    config = ExperimentConfig()
    config.runtime.distribution_strategy = "multi_worker_mirrored"
    with pytest.raises(ConfigError, match=r"trained on one machine. Add --params_override runtime"):
        measure_baselines(config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_groups_of_adapters_and_stacks_are_those_of_the_task(tmp_path):
    pairs = [{"source": "en", "target": target} for target in ("fr", "es", "gl")]
    groups = {"per": "target", "groups": {"romance": ["fr", "es"], "own": ["gl"]}}
    adapters = [
        {"name": "language", **groups},
        {"name": "few", "per": "task", "groups": {"few": ["en-gl"]}},
        {"name": "each"},
    ]
    adapters = [{**each, "stacks": ["encoder"]} for each in adapters]
    model = {"adapters": adapters, "sharing": "by_stack", "stacks": {"decoder": groups}}
    task = {"pairs": pairs, "data": {"corpora": [{"reader": "cldr"}]}, "model": model}
    config = keras_mtl.load_config(overrides=json.dumps({"task": task}))
    for pair in config.task.pairs:
        single = single_task_config(config, pair)
        save_params(single, str(tmp_path / "single_task.yaml"))
        found = load_experiment(config_files=[str(tmp_path / "single_task.yaml")]).task.model
        own = {"own": ["gl"]} if pair.target == "gl" else {"romance": [pair.target]}
        assert found.stacks.decoder.groups == found.adapters[0].groups == own
        # A set without an adapter for this task would give it one if it had no groups.
        names = [each.name for each in found.adapters]
        assert names == ["language", *(["few"] if pair.target == "gl" else []), "each"]
    assert len(config.task.model.adapters) == 3
    assert config.task.model.stacks.decoder.groups == groups["groups"]
