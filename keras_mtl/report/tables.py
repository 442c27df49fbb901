"""The final table: what every group reached on every task, as rows for a page and for Markdown."""

import dataclasses
from collections.abc import Mapping, Sequence

from keras_mtl.metrics import decimals
from keras_mtl.report.groups import Group, Mean, mean
from keras_mtl.report.significance import Comparison, Comparisons

TITLES = {"bleu": "BLEU", "chrf": "chrF", "neg_log_perplexity": "−log perplexity"}
UP, DOWN = "▲", "▼"


@dataclasses.dataclass(frozen=True)
class Cell:
    """What a group reached on a task.

    Attributes:
      value: over its seeds; None when it was not evaluated on the task.
      comparison: with the group that all are compared with; None when there is none.
      best: no group has a higher mean.
      decimals: that are written.
    """

    value: Mean | None
    comparison: Comparison | None = None
    best: bool = False
    decimals: int = 1

    @property
    def number(self) -> str:
        """``54.8 ± 0.4``, the spread where there are several seeds."""
        if self.value is None:
            return "–"
        text = f"{self.value.mean:.{self.decimals}f}"
        spread = self.value.spread
        return text if spread is None else f"{text} ± {spread:.{self.decimals}f}"

    @property
    def signs(self) -> str:
        """``▲2/3``: significantly above in two of three pairs of runs; empty if in none."""
        if self.comparison is None:
            return ""
        total = len(self.comparison.p_values)
        parts = [(UP, self.comparison.above), (DOWN, self.comparison.below)]
        shown = [sign if total == 1 else f"{sign}{count}/{total}" for sign, count in parts if count]
        return " ".join(shown)


@dataclasses.dataclass(frozen=True)
class Row:
    """A task, or the mean over tasks.

    Attributes:
      name: of the task.
      size: training pairs; None when not known.
      cells: one for each group.
    """

    name: str
    size: int | None
    cells: tuple[Cell, ...]


@dataclasses.dataclass(frozen=True)
class FinalTable:
    """Scores of one metric.

    Attributes:
      metric: its name.
      labels: of the groups.
      rows: a task each; the last is the mean over the tasks that all groups have.
      partial: tasks that the mean leaves out, because some group does not have them.
    """

    metric: str
    labels: tuple[str, ...]
    rows: tuple[Row, ...]
    partial: tuple[str, ...]


def final_table(
    groups: Sequence[Group],
    tasks: Sequence[str],
    metric: str,
    sizes: Mapping[str, int],
    comparisons: Comparisons,
) -> FinalTable | None:
    """Puts the test scores together; None when no group was tested by this metric."""
    evaluated = [task for task in tasks if any(group.test(metric, task) for group in groups)]
    if not evaluated:
        return None
    rows = []
    places = decimals(metric)
    for task in evaluated:
        cells = [
            Cell(
                group.test(metric, task),
                comparisons.get((group.label, task, metric)),
                decimals=places,
            )
            for group in groups
        ]
        rows.append(Row(task, sizes.get(task), _with_best(cells)))
    tested = [group for group in groups if any(metric in run.test for run in group.runs)]
    common = [task for task in evaluated if all(group.test(metric, task) for group in tested)]
    if common:
        means = [
            Cell(
                mean(
                    sum(run.test[metric][task] for task in common) / len(common)
                    for run in group.runs
                    if all(task in run.test.get(metric, {}) for task in common)
                ),
                decimals=places,
            )
            for group in groups
        ]
        rows.append(Row("mean", None, _with_best(means)))
    labels = tuple(group.label for group in groups)
    partial = tuple(task for task in evaluated if task not in common)
    return FinalTable(metric, labels, tuple(rows), partial)


def to_markdown(table: FinalTable) -> str:
    """The table in Markdown; the best of each row is bold."""
    lines = [
        "| " + " | ".join(["task", "training pairs", *table.labels]) + " |",
        "|" + "|".join(["---", "---:", *(["---:"] * len(table.labels))]) + "|",
    ]
    for row in table.rows:
        cells = []
        for cell in row.cells:
            text = f"**{cell.number}**" if cell.best else cell.number
            cells.append(f"{text} {cell.signs}".strip())
        size = "" if row.size is None else f"{row.size:,}"
        lines.append("| " + " | ".join([row.name, size, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _with_best(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    values = [cell.value.mean for cell in cells if cell.value is not None]
    if len(values) < 2:
        return tuple(cells)
    highest = max(values)
    return tuple(
        dataclasses.replace(cell, best=cell.value is not None and cell.value.mean == highest)
        for cell in cells
    )
