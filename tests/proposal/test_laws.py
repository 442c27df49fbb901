"""Laws of the loss over the weights: they are recovered from runs, and their slopes are right."""

import numpy as np
import pytest

from keras_mtl.errors import InputError
from keras_mtl.proposal import DoublePowerLaw, LogLinearLaw
from keras_mtl.proposal.bounds import project, rescale
from keras_mtl.proposal.laws import Laws
from keras_mtl.proposal.swarm_design import mixture, swarm_size

POWER = DoublePowerLaw(0.8, 0.3, 0.6, 1.2, 1.5)


def test_double_power_law_is_recovered_from_eight_runs():
    shares = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95])
    found = DoublePowerLaw.fit(shares, POWER.loss(shares))
    between = np.linspace(0.02, 0.95, 40)
    np.testing.assert_allclose(found.loss(between), POWER.loss(between), atol=1e-3)
    step = 1e-6
    slopes = (POWER.loss(between + step) - POWER.loss(between - step)) / (2 * step)
    np.testing.assert_allclose(POWER.slope(between), slopes, rtol=1e-5)


def test_double_power_law_names_what_is_wrong():
    with pytest.raises(InputError, match="at least 5 runs with different probabilities"):
        DoublePowerLaw.fit([0.1, 0.2, 0.3, 0.4, 0.4], [1, 1, 1, 1, 1])
    with pytest.raises(InputError, match=r"must be in \(0, 1\]"):
        DoublePowerLaw.fit([0.0, 0.2, 0.3, 0.4, 0.5], [1, 1, 1, 1, 1])


def test_log_linear_law_is_recovered_from_a_swarm():
    natural = np.array([0.6, 0.25, 0.1, 0.05])
    low, high = np.full(4, 0.002), np.array([1.0, 1.0, 0.5, 0.3])
    weights = np.array([mixture(1, i, natural, low, high) for i in range(swarm_size(4))])
    law = LogLinearLaw(1.5, np.array([0.2, -4.0, 0.1, -0.3]))
    found = LogLinearLaw.fit(weights, law.loss(weights), task=1)
    assert found.limit == pytest.approx(1.5, abs=0.01)
    others = np.random.default_rng(0).dirichlet(np.ones(4), size=50)
    np.testing.assert_allclose(found.loss(others), law.loss(others), atol=0.01)


def test_derivatives_of_all_kinds_of_laws():
    laws = Laws.of([POWER, LogLinearLaw(1.2, np.array([0.3, -2.0, 0.1])), 3.5])
    weights, step = np.array([0.2, 0.5, 0.3]), 1e-5
    losses = laws.loss(weights)
    np.testing.assert_allclose(losses, [POWER.loss(0.2), 1.2 + np.exp(-0.91), 3.5])
    for task in range(3):
        change = step * (np.arange(3) == task)
        up, down = laws.loss(weights + change), laws.loss(weights - change)
        slopes = laws.gradient(weights)[:, task]
        np.testing.assert_allclose(slopes, (up - down) / (2 * step), atol=1e-6)
        bends = (up - 2 * losses + down) / step**2
        np.testing.assert_allclose(laws.curvature(weights)[:, task], bends, atol=1e-3)


def test_projection_is_the_nearest_allowed_point():
    rng = np.random.default_rng(0)
    low, high = np.array([0.05, 0.1, 0.0]), np.array([0.5, 0.6, 0.7])
    grid = np.linspace(0, 1, 401)
    first, second = (side.ravel() for side in np.meshgrid(grid, grid))
    points = np.stack([first, second, 1 - first - second], axis=1)
    points = points[((points >= low - 1e-9) & (points <= high + 1e-9)).all(axis=1)]
    for _ in range(20):
        point, scale = rng.normal(0.3, 0.5, 3), rng.uniform(0.5, 4.0, 3)
        found = project(point, scale, low, high)
        assert found.sum() == pytest.approx(1)
        assert (found >= low - 1e-12).all()
        assert (found <= high + 1e-12).all()
        nearest = (scale * (points - point) ** 2).sum(axis=1).min()
        assert (scale * (found - point) ** 2).sum() <= nearest + 1e-12


def test_shares_are_rescaled_within_bounds():
    low, high = np.array([0.01, 0.1, 0.0]), np.array([0.3, 1.0, 1.0])
    found = rescale(np.array([0.9, 0.02, 0.08]), low, high)
    np.testing.assert_allclose(found, [0.3, 0.14, 0.56])
    np.testing.assert_allclose(rescale(np.array([0.2, 0.3, 0.5]), low, high), [0.2, 0.3, 0.5])


def test_weights_of_a_swarm_respect_the_bounds_and_cover_them():
    natural = np.array([100, 30, 10, 3, 1]) / 144
    low, high = np.minimum(0.002, natural / 2), np.minimum(1.0, 20 * natural)
    drawn = np.array([mixture(7, i, natural, low, high) for i in range(swarm_size(5))])
    np.testing.assert_allclose(drawn.sum(axis=1), 1)
    assert (drawn >= low - 1e-6).all()
    assert (drawn <= high + 1e-6).all()
    np.testing.assert_allclose(drawn[0], natural, atol=1e-5)
    np.testing.assert_allclose(drawn[1], rescale(np.ones(5), low, high), atol=1e-5)
    assert (drawn.max(axis=0) > 0.5 * high).all()
    # Each run is a function of its number, so a swarm can grow and resume.
    again = mixture(7, 11, natural, low, high)
    np.testing.assert_array_equal(again, drawn[11])
    assert not np.array_equal(mixture(8, 11, natural, low, high), again)
