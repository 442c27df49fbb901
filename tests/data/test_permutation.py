"""The keyed permutation: a bijection at every size, uniform enough, the same on every machine."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mtl.data.permutation import Permutation


@settings(max_examples=150, deadline=None)
@given(size=st.integers(1, 3000), seed=st.integers(-(2**31), 2**63), epoch=st.integers(0, 2**40))
def test_is_a_bijection(size, seed, epoch):
    mapped = Permutation(size, seed, "en-fr", epoch, "rows")(np.arange(size))
    assert mapped.dtype == np.int64
    np.testing.assert_array_equal(np.sort(mapped), np.arange(size))


@pytest.mark.parametrize("size", [2**40, 2**40 - 87, 2**62, 10**12])
def test_large_domains_stay_in_range_without_collisions(size):
    positions = np.concatenate([np.arange(20_000), size - 1 - np.arange(20_000)])
    mapped = Permutation(size, 1, "task", 0, "rows")(positions)
    assert mapped.min() >= 0
    assert mapped.max() < size
    assert len(np.unique(mapped)) == len(positions)
    # Neighbors are spread over the whole domain: their mean is near the middle.
    assert abs(mapped.mean() / size - 0.5) < 0.01


@pytest.mark.parametrize("size", [2, 3, 4])
def test_every_order_of_a_tiny_domain_is_about_equally_frequent(size):
    trials = 6000
    orders = dict.fromkeys(itertools.permutations(range(size)), 0)
    for epoch in range(trials):
        orders[tuple(Permutation(size, 7, "t", epoch, "p")(np.arange(size)).tolist())] += 1
    counts = np.array(list(orders.values()))
    expected = trials / len(orders)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    degrees = len(orders) - 1
    assert chi_square < degrees + 6 * np.sqrt(2 * degrees)  # six standard deviations


@pytest.mark.parametrize("size", [7, 30, 100])
def test_pairs_of_positions_are_uniform(size):
    """Where 0 goes, and how far behind it 1 goes, over many epochs."""
    trials = 6000
    first = np.zeros(size)
    distance = np.zeros(size)
    for epoch in range(trials):
        mapped = Permutation(size, 3, "t", epoch, "p")(np.arange(2))
        first[mapped[0]] += 1
        distance[(mapped[1] - mapped[0]) % size] += 1
    assert distance[0] == 0
    for counts in (first, distance[1:]):
        expected = trials / len(counts)
        chi_square = ((counts - expected) ** 2 / expected).sum()
        degrees = len(counts) - 1
        assert chi_square < degrees + 6 * np.sqrt(2 * degrees)


def test_each_part_of_the_key_matters():
    positions = np.arange(200)
    keys = [
        (1, "a", 0, "rows"),
        (2, "a", 0, "rows"),
        (1, "b", 0, "rows"),
        (1, "a", 1, "rows"),
        (1, "a", 0, "batches"),
        (1, "arows", 0, ""),
    ]
    orders = {tuple(Permutation(200, *key)(positions).tolist()) for key in keys}
    assert len(orders) == len(keys)


GOLDEN_10 = [1, 3, 5, 6, 7, 2, 9, 4, 8, 0]  # of this implementation, version 0.1.0
GOLDEN_LARGE = [76484357733, 255669214310, 1098009330830]


def test_golden_values():
    """A run started with one version of the package goes on with the next: order is a promise."""
    np.testing.assert_array_equal(Permutation(10, 1, "en-fr", 0, "rows")(np.arange(10)), GOLDEN_10)
    np.testing.assert_array_equal(
        Permutation(2**40, 1, "en-fr", 3, "rows")(np.array([0, 1, 2**39])), GOLDEN_LARGE
    )


def test_shape_is_kept_and_empty_is_empty():
    permutation = Permutation(12, 1, "t", 0, "p")
    assert permutation(np.arange(12).reshape(3, 4)).shape == (3, 4)
    assert permutation(np.zeros(0, np.int64)).shape == (0,)


def test_out_of_range():
    with pytest.raises(ValueError, match="size of a permutation is 0"):
        Permutation(0, 1, "t", 0, "p")
    with pytest.raises(IndexError, match="10 elements"):
        Permutation(10, 1, "t", 0, "p")(np.array([10]))
    with pytest.raises(IndexError):
        Permutation(10, 1, "t", 0, "p")(np.array([-1]))
