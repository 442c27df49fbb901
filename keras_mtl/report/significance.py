"""Tests whether differences between groups of runs are significant on the test set."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from keras_mtl.evaluation.significance import paired_bootstrap
from keras_mtl.report.groups import Group
from keras_mtl.report.runs import Run

LEVEL = 0.05
"""The p-value below which a difference is significant."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A comparison of the runs of two groups on one task and metric.

    Attributes:
        p_values: p-value of each pair of runs.
        above: number of pairs in which the run is significantly above the other run.
        below: number of pairs in which it is significantly below.
    """

    p_values: tuple[float, ...]
    above: int
    below: int


Comparisons = dict[tuple[str, str, str], Comparison]
"""{(label of the group, task, metric): comparison}."""


def compare_groups(
    groups: Sequence[Group],
    baseline: Group,
    tasks: Sequence[str],
    samples: int = 1000,
    log: Callable[[str], None] | None = None,
) -> tuple[Comparisons, list[str]]:
    """Tests every group against one of them, for each seed.

    Runs of one seed are paired (or, if no seed is common, the first with the first, and so on).
    Each pair is tested separately, because the sentences of a test set that several seeds have
    translated are not independent.

    Args:
        groups: all groups.
        baseline: the group to compare with.
        tasks: names of the tasks to compare.
        samples: number of bootstrap resamples.
        log: function that is called with a line before each task of each run of the baseline,
            because a test may take minutes.

    Returns:
        The comparisons, and notes on runs that could not be compared.

    Reference: see `keras_mtl.evaluation.significance.paired_bootstrap`.
    """
    found: Comparisons = {}
    notes: list[str] = []
    outcomes: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    others = [group for group in groups if group is not baseline]
    pairs = {group.label: _pairs(baseline, group) for group in others}
    for left in baseline.runs:
        for task in tasks:
            opponents = _opponents(left, task, pairs, notes)
            if log and opponents:
                log(f"testing {task}: {left.directory} against {len(opponents)} runs")
            for label, metric, outcome in _test(left, opponents, task, samples):
                outcomes.setdefault((label, task, metric), []).append(outcome)
    for key, results in outcomes.items():
        sure = [difference for difference, p in results if p < LEVEL]
        found[key] = Comparison(
            tuple(p for _, p in results),
            sum(difference > 0 for difference in sure),
            sum(difference < 0 for difference in sure),
        )
    return found, notes


def _opponents(
    left: Run, task: str, pairs: Mapping[str, Sequence[tuple[Run, Run]]], notes: list[str]
) -> list[tuple[str, Run]]:
    """Returns the runs that a run is tested against on a task, with the labels of their groups.

    Args:
        left: run of the baseline.
        task: name of the task.
        pairs: pairs of runs of the baseline and of a group, by the label of the group.
        notes: list to which a sentence is appended for each run that was tested on other sentences.
    """
    opponents = []
    for label, members in pairs.items():
        for first, right in members:
            if first is not left:
                continue
            if not (left.translations.get(task) and right.translations.get(task)):
                continue
            if _same_test_set(left, right, task):
                opponents.append((label, right))
            else:
                notes.append(
                    f"{right.directory} and {left.directory} were tested on different "
                    f"sentences of {task}, so they are not compared"
                )
    return opponents


def _pairs(baseline: Group, group: Group) -> list[tuple[Run, Run]]:
    by_seed = {run.seed: run for run in baseline.runs}
    common = [(by_seed[run.seed], run) for run in group.runs if run.seed in by_seed]
    return common or list(zip(baseline.runs, group.runs, strict=False))


def _same_test_set(left: Run, right: Run, task: str) -> bool:
    first, second = left.translations[task], right.translations[task]
    return [row.reference for row in first] == [row.reference for row in second]


def _test(
    left: Run, opponents: Sequence[tuple[str, Run]], task: str, samples: int
) -> Iterator[tuple[str, str, tuple[float, float]]]:
    """Yields (label, metric, (difference to `left`, p)) for each opponent."""
    if not opponents:
        return
    baseline, *others = (
        [row.hypothesis for row in run.translations[task]]
        for run in (left, *(run for _, run in opponents))
    )
    references = [row.reference for row in left.translations[task]]
    for metric, outcomes in paired_bootstrap(baseline, others, references, samples):
        for (label, _), outcome in zip(opponents, outcomes, strict=True):
            yield label, metric, outcome
