"""How far a setting lies above the curve of the temperatures."""

import itertools
import statistics
from collections.abc import Sequence

import numpy as np

from keras_mtl.evaluation.significance import paired_p_value
from keras_mtl.metrics import higher_is_better
from keras_mtl.report.groups import Group
from keras_mtl.report.sweep.differences import (
    HIGH,
    LOW,
    Bootstrap,
    Difference,
    Parts,
    test_mean,
    with_seeds_of,
)

Segment = tuple[Group, Group]
"""Two neighbors on the curve."""


def above_curve(
    group: Group, curve: Sequence[Group], metric: str, parts: Parts, bootstrap: Bootstrap
) -> Difference | None:
    """Returns the difference in low-resource score to a temperature with equal high-resource score.

    That temperature is interpolated between its two neighbors on the curve. For each resample its
    scores are those on the resample, and for the spread over seeds those of the same seed.

    Args:
        group: the setting.
        curve: the settings of the temperatures, by temperature. If there are runs with the seeds of
            the setting, the others do not count.
        metric: metric of the scores.
        parts: the tasks by part.
        bootstrap: resamples the test sets.

    Returns:
        The difference, positive if the setting is better; None outside of the curve.
    """
    own = _scores(group, metric, parts)
    if own is None:
        return None
    sign = 1 if higher_is_better(metric) else -1
    best: tuple[float, Segment] | None = None
    for segment in itertools.pairwise([with_seeds_of(end, group) for end in curve]):
        ends = [_scores(end, metric, parts) for end in segment]
        if ends[0] is None or ends[1] is None:
            continue
        if not min(ends[0][0], ends[1][0]) <= own[0] <= max(ends[0][0], ends[1][0]):
            continue
        value = sign * float(_above(own, ends[0], ends[1]))
        if best is None or value < best[0]:
            best = value, segment
    if best is None:
        return None
    value, segment = best
    resampled = _resampled((group, *segment), parts, bootstrap)
    spreads = _by_seed(group, segment, metric, parts)
    return Difference(
        value,
        None if resampled is None else paired_p_value(resampled),
        statistics.stdev(spreads) if len(spreads) > 1 else None,
    )


def _above(own: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns heights above the line through two points; each is [2] or [2, S], high and low."""
    width = second[0] - first[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(width == 0, 0.0, (own[0] - first[0]) / width)
    return np.asarray(own[1] - (first[1] + share * (second[1] - first[1])))


def _scores(group: Group, metric: str, parts: Parts, seed: int | None = None) -> np.ndarray | None:
    """Returns the scores of high and low resource, [2], of a group or of its run with a seed."""
    runs = [run for run in group.runs if seed is None or run.seed == seed]
    found = [[test_mean(run, metric, parts[part]) for part in (HIGH, LOW)] for run in runs]
    known = [row for row in found if None not in row]
    return np.mean(np.array(known, np.float64), axis=0) if known else None


def _by_seed(group: Group, segment: Segment, metric: str, parts: Parts) -> list[float]:
    heights = []
    for seed in group.seeds:
        points = [_scores(item, metric, parts, seed) for item in (group, *segment)]
        if points[0] is not None and points[1] is not None and points[2] is not None:
            heights.append(float(_above(points[0], points[1], points[2])))
    return heights


def _resampled(groups: Sequence[Group], parts: Parts, bootstrap: Bootstrap) -> np.ndarray | None:
    """Returns the heights of the first group above the line through the others, [1 + S]."""
    points = []
    for group in groups:
        found = [bootstrap.means(group, groups[0], parts[part]) for part in (HIGH, LOW)]
        if found[0] is None or found[1] is None:
            return None
        points.append(np.stack([found[0], found[1]]))
    return _above(points[0], points[1], points[2])
