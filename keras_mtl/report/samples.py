"""A few test sentences of each task, with their reference and the output of each group."""

from collections.abc import Sequence
from typing import NamedTuple

from keras_mtl.report.groups import Group
from keras_mtl.report.runs import Run

PER_TASK = 3


class Sample(NamedTuple):
    """One test sentence.

    Attributes:
        source: the source sentence.
        reference: the reference translation.
        outputs: translation of the first run of each group; None if it has no translation.
    """

    source: str
    reference: str
    outputs: tuple[str | None, ...]


def samples_of(groups: Sequence[Group], task: str, count: int = PER_TASK) -> list[Sample]:
    """Chooses sentences that all groups have translated, evenly spread over the test set.

    The choice depends only on the sentences that the groups have in common, so reports on the same
    test set show the same sentences.

    Args:
        groups: the groups; those without translations of the task are skipped.
        task: name of the task.
        count: largest number of sentences.

    Returns:
        The sentences in the order of the test set, shorter ones first if it is sorted by length.
    """
    chosen = [_first_run(group, task) for group in groups]
    tables = [
        {}
        if run is None
        else {(r.source, r.reference): r.hypothesis for r in run.translations[task]}
        for run in chosen
    ]
    present = [table for table in tables if table]
    if not present:
        return []
    common = [pair for pair in present[0] if all(pair in table for table in present)]
    most = min(count, len(common))
    # The middle of each of `most` equal parts.
    places = [(2 * i + 1) * len(common) // (2 * most) for i in range(most)]
    return [
        Sample(*common[place], tuple(table.get(common[place]) for table in tables))
        for place in places
    ]


def _first_run(group: Group, task: str) -> Run | None:
    return next((run for run in group.runs if run.translations.get(task)), None)
