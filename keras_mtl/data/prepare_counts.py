"""The numbers of pairs by rule, from what was read and from the places of all pairs."""

import collections
import dataclasses
from collections.abc import Mapping

from keras_mtl import errors
from keras_mtl.configuration.schema import CorpusConfig, PairConfig
from keras_mtl.data.cleaning import CleaningCounts
from keras_mtl.data.selection import STORED, Place

# The fields of a task with corpora, in the order in which they are read.
FIELDS = ("dev_corpora", "test_corpora", "corpora")


@dataclasses.dataclass
class FieldCounts:
    """What happened to the pairs of a task's corpora of one field.

    Attributes:
        bad: number of bad lines.
        dropped: numbers of pairs that readers dropped, by rule.
        cleaned: numbers of pairs by rule of cleaning, without duplicates.
        places: number of pairs in each place.
    """

    bad: int = 0
    dropped: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    cleaned: collections.Counter[str] = dataclasses.field(
        default_factory=lambda: collections.Counter(dict(CleaningCounts().rows()))
    )
    places: collections.Counter[Place] = dataclasses.field(default_factory=collections.Counter)


def place_name(field: str, index: int, corpus: CorpusConfig) -> str:
    """Returns the name of a corpus in samples and warnings."""
    return f"{field}[{index}] (reader {corpus.reader!r})"


def rule_counts(task: PairConfig, fields: Mapping[str, FieldCounts]) -> collections.Counter[str]:
    """Returns the numbers of pairs of a task by rule, in the order of the rules.

    `read` is the sum of the others and of the stored pairs, without the pairs that the reader
    dropped (`reader: <rule>`) and bad lines (`bad lines`).

    Args:
        task: the task.
        fields: the counts of each of `FIELDS`.
    """
    counts: collections.Counter[str] = collections.Counter()
    for name in FIELDS:
        found = fields[name]
        if getattr(task, name):
            counts["bad lines"] += found.bad
        for rule, value in found.dropped.items():
            counts[f"reader: {rule}"] += value
        for rule, value in found.cleaned.items():
            counts[rule] += value
    places: collections.Counter[Place] = collections.Counter()
    for name in FIELDS:
        places.update(fields[name].places)
    counts["duplicate"] += places[Place.DUPLICATE]
    counts["kept"] -= places[Place.DUPLICATE]
    for rule, place in (
        ("over train cap", Place.OVER_TRAIN),
        ("over dev cap", Place.OVER_DEV),
        ("over test cap", Place.OVER_TEST),
        ("held out", Place.HELD_OUT),
    ):
        counts[rule] = places[place]
    return counts


def split_sizes(fields: Mapping[str, FieldCounts]) -> dict[str, int]:
    """Returns the number of pairs of each split of a task."""
    return {
        split: sum(found.places[place] for found in fields.values() for place in places)
        for split, places in STORED.items()
    }


def empty_task(
    task: PairConfig, counts: Mapping[str, int], sizes: Mapping[str, int]
) -> errors.DataError:
    """Returns the error for a task without training pairs; it names all counts."""
    shown = ", ".join(
        f"{rule} {value:,}"
        for rule, value in counts.items()
        if value and rule not in ("kept", "normalized")
    )
    names = ", ".join(corpus.reader for corpus in task.corpora)
    listed = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
    return errors.DataError(
        f"task {task.name!r}: no training pairs are left of its corpora ({names}): "
        f"{shown or 'read 0'}; {listed}; check the corpora's files and languages and the rules in "
        "task.data.cleaning"
    )
