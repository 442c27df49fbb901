"""The draw: stateless, unbiased, independent across steps and seeds, and fast."""

import math

import numpy as np
import pytest

from keras_mtl.schedules import blend, pick, sample, uniforms

# NumPy's Philox keyed by (seed 1, step 0...5), checked against its documented stream stability.
GOLDEN_DRAWS = [81, 7, 54, 74, 95, 71]
GOLDEN_UNIFORMS = [0.8133540609793564, 0.7513314251083365, 0.6716490436969984]


def chi_square(counts, probabilities):
    expected = np.asarray(probabilities) * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


def limit(freedom):
    return freedom + 5 * math.sqrt(2 * freedom) + 10


def test_draws_over_steps_match_the_probabilities():
    p = np.array([0.5, 0.0, 0.3, 0.19, 0.01])
    counts = np.bincount([sample(1, step, p) for step in range(30_000)], minlength=5)
    assert counts[1] == 0
    assert chi_square(counts[p > 0], p[p > 0]) < limit(3)


@pytest.mark.parametrize("other", [(0, 1), (1, 0), (0, 2**32)])
def test_neighbouring_steps_and_seeds_are_independent(other):
    seed, step = other
    p = np.full(8, 1 / 8)
    first = [sample(7, t, p) for t in range(8_000)]
    second = [sample(7 + seed, t + step, p) for t in range(8_000)]
    pairs = np.bincount(8 * np.array(first) + second, minlength=64)
    assert chi_square(pairs, np.full(64, 1 / 64)) < limit(63)


def test_values_are_fixed_for_ever():
    """A checkpoint of today continues with the same draws after an update of NumPy."""
    p = np.full(100, 0.01)
    assert [sample(1, step, p) for step in range(6)] == GOLDEN_DRAWS
    np.testing.assert_allclose(uniforms(1, 0, 3), GOLDEN_UNIFORMS, rtol=0, atol=0)


def test_uniforms_extend_and_agree_with_sample():
    long = uniforms(-3, 10**12, 1000)
    np.testing.assert_array_equal(uniforms(-3, 10**12, 10), long[:10])
    assert uniforms(-3, 10**12, 0).shape == (0,)
    assert long.min() >= 0
    assert long.max() < 1
    p = np.random.default_rng(0).random(50)
    for step in range(50):
        assert sample(9, step, p) == pick(p, uniforms(9, step, 1))[0]


def test_draw_never_falls_off_the_end():
    """float32 sums that end below 1, and u * total that rounds up to the total."""
    almost_one = np.array([1 - 2**-53])
    p = np.full(49, np.float32(1 / 49))
    assert p.cumsum(dtype=np.float32)[-1] < almost_one[0]
    assert pick(p, almost_one)[0] == 49 - 1
    for total in (1.0, 0.1, 3.0, 1e-300, 1 + 2**-52):
        probabilities = np.array([0.0, total, 0.0])
        assert pick(probabilities, almost_one)[0] == 1
        assert pick(probabilities, np.zeros(1))[0] == 1
        assert sample(0, 0, probabilities) == 1


@pytest.mark.parametrize("bad", [[0.0, 0.0], [1.5, -0.5], [math.nan, 1.0], [1.0, math.nan]])
def test_bad_probabilities_are_refused(bad):
    with pytest.raises(ValueError, match="probabilities must be"):
        sample(0, 0, np.array(bad))
    with pytest.raises(ValueError, match="probabilities must be"):
        pick(np.array(bad), np.zeros(3))
    with pytest.raises(ValueError, match="probabilities must be"):
        blend(np.zeros(2), np.array(bad))


def test_blend_keeps_every_task_within_a_batch_or_two_of_its_share():
    p = np.random.default_rng(3).dirichlet(np.full(12, 0.4))
    credit, counts = np.zeros(12), np.zeros(12)
    worst = 0.0
    for step in range(1, 5001):
        task, credit = blend(credit, p)
        counts[task] += 1
        worst = max(worst, float(np.abs(counts - step * p).max()))
    assert worst < 2  # random draws are off by about sqrt(step / 4): 35
    np.testing.assert_allclose(credit, 5000 * p - counts, atol=1e-9)


def test_blend_is_the_rule_of_megatron_for_constant_probabilities():
    p = np.array([0.5, 0.25, 0.25])
    credit, counts = np.zeros(3), np.zeros(3)
    for step in range(1, 200):
        expected = int(np.argmax(p * step - counts))
        task, credit = blend(credit, p)
        assert task == expected
        counts[task] += 1


def test_blend_owes_nothing_for_the_time_before_a_change():
    credit = np.zeros(2)
    for _ in range(1000):
        _, credit = blend(credit, np.array([0.99, 0.01]))
    drawn = []
    for _ in range(10):
        task, credit = blend(credit, np.array([0.5, 0.5]))
        drawn.append(task)
    assert 4 <= sum(drawn) <= 6
    task, _ = blend(np.array([5.0, -5.0]), np.array([0.0, 1.0]))
    assert task == 1  # a task of probability 0 is not drawn, whatever it is owed


@pytest.mark.parametrize(("raw", "expected"), [(0, 1), (2**64 - 1, 2)])
def test_extreme_raw_values_draw_a_task_with_a_positive_probability(monkeypatch, raw, expected):
    class Extreme:
        def __init__(self, key):
            pass

        def random_raw(self):
            return raw

    monkeypatch.setattr(np.random, "Philox", Extreme)
    for weights in ([0.0, 0.3, 0.7, 0.0], [0.0, 1e-3, 1 - 2**-52, 0.0]):
        assert sample(0, 0, np.array(weights)) == expected
    # The smallest subnormal: u * total rounds up to the total.
    assert sample(0, 0, np.array([0.0, 5e-324, 0.0])) == 1
