"""Writes the report of some runs: a page, pictures and a table, in one folder."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from keras_mtl import charts
from keras_mtl.errors import ConfigError, nearest
from keras_mtl.metrics import TEXT_METRICS
from keras_mtl.report import figures, page
from keras_mtl.report.groups import Group, differences, group_runs, sizes_of, task_names
from keras_mtl.report.runs import BEAM, Run
from keras_mtl.report.significance import LEVEL, Comparisons, compare_groups
from keras_mtl.report.tables import DOWN, TITLES, UP, Cell, FinalTable, final_table, to_markdown

PAGE_FILE = "index.html"
TABLE_FILE = "table.md"


def write_report(
    runs: Sequence[Run],
    output: str | os.PathLike[str],
    baseline: str | None = None,
    samples: int = 1000,
    title: str = "Schedules compared",
    log: Callable[[str], None] | None = None,
) -> tuple[Path, str]:
    """Writes ``index.html``, ``table.md`` and PNGs.

    Args:
      runs: what is compared; runs that differ by their seed alone are told together.
      output: the folder; made when missing.
      baseline: label of the group that all others are tested against; None is the first.
      samples: bootstrap resamples of a test; 0 leaves the tests out.
      title: of the page.
      log: gets lines on the progress of the tests.

    Returns:
      Path of the page, and the tables in Markdown.

    Raises:
      ConfigError: no run, or no group has the label.
    """
    if not runs:
        raise ConfigError("nothing to report; give the model_dir of at least one run")
    groups = group_runs(runs)
    first = _baseline(groups, baseline)
    tasks = task_names(groups)
    sizes = sizes_of(groups)
    if len(tasks) > charts.MAX_LINES:
        tasks.sort(key=lambda task: -sizes.get(task, 0))
    ordered = [run for group in groups for run in group.runs]
    notes = [f"{run.folder}: {note}" for run in ordered for note in run.notes]
    for group in groups:
        missing = [task for task in tasks if all(task not in run.tasks for run in group.runs)]
        if missing:
            notes.append(f"{group.label} does not have {_listed(missing)}")
    if any(run.ratios for run in ordered):
        notes += [
            f"{group.label} has no baselines: it is not among the curves of score / baseline"
            for group in groups
            if not any(run.ratios for run in group.runs) and any(run.scores for run in group.runs)
        ]
    notes += _tested_otherwise(ordered, tasks)
    comparisons: Comparisons = {}
    if samples and len(groups) > 1:
        comparisons, more = compare_groups(groups, first, tasks, samples, log)
        notes += more
    tables = [
        found
        for metric in _metrics(groups)
        if (found := final_table(groups, tasks, metric, sizes, comparisons))
    ]
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    markdown = "\n".join(_markdown(table, groups, first, samples) for table in tables)
    if not tables:
        markdown = "No run has test outputs.\n"
    _replace(folder / TABLE_FILE, markdown)
    labels = [group.label for group in groups]
    label, scores = figures.score_panels(groups, tasks)
    probabilities = figures.probability_panels(groups, tasks)
    shares = figures.share_panels(groups, tasks)
    final = figures.final_panel(groups, tasks, tables[0].metric, sizes) if tables else None
    for name, panels, shown in (
        ("final", [final] if final else [], labels),
        ("scores", scores, labels),
        ("probabilities", probabilities, ()),
        ("shares", shares, ()),
    ):
        if panels:
            charts.save_png(figures.compose(panels, shown), folder / f"{name}.png")
    many = len(tasks) > figures.MOST_PANELS
    body = "".join(
        [
            _tiles(groups, tables),
            page.section(
                "Test scores" if tables else "",
                _html_table(tables[0], groups, first) if tables else "",
                *(
                    f"<details><summary>{page.escape(TITLES.get(t.metric, t.metric))}</summary>"
                    f"{_html_table(t, groups, first)}</details>"
                    for t in tables[1:]
                ),
                note=_how(tables, groups, first, comparisons, samples) if tables else "",
            ),
            page.section(
                "Where the schedules differ",
                page.legend(labels),
                page.panels([final], "final"),
                note="A row a task. A mark is the mean over seeds, its line reaches from the "
                "lowest to the highest.",
            )
            if final
            else "",
            page.section(
                f"{label} on dev, over steps",
                page.legend(labels) + page.panels(scores, "scores") if scores else "",
                note="Bands reach from the lowest to the highest seed."
                + (" Rows: tasks, the largest above." if many else "")
                + (" Dashed: the score of a model for the task alone." if "base" in label else ""),
            ),
            page.section(
                "What each schedule gave the tasks",
                page.panels(probabilities, "given"),
                note="Probability of the next batch over steps; factors where updates are scaled, "
                "weights where losses or gradients are balanced.",
            ),
            page.section("What was consumed", page.panels(shares, "shares")),
            page.section("Runs", _runs_table(groups), _differences(groups)),
            page.section("Notes", _list(notes)),
        ]
    )
    count = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
    subtitle = (
        f"{count} of {len(groups)} configuration{'s' if len(groups) > 1 else ''} on {len(tasks)} "
        f"task{'s' if len(tasks) > 1 else ''}."
    )
    path = folder / PAGE_FILE
    _replace(path, page.page(title, subtitle, body))
    return path, markdown


def _baseline(groups: Sequence[Group], label: str | None) -> Group:
    if label is None:
        return groups[0]
    labels = [group.label for group in groups]
    if label not in labels:
        raise ConfigError(
            f"--baseline {label!r} is no group of these runs{nearest(label, labels)}; they are "
            f"{', '.join(map(repr, labels))}"
        )
    return groups[labels.index(label)]


def _metrics(groups: Sequence[Group]) -> list[str]:
    """Metrics of the tests, the one that drove the schedules first."""
    runs = [run for group in groups for run in group.runs]
    found = {metric: None for run in runs for metric in run.test}
    driving = next((run.metric for run in runs if run.metric in found), "")
    order = [driving, *TEXT_METRICS]
    return sorted(found, key=lambda metric: order.index(metric) if metric in order else len(order))


def _markdown(table: FinalTable, groups: Sequence[Group], first: Group, samples: int) -> str:
    title = TITLES.get(table.metric, table.metric)
    seeds = max(len(group.runs) for group in groups)
    spread = f", mean ± standard deviation of up to {seeds} seeds" if seeds > 1 else ""
    lines = [f"{title} on test{spread}", "", to_markdown(table)]
    if any(cell.comparison for row in table.rows for cell in row.cells):
        lines.append(
            f"{UP} and {DOWN}: in so many pairs of runs significantly above or below {first.label} "
            f"(paired bootstrap of sacrebleu, {samples} samples, p < {LEVEL:g}).\n"
        )
    if table.partial:
        lines.append(f"The mean leaves out {_listed(table.partial)}: some group lacks them.\n")
    return "\n".join(lines)


def _tiles(groups: Sequence[Group], tables: Sequence[FinalTable]) -> str:
    tiles = []
    for table in tables[:2]:
        if table.rows[-1].name != "mean":
            continue
        cells = table.rows[-1].cells
        for place, cell in enumerate(cells):
            if cell.best or len(cells) == 1:
                title = page.escape(TITLES.get(table.metric, table.metric))
                what = f"{'highest ' if len(cells) > 1 else ''}mean {title}"
                name = page.swatch(place) + page.escape(groups[place].label)
                tiles.append((_number(cell), f"{what}: {name}"))
                break
    if tables:
        wins = [sum(row.cells[i].best for row in tables[0].rows[:-1]) for i in range(len(groups))]
        if len(groups) > 1 and wins.count(max(wins)) == 1:
            place = wins.index(max(wins))
            name = page.swatch(place) + page.escape(groups[place].label)
            total = len(tables[0].rows) - 1
            tiles.append((f"{max(wins)} <small>of {total}</small>", f"most tasks won: {name}"))
    seeds = sorted({len(group.runs) for group in groups})
    shown = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    tiles.append((shown, "runs of each configuration" if seeds != [1] else "run of each"))
    parts = "".join(f'<div class="tile"><b>{b}</b><span>{text}</span></div>' for b, text in tiles)
    return f'<div class="tiles">{parts}</div>\n'


def _tested_otherwise(runs: Sequence[Run], tasks: Sequence[str]) -> list[str]:
    """A note for each task whose test scores are of other sentences, or of another beam."""
    notes = []
    for key in (BEAM, *tasks):
        found = sorted({run.tested[key] for run in runs if key in run.tested})
        if len(found) < 2:
            continue
        counts = " and ".join(map(str, found))
        what = f"with a {BEAM} of {counts}" if key == BEAM else f"{key} on {counts} sentences"
        notes.append(f"the runs were tested {what}: these scores do not compare; evaluate again")
    return notes


def _number(cell: Cell) -> str:
    number, plus, spread = cell.number.partition(" ± ")
    return f"{number} <small>± {spread}</small>" if plus else number


def _html_table(table: FinalTable, groups: Sequence[Group], first: Group) -> str:
    sized = any(row.size is not None for row in table.rows)
    header = ["task", *(["training pairs"] if sized else [])]
    header += [page.swatch(i) + page.breakable(group.label) for i, group in enumerate(groups)]
    tested = any(cell.comparison for row in table.rows for cell in row.cells)
    rows = []
    for row in table.rows:
        cells = [page.escape(row.name)]
        if sized:
            cells.append("" if row.size is None else f"{row.size:,}")
        for group, cell in zip(groups, row.cells, strict=True):
            number, plus, spread = cell.number.partition(" ± ")
            text = f'<span class="best">{number}</span>' if cell.best else number
            if plus:
                text += f' <span class="pm">± {spread}</span>'
            if tested and group is not first:
                text += f'<span class="sign"{_p_values(cell)}>{_signs(cell)}</span>'
            cells.append(text)
        rows.append(cells)
    return page.table(header, rows, last=table.rows[-1].name == "mean")


def _signs(cell: Cell) -> str:
    parts = []
    for part in cell.signs.split():
        kind = "up" if part.startswith(UP) else "down"
        parts.append(f'<span class="{kind}">{part}</span>')
    return " ".join(parts)


def _p_values(cell: Cell) -> str:
    if cell.comparison is None:
        return ""
    return f' title="p = {", ".join(f"{p:.3f}" for p in cell.comparison.p_values)}"'


def _how(
    tables: Sequence[FinalTable],
    groups: Sequence[Group],
    first: Group,
    comparisons: Comparisons,
    samples: int,
) -> str:
    title = page.escape(TITLES.get(tables[0].metric, tables[0].metric))
    parts = [f"{title}; the best of each row is bold."]
    if any(len(group.runs) > 1 for group in groups):
        parts.append("±: standard deviation over seeds.")
    if comparisons:
        parts.append(
            f"{UP} {DOWN}: significantly above or below {page.escape(first.label)} in so many "
            f"pairs of runs (paired bootstrap, {samples:,} samples, p &lt; {LEVEL:g}). It says how "
            "sure the difference of two runs is on these sentences; what another seed would do, "
            "the spread says."
        )
    if tables[0].partial:
        left_out = page.escape(_listed(tables[0].partial))
        parts.append(f"The mean leaves out {left_out}: some configuration lacks them.")
    signatures = {
        f"{TITLES.get(metric, metric)}: <code>{page.escape(text)}</code>"
        for group in groups
        for run in group.runs
        for metric, text in run.signatures.items()
    }
    return " ".join(parts) + "<br>" + "<br>".join(sorted(signatures))


def _runs_table(groups: Sequence[Group]) -> str:
    rows = []
    for place, group in enumerate(groups):
        for run in group.runs:
            seed = "–" if run.seed is None else str(run.seed)
            rows.append(
                [
                    page.swatch(place) + page.escape(group.label),
                    f"<code>{page.escape(run.folder)}</code>",
                    seed,
                    f"{run.last_step:,}" if run.last_step else "–",
                ]
            )
    return page.table(["configuration", "folder", "seed", "steps"], rows, numbers=False)


def _differences(groups: Sequence[Group]) -> str:
    found = differences(groups) if len(groups) > 1 else []
    if not found:
        return ""
    header = ["field", *(page.escape(group.label) for group in groups)]
    rows = [
        [f"<code>{page.escape(field)}</code>", *(page.escape(value) for value in values)]
        for field, values in found
    ]
    return (
        "<details><summary>Where the configurations differ</summary>"
        f"{page.table(header, rows, numbers=False)}</details>"
    )


def _list(lines: Sequence[str]) -> str:
    items = "".join(f"<li>{page.escape(line)}</li>" for line in lines)
    return f'<ul class="plain">{items}</ul>' if items else ""


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:6])
    return f"{shown} and {len(names) - 6} more" if len(names) > 6 else shown


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
