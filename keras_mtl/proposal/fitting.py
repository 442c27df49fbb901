"""Fits a law to the losses of each task, and measures how well it predicts runs it has not seen."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_mtl.errors import InputError, nearest
from keras_mtl.proposal import double_power_law, log_linear
from keras_mtl.proposal.double_power_law import DoublePowerLaw
from keras_mtl.proposal.log_linear import LogLinearLaw

LOG_LINEAR, DOUBLE_POWER, BEST = "log_linear", "double_power", "best"
LAWS = (BEST, LOG_LINEAR, DOUBLE_POWER)
LEAST_RUNS = double_power_law.NUMBERS
"""Least number of runs that have measured a task."""

# With more runs, each part of the cross-validation leaves out several of them.
_MOST_PARTS = 40

Law = LogLinearLaw | DoublePowerLaw


@dataclasses.dataclass(frozen=True)
class Measurements:
    """What the proxy runs have measured.

    Attributes:
        runs: names of the R runs.
        tasks: names of the N tasks that weights are proposed for.
        former: names of tasks that some runs have and that were removed since.
        weights: float64[R, N + F], weight of each task and each former task in each run; each row
            sums to 1.
        losses: float64[R, N], dev loss of each task; NaN in a run that does not have the task.
    """

    runs: tuple[str, ...]
    tasks: tuple[str, ...]
    former: tuple[str, ...]
    weights: np.ndarray
    losses: np.ndarray

    def of_task(self, task: int) -> np.ndarray:
        """Returns bool[R]: which runs have measured a task."""
        return np.isfinite(self.losses[:, task])


class Candidate(NamedTuple):
    """A kind of law that was fitted to a task.

    Attributes:
        kind: `log_linear` or `double_power`.
        error: root mean squared error of the loss of runs that were left out of the fit.
        ridge: ridge of the log-linear law; 0 for the other one.
        predicted: float64[R], loss that was predicted for each run when it was left out; NaN for a
            run that did not measure the task.
    """

    kind: str
    error: float
    ridge: float
    predicted: np.ndarray


@dataclasses.dataclass(frozen=True)
class TaskFit:
    """The law of a task.

    Attributes:
        task: name of the task.
        law: the law of the kind with the least error.
        chosen: that kind.
        candidates: all kinds that were tried.
        constant_error: the error of the mean loss of the other runs instead of a law.
    """

    task: str
    law: Law
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    constant_error: float

    @property
    def explained(self) -> float:
        """Share of the variance between runs that the law predicts, at most 1."""
        return 1.0 - (self.chosen.error / self.constant_error) ** 2 if self.constant_error else 0.0

    @property
    def is_useful(self) -> bool:
        """Whether the law predicts better than a constant."""
        return self.chosen.error < self.constant_error


def fit_tasks(found: Measurements, kind: str = BEST) -> list[TaskFit]:
    """Fits the law of each task.

    Args:
        found: the measurements.
        kind: `log_linear`, `double_power`, or `best`, which takes for each task the one that
            predicts left-out runs better.

    Raises:
        InputError: the kind is unknown, or too few runs have measured a task.
    """
    if kind not in LAWS:
        raise InputError(f"law {kind!r}{nearest(kind, LAWS)}")
    return [_fit_task(found, task, kind) for task in range(len(found.tasks))]


def sampled_laws(
    found: Measurements, fits: Sequence[TaskFit], counts: np.ndarray
) -> list[list[Law]]:
    """Fits laws of the chosen kinds to samples of the runs.

    Args:
        found: the measurements.
        fits: the fit of each task.
        counts: int64[B, R], how often each sample has each run.

    Returns:
        The laws of all tasks for each sample.
    """
    columns = []
    for task, fit in enumerate(fits):
        measured = found.of_task(task)
        own = counts[:, measured].astype(np.float64)
        # A sample may lack all runs that measured a task that was added later.
        own[own.sum(axis=1) < LEAST_RUNS] = 1.0
        columns.append(_fitted(found, task, fit.chosen.kind, fit.chosen.ridge, own))
    return [list(row) for row in zip(*columns, strict=True)]


def _fit_task(found: Measurements, task: int, kind: str) -> TaskFit:
    name, measured = found.tasks[task], found.of_task(task)
    different = len(np.unique(found.weights[measured, task]))
    if different < LEAST_RUNS:
        raise InputError(
            f"task {name!r}: {different} runs with different weights have measured its loss, but a "
            f"law needs {LEAST_RUNS}. Give a larger number of proxies"
        )
    losses = found.losses[measured, task]
    parts = np.arange(len(losses)) % min(len(losses), _MOST_PARTS)
    counts = (parts[None] != np.arange(parts.max() + 1)[:, None]).astype(np.float64)
    candidates = []
    for own in (LOG_LINEAR, DOUBLE_POWER) if kind == BEST else (kind,):
        tried = []
        for ridge in log_linear.RIDGES if own == LOG_LINEAR else (0.0,):
            laws = _fitted(found, task, own, ridge, counts)
            left_out = np.full(len(measured), np.nan)
            weights = found.weights[measured]
            predicted = [_loss(laws[parts[run]], weights[run], task) for run in range(len(parts))]
            left_out[measured] = predicted
            tried.append(Candidate(own, _root_mean_square(losses - predicted), ridge, left_out))
        candidates.append(min(tried, key=lambda c: c.error))
    chosen = min(candidates, key=lambda c: c.error)
    (law,) = _fitted(found, task, chosen.kind, chosen.ridge, np.ones((1, len(losses))))
    means = (counts @ losses) / counts.sum(axis=1)
    constant_error = _root_mean_square(losses - means[parts])
    return TaskFit(name, law, chosen, tuple(candidates), constant_error)


def _fitted(
    found: Measurements, task: int, kind: str, ridge: float, counts: np.ndarray
) -> list[Law]:
    """Returns a law for each of B samples; counts is float64[B, number of runs that measured]."""
    measured = found.of_task(task)
    weights, losses = found.weights[measured], found.losses[measured, task]
    if kind == LOG_LINEAR:
        limits, slopes = log_linear.fit_samples(weights, losses, counts, task, ridge)
        return [LogLinearLaw(float(a), b) for a, b in zip(limits, slopes, strict=True)]
    rows = double_power_law.fit_samples(weights[:, task], losses, counts)
    return [DoublePowerLaw.of_terms(row) for row in rows]


def _loss(law: Law, weights: np.ndarray, task: int) -> float:
    return float(law.loss(weights if isinstance(law, LogLinearLaw) else weights[task]))


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
