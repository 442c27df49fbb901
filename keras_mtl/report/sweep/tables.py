"""The tables of a sweep, for a page and for Markdown: a row for each setting."""

from collections.abc import Sequence
from typing import NamedTuple

from keras_mtl.metrics import decimals
from keras_mtl.metrics import title as metric_title
from keras_mtl.report.groups import Mean
from keras_mtl.report.sweep.differences import ALL, HIGH, LOW, Difference
from keras_mtl.report.sweep.scores import ModelScores, Setting
from keras_mtl.report.tables import DOWN, UP

_WORDS = {HIGH: "high-resource", LOW: "low-resource", ALL: "all tasks"}


class Table(NamedTuple):
    """A table of plain text.

    Attributes:
        title: title above it.
        note: what the columns mean.
        header: column headings.
        rows: cells; the first of a row is the name of the setting.
    """

    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def same_tokens(found: ModelScores) -> Table:
    """Returns the test scores after the same number of target tokens."""
    places, name = decimals(found.metric), metric_title(found.metric)
    compared = bool(found.best_temperature)
    header = ["setting", *(_WORDS[part] for part in (LOW, HIGH, ALL))]
    if compared:
        header += ["Δ low", "Δ high", "above the curve"]
    header += ["last tenth", "million tokens"]
    unequal = len({len(setting.group.runs) for setting in found.settings}) > 1
    if unequal:
        header.append("seeds")
    rows = [_baseline_row(found, places, len(header))] if found.baselines else []
    for setting in found.settings:
        scores = setting.scores[found.metric]
        cells = [setting.name, *(_mean(scores.get(part), places) for part in (LOW, HIGH, ALL))]
        if compared:
            cells += [
                _difference(setting.against_temperature.get(part), places) for part in (LOW, HIGH)
            ]
            cells.append(_difference(setting.above_curve, places))
        cells.append(_signed(setting.last_tenth, decimals(found.dev_metric)))
        cells.append("–" if setting.tokens is None else f"{setting.tokens / 1e6:.2f}")
        if unequal:
            cells.append(str(len(setting.group.runs)))
        rows.append(tuple(cells))
    note = f"Mean {name} on test, ± standard deviation over seeds."
    if compared:
        note += (
            f" Δ: difference to {found.best_temperature}, the temperature with the best mean dev "
            f"score, over the same seeds; {UP} and {DOWN}: significant over sentences (paired "
            "bootstrap, p < 0.05); doubled if it also exceeds the standard deviation over seeds. "
            "Above the curve: by how much the low-resource score is better than that of the "
            "temperatures at an equal high-resource score."
        )
    dev = metric_title(found.dev_metric)
    note += f" Last tenth: change of the mean {dev} on dev in the last tenth of training."
    return Table("The same steps", note, tuple(header), tuple(rows))


def same_seconds(found: ModelScores) -> Table | None:
    """Returns the dev scores after the same number of seconds; None if times are not known."""
    if found.budget is None:
        return None
    places, name = decimals(found.dev_metric), metric_title(found.dev_metric)
    header = ["setting", *(_WORDS[part] for part in (LOW, HIGH, ALL))]
    header += ["seconds of the run", "for validation"]
    rows = []
    for setting in found.settings:
        shares = [clock.validation_share for clock in setting.clocks.values()]
        cells = [setting.name]
        cells += [_mean(setting.at_seconds.get(part), places) for part in (LOW, HIGH, ALL)]
        cells.append("–" if setting.seconds is None else f"{setting.seconds:,.0f}")
        cells.append(f"{100 * sum(shares) / len(shares):.1f} %" if shares else "–")
        rows.append(tuple(cells))
    note = (
        f"Mean {name} on dev when {found.budget:,.0f} seconds of training are spent, the time of "
        "the fastest setting. Extra gradients count, and validations count for the settings that "
        "learn from scores. Times are those of a clock, so other work on the machine adds to them."
    )
    return Table("The same seconds", note, tuple(header), tuple(rows))


def by_task(found: ModelScores) -> Table:
    """Returns the test scores of each task, compared with single-task models."""
    places, name = decimals(found.metric), metric_title(found.metric)
    tasks = found.parts[ALL]
    rows = []
    if found.baselines:
        own = [found.baselines.get(task) for task in tasks]
        rows.append(
            ("single task", *("–" if value is None else f"{value:.{places}f}" for value in own))
        )
    for setting in found.settings:
        cells = [setting.name]
        for task in tasks:
            sign = _sign(setting.against_baselines.get(task))
            cells.append(f"{_mean(setting.tasks.get(task), places)} {sign}".strip())
        rows.append(tuple(cells))
    note = f"{name} on test."
    if found.baselines:
        note += (
            f" {UP} and {DOWN}: significantly above or below a model that was trained on only this "
            "task (paired bootstrap over sentences, p < 0.05)."
        )
    return Table("Task by task", note, ("setting", *tasks), tuple(rows))


def against_baselines(found: ModelScores) -> Table | None:
    """Returns the differences to single-task models; None without such models."""
    if not any(setting.against_baselines for setting in found.settings):
        return None
    places, name = decimals(found.metric), metric_title(found.metric)
    parts = (LOW, HIGH, ALL)
    rows = [
        (
            setting.name,
            *(_difference(setting.against_baselines.get(part), places) for part in parts),
        )
        for setting in found.settings
    ]
    note = f"Difference in mean {name} on test to a model for each task, trained on only this task."
    header = ("setting", *(_WORDS[part] for part in parts))
    return Table("Gain over single-task models", note, header, tuple(rows))


def other_metrics(found: ModelScores) -> list[Table]:
    """Returns the test scores of the other metrics."""
    names = dict.fromkeys(name for setting in found.settings for name in setting.scores)
    tables = []
    for name in names:
        if name == found.metric:
            continue
        rows = tuple(
            (setting.name, *(_part(setting, name, part) for part in (LOW, HIGH, ALL)))
            for setting in found.settings
        )
        header = ("setting", *(_WORDS[part] for part in (LOW, HIGH, ALL)))
        title = metric_title(name)
        tables.append(Table(title, f"Mean {title} on test.", header, rows))
    return tables


def to_markdown(table: Table) -> str:
    """Returns a table in Markdown, below its title and its note."""

    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|" + "|".join(["---", *["---:"] * (len(table.header) - 1)]) + "|"
    lines = [row(table.header), rule, *map(row, table.rows)]
    return f"### {table.title}\n\n{table.note}\n\n" + "\n".join(lines) + "\n"


def _baseline_row(found: ModelScores, places: int, width: int) -> tuple[str, ...]:
    cells = ["single task"]
    for part in (LOW, HIGH, ALL):
        value = found.baselines.get(part)
        cells.append("–" if value is None else f"{value:.{places}f}")
    return (*cells, *[""] * (width - len(cells)))


def _part(setting: Setting, metric: str, part: str) -> str:
    found = setting.scores.get(metric, {})
    return _mean(found.get(part), decimals(metric))


def _mean(value: Mean | None, places: int) -> str:
    if value is None:
        return "–"
    spread = "" if value.spread is None else f" ± {value.spread:.{places}f}"
    return f"{value.mean:.{places}f}{spread}"


def _signed(value: float | None, places: int) -> str:
    return "–" if value is None else f"{value:+.{places}f}"


def _difference(found: Difference | None, places: int) -> str:
    return "–" if found is None else f"{found.value:+.{places}f} {_sign(found)}".strip()


def _sign(found: Difference | None) -> str:
    if found is None or not found.significant:
        return ""
    sign = UP if found.value > 0 else DOWN
    return sign * 2 if found.clear else sign
