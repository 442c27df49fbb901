"""The log-linear law: how the loss of a task depends on the weights of all tasks."""

import dataclasses
from collections.abc import Sequence

import numpy as np

# The limit starts at these distances below the smallest loss, in standard deviations of the loss.
_GAPS = np.array([0.1, 0.5, 2.0, 10.0])
RIDGES = (1e-4, 1e-2, 1.0)
"""Strengths of the ridge that are tried, in squared standard deviations of the loss."""

_ITERATIONS = 15
_LEAST_DAMPING = 1e-9
# The weight of a task itself matters most, so its slope gets this share of the ridge.
_OWN_RIDGE = 0.01


@dataclasses.dataclass(frozen=True)
class LogLinearLaw:
    """L(w) = limit + exp(Σ_j t_j w_j), the loss of a task with weights w of all tasks.

    A negative t_j means that weight of task j helps. The weights sum to 1, so a factor in front of
    the exponential function would be redundant.

    Attributes:
        limit: >= 0, the loss that no weights can reach.
        slopes: float64[M], t of each of the M tasks.

    Example:
        ```python
        import numpy as np
        from keras_mtl.proposal import LogLinearLaw

        weights = np.array([[0.1, 0.9], [0.3, 0.7], [0.5, 0.5], [0.7, 0.3], [0.9, 0.1]])
        law = LogLinearLaw.fit(weights, [3.1, 2.7, 2.45, 2.3, 2.2], task=0)
        law.loss(np.array([0.6, 0.4]))
        ```

    Reference: Ye et al. 2024, "Data Mixing Laws", arXiv 2403.16952; as in Chen et al. 2026,
    "Olmix", arXiv 2602.12237.
    """

    limit: float
    slopes: np.ndarray

    def loss(self, weights: np.ndarray) -> np.ndarray:
        """Returns losses, float64[...], of weights, float64[..., M]."""
        return self.limit + np.exp(_capped(np.asarray(weights, np.float64) @ self.slopes))

    @classmethod
    def fit(
        cls,
        weights: np.ndarray,
        losses: Sequence[float],
        task: int,
        ridge: float = RIDGES[0],
    ) -> "LogLinearLaw":
        """Fits a law to the losses of a task in runs with different weights.

        Args:
            weights: float64[n, M], weights of the tasks in each run, which sum to 1.
            losses: float64[n], > 0, dev losses of the task.
            task: index of the task.
            ridge: see `fit_samples`.
        """
        limits, slopes = fit_samples(weights, losses, np.ones((1, len(losses))), task, ridge)
        return cls(float(limits[0]), slopes[0])


def fit_samples(
    weights: np.ndarray,
    losses: Sequence[float] | np.ndarray,
    counts: np.ndarray,
    task: int,
    ridge: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Fits a law to each of B samples of the same runs, with the least squared error.

    Args:
        weights: float64[n, M], weights of the tasks in each run, which sum to 1.
        losses: float64[n], > 0, losses of one task.
        counts: float64[B, n], how often each sample has each run.
        task: index of the task.
        ridge: strength that pulls the t_j of the other tasks to one value, >= 0. It decides what
            the runs leave open.

    Returns:
        Limits, float64[B], and slopes, float64[B, M].
    """
    losses = np.asarray(losses, np.float64)
    spread = float(losses.std()) or 1.0
    # The intercept is redundant, but it is free of the ridge, which thus acts only on the
    # differences of the t_j.
    columns = np.concatenate([np.ones((len(weights), 1)), weights], axis=1)
    penalty = np.r_[0.0, 0.0, np.full(np.shape(weights)[1], ridge)]
    penalty[2 + task] *= _OWN_RIDGE
    best = np.full(len(counts), np.inf)
    found = np.zeros((len(counts), len(penalty)))
    for start in np.unique(np.maximum(0.0, losses.min() - spread * _GAPS)):
        if start >= losses.min():
            continue
        numbers, error = _descend(columns, losses, start, counts, penalty, spread)
        better = error < best
        best = np.where(better, error, best)
        found = np.where(better[:, None], numbers, found)
    return found[:, 0], found[:, 1:2] + found[:, 2:]


def _descend(
    columns: np.ndarray,
    losses: np.ndarray,
    start: float,
    counts: np.ndarray,
    penalty: np.ndarray,
    spread: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Fits limit + exp(columns @ θ) to losses for each sample, by damped Gauss-Newton steps.

    Args:
        columns: float64[n, k].
        losses: float64[n].
        start: first value of the limit, below the losses.
        counts: float64[B, n].
        penalty: float64[k + 1], factors of the squares of limit and θ.
        spread: unit of the errors.

    Returns:
        Limit and θ, float64[B, k + 1], and what is minimized, float64[B].
    """
    count = len(penalty)
    diagonal = np.diag(penalty) + 1e-10 * np.eye(count)

    def total(numbers: np.ndarray) -> np.ndarray:
        expected = numbers[:, :1] + np.exp(_capped(numbers[:, 1:] @ columns.T))
        misses = (losses - expected) / spread
        return np.asarray((counts * misses**2).sum(axis=1) + (penalty * numbers**2).sum(axis=1))

    # A linear fit of the logarithm is near: its errors count by the values, as relative ones.
    importance = counts * ((losses - start) / spread) ** 2
    matrix = np.einsum("bn,nj,nk->bjk", importance, columns, columns, optimize=True)
    right = (importance * np.log(losses - start)) @ columns
    theta = np.linalg.solve(matrix + diagonal[1:, 1:], right[..., None])[..., 0]
    numbers = np.concatenate([np.full((len(counts), 1), start), theta], axis=1)
    value = total(numbers)
    damping = np.full(len(counts), 1e-3)
    for _ in range(_ITERATIONS):
        reducible = np.exp(_capped(numbers[:, 1:] @ columns.T))
        slopes = np.concatenate(
            [np.ones((*reducible.shape, 1)), reducible[..., None] * columns], axis=2
        )
        weighted = slopes.transpose(0, 2, 1) * (counts / spread**2)[:, None]
        matrix = weighted @ slopes
        misses = losses - numbers[:, :1] - reducible
        gradient = (weighted @ misses[..., None])[..., 0] - penalty * numbers
        damped = damping[:, None, None] * (np.eye(count) * matrix)
        step = np.linalg.solve(matrix + diagonal + damped, gradient[..., None])[..., 0]
        candidate = numbers + step
        candidate[:, 0] = np.maximum(0.0, candidate[:, 0])
        new = total(candidate)
        better = new < value
        numbers = np.where(better[:, None], candidate, numbers)
        value = np.where(better, new, value)
        damping = np.where(better, np.maximum(_LEAST_DAMPING, damping / 10), damping * 10)
    return numbers, value


def _capped(exponent: np.ndarray) -> np.ndarray:
    """Returns exponents whose exponential function is finite, also in a wrong first step."""
    return np.minimum(exponent, 50.0)
