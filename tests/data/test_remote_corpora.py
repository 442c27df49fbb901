"""Corpora in a bucket are read from local copies; `ram://` stands for `gs://`."""

import os
import zipfile

import pytest

from keras_mtl import errors
from keras_mtl.data import corpora
from keras_mtl.remote_files import RemoteDirectory
from tests import buckets


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    return RemoteDirectory(f"{buckets.new_url(monkeypatch, tmp_path / 'cache')}/corpora")


def pairs(url):
    reader = corpora.create_reader("tsv", "en", "fr", {"file": url})
    return [(item.source, item.target) for item in reader.read()]


def test_a_file_a_pattern_and_a_member_of_an_archive(bucket, tmp_path):
    bucket.write("a.tsv", b"one\tun\n")
    bucket.write("b.tsv", b"two\tdeux\n")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("c.tsv", "three\ttrois\n")
        archive.writestr("d.tsv", "four\tquatre\n")
        archive.writestr("of/a: é.tsv", "five\tcinq\n")
    bucket.upload(tmp_path / "c.zip", "c.zip")
    assert pairs(f"{bucket.url}/a.tsv") == [("one", "un")]
    assert pairs(f"{bucket.url}/*.tsv") == [("one", "un"), ("two", "deux")]
    assert pairs(f"{bucket.url}/c.zip:d.tsv") == [("four", "quatre")]
    assert pairs(f"{bucket.url}/c.zip:of/a: é.tsv") == [("five", "cinq")]
    assert pairs([f"{bucket.url}/b.tsv", f"{bucket.url}/a.tsv"])[0] == ("two", "deux")


def test_a_copy_is_made_once_and_again_after_a_change(bucket, monkeypatch):
    downloaded = []
    download = RemoteDirectory.download
    monkeypatch.setattr(
        RemoteDirectory,
        "download",
        lambda self, name, path: (downloaded.append(name), download(self, name, path)),
    )
    bucket.write("a.tsv", b"one\tun\n")
    for _ in range(2):
        assert pairs(f"{bucket.url}/a.tsv") == [("one", "un")]
    assert downloaded == ["a.tsv"]
    bucket.write("a.tsv", b"seven\tsept\n")
    assert pairs(f"{bucket.url}/a.tsv") == [("seven", "sept")]


def test_files_that_are_not_there_are_named(bucket):
    with pytest.raises(errors.DataError, match=r"/no.tsv: no such file \(file of reader 'tsv'\)"):
        pairs(f"{bucket.url}/no.tsv")
    with pytest.raises(errors.DataError, match=r"s3://b/a.tsv: TensorFlow has no file system"):
        pairs("s3://b/a.tsv")
    assert not os.path.exists("ram:")
