"""Writes the report of runs: a page, pictures and a table in one directory."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from keras_mtl.errors import ConfigError, nearest
from keras_mtl.figures import charts
from keras_mtl.files import replace_file
from keras_mtl.metrics import TEXT_METRICS
from keras_mtl.metrics import title as metric_title
from keras_mtl.report import comparability, page, panels, sections
from keras_mtl.report.comparability import Comparability, listed
from keras_mtl.report.dev_samples import dev_samples
from keras_mtl.report.groups import Group, group_runs, sizes_of, task_names
from keras_mtl.report.runs import Run
from keras_mtl.report.significance import LEVEL, Comparisons, compare_groups
from keras_mtl.report.tables import DOWN, UP, FinalTable, final_table, to_markdown

PAGE_FILE = "index.html"
TABLE_FILE = "table.md"


def write_report(
    runs: Sequence[Run],
    output: str | os.PathLike[str],
    baseline: str | None = None,
    samples: int = 1000,
    title: str = "",
    log: Callable[[str], None] | None = None,
    *,
    split: str = "test",
    made: str = "",
    refresh: int = 0,
) -> tuple[Path, str]:
    """Writes `index.html`, `table.md` and PNGs.

    Args:
        runs: the runs; those that differ only in their seed are one configuration.
        output: the directory; it is created if it is missing.
        baseline: label of the group that all others are tested against; None means the first.
        samples: number of bootstrap resamples of a test; 0 skips the tests.
        title: title of the page; if empty, it is derived from the runs.
        log: function that is called with lines on the progress of the tests.
        split: the evaluation that the runs were read with, `test` or `dev`.
        made: footer with the time and the program version; without it the same runs give the same
            bytes.
        refresh: seconds after which a browser loads the page again; 0 never does.

    Returns:
        The path of the page, and the tables in Markdown.

    Raises:
        ConfigError: there are no runs, or no group has the label.
    """
    if not runs:
        raise ConfigError("nothing to report; give the model_dir of at least one run")
    found = _compare(group_runs(runs), baseline, samples, split, log)
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    markdown = _markdown(found)
    replace_file(directory / TABLE_FILE, markdown)
    label, drawn = _draw(found, directory)
    body = "".join(
        [
            page.warning(_warning_title(found.groups), found.check.warnings, found.check.unknown),
            sections.tiles(found.groups, found.tables, found.check.compares),
            _score_section(found),
            *_chart_sections(found, drawn, label),
            page.section(
                "Translations while training",
                dev_samples(found.groups, found.tasks),
                note="The same sentences of the dev set at each validation."
                + (" Of several seeds, the first." if len(runs) > len(found.groups) else ""),
            ),
            page.section(
                "Sample translations",
                sections.sample_translations(found.groups, found.tasks),
                note=f"The same sentences of the {split} set in each report of these tasks."
                + (" Of several seeds, the first." if len(runs) > len(found.groups) else ""),
            ),
            page.section(
                "Runs",
                sections.runs_table(found.groups),
                sections.differences_table(found.groups),
            ),
            page.section("Evaluations", sections.evaluations_table(found.groups)),
            page.section("Notes", sections.list_of(found.notes)),
            f"<footer>{page.escape(made)}</footer>" if made else "",
        ]
    )
    path = directory / PAGE_FILE
    subtitle = _subtitle(runs, found.groups, found.tasks)
    replace_file(path, page.page(title or _title(found.groups), subtitle, body, refresh))
    return path, markdown


@dataclasses.dataclass(frozen=True)
class _Findings:
    """The content of a report.

    Attributes:
        groups: the groups, each with the runs of one configuration.
        first: the group that all others are tested against.
        tasks: all tasks; if there are many, the largest first.
        sizes: number of training pairs by task, if known.
        check: the reasons why scores are not comparable.
        comparisons: results of the significance tests.
        samples: number of bootstrap resamples of a test.
        tables: scores of each metric; the metric that drove the schedules comes first.
        notes: a sentence for everything that is missing or damaged.
        split: the evaluation that the runs were read with.
    """

    groups: Sequence[Group]
    first: Group
    tasks: Sequence[str]
    sizes: Mapping[str, int]
    check: Comparability
    comparisons: Comparisons
    samples: int
    tables: Sequence[FinalTable]
    notes: Sequence[str]
    split: str


def _compare(
    groups: Sequence[Group],
    baseline: str | None,
    samples: int,
    split: str,
    log: Callable[[str], None] | None,
) -> _Findings:
    """Checks whether scores are comparable, tests their differences, and makes the tables."""
    first = _baseline(groups, baseline)
    tasks = task_names(groups)
    sizes = sizes_of(groups)
    if len(tasks) > charts.MAX_LINES:
        tasks.sort(key=lambda task: -sizes.get(task, 0))
    check = comparability.check(groups, tasks, split)
    notes = _notes(groups, tasks)
    comparisons: Comparisons = {}
    # If scores are not comparable, no test can say which is better.
    if samples and len(groups) > 1 and check.compares:
        comparisons, not_compared = compare_groups(groups, first, tasks, samples, log)
        notes += not_compared
    tables = [
        table
        for metric in _metrics(groups)
        if (table := final_table(groups, tasks, metric, sizes, comparisons, check.compares))
    ]
    return _Findings(groups, first, tasks, sizes, check, comparisons, samples, tables, notes, split)


def _draw(found: _Findings, directory: Path) -> tuple[str, dict[str, list[panels.Panel]]]:
    """Draws the charts and writes each kind as a PNG.

    Returns:
        The label of the score curves, and the panels by kind.
    """
    groups, tasks = found.groups, found.tasks
    final = None
    if found.tables:
        final = panels.final_panel(groups, tasks, found.tables[0].metric, found.sizes)
    label, scores = panels.score_panels(groups, tasks)
    drawn = {
        "final": [final] if final else [],
        "scores": scores,
        "losses": panels.loss_panels(groups, tasks),
        "probabilities": panels.probability_panels(groups, tasks),
        "shares": panels.share_panels(groups, tasks),
    }
    labels = [group.label for group in groups] if len(groups) > 1 else []
    for name, kind in drawn.items():
        if kind:
            legend = labels if name in ("final", "scores", "losses") else []
            charts.save_png(panels.compose(kind, legend), directory / f"{name}.png")
    return label, drawn


def _score_section(found: _Findings) -> str:
    """Returns the tables of scores, the driving metric first; signatures if there are none."""
    groups, first, tables = found.groups, found.first, found.tables
    if not tables:
        return page.section("", sections.signatures(groups))
    return page.section(
        f"Scores on {found.split}",
        sections.score_table(tables[0], groups, first),
        *(
            f"<details><summary>{page.escape(metric_title(t.metric))}</summary>"
            f"{sections.score_table(t, groups, first)}</details>"
            for t in tables[1:]
        ),
        sections.signatures(groups),
        note=sections.how(
            tables, groups, first, found.comparisons, found.samples, found.check.compares
        ),
    )


def _chart_sections(
    found: _Findings, drawn: Mapping[str, list[panels.Panel]], label: str
) -> list[str]:
    groups, tasks = found.groups, found.tasks
    several = len(groups) > 1
    legend = page.legend([group.label for group in groups]) if several else ""
    rows = " Rows: tasks, the largest above." if len(tasks) > panels.MOST_PANELS else ""
    bands = any(len(group.runs) > 1 for group in groups)
    seeds = "Bands reach from the lowest to the highest seed." if bands else ""
    dashed = " Dashed: a model trained on only this task." if "baseline" in label else ""

    def charted(name: str, title: str, note: str, with_legend: bool = True) -> str:
        if not drawn[name]:
            return ""
        return page.section(
            title, legend if with_legend else "", page.panels(drawn[name], name), note=note.strip()
        )

    given = "What each schedule gave the tasks" if several else "What the schedule gave the tasks"
    marks = (
        "A mark is the mean over seeds; its line reaches from the lowest to the highest."
        if bands
        else ""
    )
    return [
        charted("final", f"Scores on {found.split}, task by task", marks),
        charted("scores", f"{label} on dev, over steps", seeds + rows + dashed),
        charted("losses", "Training loss over steps", seeds + rows),
        charted(
            "probabilities",
            given,
            "Probability of the next batch over steps; factors if updates are scaled, weights "
            "if losses or gradients are balanced.",
            with_legend=False,
        ),
        charted("shares", "What was consumed", "", with_legend=False),
    ]


def _title(groups: Sequence[Group]) -> str:
    if len(groups) == 1:
        return f"Report of {groups[0].label}"
    schedules = {group.runs[0].schedule for group in groups}
    return "Schedules compared" if len(schedules) > 1 else "Configurations compared"


def _subtitle(runs: Sequence[Run], groups: Sequence[Group], tasks: Sequence[str]) -> str:
    def count(number: int, noun: str) -> str:
        return f"{number} {noun}{'' if number == 1 else 's'}"

    configurations = f" of {count(len(groups), 'configuration')}" if len(runs) > 1 else ""
    return f"{count(len(runs), 'run')}{configurations} on {count(len(tasks), 'task')}."


def _warning_title(groups: Sequence[Group]) -> str:
    if len(groups) > 1:
        return "These scores are not comparable, so no winner is marked"
    return "These scores are not the final ones of the whole test set"


def _notes(groups: Sequence[Group], tasks: Sequence[str]) -> list[str]:
    """Returns a sentence for everything that is missing or damaged."""
    runs = [run for group in groups for run in group.runs]
    notes = [f"{run.directory}: {note}" for run in runs for note in run.notes]
    for group in groups:
        missing = [task for task in tasks if all(task not in run.tasks for run in group.runs)]
        if missing:
            notes.append(f"{group.label} does not have {listed(missing)}")
    if any(run.ratios for run in runs):
        notes += [
            f"{group.label} has no baselines, so it has no curve of score / baseline"
            for group in groups
            if not any(run.ratios for run in group.runs) and any(run.scores for run in group.runs)
        ]
    differing = [
        task
        for task in tasks
        if len({round(b, 6) for g in groups if (b := g.baseline(task)) is not None}) > 1
    ]
    if differing:
        notes.append(
            f"the configurations have different baselines of {listed(differing)}, so score / "
            "baseline is not comparable between them"
        )
    return notes


def _baseline(groups: Sequence[Group], label: str | None) -> Group:
    if label is None:
        return groups[0]
    labels = [group.label for group in groups]
    for group in groups:
        # The label, or the directory of a run of the group.
        if label == group.label or Path(label) in [run.directory for run in group.runs]:
            return group
    raise ConfigError(
        f"--baseline {label!r} is not a configuration of these runs{nearest(label, labels)}; they "
        f"are {', '.join(map(repr, labels))}"
    )


def _metrics(groups: Sequence[Group]) -> list[str]:
    """Returns the metrics of the tests; the metric that drove the schedules comes first."""
    runs = [run for group in groups for run in group.runs]
    found = {metric: None for run in runs for metric in run.test}
    driving = next((run.metric for run in runs if run.metric in found), "")
    order = [driving, *TEXT_METRICS]
    return sorted(found, key=lambda metric: order.index(metric) if metric in order else len(order))


def _markdown(found: _Findings) -> str:
    lines = []
    if found.check.warnings:
        lines.append(f"> **Warning: {_warning_title(found.groups)}.**")
        lines += [f"> * {warning}" for warning in found.check.warnings]
        lines.append("")
    lines += [f"> {text}\n" for text in found.check.unknown]
    if not found.tables:
        return "\n".join([*lines, "No run has test outputs.\n"])
    first, *others = (_markdown_table(table, found) for table in found.tables)
    return "\n".join(["\n".join([*lines, first]), *others])


def _markdown_table(table: FinalTable, found: _Findings) -> str:
    title = metric_title(table.metric)
    seeds = max(len(group.runs) for group in found.groups)
    spread = f", mean ± standard deviation of up to {seeds} seeds" if seeds > 1 else ""
    lines = [f"{title} on {found.split}{spread}", "", to_markdown(table)]
    if any(cell.comparison for row in table.rows for cell in row.cells):
        lines.append(
            f"{UP} and {DOWN}: significantly above or below {found.first.label}, in that number of "
            f"pairs of runs (paired bootstrap of sacrebleu, {found.samples} samples, "
            f"p < {LEVEL:g}).\n"
        )
    if table.partial:
        lines.append(f"The mean excludes {listed(table.partial)}, which some groups do not have.\n")
    return "\n".join(lines)
