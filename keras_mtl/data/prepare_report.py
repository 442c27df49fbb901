"""The tables that `prepare` prints: how many pairs each rule dropped, and how many are left."""

import itertools
import shutil
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from keras_mtl.data.prepared import PreparedTask


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns lines of text, with the first column left-aligned and the others right-aligned.

    Args:
        rows: cells, with the headings in the first row; all rows have the same length.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def sample_lines(pairs: Sequence[Sequence[str]], width: int) -> list[str]:
    """Returns a line for each pair, `source ||| target`, at most `width` columns wide."""
    half = max((width - len("   ||| ")) // 2, 10)
    return [f"  {_cut(source, half)} ||| {_cut(target, half)}" for source, target in pairs]


def _cut(text: str, columns: int) -> str:
    """Shortens a text to a number of columns; East Asian characters have two columns."""
    used = fitting = 0
    for place, character in enumerate(text, 1):
        used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used <= columns - len("..."):
            fitting = place
        if used > columns:
            return text[:fitting] + "..."
    return text


def report(tasks: Sequence[PreparedTask], spelled: Mapping[str, int]) -> list[str]:
    """Returns the tables.

    Args:
        tasks: the prepared tasks.
        spelled: number of byte pieces among the training tokens by task; they spell characters
            that the vocabulary does not have.
    """
    # "read" comes first, then the rules in the order in which they are applied; rules that are zero
    # in every task are omitted.
    rules: dict[str, None] = {"read": None}
    for task in tasks:
        rules.update(dict.fromkeys(rule for rule, value in task.counts.items() if value))
    rules.pop("kept", None)
    dropped = [
        ["task", *rules],
        *([task.name, *(f"{task.counts.get(rule, 0):,}" for rule in rules)] for task in tasks),
    ]
    sizes = [
        ["task", "train", "dev", "test", "source tokens", "target tokens", "per pair", "in bytes"]
    ]
    for task in tasks:
        tokens = task.source_tokens + task.target_tokens
        sizes.append(
            [
                task.name,
                f"{task.train_size:,}",
                f"{task.dev_size:,}",
                f"{task.test_size:,}",
                f"{task.source_tokens:,}",
                f"{task.target_tokens:,}",
                f"{task.source_tokens / task.train_size:.1f} + "
                f"{task.target_tokens / task.train_size:.1f}",
                f"{spelled[task.name] / max(tokens, 1):.2%}",
            ]
        )
    lines = ["pairs read, and dropped by rule:", *table(dropped), "", "pairs kept:", *table(sizes)]
    for task in tasks:
        if not task.dev_size:
            lines.append(
                f"{task.name}: no dev pairs, so it cannot be scored in training; raise "
                "task.data.dev_fraction or give dev_corpora"
            )
        if not task.test_size:
            lines.append(
                f"{task.name}: no test pairs, so `keras-mtl evaluate` cannot score it; raise "
                "task.data.test_fraction or give test_corpora"
            )
    return lines


def summary(manifest: Mapping[str, Any], spelled: Mapping[str, int]) -> list[str]:
    """Returns what `prepare` prints of new data: tables, pairs of each task and warnings.

    Args:
        manifest: the manifest.
        spelled: see `report`.
    """
    lines = report([PreparedTask(**task) for task in manifest["tasks"]], spelled)
    width = shutil.get_terminal_size((100, 24)).columns
    for name, pairs in manifest["samples"].items():
        lines += [f"pairs of {name}, for example:", *sample_lines(pairs, width)]
    warnings = itertools.chain.from_iterable(manifest["warnings"].values())
    return [*lines, *(f"warning: {warning}" for warning in warnings)]
