"""The double power law: how the loss of a task depends on its probability, and the best weights.

Train a few models with fixed, different probabilities, fit a law to the final losses of each task,
and use the proposed weights in the schedule `constant`.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from keras_mtl.errors import InputError

# Grids of the two exponents; the second one is refined around the best point of the first.
_FALLING = np.geomspace(0.02, 2.0, 24)
_RISING = np.geomspace(0.1, 4.0, 24)
_REFINEMENTS = 3
# Numbers of a law, and so the least number of runs that can tell it.
_NUMBERS = 5
_ITERATIONS = 2000


@dataclasses.dataclass(frozen=True)
class DoublePowerLaw:
    """L(p) = (capacity p)^(−α) + overfitting p^β + limit, the loss of a task with probability p.

    The first term falls: more probability is a larger share of the capacity of the model. The
    second term rises, because a task with little data is memorized. In the paper its factor depends
    on the number of examples; here it is one number for the data of the runs.

    Attributes:
        capacity: > 0; infinite if the loss does not fall.
        alpha: α > 0.
        overfitting: >= 0.
        beta: β > 0.
        limit: >= 0.

    Example:
        ```python
        from keras_mtl import schedules

        shares = [0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95]
        small = schedules.DoublePowerLaw.fit(shares, [3.1, 2.8, 2.6, 2.61, 2.7, 2.8, 2.88])
        large = schedules.DoublePowerLaw.fit(shares, [3.6, 3.1, 2.7, 2.4, 2.25, 2.16, 2.1])
        schedules.propose_weights([small, large])  # Less than half for the small task.
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
        if p.ndim != 1 or p.shape != target.shape or len(np.unique(p)) < _NUMBERS:
            raise InputError(
                f"a double power law needs a probability and a loss from at least {_NUMBERS} runs "
                f"with different probabilities, not {p.tolist()} and {target.tolist()}"
            )
        if not (p.min() > 0 and p.max() <= 1 and np.isfinite(target).all()):
            raise InputError(
                f"probabilities = {p.tolist()} must be in (0, 1], and losses = {target.tolist()} "
                "must be finite"
            )
        alphas, betas = _FALLING, _RISING
        for _ in range(_REFINEMENTS + 1):
            _, alpha, beta, numbers = min(
                (_least_squares(p, target, alpha, beta) for alpha in alphas for beta in betas),
                key=lambda found: found[0],
            )
            alphas, betas = _around(alphas, alpha), _around(betas, beta)
        falling, rising, limit = numbers
        capacity = float(falling ** (-1 / alpha)) if falling > 0 else np.inf
        return cls(capacity, alpha, float(rising), beta, float(limit))


def propose_weights(
    laws: Sequence[DoublePowerLaw], importance: Sequence[float] | None = None, least: float = 1e-3
) -> np.ndarray:
    """Returns the probabilities with the least weighted sum of predicted losses.

    Args:
        laws: the law of each task.
        importance: weight of the loss of each task, >= 0; None means 1 for each.
        least: least probability of a task, in (0, 1/N]. Below the probabilities of the runs, a law
            extrapolates.

    Returns:
        float64[N], >= least, sums to 1.

    Raises:
        InputError: a number is out of range.
    """
    count = len(laws)
    weights = np.ones(count) if importance is None else np.asarray(importance, np.float64)
    if not count or weights.shape != (count,) or not (weights >= 0).all() or not weights.any():
        raise InputError(
            f"importance = {weights.tolist()} must have a number >= 0 for each of {count} tasks, "
            "and at least one above 0"
        )
    if not 0 < least <= 1 / count:
        raise InputError(f"least = {least} must be in (0, 1/{count}]")

    def total(p: np.ndarray) -> float:
        return float(sum(w * law.loss(x) for w, law, x in zip(weights, laws, p, strict=True)))

    def slopes(p: np.ndarray) -> np.ndarray:
        return np.array([w * law.slope(x) for w, law, x in zip(weights, laws, p, strict=True)])

    # The rising terms may be concave, so there may be several minima.
    grid = np.linspace(least, 1, 400)
    favorites = np.array([grid[int(law.loss(grid).argmin())] for law in laws])
    starts = [np.full(count, 1 / count), favorites / favorites.sum()]
    starts += [np.where(np.eye(count, dtype=bool)[task], 1.0, 0.1 / count) for task in range(count)]
    found = [_descend(start / start.sum(), least, total, slopes) for start in starts]
    return min(found, key=total)


def _descend(
    start: np.ndarray,
    least: float,
    total: Callable[[np.ndarray], float],
    slopes: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Returns a local minimum by exponentiated gradient descent with a line search.

    Args:
        start: float64[N], > 0, sums to 1.
        least: least probability.
        total: the objective.
        slopes: its gradient.
    """
    room = 1 - least * len(start)
    share, rate = start, 1.0
    p = least + room * share
    value = total(p)
    for _ in range(_ITERATIONS):
        gradient = slopes(p)
        gradient = gradient - share @ gradient
        # Steps of at most a factor of e.
        powers = -rate * gradient / max(1e-300, np.abs(gradient).max())
        candidate = share * np.exp(powers)
        candidate /= candidate.sum()
        new = least + room * candidate
        if (new_value := total(new)) < value:
            share, p, value, rate = candidate, new, new_value, min(1.0, 1.5 * rate)
        elif rate > 1e-9:
            rate *= 0.5
        else:
            break
    return p


def _least_squares(
    p: np.ndarray, target: np.ndarray, alpha: float, beta: float
) -> tuple[float, float, float, np.ndarray]:
    """Returns the squared error, the exponents, and the three factors >= 0 that minimize it."""
    columns = np.stack([p**-alpha, p**beta, np.ones_like(p)], axis=1)
    best = (np.inf, np.zeros(3))
    # Of a least-squares problem with numbers >= 0, some subset of the columns is the solution.
    for size in (3, 2, 1):
        for subset in itertools.combinations(range(3), size):
            numbers = np.zeros(3)
            numbers[list(subset)] = np.linalg.lstsq(columns[:, subset], target, rcond=None)[0]
            if numbers.min() >= 0:
                error = float(((columns @ numbers - target) ** 2).sum())
                best = min(best, (error, numbers), key=lambda found: found[0])
    return best[0], float(alpha), float(beta), best[1]


def _around(grid: np.ndarray, center: float) -> np.ndarray:
    """Returns a finer grid between the neighbors of a point of a geometric grid."""
    ratio = grid[1] / grid[0]
    return np.geomspace(center / ratio, center * ratio, 9)
