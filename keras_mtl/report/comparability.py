"""Checks whether the scores of runs are comparable: steps, weights, sentences, decoding."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from keras_mtl.report.groups import Group
from keras_mtl.report.runs import Run

# Largest number of runs or tasks that a sentence names.
_SHOWN = 6
# Entries that a report needs but older versions of `evaluate` did not record.
_RECORDED = {
    "step": "checkpoint and step",
    "weights_hash": "weights",
    "date": "date",
    "keras_mtl": "version",
    "hardware": "hardware",
}


@dataclasses.dataclass(frozen=True)
class Comparability:
    """The reasons why the scores of some runs are not comparable.

    Attributes:
        warnings: a sentence for each reason; if there is a reason, no winner is marked.
        unknown: a sentence for each entry that evaluations of older versions did not record.
    """

    warnings: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def compares(self) -> bool:
        """Whether winners may be marked."""
        return not self.warnings


def check(groups: Sequence[Group], tasks: Sequence[str], split: str = "test") -> Comparability:
    """Returns the reasons why evaluated runs are not comparable.

    Args:
        groups: all groups.
        tasks: all tasks.
        split: name of the test set, for the remedy.
    """
    runs = [run for group in groups for run in group.runs if run.test]
    names = _names(groups)
    warnings = [
        *_unequal_steps(runs, names),
        *_stale(runs, names, split),
        *_partial(runs, names, split),
        *_other_sentences(runs, tasks, names),
        *_other_decoding(runs, names),
    ]
    return Comparability(tuple(warnings), tuple(_unknown(runs, names)))


def _names(groups: Sequence[Group]) -> dict[Path, str]:
    """Returns a name for each run: the label of its group, and the seed if there are several."""
    names = {}
    for group in groups:
        for run in group.runs:
            seed = f" (seed {run.seed})" if len(group.runs) > 1 else ""
            names[run.directory] = group.label + seed
    return names


def _unequal_steps(runs: Sequence[Run], names: dict[Path, str]) -> list[str]:
    steps = {run.directory: run.evaluation.steps or run.trained_steps for run in runs}
    if len({count for count in steps.values() if count}) < 2:
        return []
    parts = _by_value(runs, lambda run: steps[run.directory], names)
    shown = "; ".join(f"{listed} after {count:,} steps" for count, listed in parts)
    return [
        f"Unequal steps: {shown}. Train all runs for the same number of steps, or evaluate "
        "checkpoints of equal steps with --checkpoint."
    ]


def _stale(runs: Sequence[Run], names: dict[Path, str], split: str) -> list[str]:
    found = []
    for run in runs:
        then = run.evaluation.number("trained_steps")
        if then is not None and run.trained_steps > then:
            found.append(
                f"Stale scores: {names[run.directory]} was scored when it was trained for {then:,} "
                f"steps, and has {run.trained_steps:,} now. {_again(run, split)}"
            )
    return found


def _partial(runs: Sequence[Run], names: dict[Path, str], split: str) -> list[str]:
    return [
        f"A partial evaluation: {names[run.directory]} was scored "
        f"{listed(run.evaluation.partial)}. {_again(run, split)}"
        for run in runs
        if run.evaluation.partial
    ]


def _again(run: Run, split: str) -> str:
    option = "" if split == "test" else f" --split {split}"
    return f"Run `keras-mtl evaluate --model_dir {run.directory}{option}`."


def _other_sentences(
    runs: Sequence[Run], tasks: Sequence[str], names: dict[Path, str]
) -> list[str]:
    differing, example = [], ""
    for task in tasks:
        scored = [run for run in runs if task in run.evaluation.pairs]
        # If the sentences of a run are not known, their number is compared.
        hashes = {run.evaluation.hashes.get(task) for run in scored} - {None}
        counts = {run.evaluation.pairs[task] for run in scored}
        if len(hashes) > 1 or len(counts) > 1:
            differing.append(task)
            parts = _by_value(scored, lambda run, task=task: run.evaluation.pairs[task], names)
            shown = "; ".join(f"{who} on {count:,} pairs" for count, who in parts)
            example = example or f" (of {task}: {shown})"
    if not differing:
        return []
    return [
        f"Different test sets: the runs were not scored on the same sentences of "
        f"{listed(differing)}{example}."
    ]


def _other_decoding(runs: Sequence[Run], names: dict[Path, str]) -> list[str]:
    found = []
    for field, what in (("beam_size", "with a beam of"), ("compute_type", "in")):
        known = [run for run in runs if run.evaluation.record.get(field) is not None]
        parts = _by_value(known, lambda run, field=field: run.evaluation.record[field], names)
        if len(parts) > 1:
            shown = "; ".join(f"{who} {what} {value}" for value, who in parts)
            found.append(f"Different decoding: {shown}.")
    return found


def _unknown(runs: Sequence[Run], names: dict[Path, str]) -> list[str]:
    lacking: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        missing = tuple(
            text for field, text in _RECORDED.items() if field not in run.evaluation.record
        )
        if missing:
            lacking.setdefault(missing, []).append(run)
    return [
        f"Evaluated by a version that did not record {', '.join(missing)}: "
        f"{listed([names[run.directory] for run in found])}. It is not known whether these scores "
        "are those of the run's present weights."
        for missing, found in lacking.items()
    ]


def _by_value(
    runs: Iterable[Run], value_of: Callable[..., object], names: dict[Path, str]
) -> list[tuple[object, str]]:
    """Returns (value, names of the runs with this value), in the order of the runs."""
    found: dict[object, list[str]] = {}
    for run in runs:
        found.setdefault(value_of(run), []).append(names[run.directory])
    return [(value, listed(members)) for value, members in found.items()]


def listed(names: Sequence[str]) -> str:
    """Returns names as text, such as `a, b, c and 4 more`."""
    names = list(dict.fromkeys(names))
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown
