"""Proposes weights from measured losses: fits, uncertainty, and the best weights."""

import dataclasses

import numpy as np

from keras_mtl.errors import InputError
from keras_mtl.proposal.bounds import rescale
from keras_mtl.proposal.fitting import BEST, Measurements, TaskFit, fit_tasks, sampled_laws
from keras_mtl.proposal.laws import Laws
from keras_mtl.proposal.objective import Objective, Search
from keras_mtl.proposal.swarm_design import rounded

LEAST_WEIGHT = 2e-3
"""Least weight of a task, unless its share of the data is smaller; as in arXiv 2602.12237."""

INTERVAL = (0.05, 0.95)
"""Quantiles of the bootstrap that are reported."""


@dataclasses.dataclass(frozen=True)
class Space:
    """The weights that may be tried and proposed.

    Attributes:
        sizes: int64[N], number of training pairs.
        passes: float64[N], passes over the data of a task if all weight is on it.
        max_passes: largest number of passes over the data of a task.
    """

    sizes: np.ndarray
    passes: np.ndarray
    max_passes: float

    @property
    def natural(self) -> np.ndarray:
        """float64[N], shares of the tasks by their sizes."""
        return np.asarray(self.sizes / self.sizes.sum())

    @property
    def high(self) -> np.ndarray:
        """float64[N], weights at which tasks reach the largest number of passes, at most 1."""
        return np.minimum(1.0, self.max_passes / self.passes)

    @property
    def low(self) -> np.ndarray:
        """float64[N], least weights. No task is left out, since a law says little about that."""
        return np.minimum(np.minimum(LEAST_WEIGHT, self.natural / 2), self.high / 2)

    def check(self) -> None:
        """Checks that the bounds leave weights.

        Raises:
            InputError: the data does not last for the planned steps.
        """
        if not (np.isfinite(self.max_passes) and self.max_passes > 0):
            raise InputError(f"max_passes = {self.max_passes}: give a number above 0")
        if self.high.sum() < 1:
            # All tasks have this number of passes if each has its natural share of examples.
            needed = 1.0 / float((1.0 / self.passes).sum())
            raise InputError(
                f"the planned steps read the data {needed:.1f} times on average, more than "
                f"max_passes = {self.max_passes:g}. Give a larger --max_passes, fewer steps or "
                "more data"
            )


@dataclasses.dataclass(frozen=True)
class Proposal:
    """Proposed weights, and what they are based on.

    Attributes:
        weights: float64[N], the proposal.
        objective: the objective.
        space: the allowed weights.
        found: the measurements.
        fits: the fit of each task.
        laws: the laws.
        samples: float64[B, N], the proposal from each bootstrap sample of the runs.
        sampled_laws: the laws of each sample.
        natural: float64[N], the natural distribution within the bounds, to compare with.
    """

    weights: np.ndarray
    objective: Objective
    space: Space
    found: Measurements
    fits: tuple[TaskFit, ...]
    laws: Laws
    samples: np.ndarray
    sampled_laws: tuple[Laws, ...]
    natural: np.ndarray

    @property
    def passes(self) -> np.ndarray:
        """float64[N], passes over the data of each task with the proposal."""
        return self.weights * self.space.passes

    def interval(self) -> np.ndarray:
        """Returns float64[2, N]: quantiles of the proposal over samples; NaN without samples."""
        return _quantiles(self.samples)

    def value(self, weights: np.ndarray) -> float:
        """Returns the predicted objective of some weights."""
        return float(self.objective.value(self.laws.loss(weights)))

    def gains(self) -> np.ndarray:
        """Returns float64[B]: by how much the proposal lowers the objective in each sample.

        It is the difference to the natural distribution, as the laws of the sample predict it. The
        same proposal is judged by all samples.
        """
        objective = self.objective
        return np.array(
            [
                float(objective.value(laws.loss(self.natural)))
                - float(objective.value(laws.loss(self.weights)))
                for laws in self.sampled_laws
            ]
        )

    def poor(self) -> list[TaskFit]:
        """Returns the fits of tasks of the objective that are no better than a constant."""
        counts = self.objective.importance > 0
        if self.objective.least_ratio > 0:
            counts = np.ones(len(counts), bool)
        return [
            fit for fit, own in zip(self.fits, counts, strict=True) if own and not fit.is_useful
        ]


def propose(
    found: Measurements,
    space: Space,
    objective: Objective,
    law: str = BEST,
    samples: int = 100,
    seed: int = 1,
) -> Proposal:
    """Proposes weights.

    Args:
        found: the measurements of the proxy runs.
        space: the allowed weights.
        objective: what the weights minimize.
        law: `log_linear`, `double_power`, or `best`; see `fit_tasks`.
        samples: number of bootstrap samples of the runs, for the uncertainty; 0 for none.
        seed: seed of the bootstrap.

    Returns:
        The proposal. Equal arguments give an equal one.

    Raises:
        InputError: too few runs have measured a task, or nothing satisfies the objective.
    """
    space.check()
    fits = fit_tasks(found, law)
    laws = Laws.of([fit.law for fit in fits])
    natural, low, high = space.natural, space.low, space.high
    search = Search(objective, natural, low, high)
    weights = search.best(laws, search.starts())
    drawn = _bootstrap_counts(seed, samples, found)
    sampled = [Laws.of(own) for own in (sampled_laws(found, fits, drawn) if samples else [])]
    others = [_sampled_proposal(search, own, weights) for own in sampled]
    return Proposal(
        weights=rounded(weights),
        objective=objective,
        space=space,
        found=found,
        fits=tuple(fits),
        laws=laws,
        samples=np.reshape(others, (len(others), len(weights))),
        sampled_laws=tuple(sampled),
        natural=rescale(natural, low, high),
    )


def _sampled_proposal(search: Search, laws: Laws, start: np.ndarray) -> np.ndarray:
    """Returns the proposal of a sample; if nothing satisfies its limits, what is nearest."""
    try:
        return search.best(laws, [start])
    except InputError:
        return search.best_ratio(laws, [start])[1]


def _bootstrap_counts(seed: int, samples: int, found: Measurements) -> np.ndarray:
    """Returns int64[B, R]: how often each sample draws each run."""
    runs = len(found.runs)
    generator = np.random.default_rng([seed, runs])
    return generator.multinomial(runs, np.full(runs, 1 / runs), size=samples)


def _quantiles(values: np.ndarray) -> np.ndarray:
    if not len(values):
        return np.full((2, values.shape[1]), np.nan)
    return np.quantile(values, INTERVAL, axis=0)
