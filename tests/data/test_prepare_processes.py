"""prepare in several processes: the same files, the same errors, nothing left behind."""

import dataclasses
import filecmp
import os
import resource
import shutil

import pytest
from test_prepare import SETTINGS, run, sentence, task

from keras_mtl import errors
from keras_mtl.configuration.schema import CorpusConfig, VocabularyConfig
from keras_mtl.data import prepare_chunks, prepare_text
from keras_mtl.data.corpora import create_reader
from keras_mtl.data.prepare import load_prepared

CAPPED = dataclasses.replace(SETTINGS, dev_pairs=9)


def assert_same(one, other):
    names = sorted(os.listdir(one))
    assert names == sorted(os.listdir(other))
    _, different, unreadable = filecmp.cmpfiles(one, other, names, shallow=False)
    assert not different + unreadable


def tasks():
    """Corpora, parts, duplicates, bad lines, given sets, caps, both directions, one side."""
    given = [CorpusConfig("counting_test", {"begin": 100, "end": 120})]
    corpora = [
        CorpusConfig("counting_test", {"end": 300, "bad": 2}),
        CorpusConfig("counting_test", {"begin": 200, "end": 900, "repeat": 2}),
    ]
    return [
        task("en", "fr", corpora=corpora, max_pairs=500),
        task("fr", "en", dev_corpora=given, options={"repeat": 3}),
        task("en", "de", options={"end": 800}),
        task("en", "de", name="de-lm", kind="language_model", options={"end": 200}),
    ]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """Data of one process, with chunks of any size and stores of one file."""
    directory = tmp_path_factory.mktemp("one")
    return run(directory, tasks(), CAPPED)


def test_the_number_of_processes_changes_nothing(tmp_path, one_process):
    several = run(tmp_path, tasks(), CAPPED, processes=2)
    assert several.log == one_process.log
    assert_same(several.data_dir, one_process.data_dir)


def test_chunks_and_parts_change_nothing(tmp_path, one_process, monkeypatch):
    monkeypatch.setattr(prepare_chunks.chunks_of, "__defaults__", (17,))
    monkeypatch.setattr(prepare_text, "_CHUNKS_AT_ONCE", 3)
    monkeypatch.setattr(prepare_text, "_HASHES_AT_ONCE", 50)
    small = run(tmp_path, tasks(), CAPPED)
    assert_same(small.data_dir, one_process.data_dir)


def test_stores_have_several_files_and_the_same_pairs(tmp_path, one_process):
    settings = dataclasses.replace(SETTINGS, dev_pairs=9, shard_pairs=100)
    sharded = run(tmp_path, tasks(), settings)
    files = os.listdir(sharded.data_dir)
    assert "en-de.train-00000-of-00007.store" in files
    assert "en-de.dev.store" in files
    for entry in one_process.tasks:
        for part in ("train", "dev", "test"):
            ours, theirs = (data.reader(entry.name, part) for data in (sharded, one_process))
            every = range(len(theirs))
            for one, other in zip(ours.gather(every), theirs.gather(every), strict=True):
                assert [ids.tolist() for ids in one] == [ids.tolist() for ids in other]
    sharded.verify()
    # The size of the files is no property of the data.
    assert "prepared already" in run(tmp_path, tasks(), CAPPED).log[0]
    os.remove(os.path.join(sharded.data_dir, "en-de.train-00003-of-00007.store"))
    with pytest.raises(errors.DataError, match=r"train-00003-of-00007\.store: cannot read"):
        load_prepared(sharded.data_dir).reader("en-de", "train")


def test_an_error_in_a_process_is_the_error_and_leaves_nothing(tmp_path):
    with pytest.raises(errors.DataError, match=r"counting\.txt: 5 of 400 lines cannot be read"):
        run(tmp_path, [task(), task(target="de", options={"bad": 5})], processes=2)
    assert os.listdir(tmp_path) == []


def test_full_disk_in_a_process_leaves_what_was_there(tmp_path, one_process):
    model = os.path.join(one_process.data_dir, "vocabulary.model")
    settings = dataclasses.replace(SETTINGS, vocabulary=VocabularyConfig(model_file=model))
    shutil.copytree(one_process.data_dir, tmp_path / "data")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(errors.DataError, match=r"cannot write: .*free some space"):
            run(tmp_path, tasks(), settings, overwrite=True, processes=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == ["data"]
    assert_same(tmp_path / "data", one_process.data_dir)


def write_files(directory):
    paths = [directory / f"{number}.tsv" for number in range(3)]
    for number, path in enumerate(paths):
        lines = [f"{sentence(i, ['a'] * 10)} {i}\tb {i}" for i in range(number, number + 4)]
        path.write_text("\n".join([*lines, "only one column"]) + "\n")
    return [str(path) for path in paths]


def test_parts_of_a_reader_read_what_it_reads(tmp_path):
    whole = create_reader("tsv", "en", "fr", {"file": write_files(tmp_path)})
    parts = whole.parts()
    assert len(parts) == 3
    assert [item for part in parts for item in part] == list(whole)
    assert sum((part.lines for part in parts), start=type(whole.lines)()) == whole.lines
    one = create_reader("counting_test", "en", "fr")
    assert one.parts() == [one]
