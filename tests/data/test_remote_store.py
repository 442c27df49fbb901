"""Prepared data in a bucket: written there, used through a checked local copy.

TensorFlow's file system `ram://` stands for `gs://`.
"""

import uuid

import pytest

from keras_mtl import errors
from keras_mtl.configuration.files import save_params
from keras_mtl.configuration.schema import (
    CorpusConfig,
    DataConfig,
    ExperimentConfig,
    PairConfig,
    VocabularyConfig,
)
from keras_mtl.data.prepare import prepare
from keras_mtl.data.remote_store import fetch_prepared, prepare_remote
from keras_mtl.evaluation.trained_model import load_run_data
from keras_mtl.remote_files import RemoteDirectory, cache_directory
from tests import buckets

PAIRS = [PairConfig(name="en-fr", source="en", target="fr"), PairConfig("en-es", "en", "es")]


def settings(**fields):
    return DataConfig(
        corpora=[CorpusConfig("cldr", {"pairs": 300})],
        vocabulary=VocabularyConfig(size=500),
        dev_fraction=0.1,
        test_fraction=0.1,
        **fields,
    )


@pytest.fixture
def url(tmp_path, monkeypatch):
    return f"{buckets.new_url(monkeypatch, tmp_path / 'cache')}/stores/my"


@pytest.fixture
def other_machine(tmp_path, monkeypatch):
    """Calling it empties the cache, as on a machine that has not used the data."""

    def move():
        monkeypatch.setenv("KERAS_MTL_CACHE", str(tmp_path / uuid.uuid4().hex))

    return move


def content(directory):
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_data_is_prepared_once_and_is_the_same_as_without_a_bucket(url, other_machine, tmp_path):
    lines = []
    first = prepare_remote(PAIRS, url, settings(shard_pairs=100), log=lines.append)
    plain = prepare(PAIRS, tmp_path / "plain", settings(shard_pairs=100), log=lines.append)
    assert content(cache_directory(url)) == content(tmp_path / "plain")
    assert set(RemoteDirectory(url).files()) == set(content(tmp_path / "plain"))
    assert "en-fr.train-00001-of-00003.store" in RemoteDirectory(url).files()
    other_machine()
    lines.clear()
    second = prepare_remote(PAIRS, url, settings(shard_pairs=100), log=lines.append)
    assert second.data_dir != first.data_dir
    assert content(cache_directory(url)) == content(tmp_path / "plain")
    assert "copying" in lines[0]
    train = second.reader("en-fr", "train")
    assert train.source(0).tolist() == plain.reader("en-fr", "train").source(0).tolist()


def test_a_copy_is_used_again_until_the_bucket_has_other_data(url):
    lines = []
    prepare_remote(PAIRS, url, settings(), log=lines.append)
    lines.clear()
    prepare_remote(PAIRS, url, settings(), log=lines.append)
    assert not any("copying" in line for line in lines)
    prepare_remote(PAIRS, url, settings(dev_pairs=7), overwrite=True, log=lines.append)
    assert len(prepare_remote(PAIRS, url, settings(dev_pairs=7)).reader("en-fr", "dev")) == 7


def test_another_machine_notices_that_the_data_was_replaced(
    url, other_machine, tmp_path, monkeypatch
):
    prepare_remote(PAIRS, url, settings())
    other_machine()
    prepare_remote(PAIRS, url, settings(dev_pairs=7), overwrite=True)
    here = tmp_path / "cache"
    import os

    os.environ["KERAS_MTL_CACHE"] = str(here)  # Back on the first machine; monkeypatch restores it.
    assert (fetch_prepared(url) / "en-fr.dev.store").is_file()
    assert len(prepare_remote(PAIRS, url, settings(dev_pairs=7)).reader("en-fr", "dev")) == 7


def test_data_of_other_settings_is_refused_and_stays(url):
    prepare_remote(PAIRS, url, settings())
    before = RemoteDirectory(url).files()
    with pytest.raises(errors.DataError, match=f"^{url}: prepared from other inputs or settings: "):
        prepare_remote(PAIRS, url, settings(dev_pairs=7))
    assert RemoteDirectory(url).files() == before


def test_damage_on_the_way_is_noticed(url, other_machine):
    prepare_remote(PAIRS, url, settings())
    store = RemoteDirectory(url).read("en-fr.train.store")
    RemoteDirectory(url).write("en-fr.train.store", store[:-1] + bytes([store[-1] ^ 1]))
    other_machine()
    with pytest.raises(errors.DataError, match=r"en-fr.train.store: damaged store: field"):
        prepare_remote(PAIRS, url, settings())
    assert not cache_directory(url).exists()


def test_a_store_that_another_preparation_has_replaced_is_noticed(url, other_machine):
    """Two runs may prepare at the same time with different settings and one vocabulary."""
    prepare_remote(PAIRS, url, settings())
    other = RemoteDirectory(url).read("en-fr.dev.store")
    RemoteDirectory(url).write("en-fr.train.store", other)
    other_machine()
    with pytest.raises(errors.DataError, match=r"en-fr.train.store: it has \d+ pairs, but manif"):
        prepare_remote(PAIRS, url, settings())
    assert not cache_directory(url).exists()


def test_a_directory_whose_copying_was_interrupted_is_not_used(url, other_machine):
    prepare_remote(PAIRS, url, settings())
    RemoteDirectory(url).remove("manifest.json")
    other_machine()
    with pytest.raises(errors.DataError, match="no prepared data is there"):
        fetch_prepared(url)
    prepare_remote(PAIRS, url, settings())  # Prepares it again.
    assert "manifest.json" in RemoteDirectory(url).files()


def test_a_directory_of_other_files_is_not_replaced(url):
    RemoteDirectory(url).write("thesis.pdf", b"%PDF")
    with pytest.raises(errors.DataError, match=r"holds thesis.pdf, which is not prepared data"):
        prepare_remote(PAIRS, url, settings(), overwrite=True)


def test_a_file_system_that_tensorflow_does_not_have_is_named():
    with pytest.raises(errors.DataError, match=r"s3://b/my/manifest.json: TensorFlow has no .* gs"):
        fetch_prepared("s3://b/my")


def test_a_run_is_evaluated_on_the_data_of_its_url(url, other_machine, tmp_path):
    prepared = prepare_remote(PAIRS, url, settings())
    config = ExperimentConfig()
    config.task.pairs, config.task.data = PAIRS, settings(data_dir=url)
    save_params(config, tmp_path / "params.yaml")
    other_machine()
    found = load_run_data(tmp_path, prepared.vocabulary, print)
    assert found.data_dir == str(cache_directory(url))
    assert len(found.reader("en-es", "test")) == len(prepared.reader("en-es", "test"))
