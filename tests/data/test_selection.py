"""Selection from hashes against the plain definition, pair by pair."""

import dataclasses

import numpy as np
import pytest

from keras_mtl.configuration.schema import CorpusConfig, DataConfig, PairConfig
from keras_mtl.data import selection, split
from keras_mtl.data.selection import HeldOut, Place

GIVEN = [CorpusConfig("tsv")]
EN_FR = PairConfig("en-fr", "en", "fr")
FR_EN = PairConfig("fr-en", "fr", "en")
EN_DE = PairConfig("en-de", "en", "de")
DATA = DataConfig(dev_fraction=0.1, test_fraction=0.2)


def random_hashes(size, seed=1, spread=1 << 63):
    return np.random.default_rng(seed).integers(0, spread, size, np.uint64)


def in_blocks(hashes, size):
    return lambda: iter([hashes[begin : begin + size] for begin in range(0, len(hashes), size)])


@pytest.mark.parametrize("spread", [50, 1 << 63])
@pytest.mark.parametrize("limit", [0, 1, 137, 999])
def test_the_lowest_hashes_are_chosen_and_of_equal_ones_the_first(spread, limit):
    hashes = random_hashes(1000, spread=spread)
    expected = np.zeros(1000, bool)
    expected[np.argsort(hashes, kind="stable")[:limit]] = True
    for size in (7, 1000):
        chosen = np.concatenate(list(selection.lowest(in_blocks(hashes, size), limit)))
        np.testing.assert_array_equal(chosen, expected)


def test_duplicates_are_all_but_the_first():
    hashes = random_hashes(500, spread=100)
    seen, expected = set(), []
    for position, value in enumerate(hashes.tolist()):
        if value in seen:
            expected.append(position)
        seen.add(value)
    found = selection.duplicates(hashes, np.arange(500))
    assert sorted(found.tolist()) == expected
    odd = np.flatnonzero(hashes % np.uint64(2))
    even = np.flatnonzero(hashes % np.uint64(2) == 0)
    parts = [selection.duplicates(hashes[part], part) for part in (odd, even)]
    assert sorted(np.concatenate(parts).tolist()) == expected


def test_splits_of_many_hashes_are_those_of_each():
    edges = np.array([0, 1, (1 << 64) - 1, 1 << 63, int(0.2 * 2**64), int(0.9 * 2**64)], np.uint64)
    hashes = np.concatenate([random_hashes(500) * np.uint64(2), edges])
    for fractions in ((0.1, 0.2), (0.0, 0.0), (0.5, 0.0)):
        found = [split.SPLITS[index] for index in split.splits_of(hashes, *fractions)]
        assert found == [split.split_of_hash(value, *fractions) for value in hashes.tolist()]


@pytest.mark.parametrize(
    ("tasks", "task"),
    [
        ([EN_FR, EN_DE], EN_FR),
        ([EN_FR, FR_EN], EN_FR),
        ([EN_FR, dataclasses.replace(FR_EN, dev_corpora=GIVEN)], FR_EN),
        ([dataclasses.replace(EN_FR, dev_corpora=GIVEN, test_corpora=GIVEN), EN_DE], EN_FR),
        ([dataclasses.replace(EN_FR, dev_corpora=GIVEN, test_corpora=GIVEN)], EN_FR),
    ],
)
def test_places_follow_the_definition(tasks, task):
    task = next(each for each in tasks if each.name == task.name)
    source, target = random_hashes(400) * np.uint64(2), random_hashes(400, 2) * np.uint64(2)
    given = {*source[:40:3].tolist(), *target[20:70:2].tolist()}
    held_out = HeldOut(tasks, DATA, [np.array(sorted(given), np.uint64)])
    splits_of_others = {
        "train": False,
        "dev": any(not each.dev_corpora for each in tasks),
        "test": any(not each.test_corpora for each in tasks),
    }

    def forbids(value):
        where = split.split_of_hash(value, DATA.dev_fraction, DATA.test_fraction)
        return splits_of_others[where] or value in given

    targets = task.target in {each.source for each in tasks}
    assert held_out.checks_targets(task) == targets
    expected = []
    for one, other in zip(source.tolist(), target.tolist(), strict=True):
        where = split.split_of_hash(one, DATA.dev_fraction, DATA.test_fraction)
        if where != "train" and not getattr(task, f"{where}_corpora"):
            expected.append(Place[where.upper()])
        elif forbids(one) or (targets and forbids(other)):
            expected.append(Place.HELD_OUT)
        else:
            expected.append(Place.TRAIN)
    assert held_out.places(task, source, target).tolist() == expected
    assert set(expected) >= {Place.TRAIN, Place.HELD_OUT} or len(tasks) == 1
    allowed = held_out.allows(task, source, target)
    assert allowed.tolist() == [
        one not in given and not (targets and other in given)
        for one, other in zip(source.tolist(), target.tolist(), strict=True)
    ]
