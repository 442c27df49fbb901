"""Fits L(n) = ε + β (n / n_0)^(−α) to the loss curves of many tasks at once.

For a fixed α the law is linear in ε and β, so α is searched on a grid, and ε and β are found by
weighted least squares. The objective is the sum of Huber losses of log L, as in fits of scaling
laws, which ignores outliers.
"""

from typing import NamedTuple

import numpy as np

# As in Hoffmann et al. 2022, arXiv 2203.15556, and in the code of ADO.
_HUBER = 1e-3
# The range of α that the code of ADO allows; first grid and its refinement.
_LARGEST_EXPONENT = 0.8
_COARSE = np.linspace(0.05, _LARGEST_EXPONENT, 16)
_FINE = np.linspace(-0.04, 0.04, 9)
_ITERATIONS = 15
# Least number of points of a fit of three numbers.
LEAST_POINTS = 5


class PowerLaws(NamedTuple):
    """One law L(n) = irreducible + scale (n / n_0)^(−exponent) for each task, float64[N] each.

    Attributes:
        irreducible: ε >= 0.
        scale: β >= 0, the part of the loss at n_0 that can still fall.
        exponent: α in (0, 0.8].
        fitted: bool[N], whether the task had enough points; if not, its numbers are 0.
    """

    irreducible: np.ndarray
    scale: np.ndarray
    exponent: np.ndarray
    fitted: np.ndarray


def fit_power_laws(
    positions: np.ndarray, losses: np.ndarray, weights: np.ndarray, reference: float
) -> PowerLaws:
    """Fits a law for each task.

    Args:
        positions: n of each point, float64[K] > 0.
        losses: loss of each task at each point, float64[N, K] > 0 where the weight is above 0.
        weights: float64[N, K] >= 0; 0 for a point without a loss.
        reference: n_0 > 0.

    Returns:
        The laws.
    """
    fitted = (weights > 0).sum(axis=1) >= LEAST_POINTS
    count = len(losses)
    irreducible, scale, exponent = np.zeros(count), np.zeros(count), np.zeros(count)
    if fitted.any():
        ratio = positions / reference
        chosen, points = losses[fitted], weights[fitted]
        grid = np.broadcast_to(_COARSE, (len(chosen), len(_COARSE)))
        best, _ = _best_of(ratio, chosen, points, grid)
        grid = np.clip(best[2][:, None] + _FINE, 0.01, _LARGEST_EXPONENT)
        best, _ = _best_of(ratio, chosen, points, grid)
        irreducible[fitted], scale[fitted], exponent[fitted] = best
    return PowerLaws(irreducible, scale, exponent, fitted)


def _best_of(
    ratio: np.ndarray, losses: np.ndarray, weights: np.ndarray, exponents: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """Fits ε and β for each exponent, and returns the best (ε, β, α) of each task.

    Args:
        ratio: n / n_0, float64[K].
        losses: float64[N, K].
        weights: float64[N, K].
        exponents: float64[N, A].

    Returns:
        Three arrays float64[N], and the objective, float64[N].
    """
    powers = ratio ** -exponents[:, :, None]  # [N, A, K]
    target = np.where(weights > 0, losses, 1.0)[:, None, :]
    weight = np.broadcast_to(weights[:, None, :], powers.shape)
    predicted = np.broadcast_to(target, powers.shape)
    for _ in range(_ITERATIONS):
        # Gauss-Newton for log residuals r, reweighted so that squares become Huber losses:
        # r + change / predicted, times √(weight · min(1, δ / |r|)).
        residual = np.log(predicted / target)
        robust = weight * np.minimum(1.0, _HUBER / np.maximum(np.abs(residual), 1e-300))
        one, other = 1 / predicted, powers / predicted
        irreducible, scale = _two_unknowns(one, other, 1 - residual, robust)
        predicted = irreducible[:, :, None] + scale[:, :, None] * powers
        predicted = np.maximum(predicted, 1e-12)
    size = np.abs(np.log(predicted / target))
    huber = np.where(size <= _HUBER, 0.5 * size**2, _HUBER * (size - 0.5 * _HUBER))
    objective = (weight * huber).sum(axis=2)
    place = objective.argmin(axis=1)
    rows = np.arange(len(losses))
    found = irreducible[rows, place], scale[rows, place], exponents[rows, place]
    return found, objective[rows, place]


def _two_unknowns(
    one: np.ndarray, other: np.ndarray, target: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns x, y >= 0 that minimize Σ weight (x one + y other − target)² over the last axis."""
    first, second = weight * one, weight * other
    a, b, c = (first * one).sum(-1), (first * other).sum(-1), (second * other).sum(-1)
    u, v = (first * target).sum(-1), (second * target).sum(-1)
    determinant = a * c - b * b
    # Dependent columns: only one of the numbers can be told.
    solvable = determinant > 1e-12 * a * c
    safe = np.where(solvable, determinant, 1.0)
    x, y = (c * u - b * v) / safe, (a * v - b * u) / safe
    only_y = ~solvable | (x < 0)
    only_x = solvable & (y < 0)
    x, y = np.where(only_y, 0.0, x), np.where(only_y, v / c, y)
    return np.where(only_x, u / a, x), np.where(only_x, 0.0, y)
