"""The final table: the score of every group on every task, for a page and for Markdown."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from keras_mtl.metrics import decimals, higher_is_better, schedule_higher_is_better, schedule_score
from keras_mtl.report.groups import Group, Mean, mean
from keras_mtl.report.runs import Run
from keras_mtl.report.significance import Comparison, Comparisons

UP, DOWN = "▲", "▼"
MOST_INSIDE = 4
"""Largest number of groups for which score / baseline is shown next to the scores."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """The score of a group on a task.

    Attributes:
        value: score over its seeds; None if it was not evaluated on the task.
        comparison: comparison with the baseline group; None if there is none.
        best: whether no group has a better mean.
        decimals: number of decimals to write.
        ratio: score / baseline over its seeds, or baseline / score if lower is better; None without
            a baseline.
    """

    value: Mean | None
    comparison: Comparison | None = None
    best: bool = False
    decimals: int = 1
    ratio: Mean | None = None

    @property
    def number(self) -> str:
        """Returns text such as `54.8 ± 0.4`; with the spread only if there are several seeds."""
        if self.value is None:
            return "–"
        text = f"{self.value.mean:.{self.decimals}f}"
        spread = self.value.spread
        return text if spread is None else f"{text} ± {spread:.{self.decimals}f}"

    @property
    def shown_ratio(self) -> str:
        """Returns text such as `0.87`, or a dash without a baseline."""
        return "–" if self.ratio is None else f"{self.ratio.mean:.2f}"

    @property
    def signs(self) -> str:
        """Returns text such as `▲2/3`: significantly above in two of three pairs of runs."""
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
        name: name of the task.
        size: number of training pairs; None if it is not known.
        baseline: score of a model trained on only this task; None if it is not known, differs
            between groups, or is of another metric.
        cells: a cell for each group.
    """

    name: str
    size: int | None
    baseline: float | None
    cells: tuple[Cell, ...]


@dataclasses.dataclass(frozen=True)
class FinalTable:
    """Scores of one metric.

    Attributes:
        metric: name of the metric.
        labels: labels of the groups.
        rows: a row for each task, and last the mean over the tasks that all groups have.
        partial: tasks that the mean leaves out, because some group does not have them.
    """

    metric: str
    labels: tuple[str, ...]
    rows: tuple[Row, ...]
    partial: tuple[str, ...]

    @property
    def has_ratios(self) -> bool:
        """Whether any task has a baseline in the unit of this metric."""
        return any(cell.ratio for row in self.rows for cell in row.cells)

    @property
    def ratios_inside(self) -> bool:
        """Whether score / baseline is shown next to the scores instead of in a separate table."""
        return self.has_ratios and len(self.labels) <= MOST_INSIDE

    def over_baseline(self, name: str, space: str = " ") -> str:
        """Returns `name / baseline`, or `baseline / name` if lower is better.

        Args:
            name: what the score is.
            space: text before the slash.
        """
        parts = [name, "baseline"]
        return f"{space}/ ".join(parts if schedule_higher_is_better(self.metric) else parts[::-1])


def final_table(
    groups: Sequence[Group],
    tasks: Sequence[str],
    metric: str,
    sizes: Mapping[str, int],
    comparisons: Comparisons,
    mark_best: bool = True,
) -> FinalTable | None:
    """Returns the table of test scores of a metric.

    Args:
        groups: the groups.
        tasks: the tasks, in the order of the rows.
        metric: name of the metric.
        sizes: number of training pairs by task.
        comparisons: results of significance tests.
        mark_best: whether to mark the best score of a row; False if scores are not comparable.

    Returns:
        The table; None if no group was scored by this metric.
    """
    evaluated = [task for task in tasks if any(group.test(metric, task) for group in groups)]
    if not evaluated:
        return None
    best = functools.partial(_with_best, metric) if mark_best else tuple
    rows = []
    places = decimals(metric)
    for task in evaluated:
        cells = [
            Cell(
                group.test(metric, task),
                comparisons.get((group.label, task, metric)),
                decimals=places,
                ratio=_mean_ratio(group, metric, [task]),
            )
            for group in groups
        ]
        rows.append(Row(task, sizes.get(task), _baseline(groups, metric, task), best(cells)))
    tested = [group for group in groups if any(metric in run.test for run in group.runs)]
    common = [task for task in evaluated if all(group.test(metric, task) for group in tested)]
    if common:
        means = _means(groups, tested, common, metric)
        rows.append(Row("mean", None, None, best(means)))
    labels = tuple(group.label for group in groups)
    partial = tuple(task for task in evaluated if task not in common)
    return FinalTable(metric, labels, tuple(rows), partial)


def _means(
    groups: Sequence[Group], tested: Sequence[Group], tasks: Sequence[str], metric: str
) -> list[Cell]:
    """Returns the mean of each group over tasks that all tested groups have."""
    with_baseline = [
        task for task in tasks if all(group.baseline(task) is not None for group in tested)
    ]
    return [
        Cell(
            mean(
                sum(run.test[metric][task] for task in tasks) / len(tasks)
                for run in group.runs
                if all(task in run.test.get(metric, {}) for task in tasks)
            ),
            decimals=decimals(metric),
            ratio=_mean_ratio(group, metric, with_baseline),
        )
        for group in groups
    ]


def _mean_ratio(group: Group, metric: str, tasks: Sequence[str]) -> Mean | None:
    return group.mean_of(lambda run: _ratio(run, metric, tasks))


def _ratio(run: Run, metric: str, tasks: Sequence[str]) -> float | None:
    """Returns the mean of `Cell.ratio` over tasks; None if a score or baseline is missing."""
    scores = run.test.get(metric, {})
    if metric != run.metric or not tasks:
        return None
    if any(task not in scores or not run.baselines.get(task) for task in tasks):
        return None
    ratios = []
    for task in tasks:
        score, baseline = schedule_score(metric, scores[task]), run.baselines[task]
        if not schedule_higher_is_better(metric):
            score, baseline = baseline, max(score, 1e-9)
        ratios.append(score / baseline)
    return sum(ratios) / len(ratios)


def _baseline(groups: Sequence[Group], metric: str, task: str) -> float | None:
    runs = [run for group in groups for run in group.runs if run.metric == metric]
    found = {round(run.baselines[task], 6) for run in runs if task in run.baselines}
    return found.pop() if len(found) == 1 else None


def to_markdown(table: FinalTable) -> str:
    """Returns the table in Markdown; the best score of each row is bold."""
    header = ["task", "training pairs"]
    if table.has_ratios:
        header.append("baseline")
    for label in table.labels:
        header += [label, table.over_baseline(label)] if table.ratios_inside else [label]
    lines = [_markdown_row(header), "|" + "|".join(["---", *["---:"] * (len(header) - 1)]) + "|"]
    for row in table.rows:
        cells = [row.name, "" if row.size is None else f"{row.size:,}"]
        if table.has_ratios:
            cells.append(shown_baseline(row))
        for cell in row.cells:
            text = f"**{cell.number}**" if cell.best else cell.number
            cells.append(f"{text} {cell.signs}".strip())
            if table.ratios_inside:
                cells.append(cell.shown_ratio)
        lines.append(_markdown_row(cells))
    if table.has_ratios and not table.ratios_inside:
        lines += ["", f"{table.over_baseline('score').capitalize()}:", ""]
        lines.append(_markdown_row(["task", *table.labels]))
        lines.append("|" + "|".join(["---", *["---:"] * len(table.labels)]) + "|")
        lines += [
            _markdown_row([row.name, *(cell.shown_ratio for cell in row.cells)])
            for row in table.rows
        ]
    return "\n".join(lines) + "\n"


def shown_baseline(row: Row) -> str:
    """Returns text such as `79.4`; a dash if it is not known, and nothing for the mean."""
    if row.baseline is None:
        return "" if row.name == "mean" else "–"
    return f"{row.baseline:.1f}" if row.baseline >= 10 else f"{row.baseline:.2f}"


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _with_best(metric: str, cells: Sequence[Cell]) -> tuple[Cell, ...]:
    values = [cell.value.mean for cell in cells if cell.value is not None]
    if len(values) < 2:
        return tuple(cells)
    best = max(values) if higher_is_better(metric) else min(values)
    return tuple(
        dataclasses.replace(cell, best=cell.value is not None and cell.value.mean == best)
        for cell in cells
    )
