"""Stores with several files read like stores with one."""

import os

import numpy as np
import pytest
from test_store import SIZE, random_pairs, texts_of

from keras_mtl import errors
from keras_mtl.data.sharded_store import open_store
from keras_mtl.data.store import StoreReader, StoreWriter
from keras_mtl.data.store_writer import shard_names
from keras_mtl.data.task_sources import TranslationSource

COUNT = 700


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A store with one file, and the same pairs in files of 100 pairs."""
    directory = tmp_path_factory.mktemp("stores")
    pairs = random_pairs(COUNT) + random_pairs(3)  # A few pairs twice.
    for name, shard_pairs in (("whole", None), ("parts", 100)):
        path = directory / f"{name}.store"
        # Many runs, so that equal keys come from several.
        with StoreWriter(
            path, "hash", SIZE, keep_text=True, shard_pairs=shard_pairs, run_tokens=600
        ) as writer:
            for source, target in pairs:
                writer.add([source], [target], texts_of([(source, target)]))
    return directory, StoreReader(directory / "whole.store"), open_store(directory, "parts", 8)


def test_files_are_bounded_and_named_by_their_number(stores):
    directory, _, parts = stores
    assert [len(shard) for shard in parts.shards] == [100] * 7 + [3]
    assert sorted(os.listdir(directory)) == sorted([*shard_names("parts", 8), "whole.store"])
    assert shard_names("a.train", 2)[1] == "a.train-00001-of-00002.store"


def test_everything_is_as_in_one_file(stores):
    _, whole, parts = stores
    assert len(parts) == len(whole) == COUNT + 3
    for name in ("source_tokens", "target_tokens", "max_length", "vocabulary_size", "has_text"):
        assert getattr(parts, name) == getattr(whole, name)
    np.testing.assert_array_equal(parts.max_lengths_cumulative, whole.max_lengths_cumulative)
    assert list(parts.texts()) == list(whole.texts())
    random = np.random.default_rng(1)
    for size in (0, 1, 50, 500):
        indices = random.integers(0, len(whole), size)
        for method in ("gather_flat", "lengths"):
            for ours, theirs in zip(
                getattr(parts, method)(indices), getattr(whole, method)(indices), strict=True
            ):
                np.testing.assert_array_equal(ours, theirs)
                assert ours.dtype == theirs.dtype
    for index in (0, 99, 100, 702):
        assert parts.lengths(index) == whole.lengths(index)
        np.testing.assert_array_equal(parts.pair(index)[0], whole.pair(index)[0])
        assert parts.pair(index)[1:] == whole.pair(index)[1:]
        assert parts.text(index) == whole.text(index)
        np.testing.assert_array_equal(parts.source(index), whole.source(index))
        np.testing.assert_array_equal(parts.gather([index])[1][0], whole.target(index))
    parts.verify()


def test_batches_are_those_of_one_file(stores):
    """A batch is a function of these members of its source."""
    ours, theirs = (
        TranslationSource("a", reader, eos_id=2, tag_id=4) for reader in (stores[2], stores[1])
    )
    assert (ours.size, ours.elements) == (theirs.size, theirs.elements)
    np.testing.assert_array_equal(ours.cumulative_lengths, theirs.cumulative_lengths)
    indices = np.random.default_rng(2).permutation(COUNT)[:300]
    np.testing.assert_array_equal(ours.lengths(indices), theirs.lengths(indices))
    ours, theirs = ours.gather(indices, 48), theirs.gather(indices, 48)
    for name in ("source", "target"):
        np.testing.assert_array_equal(ours[name], theirs[name])


@pytest.mark.parametrize("index", [-1, COUNT + 3])
def test_a_pair_that_is_not_there_is_named(stores, index):
    for read in (stores[2].lengths, stores[2].pair, lambda i: stores[2].gather_flat([0, i])):
        with pytest.raises(IndexError, match=f"no pair {index}"):
            read(index)


def test_a_missing_or_exchanged_file_is_named(stores, tmp_path):
    directory, _, _ = stores
    names = shard_names("parts", 8)
    for name in names:
        os.link(directory / name, tmp_path / name)
    os.rename(tmp_path / names[2], tmp_path / "other")
    with pytest.raises(errors.DataError, match=r"parts-00002-of-00008\.store: cannot read"):
        open_store(tmp_path, "parts", 8)
    os.link(tmp_path / names[6], tmp_path / names[2])
    with pytest.raises(errors.DataError, match=r"parts-00003.*belongs to another store"):
        open_store(tmp_path, "parts", 8)
