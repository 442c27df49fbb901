"""Paths of a configuration are relative to its file, and absolute once they are read."""

import os
import pathlib

import pytest

from keras_mtl import errors
from keras_mtl.configuration import files
from keras_mtl.configuration import paths as config_paths
from keras_mtl.data import corpora
from keras_mtl.data.evaluation_sets import load_corpora
from keras_mtl.simulation.experiment import read_experiment

CONFIG = """
task:
  pairs:
  - source: en
    target: fr
    dev_corpora: [{reader: tsv, options: {file: dev.tsv, header: false}}]
    test_corpora: [{reader: gettext, options: {folders: [../locale, /usr/share/locale]}}]
  data:
    corpora:
    - reader: parallel
      options: {source_file: text/*.en, target_file: text/*.fr}
    - {reader: tfds, options: {dataset: a/b, tfds_dir: "gs://bucket/tfds"}}
    data_dir: prepared
    vocabulary: {model_file: ~/vocabulary.model}
trainer:
  schedule: {baselines_file: ./baselines.json}
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = tmp_path / "configs" / "mine.yaml"
    path.write_text(CONFIG)
    return path


def test_every_path_is_relative_to_the_file(file, tmp_path):
    here = tmp_path / "configs"
    config = files.load_experiment(None, [file])
    data, (pair,) = config.task.data, config.task.pairs
    assert pair.dev_corpora[0].options == {"file": f"{here}/dev.tsv", "header": False}
    assert pair.test_corpora[0].options["folders"] == [f"{tmp_path}/locale", "/usr/share/locale"]
    assert data.corpora[0].options["source_file"] == f"{here}/text/*.en"
    assert data.corpora[1].options["tfds_dir"] == "gs://bucket/tfds"
    assert data.data_dir == f"{here}/prepared"
    assert data.vocabulary.model_file == os.path.expanduser("~/vocabulary.model")
    assert config.trainer.schedule.baselines_file == f"{here}/baselines.json"


def test_an_override_is_relative_to_the_working_directory(file, tmp_path):
    override = "task.data.data_dir=other,task.data.corpora=[{reader: tsv, options: {file: a.tsv}}]"
    data = files.load_experiment(None, [file], override).task.data
    assert data.data_dir == f"{tmp_path}/elsewhere/other"
    assert data.corpora[0].options["file"] == f"{tmp_path}/elsewhere/a.tsv"


def test_a_saved_configuration_works_from_everywhere(file, tmp_path, monkeypatch):
    config = files.load_experiment(None, [file])
    config.task.data.data_dir = "set_in_python"
    files.save_params(config, tmp_path)
    monkeypatch.chdir("/")
    again = files.load_params(tmp_path)
    assert again.task.data.data_dir == f"{tmp_path}/elsewhere/set_in_python"
    assert again.task.data.corpora[0].options["source_file"] == f"{tmp_path}/configs/text/*.en"


def test_a_run_of_an_older_release_keeps_its_meaning(file, tmp_path):
    params = tmp_path / "configs" / "params.yaml"
    params.write_text(f"# Written by keras_mtl 0.0.1; --config_file takes it.\n{CONFIG}")
    data = files.load_params(params.parent).task.data
    assert data.data_dir == f"{tmp_path}/elsewhere/prepared"


def test_a_path_that_only_the_working_directory_has_is_named(file, tmp_path):
    (tmp_path / "elsewhere" / "dev.tsv").write_text("a\tb\n")
    with pytest.raises(errors.ConfigError) as error:
        files.load_experiment(None, [file])
    message = str(error.value)
    assert message.startswith(f"{file} line 6: task.pairs[0].dev_corpora[0].options.file = 'dev")
    assert f"write '{pathlib.Path('../elsewhere/dev.tsv')}' or an absolute path" in message
    (tmp_path / "configs" / "dev.tsv").write_text("a\tb\n")
    assert files.load_experiment(None, [file])


def test_values_of_a_wrong_kind_are_left_to_the_checks(file):
    for text in ("task: 3", "task: {pairs: 3}", "task: {pairs: [3], data: [1]}", "trainer: []"):
        file.write_text(text)
        with pytest.raises(errors.ConfigError, match="expected a"):
            files.load_experiment(None, [file])
    with pytest.raises(errors.ConfigError, match="data_dir = 3 is an integer"):
        files.load_experiment(None, [], "task.data.data_dir=3")


def test_test_sets_of_evaluate_are_relative_to_their_file(file, tmp_path):
    given = tmp_path / "configs" / "test_sets.yaml"
    given.write_text("- {reader: tsv, options: {file: [a.tsv, b.tsv]}}\n")
    (corpus,) = load_corpora(given)
    assert corpus.options["file"] == [f"{tmp_path}/configs/{name}.tsv" for name in "ab"]


def test_a_simulation_reads_the_same_files(file, tmp_path):
    (tmp_path / "configs" / "baselines.json").write_text('{"en-fr": 40.5}')
    file.write_text(CONFIG.replace("target: fr", "target: fr\n    max_pairs: 100"))
    assert read_experiment([file]).tasks[0].baseline == 40.5


def test_each_reader_names_its_paths():
    for name in corpora.available_readers():
        parameters = corpora.base._READERS.parameters_of(name)
        paths = corpora.path_options(name)
        assert set(paths) <= set(parameters)
        likely = {option for option in parameters if option in ("file", "folders")}
        likely |= {option for option in parameters if option.endswith(("_file", "_dir"))}
        assert likely <= set(paths), f"reader {name}: {likely - set(paths)}"


def test_what_is_not_a_path_stays():
    for value in (None, 3, "", "/a/b", "s3://a/b"):
        assert config_paths.absolute(value, "/x") == value


def test_load_config_knows_which_options_of_readers_are_paths(run_python, tmp_path):
    """Readers register their paths, so whoever reads a configuration has to import them."""
    path = tmp_path / "a.yaml"
    path.write_text(
        "task:\n  pairs:\n  - {source: en, target: fr}\n"
        "  data: {corpora: [{reader: tsv, options: {file: pairs.tsv}}]}\n"
    )
    code = (
        "import sys, keras_mtl\n"
        "(corpus,) = keras_mtl.load_config(sys.argv[1]).task.data.corpora\n"
        "print(corpus.options['file'])"
    )
    done = run_python(code, str(path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "pairs.tsv")
