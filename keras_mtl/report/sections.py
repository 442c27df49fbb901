"""The text and tables of a report's page."""

from collections.abc import Mapping, Sequence

from keras_mtl.metrics import higher_is_better
from keras_mtl.metrics import title as metric_title
from keras_mtl.report import page
from keras_mtl.report.comparability import listed
from keras_mtl.report.groups import Group
from keras_mtl.report.labels import differences
from keras_mtl.report.samples import samples_of
from keras_mtl.report.significance import LEVEL, Comparisons
from keras_mtl.report.tables import DOWN, UP, Cell, FinalTable, shown_baseline

# Largest number of tasks whose sample translations are open; others are folded.
_OPEN_SAMPLES = 6


def tiles(groups: Sequence[Group], tables: Sequence[FinalTable], winners: bool) -> str:
    """Returns the most important numbers; without winners if the scores are not comparable."""
    found = []
    for place, table in enumerate(tables[:2]):
        if table.rows[-1].name != "mean" or (len(groups) > 1 and not winners):
            continue
        best = [i for i, cell in enumerate(table.rows[-1].cells) if cell.best or len(groups) == 1]
        if best and table.rows[-1].cells[best[0]].value:
            cell = table.rows[-1].cells[best[0]]
            title = page.escape(metric_title(table.metric))
            end = "highest" if higher_is_better(table.metric) else "lowest"
            what = f"mean {title}" if len(groups) == 1 else f"{end} mean {title}"
            found.append((_number(cell), f"{what}: {name_of(groups, best[0])}"))
            if place == 0 and cell.ratio and len(groups) == 1:
                found.append((cell.shown_ratio, f"mean {table.over_baseline(title)}"))
    if tables and winners and len(groups) > 1:
        wins = [sum(row.cells[i].best for row in tables[0].rows[:-1]) for i in range(len(groups))]
        if wins.count(max(wins)) == 1 and max(wins):
            total = len(tables[0].rows) - 1
            name = name_of(groups, wins.index(max(wins)))
            found.append((f"{max(wins)} <small>of {total}</small>", f"most tasks won: {name}"))
    counts = sorted({len(group.runs) for group in groups})
    if found and (len(groups) > 1 or counts != [1]):
        shown = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        noun = "run" if counts == [1] else "runs"
        found.append((shown, f"{noun} of each configuration" if len(groups) > 1 else noun))
    parts = "".join(f'<div class="tile"><b>{b}</b><span>{text}</span></div>' for b, text in found)
    return f'<div class="tiles">{parts}</div>\n' if parts else ""


def name_of(groups: Sequence[Group], place: int) -> str:
    """Returns the mark and the label of a group."""
    return f'<span class="short">{page.swatch(place)}</span>{page.breakable(groups[place].label)}'


def _number(cell: Cell) -> str:
    number, plus, spread = cell.number.partition(" ± ")
    return f"{number} <small>± {spread}</small>" if plus else number


def score_table(table: FinalTable, groups: Sequence[Group], first: Group) -> str:
    """Returns the scores of one metric; for many groups, score / baseline is a second table."""
    sized = any(row.size is not None for row in table.rows)
    header = ["task", *(["training pairs"] if sized else [])]
    if table.has_ratios:
        header.append("baseline")
    for place in range(len(groups)):
        name = name_of(groups, place)
        header += [name, table.over_baseline(name, " <wbr>")] if table.ratios_inside else [name]
    tested = any(cell.comparison for row in table.rows for cell in row.cells)
    rows = []
    for row in table.rows:
        cells = [page.escape(row.name)]
        if sized:
            cells.append("" if row.size is None else f"{row.size:,}")
        if table.has_ratios:
            cells.append(shown_baseline(row))
        for group, cell in zip(groups, row.cells, strict=True):
            cells.append(_score(cell, tested and group is not first))
            if table.ratios_inside:
                cells.append(cell.shown_ratio)
        rows.append(cells)
    sums = table.rows[-1].name == "mean"
    html = page.table(header, rows, last=sums)
    if table.has_ratios and not table.ratios_inside:
        header = ["task", *(name_of(groups, place) for place in range(len(groups)))]
        rows = [[page.escape(r.name), *(cell.shown_ratio for cell in r.cells)] for r in table.rows]
        ratio = table.over_baseline("score").capitalize()
        html += f"<h3>{ratio}</h3>{page.table(header, rows, last=sums)}"
    return html


def _score(cell: Cell, with_signs: bool) -> str:
    number, plus, spread = cell.number.partition(" ± ")
    text = f'<span class="best">{number}</span>' if cell.best else number
    if plus:
        text += f' <span class="pm">± {spread}</span>'
    if with_signs:
        text += f'<span class="sign"{_p_values(cell)}>{_signs(cell)}</span>'
    return text


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


def how(
    tables: Sequence[FinalTable],
    groups: Sequence[Group],
    first: Group,
    comparisons: Comparisons,
    samples: int,
    winners: bool,
) -> str:
    """Explains the columns and marks of the table."""
    title = page.escape(metric_title(tables[0].metric))
    parts = [f"{title}."]
    if len(groups) > 1:
        parts.append(
            "The best of each row is bold."
            if winners
            else "No winner is marked, because these scores are not comparable."
        )
    if any(len(group.runs) > 1 for group in groups):
        parts.append("±: standard deviation over seeds.")
    if tables[0].has_ratios:
        parts.append(
            "Baseline: score of a model trained on only this task, from the configuration; "
            f"it was measured on dev sentences, so {tables[0].over_baseline('score')} on test "
            "sentences is a rough guide."
        )
    if comparisons:
        parts.append(
            f"{UP} {DOWN}: significantly above or below {page.escape(first.label)} in that number "
            f"of pairs of runs (paired bootstrap, {samples:,} samples, p &lt; {LEVEL:g}). The test "
            "says how sure the difference of two runs is on these sentences; the spread over seeds "
            "says what another seed would do."
        )
    if tables[0].partial:
        left_out = page.escape(listed(tables[0].partial))
        parts.append(f"The mean excludes {left_out}, which some configurations do not have.")
    return " ".join(parts)


def signatures(groups: Sequence[Group]) -> str:
    """Returns the signatures of the scores."""
    found = {
        f"{metric_title(metric)}: <code>{page.escape(text)}</code>"
        for group in groups
        for run in group.runs
        for metric, text in run.evaluation.signatures.items()
    }
    return f'<p class="note signatures">{"<br>".join(sorted(found))}</p>' if found else ""


def sample_translations(groups: Sequence[Group], tasks: Sequence[str]) -> str:
    """Returns a few sentences of each task with the translations of each group."""
    parts = {}
    for task in tasks:
        lists = []
        for sample in samples_of(groups, task):
            lines = [line_of("source", sample.source), line_of("reference", sample.reference)]
            for place, output in enumerate(sample.outputs):
                if output is not None:
                    lines.append(line_of(name_of(groups, place), output or "(empty)"))
            lists.append(f"<dl>{''.join(lines)}</dl>")
        if lists:
            parts[task] = "".join(lists)
    return folded(parts)


def folded(parts: Mapping[str, str]) -> str:
    """Returns the sample translations of each task, which are open if there are few tasks.

    Args:
        parts: HTML by task.
    """
    opened = " open" if len(parts) <= _OPEN_SAMPLES else ""
    return "".join(
        f"<details{opened}><summary>{page.escape(task)}</summary>"
        f'<div class="samples">{part}</div></details>'
        for task, part in parts.items()
    )


def line_of(name: str, text: str) -> str:
    """Returns a line of a sample translation.

    Args:
        name: HTML.
        text: plain text.
    """
    return f'<dt>{name}</dt><dd dir="auto">{page.escape(text)}</dd>'


def runs_table(groups: Sequence[Group]) -> str:
    """Returns a table of the runs."""
    rows = []
    for place, group in enumerate(groups):
        for run in group.runs:
            rows.append(
                [
                    name_of(groups, place),
                    f"<code>{page.escape(run.directory)}</code>",
                    "–" if run.seed is None else str(run.seed),
                    f"{run.trained_steps:,}" if run.trained_steps else "–",
                ]
            )
    header = ["configuration", "directory", "seed", "trained steps"]
    return page.table(header, rows, numbers=False)


def evaluations_table(groups: Sequence[Group]) -> str:
    """Returns a table of what was scored, when, by which version and on which machine."""
    rows = []
    for place, group in enumerate(groups):
        for run in group.runs:
            found = run.evaluation
            if not found.scores:
                continue
            step = found.number("step")
            beam = found.number("beam_size")
            checkpoint = found.text("checkpoint")
            if step is not None:
                checkpoint = f"{checkpoint} (step {step:,})"
            seed = f", seed {run.seed}" if len(group.runs) > 1 else ""
            cells = [
                checkpoint,
                f"{sum(found.pairs.values()):,}",
                "" if beam is None else str(beam),
                found.text("compute_type"),
                found.text("weights_hash"),
                found.text("date").replace("T", " ").replace("+00:00", " UTC"),
                found.text("keras_mtl"),
                found.hardware,
            ]
            rows.append(
                [
                    name_of(groups, place) + page.escape(seed),
                    *(page.escape(cell or "not recorded") for cell in cells),
                ]
            )
    header = ["run", "checkpoint", "pairs", "beam", "compute type", "hash of the weights"]
    header += ["date", "keras_mtl", "hardware"]
    return page.table(header, rows, numbers=False) if rows else ""


def differences_table(groups: Sequence[Group]) -> str:
    """Returns a table of the fields in which the configurations differ."""
    found = differences([group.runs[0] for group in groups]) if len(groups) > 1 else []
    if not found:
        return ""
    header = ["field", *(page.escape(group.label) for group in groups)]
    rows = [
        [f"<code>{page.escape(field)}</code>", *(page.escape(value) for value in values)]
        for field, values in found
    ]
    return (
        "<details><summary>Fields in which the configurations differ</summary>"
        f"{page.table(header, rows, numbers=False)}</details>"
    )


def list_of(lines: Sequence[str]) -> str:
    """Returns a list; empty without lines."""
    items = "".join(f"<li>{page.escape(line)}</li>" for line in lines)
    return f'<ul class="plain">{items}</ul>' if items else ""
