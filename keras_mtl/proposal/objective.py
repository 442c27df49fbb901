"""What the proposed weights minimize, and what they must not violate."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from keras_mtl.errors import InputError, nearest
from keras_mtl.proposal.bounds import project, rescale
from keras_mtl.proposal.laws import Laws

MEAN, WORST = "mean", "worst"
OBJECTIVES = (MEAN, WORST)

# The largest of some numbers is approached by the logarithm of a sum of exponential functions, with
# these temperatures, one after another.
_TEMPERATURES = (0.1, 0.01, 1e-3, 1e-4)
_ROUNDS = 12
# What a limit may be exceeded by, relative to it.
_TOLERANCE = 1e-4
_ITERATIONS = 400
_LEAST_DECREASE = 1e-12
# Starts of a search that has several minima; of more tasks, only the first ones get a start.
_MOST_STARTS = 12


@dataclasses.dataclass(frozen=True)
class Objective:
    """The objective of a proposal.

    Attributes:
        kind: `mean`: the mean loss of the tasks; `worst`: the largest loss / baseline of a task.
        importance: float64[N], weight of each task in the mean, >= 0, with the sum 1. A task with
            weight 0 does not count, also as the worst task.
        baselines: float64[N], > 0, the loss of a model of only this task; None if it is not known.
        least_ratio: each task must have at least this baseline / loss; 0 for no limit.
        pull: strength of the divergence from the natural distribution that is added, >= 0.
    """

    kind: str
    importance: np.ndarray
    baselines: np.ndarray | None = None
    least_ratio: float = 0.0
    pull: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in OBJECTIVES:
            raise InputError(f"objective {self.kind!r}{nearest(self.kind, OBJECTIVES)}")
        if self.baselines is None and self.needs_baselines:
            raise InputError("the objective compares with baselines, which are not given")

    @property
    def needs_baselines(self) -> bool:
        """Whether the objective compares losses with baselines."""
        return self.kind == WORST or self.least_ratio > 0

    @property
    def limits(self) -> np.ndarray | None:
        """float64[N], the largest loss of each task; None for no limits."""
        if self.least_ratio <= 0:
            return None
        assert self.baselines is not None
        return self.baselines / self.least_ratio

    def value(self, losses: np.ndarray) -> np.ndarray:
        """Returns the objective, float64[...], of losses, float64[..., N], without the pull."""
        if self.kind == MEAN:
            return np.asarray(losses @ self.importance)
        assert self.baselines is not None
        counted = self.importance > 0
        return np.asarray((losses / self.baselines)[..., counted].max(axis=-1))


def importance_of(tasks: Sequence[str], given: Mapping[str, float]) -> np.ndarray:
    """Returns the weight of each task in the objective, with the sum 1.

    Args:
        tasks: names of the tasks.
        given: weights by task; the tasks that it does not name have weight 0. Empty means equal
            weights.

    Raises:
        InputError: a task is unknown, a weight is below 0, or all are 0.
    """
    for name, value in given.items():
        if name not in tasks:
            raise InputError(f"importance: unknown task {name!r}{nearest(name, tasks)}")
        if not (np.isfinite(value) and value >= 0):
            raise InputError(f"importance: {name} = {value}; give a number >= 0")
    weights = np.array([given.get(name, 0.0) if given else 1.0 for name in tasks])
    if not weights.any():
        raise InputError("importance: every weight is 0; give one above 0")
    return np.asarray(weights / weights.sum())


class Search:
    """Finds the weights with the least objective.

    With log-linear laws and the objective `mean` the problem is convex, and the result is its
    minimum. A double power law may rise in a concave way, so the search has several starts.

    Args:
        objective: the objective.
        natural: float64[N], shares of the tasks by their sizes.
        low: float64[N], least weights.
        high: float64[N], largest weights.
    """

    def __init__(
        self, objective: Objective, natural: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> None:
        self._objective = objective
        self._low, self._high = low, high
        self._natural = rescale(natural, low, high)

    def starts(self) -> list[np.ndarray]:
        """Returns the weights at which a search begins."""
        count = len(self._low)
        shares = [self._natural, np.ones(count)]
        for task in range(min(count, _MOST_STARTS) if count > 1 else 0):
            shares.append(np.where(np.arange(count) == task, 1.0, 0.2 / count))
        return [rescale(share, self._low, self._high) for share in shares]

    def best(self, laws: Laws, starts: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the best weights, float64[N].

        Args:
            laws: the laws of the tasks.
            starts: weights at which a search begins.

        Raises:
            InputError: no weights satisfy the limits; the message says what the best ratio is.
        """
        limits = self._objective.limits
        if limits is not None:
            starts = [self._feasible(laws, limits, starts)]
        found = [self._minimum(laws, start) for start in starts]
        return min(found, key=lambda w: float(self._total(laws, w)))

    def best_ratio(self, laws: Laws, starts: Sequence[np.ndarray]) -> tuple[float, np.ndarray]:
        """Returns the largest baseline / loss that every task can have at once, and its weights."""
        assert self._objective.baselines is not None
        everyone = np.ones(len(self._low), bool)
        found = [self._least_worst(laws, w, self._objective.baselines, everyone) for w in starts]
        ratios = [float((self._objective.baselines / laws.loss(w)).min()) for w in found]
        best = int(np.argmax(ratios))
        return ratios[best], found[best]

    def _total(self, laws: Laws, weights: np.ndarray) -> float:
        value = float(self._objective.value(laws.loss(weights)))
        return value + self._objective.pull * self._divergence(weights)

    def _divergence(self, weights: np.ndarray) -> float:
        return float((weights * np.log(weights / self._natural)).sum())

    def _feasible(self, laws: Laws, limits: np.ndarray, starts: Sequence[np.ndarray]) -> np.ndarray:
        for weights in starts:
            if (laws.loss(weights) <= limits).all():
                return weights
        ratio, weights = self.best_ratio(laws, starts)
        least = self._objective.least_ratio
        if ratio < least * (1 - _TOLERANCE):
            raise InputError(
                f"no weights keep every task at {least:g} of its baseline or above: the best ones "
                f"keep {ratio:.3f}. Give a smaller least ratio, or more passes"
            )
        return weights

    def _minimum(self, laws: Laws, start: np.ndarray) -> np.ndarray:
        """Returns a local minimum."""
        objective, weights = self._objective, start
        limits = objective.limits
        if objective.kind == WORST:
            assert objective.baselines is not None
            counted = objective.importance > 0
            weights = self._least_worst(laws, weights, objective.baselines, counted)
            if limits is None or (laws.loss(weights) <= limits * (1 + _TOLERANCE)).all():
                return weights
        if limits is None:
            return self._descend(laws, weights, self._smooth(None, None, 0.0, _TEMPERATURES[-1]))
        # The method of multipliers.
        multipliers, penalty = np.zeros(len(limits)), 10.0
        for _ in range(_ROUNDS):
            smooth = self._smooth(limits, multipliers, penalty, _TEMPERATURES[-2])
            weights = self._descend(laws, weights, smooth)
            over = laws.loss(weights) / limits - 1
            multipliers = np.maximum(0.0, multipliers + penalty * over)
            if over.max() <= _TOLERANCE / 10:
                break
            penalty *= 3
        return weights

    def _least_worst(
        self, laws: Laws, start: np.ndarray, unit: np.ndarray, counted: np.ndarray
    ) -> np.ndarray:
        """Returns weights with the smallest largest loss / unit of the tasks that count."""
        weights = start
        for temperature in _TEMPERATURES:
            weights = self._descend(laws, weights, self._largest(unit, counted, temperature))
        return weights

    def _largest(self, unit: np.ndarray, counted: np.ndarray, temperature: float) -> "_Smooth":
        def smooth(losses: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
            scaled = np.where(counted, losses / unit, -np.inf) / temperature
            top = scaled.max()
            shares = np.exp(scaled - top)
            total = shares.sum()
            shares /= total
            second = (np.diag(shares) - np.outer(shares, shares)) / temperature
            value = float(temperature * (top + np.log(total)))
            return value, shares / unit, second / np.outer(unit, unit)

        return smooth

    def _smooth(
        self,
        limits: np.ndarray | None,
        multipliers: np.ndarray | None,
        penalty: float,
        temperature: float,
    ) -> "_Smooth":
        """Returns the objective as a function of the losses, with what exceeding limits costs."""
        objective = self._objective
        if objective.kind == WORST:
            assert objective.baselines is not None
            main = self._largest(objective.baselines, objective.importance > 0, temperature)
        else:
            zeros = np.zeros((len(self._low), len(self._low)))

            def main(losses: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
                return float(losses @ objective.importance), objective.importance, zeros

        if limits is None or multipliers is None:
            return main

        def smooth(losses: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
            value, first, second = main(losses)
            force = np.maximum(0.0, multipliers + penalty * (losses / limits - 1))
            value += float((force**2 - multipliers**2).sum()) / (2 * penalty)
            stiff = np.where(force > 0, penalty / limits**2, 0.0)
            return value, first + force / limits, second + np.diag(stiff)

        return smooth

    def _descend(self, laws: Laws, start: np.ndarray, smooth: "_Smooth") -> np.ndarray:
        """Returns a local minimum of a function of the losses.

        Each step minimizes a quadratic model with the diagonal of the second derivative, within the
        bounds; a line search shortens it.
        """
        weights, pull = start, self._objective.pull

        def value_at(point: np.ndarray) -> float:
            return smooth(laws.loss(point))[0] + pull * self._divergence(point)

        value, stretch = value_at(weights), 1.0
        for _ in range(_ITERATIONS):
            _, first, second = smooth(laws.loss(weights))
            jacobian = laws.gradient(weights)
            gradient = first @ jacobian + pull * (np.log(weights / self._natural) + 1)
            diagonal = first @ laws.curvature(weights) + pull / weights
            diagonal += ((second @ jacobian) * jacobian).sum(axis=0)
            scale = np.maximum(diagonal, 1e-3 * np.abs(gradient).max() + 1e-12)
            while True:
                target = project(
                    weights - gradient / (stretch * scale), stretch * scale, self._low, self._high
                )
                decrease = -float(gradient @ (target - weights))
                new = value_at(target)
                if new <= value - 0.1 * decrease or stretch > 1e12:
                    break
                stretch *= 3.0
            if decrease <= _LEAST_DECREASE * max(1.0, abs(value)):
                break
            if new < value:
                weights, value = target, new
            stretch = max(0.05, stretch / 2)
        return weights


_Smooth = Callable[[np.ndarray], tuple[float, np.ndarray, np.ndarray]]
"""Returns value, gradient float64[N] and second derivative float64[N, N] in the losses."""
