"""Pairs of many tasks are what each task's source returns, read one by one or many at once."""

from pathlib import Path

import numpy as np
import pytest
from packing_case import SIZES, make_sources, write_stores

from keras_mtl.data import pair_reading
from keras_mtl.data.pair_reading import PairSources
from keras_mtl.data.store import StoreReader
from keras_mtl.errors import DataError


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    return write_stores(tmp_path_factory.mktemp("stores"))[0]


def some_pairs(count):
    rng = np.random.default_rng(count)
    tasks = rng.integers(0, len(SIZES), count)
    return tasks, rng.integers(0, np.array(list(SIZES.values()))[tasks])


@pytest.mark.parametrize("count", [10, 300])
@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize("kept", [1 << 22, 200, 0])
def test_pairs_are_those_of_their_sources(readers, monkeypatch, count, tagged, kept):
    monkeypatch.setattr(pair_reading, "_KEPT_PAIRS", kept)
    sources = make_sources(readers, tagged=tagged)
    pairs = PairSources.of(sources)
    tasks, indices = some_pairs(count)
    lengths, padded = pairs.lengths(tasks, indices), pairs.padded_lengths(tasks, indices)
    arrays = pairs.gather(tasks, indices, 33, step=0)
    for row, (task, index) in enumerate(zip(tasks, indices, strict=True)):
        single = sources[task].gather(np.array([index]), 33)
        for side, name in enumerate(("source", "target")):
            assert np.array_equal(arrays[name][row], single[name][0])
            assert lengths[row, side] == np.count_nonzero(single[name])
        assert padded[row] == sources[task].lengths(np.array([index]))[0]


def test_mean_lengths_are_those_of_the_pairs(readers):
    sources = make_sources(readers)
    pairs = PairSources.of(sources)
    for task, size in enumerate(SIZES.values()):
        lengths = pairs.lengths(np.full(size, task), np.arange(size))
        np.testing.assert_allclose(pairs.means[task], lengths.mean(0))


def test_a_pair_that_is_too_long_is_an_error(readers):
    pairs = PairSources.of(make_sources(readers))
    last = np.array([SIZES["en-fr"] - 1, 0])
    with pytest.raises(DataError, match=r"'en-fr': .* 12"):
        pairs.gather(np.array([0, 1]), last, 12, step=0)


def test_damage_is_an_error_however_pairs_are_read(readers, tmp_path):
    for field, problem in (("tokens", "outside the vocabulary"), ("offsets", "not ascending")):
        whole = readers["en-oc"]
        section = whole._header.sections[field]
        content = bytearray(Path(whole.path).read_bytes())
        content[section.offset : section.offset + section.size] = b"\xff" * section.size
        path = tmp_path / field
        path.write_bytes(content)
        damaged = {**readers, "en-oc": StoreReader(path)}
        pairs = PairSources.of(make_sources(damaged))
        for count in (1, 40):
            tasks = np.repeat([0, 3], count)
            with pytest.raises(DataError, match=problem):
                pairs.gather(tasks, np.zeros(2 * count, np.int64), 40, step=0)
