"""Baselines: the task's own, that of the file, and files that are wrong."""

import json

import pytest

from keras_mtl.configuration import baselines
from keras_mtl.configuration.schema import ExperimentConfig, PairConfig
from keras_mtl.errors import ConfigError


def config(path="", own=None):
    result = ExperimentConfig()
    result.task.pairs = [PairConfig("", "en", "fr", baseline=own), PairConfig("x", "en", "de")]
    result.trainer.schedule.baselines_file = str(path)
    return result


def test_a_tasks_own_baseline_is_above_that_of_the_file(tmp_path):
    path = tmp_path / "baselines.json"
    path.write_text(json.dumps({"en-fr": 30, "x": 20.5}))
    assert baselines.of_tasks(config(path)) == {"en-fr": 30.0, "x": 20.5}
    assert baselines.overruled(config(path)) == []
    assert baselines.of_tasks(config(path, 31.0)) == {"en-fr": 31.0, "x": 20.5}
    (line,) = baselines.overruled(config(path, 31.0))
    assert line == f"en-fr: the baseline 31 of task.pairs is used, not the 30 of {path}"
    assert baselines.of_tasks(config()) == {"en-fr": None, "x": None}


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
        baselines.of_tasks(config(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no\.json' does not exist; `keras-mtl baselines"):
        baselines.of_tasks(config(tmp_path / "no.json"))
