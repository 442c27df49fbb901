"""Writes the report of a sweep: a page, pictures, tables in Markdown and the results as JSON."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from keras_mtl.figures import charts
from keras_mtl.files import replace_file
from keras_mtl.metrics import decimals
from keras_mtl.metrics import title as metric_title
from keras_mtl.report import comparability, page, panels
from keras_mtl.report.sections import list_of
from keras_mtl.report.sweep import tables
from keras_mtl.report.sweep.differences import HIGH, LOW
from keras_mtl.report.sweep.families import FAMILIES
from keras_mtl.report.sweep.files import Model, Sweep
from keras_mtl.report.sweep.panels import curve_panels, curve_sets, families_in, trade_off_panel
from keras_mtl.report.sweep.results import to_json
from keras_mtl.report.sweep.scores import ModelScores, score_model
from keras_mtl.report.sweep.tables import Table
from keras_mtl.report.writing import PAGE_FILE, TABLE_FILE

RESULTS_FILE = "results.json"


def write_sweep_report(
    sweep: Sweep,
    output: str | os.PathLike[str],
    samples: int = 1000,
    title: str = "",
    log: Callable[[str], None] | None = None,
    *,
    made: str = "",
    refresh: int = 0,
) -> tuple[Path, str]:
    """Writes `index.html`, `table.md`, `results.json` and PNGs.

    Args:
        sweep: the sweep.
        output: the directory; it is created if it is missing.
        samples: number of bootstrap resamples of a test; 0 skips the tests.
        title: title of the page; if empty, the name of the sweep.
        log: function that is called with lines on the progress of the tests.
        made: footer with the time and the program version.
        refresh: seconds after which a browser loads the page again; 0 never does.

    Returns:
        The path of the page, and the tables in Markdown.
    """
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    scored = [score_model(sweep, model, samples, log) for model in sweep.models]
    content = json.dumps(to_json(sweep, scored), indent=1, ensure_ascii=False, allow_nan=False)
    replace_file(directory / RESULTS_FILE, content + "\n")
    markdown = "\n".join(_markdown(found, len(scored) > 1) for found in scored)
    replace_file(directory / TABLE_FILE, markdown)
    body = [_tiles(found) + _sections(found, directory, len(scored) > 1) for found in scored]
    body.append(page.section("Tasks", _task_lists(sweep)))
    body.append(page.section("Notes", list_of(sweep.notes)))
    if made:
        body.append(f"<footer>{page.escape(made)}</footer>")
    path = directory / PAGE_FILE
    text = page.page(title or f"Sweep {sweep.name}", _subtitle(sweep), "".join(body), refresh)
    replace_file(path, text)
    return path, markdown


def _sections(found: ModelScores, directory: Path, several: bool) -> str:
    """Returns the sections of a model, and writes its charts as PNGs."""
    prefix = f"{found.model.name}: " if several else ""
    check = comparability.check(found.model.settings, list(found.parts["all"]))
    parts = [page.warning(_titled(prefix, "Not comparable"), check.warnings, check.unknown)]
    trade_off = trade_off_panel(found)
    if trade_off is not None:
        charts.save_png(panels.compose([trade_off]), directory / f"{found.model.name}-tradeoff.png")
        parts.append(
            page.section(
                _titled(prefix, "Trade-off"),
                _families(found),
                page.panels([trade_off], f"{found.model.name}-tradeoff"),
                note="Each point is the mean of a setting over its seeds; the ellipse is one "
                "standard deviation. The line joins the temperatures."
                + (" Dashed: the single-task models." if found.baselines else ""),
            )
        )
    first, *others = _tables(found)
    parts.append(
        page.section(
            _titled(prefix, first.title),
            _html(first),
            *(
                f"<details{' open' if place == 0 else ''}><summary>{page.escape(table.title)}"
                "</summary>"
                f'<p class="note">{page.escape(table.note)}</p>{_html(table)}</details>'
                for place, table in enumerate(others)
            ),
            note=page.escape(first.note),
        )
    )
    parts.append(_curves(found, prefix, directory))
    return "".join(parts)


def _curves(found: ModelScores, prefix: str, directory: Path) -> str:
    """Returns the learning curves; the first set is open."""
    shown = []
    for number, (title, settings) in enumerate(curve_sets(found).items()):
        drawn = curve_panels(found, settings)
        if not drawn:
            continue
        name = f"{found.model.name}-curves-{number}"
        labels = [setting.name for setting in settings]
        charts.save_png(panels.compose(drawn, labels), directory / f"{name}.png")
        content = page.legend(labels) + page.panels(drawn, name)
        opened = " open" if number == 0 else ""
        shown.append(f"<details{opened}><summary>{page.escape(title)}</summary>{content}</details>")
    note = (
        f"Mean {metric_title(found.dev_metric)} on dev. Bands reach from the lowest to the highest "
        "seed. Seconds include the validations of the settings that learn from scores."
    )
    return page.section(_titled(prefix, "Learning curves"), *shown, note=note)


def _titled(prefix: str, title: str) -> str:
    """Returns a title after the name of the model, if there are several models."""
    return f"{prefix}{title[0].lower()}{title[1:]}" if prefix else title


def _tables(found: ModelScores) -> list[Table]:
    possible = [
        tables.same_tokens(found),
        tables.same_seconds(found),
        tables.against_baselines(found),
        tables.by_task(found),
        *tables.other_metrics(found),
    ]
    return [table for table in possible if table is not None]


def _html(table: Table) -> str:
    return page.table(
        [page.escape(cell) for cell in table.header],
        [[page.escape(cell) for cell in row] for row in table.rows],
    )


def _markdown(found: ModelScores, several: bool) -> str:
    head = f"## {found.model.name}\n\n" if several else ""
    return head + "\n".join(tables.to_markdown(table) for table in _tables(found))


def _families(found: ModelScores) -> str:
    items = "".join(
        f"<li>{page.swatch(FAMILIES.index(family))}{page.escape(family)}</li>"
        for family in families_in(found.settings)
    )
    return f'<ul class="legend">{items}</ul>'


def _tiles(found: ModelScores) -> str:
    """Returns the answer: the settings that beat the best temperature."""
    compared = [s for s in found.settings if s.beats_temperature is not None]
    if not compared:
        return ""
    best = next(s for s in found.settings if s.name == found.best_temperature)
    scores, places = best.scores[found.metric], decimals(found.metric)
    shown = [
        (f"{scores[part].mean:.{places}f}", f"{words} of {best.name}, the best temperature")
        for part, words in ((LOW, "low-resource mean"), (HIGH, "high-resource mean"))
        if part in scores
    ]
    winners = [s.name for s in compared if s.beats_temperature]
    text = "settings are clearly better on low-resource tasks and not worse on high-resource tasks"
    named = f": {', '.join(winners)}" if winners else ""
    shown.append((f"{len(winners)} <small>of {len(compared)}</small>", text + named))
    parts = (f'<div class="tile"><b>{b}</b><span>{page.escape(t)}</span></div>' for b, t in shown)
    return f'<div class="tiles">{"".join(parts)}</div>\n'


def _task_lists(sweep: Sweep) -> str:
    lines = [
        f"{words}: {', '.join(tasks)}"
        for words, tasks in (
            ("High-resource", sweep.high_resource),
            ("Low-resource", sweep.low_resource),
        )
        if tasks
    ]
    return list_of(lines)


def _subtitle(sweep: Sweep) -> str:
    parts = [_count(sweep.models, model) for model in sweep.models]
    return page.escape("; ".join(parts)) + "."


def _count(models: Sequence[Model], model: Model) -> str:
    name = f"{model.name}: " if len(models) > 1 else ""
    return f"{name}{model.finished} of {model.planned} runs of {len(model.settings)} settings"
