"""The double power law: how the loss of a task depends on its own weight."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from keras_mtl.errors import InputError

# Grids of the two exponents; the second one is refined around the best point of the first.
_FALLING = np.geomspace(0.02, 2.0, 16)
_RISING = np.geomspace(0.1, 4.0, 12)
_REFINEMENTS = 3
# Added to the diagonal of normal equations, which are singular if a sample has few different runs.
_TINY = 1e-12
NUMBERS = 5
"""Numbers of a law, and so the least number of runs with different weights that determine it."""


@dataclasses.dataclass(frozen=True)
class DoublePowerLaw:
    """L(p) = (capacity p)^(−α) + overfitting p^β + limit, the loss of a task with weight p.

    The first term falls: more weight is a larger share of the capacity of the model. The second
    term rises, because a task with little data is memorized. In the paper its factor depends on the
    number D of examples: L(p, D) = (k p)^(−α) + (D^γ + b) (q p)^β + M_∞. With the data of given
    runs, (D^γ + b) q^β is one number, `overfitting`.

    Attributes:
        capacity: > 0; infinite if the loss does not fall.
        alpha: α > 0.
        overfitting: >= 0.
        beta: β > 0.
        limit: >= 0.

    Example:
        ```python
        from keras_mtl.proposal import DoublePowerLaw

        shares = [0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95]
        law = DoublePowerLaw.fit(shares, [3.1, 2.8, 2.6, 2.61, 2.7, 2.8, 2.88])
        law.loss(0.3)
        ```

    Reference: Chen et al. 2023, "On the Pareto Front of Multilingual Neural Machine Translation",
    arXiv 2304.03216.
    """

    capacity: float
    alpha: float
    overfitting: float
    beta: float
    limit: float

    def loss(self, probability: float | np.ndarray) -> np.ndarray:
        """Returns the loss at probabilities in (0, 1], float64 of their shape."""
        p = np.asarray(probability, np.float64)
        return (self.capacity * p) ** -self.alpha + self.overfitting * p**self.beta + self.limit

    def slope(self, probability: float | np.ndarray) -> np.ndarray:
        """Returns the derivative of the loss, float64 of the shape of the probabilities."""
        p = np.asarray(probability, np.float64)
        falling = -self.alpha * (self.capacity * p) ** -self.alpha / p
        return falling + self.beta * self.overfitting * p ** (self.beta - 1)

    @classmethod
    def fit(cls, probabilities: Sequence[float], losses: Sequence[float]) -> "DoublePowerLaw":
        """Fits a law to the losses of a task in runs with different probabilities.

        Args:
            probabilities: of the task in each run, in (0, 1]; at least 5 different ones.
            losses: final dev loss of the task in each run.

        Returns:
            The law with the least squared error of the loss.

        Raises:
            InputError: there are too few runs, or a number is out of range.
        """
        p, target = np.asarray(probabilities, np.float64), np.asarray(losses, np.float64)
        if p.ndim != 1 or p.shape != target.shape or len(np.unique(p)) < NUMBERS:
            raise InputError(
                f"a double power law needs a probability and a loss from at least {NUMBERS} runs "
                f"with different probabilities, not {p.tolist()} and {target.tolist()}"
            )
        if not (p.min() > 0 and p.max() <= 1 and np.isfinite(target).all()):
            raise InputError(
                f"probabilities = {p.tolist()} must be in (0, 1], and losses = {target.tolist()} "
                "must be finite"
            )
        return cls.of_terms(fit_samples(p, target, np.ones((1, len(p))))[0])

    @classmethod
    def of_terms(cls, terms: np.ndarray) -> "DoublePowerLaw":
        """Returns the law with f, α, c, β and m, float64[5]; see `fit_samples`."""
        falling, alpha, rising, beta, limit = map(float, terms)
        capacity = falling ** (-1 / alpha) if falling > 0 else np.inf
        return cls(capacity, alpha, rising, beta, limit)


def fit_samples(p: np.ndarray, losses: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Fits a law to each of B samples of the same runs, with the least squared error.

    Args:
        p: float64[n], weights of the task, in (0, 1].
        losses: float64[n], its losses.
        counts: float64[B, n], how often each sample has each run.

    Returns:
        float64[B, 5]: f, α, c, β and m of f p^(−α) + c p^β + m; f, c and m are >= 0.
    """
    samples = len(counts)
    alphas, betas = np.tile(_FALLING, (samples, 1)), np.tile(_RISING, (samples, 1))
    found = np.zeros((samples, 5))
    for _ in range(_REFINEMENTS + 1):
        for row in range(samples):
            found[row] = _best_of_grid(p, losses, counts[row], alphas[row], betas[row])
        alphas, betas = _around(alphas, found[:, 1]), _around(betas, found[:, 3])
    return found


def _best_of_grid(
    p: np.ndarray, target: np.ndarray, counts: np.ndarray, alphas: np.ndarray, betas: np.ndarray
) -> np.ndarray:
    """Returns the best f, α, c, β and m, float64[5], with α and β of two grids."""
    alpha, beta = (side.ravel() for side in np.meshgrid(alphas, betas))
    columns = np.stack([p ** -alpha[:, None], p ** beta[:, None], np.ones((len(alpha), len(p)))])
    # Columns with one largest value, so that the products are well scaled.
    unit = columns.max(axis=2)
    columns = columns / unit[..., None]
    weighted = columns * counts
    matrix = weighted.transpose(1, 0, 2) @ columns.transpose(1, 2, 0)
    right = (weighted @ target).T
    square = float(counts @ target**2)
    best = (np.inf, np.zeros(5))
    # Of a least-squares problem with numbers >= 0, some subset of the columns is the solution.
    for size in (3, 2, 1):
        for subset in itertools.combinations(range(3), size):
            own = list(subset)
            part = matrix[:, own][:, :, own] + _TINY * counts.sum() * np.eye(size)
            numbers = np.linalg.solve(part, right[:, own, None])[..., 0]
            error = square - (numbers * right[:, own]).sum(axis=1)
            error = np.where(numbers.min(axis=1) >= 0, error, np.inf)
            index = int(error.argmin())
            if error[index] < best[0]:
                full = np.zeros(3)
                full[own] = numbers[index] / unit[own, index]
                best = (
                    error[index],
                    np.array([full[0], alpha[index], full[1], beta[index], full[2]]),
                )
    return best[1]


def _around(grids: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Returns finer grids, float64[B, 9], between the neighbors of a point of each grid."""
    ratios = grids[:, 1] / grids[:, 0]
    return np.geomspace(centers / ratios, centers * ratios, 9, axis=1)
