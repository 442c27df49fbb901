"""The presets as experiments of Model Garden, and its command line for our trainer."""

import math
import subprocess
import sys

import pytest
import yaml
from absl import flags
from official.core import config_definitions, exp_factory
from official.modeling import hyperparams

from keras_mtl.configuration import files, presets
from keras_mtl.configuration.schema import ExperimentConfig, as_dict
from keras_mtl.errors import ConfigError
from keras_mtl.garden import experiments, train
from keras_mtl.training.run import loop
from tests.training.tiny_run import CONFIG

OPTIONS = {"stages": [{"name": "uniform", "steps": 5}, {"name": "temperature"}], "alpha": 2}


@pytest.mark.parametrize("name", presets.available())
def test_each_preset_is_an_experiment(name):
    found = exp_factory.get_exp_config(name)
    assert isinstance(found, config_definitions.ExperimentConfig)
    expected = as_dict(presets.preset(name))
    assert found.as_dict() == expected
    assert list(found.as_dict()) == list(expected)
    assert experiments.experiment(name) == presets.preset(name)


def test_there_and_back():
    config = files.load_experiment(None, (), yaml.safe_dump(CONFIG))
    config.trainer.schedule.parameters = OPTIONS
    found = experiments.to_garden(config)
    assert isinstance(found.task.pairs[0].corpora, list)
    assert found.trainer.schedule.parameters.as_dict() == OPTIONS
    assert experiments.from_garden(found) == config


def test_model_gardens_overrides_reach_our_configuration():
    found = exp_factory.get_exp_config("translation/transformer_tiny")
    found.override({"task": {"model": {"dropout": 0.3}, "pairs": [{"source": "a", "target": "b"}]}})
    config = experiments.from_garden(found)
    assert (config.task.model.dropout, config.task.pairs[0].target) == (0.3, "b")
    with pytest.raises(KeyError, match="dropuot"):
        found.override({"task": {"model": {"dropuot": 0.3}}})
    found.trainer.train_steps = "many"
    with pytest.raises(ConfigError, match=r"trainer\.train_steps = 'many' is a string"):
        experiments.from_garden(found)


def test_what_model_gardens_classes_cannot_hold():
    config = ExperimentConfig()
    config.trainer.schedule.parameters = {"stages": [[1, 2], [3]]}
    with pytest.raises(ConfigError, match="cannot represent this configuration"):
        experiments.to_garden(config)


def test_experiments_of_others_are_refused(monkeypatch):
    others = {**exp_factory._REGISTERED_CONFIGS, "other": config_definitions.ExperimentConfig}
    monkeypatch.setattr(exp_factory, "_REGISTERED_CONFIGS", others)
    with pytest.raises(ConfigError, match=r"config_definitions\.ExperimentConfig is not an exper"):
        experiments.experiment("other")
    with pytest.raises(ConfigError, match="did you mean 'translation/transformer_tiny'"):
        experiments.experiment("translation/transformer_tny")
    with pytest.raises(ConfigError, match="'translation' is not registered"):
        experiments.experiment("translation")


def test_model_gardens_parser_reads_params_yaml(tmp_path):
    config = files.load_experiment(None, (), yaml.safe_dump(CONFIG))
    files.save_params(config, tmp_path)
    read = hyperparams.read_yaml_to_params_dict(str(tmp_path / "params.yaml"))
    assert read.as_dict() == as_dict(config)


def values(**given):
    """Parsed flags; those that are not given are None."""
    names = ("experiment", "mode", "model_dir", "params_override", "tpu", *train._WITHOUT_EFFECT)
    found = flags.FlagValues()
    for name in names:
        flags.DEFINE_string(name, given.get(name), "", flag_values=found)
    for name in ("config_file", "import"):
        flags.DEFINE_multi_string(name, given.get(name), "", flag_values=found)
    found(["train"])
    return found


GOOD = {
    "experiment": "translation/transformer_tiny",
    "mode": "train_and_eval",
    "model_dir": "run",
    "params_override": yaml.safe_dump(CONFIG),
    "import": [],
}


def test_flags_become_a_configuration(tmp_path):
    path = tmp_path / "seed.yaml"
    path.write_text("runtime: {seed: 8, distribution_strategy: tpu}\n")
    plan = train.training_plan(
        values(**{**GOOD, "config_file": [str(path)], "tpu": "grpc://10.0.0.2:8470"})
    )
    config = plan.config
    assert config.task.model.size == "tiny"
    assert config.runtime.seed == 3  # The override is above the file.
    assert config.runtime.tpu == "grpc://10.0.0.2:8470"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": None}, "--mode is missing"),
        ({"mode": "continuous_eval"}, "--mode continuous_eval: choose one of train, eval"),
        ({"tf_data_service": "x"}, "--tf_data_service has no effect on keras_mtl. Omit it"),
        ({"tpu": "local"}, "--tpu local: runtime.distribution_strategy is 'one_device'. Set it"),
        ({"params_override": "trainer.train_stps=1"}, "did you mean 'train_steps'"),
        ({"experiment": "translation/tiny"}, "--experiment: 'translation/tiny' is not registered"),
    ],
)
def test_wrong_flags(given, message):
    with pytest.raises(ConfigError, match=message):
        train.training_plan(values(**{**GOOD, **given}))


def test_an_error_is_a_message_and_exit_code_2(monkeypatch, capsys):
    monkeypatch.setattr(flags, "FLAGS", values(**{**GOOD, "mode": "test"}))
    with pytest.raises(SystemExit) as end:
        train.main([])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: --mode test: choose one of train")


def test_only_the_first_of_several_workers_reports(monkeypatch, capsys):
    result = loop.RunResult(5, {}, math.nan, -1, {}, 0, chief=False)
    monkeypatch.setattr(loop, "run_experiment", lambda *_: result)
    monkeypatch.setattr(flags, "FLAGS", values(**GOOD))
    train.main([])
    assert capsys.readouterr().out == ""


@pytest.mark.nightly  # Trains. The tests above cover flags and configuration.
def test_model_gardens_command_line_trains(tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(CONFIG))
    command = [sys.executable, "-m", "keras_mtl.garden.train", "--mode=train"]
    command += ["--experiment=translation/transformer_tiny", "--config_file=tiny.yaml"]
    command += ["--params_override=trainer.train_steps=5,trainer.schedule.name=temperature"]
    command += ["--model_dir=run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "step 5 in run" in done.stdout
    assert (tmp_path / "run" / "ckpt-5.index").exists()
    assert files.load_params(tmp_path / "run").trainer.train_steps == 5
