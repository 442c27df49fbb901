"""The pictures of a report; each panel is drawn once for both the page and the PNG."""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_mtl.figures import charts
from keras_mtl.metrics import ratio_title
from keras_mtl.metrics import title as metric_title
from keras_mtl.report.groups import CurveMean, Group

MOST_PANELS = 12
"""Largest number of tasks with separate panels; for more, the mean and heat maps are drawn."""

# In inches. On a page, a panel takes a third, half or all of the width, or the width of a phone, so
# that text has about the same size.
WIDTHS = {1: 11.4, 2: 5.5, 3: 3.6}
NARROW = 3.6
_HEIGHTS = {1: 3.4, 2: 2.9, 3: 2.5}
# On a PNG.
_WIDE, _COLUMN, _ROW = 9.2, 4.5, 2.9

# Fields of a run: the unit, and words for the title.
_GIVEN = {
    "probabilities": ("probability", ""),
    "scales": ("factor", "factors on updates"),
    "weights": ("weight", "weights of the losses"),
}

CurveOf = Callable[[Group, str], CurveMean | None]
"""Function that returns the curve of a task in a group."""


class Panel(NamedTuple):
    """One chart.

    Attributes:
        title: title above the chart.
        draw: function that draws the chart on axes.
        height: height in inches of a chart as wide as the page; None if it may be narrower.
    """

    title: str
    draw: Callable[[Any], None]
    height: float | None = None


def score_panels(groups: Sequence[Group], tasks: Sequence[str]) -> tuple[str, list[Panel]]:
    """Returns panels of score / baseline (or score) over steps, with a line for each group.

    Returns:
        The name of what is drawn, and the panels; no panels if nothing was validated.
    """
    metric = next((run.metric for group in groups for run in group.runs if run.metric), "")
    ratio = any(run.ratios for group in groups for run in group.runs)
    label = ratio_title(metric) if ratio else metric_title(metric)

    def curve(group: Group, task: str) -> CurveMean | None:
        if ratio:
            return group.curve(lambda run: run.ratios.get(task))
        return group.curve(lambda run: run.scores.get(metric, {}).get(task))

    return label, _task_panels(groups, tasks, curve, label, 1.0 if ratio else None)


def loss_panels(groups: Sequence[Group], tasks: Sequence[str]) -> list[Panel]:
    """Returns panels of the training loss per token over steps, with a line for each group."""

    def curve(group: Group, task: str) -> CurveMean | None:
        return group.curve(lambda run: run.losses.get(task))

    return _task_panels(groups, tasks, curve, "loss, nats a token", None)


def _task_panels(
    groups: Sequence[Group],
    tasks: Sequence[str],
    curve_of: CurveOf,
    label: str,
    line_at: float | None,
) -> list[Panel]:
    """Returns a panel for each task; for many tasks the mean, and a heat map for each group."""
    if len(tasks) <= MOST_PANELS:
        found = {task: [curve_of(group, task) for group in groups] for task in tasks}
        found = {task: curves for task, curves in found.items() if any(curves)}
        limits = _limits(found.values(), line_at)
        return [
            Panel(task, _lines_of_groups(curves, line_at, limits)) for task, curves in found.items()
        ]
    means = [_mean_curve([curve_of(group, task) for task in tasks]) for group in groups]
    if not any(means):
        return []
    panels = [Panel("mean over tasks", _lines_of_groups(means, line_at, None))]
    by_group = {
        group.label: {task: c for task in tasks if (c := curve_of(group, task))} for group in groups
    }
    span = _span(by_group.values())
    for name, curves in by_group.items():
        if curves:
            panels.append(Panel(name, _heat_of_tasks(curves, label, span)))
    return panels


def probability_panels(groups: Sequence[Group], tasks: Sequence[str]) -> list[Panel]:
    """Returns panels of probabilities, factors and balancing weights over steps, by group."""
    panels = []
    many = len(tasks) > charts.MAX_LINES

    def curve(group: Group, field: str, task: str) -> CurveMean | None:
        return group.curve(lambda run: getattr(run, field).get(task))

    found = {
        (group.label, field): {task: c for task in tasks if (c := curve(group, field, task))}
        for group in groups
        for field in _GIVEN
    }
    for (label, field), curves in found.items():
        if not curves:
            continue
        what, words = _GIVEN[field]
        title = f"{label}: {words}" if words else label
        same_field = [item for (_, other), item in found.items() if other == field]
        if many:
            # Probabilities of many tasks differ by orders of magnitude.
            power = 0.5 if what == "probability" else 1.0
            draw = _heat_of_tasks(curves, what, _span(same_field), power)
        else:
            limits = _limits([item.values() for item in same_field], None)
            draw = _lines_of_tasks(curves, tasks, what, limits)
        panels.append(Panel(title, draw))
    return panels


def share_panels(groups: Sequence[Group], tasks: Sequence[str]) -> list[Panel]:
    """Returns panels of shares of batches and target tokens, with a bar for each group."""
    panels = []
    for title, counts_of in (
        ("share of batches", lambda run: run.batches),
        ("share of target tokens", lambda run: run.tokens),
    ):
        shares: list[dict[str, float]] = []
        for group in groups:
            runs = [counts for run in group.runs if sum((counts := counts_of(run)).values()) > 0]
            shares.append(
                {
                    task: float(np.mean([c.get(task, 0) / sum(c.values()) for c in runs]))
                    for task in tasks
                }
                if runs
                else {}
            )
        if any(shares):
            labels = [group.label for group in groups]
            parts, shares = _largest_shares(shares, tasks)
            height = 1.2 + 0.34 * len(groups)
            panels.append(Panel(title, _bars(labels, shares, parts), height))
    return panels


def final_panel(
    groups: Sequence[Group], tasks: Sequence[str], metric: str, sizes: Mapping[str, int]
) -> Panel | None:
    """Returns a panel of test scores: a row for each task, a mark with a range for each group."""
    tested = [task for task in tasks if any(group.test(metric, task) for group in groups)]
    if not tested:
        return None
    name = metric_title(metric)
    if len(tested) > 30:
        return Panel(f"{name} on test, tasks by size", _by_rank(groups, tested, metric, sizes), 4.2)
    height = 0.8 + len(tested) * max(0.32, 0.10 * len(groups))
    return Panel(f"{name} on test", _dots(groups, tested, metric), height)


def compose(panels: Sequence[Panel], legend: Sequence[str] = ()) -> Any:
    """Draws panels in one figure, two or three in a row, below a legend of the groups."""
    wide = any(panel.height for panel in panels)
    columns = 1 if wide else min(3 if len(panels) > 4 else 2, len(panels))
    parts = [panels[place : place + columns] for place in range(0, len(panels), columns)]
    heights = [max(panel.height or _ROW for panel in part) for part in parts]
    width = _WIDE if wide else _COLUMN
    figure = charts.new_figure(width * columns, sum(heights) + 0.25 * -(-len(legend) // 3))
    grid = figure.subplots(
        len(parts), columns, squeeze=False, gridspec_kw={"height_ratios": heights}
    ).ravel()
    for panel, axes in zip(panels, grid, strict=False):
        panel.draw(axes)
        charts.title(axes, textwrap.fill(panel.title, int(10 * width)))
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    if legend:
        from matplotlib.lines import Line2D

        handles = [
            Line2D(
                [],
                [],
                color=charts.COLORS[i % len(charts.COLORS)],
                marker=charts.MARKERS[i % len(charts.MARKERS)],
                markersize=5,
                label=label,
            )
            for i, label in enumerate(legend)
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=3, fontsize=8, frameon=False)
    return figure


def columns_of(panels: Sequence[Panel]) -> int:
    """Returns the number of panels in a row that fills the width and leaves no gap."""
    if len(panels) == 1 or any(panel.height for panel in panels):
        return 1
    return 2 if len(panels) in (2, 4) else 3


def single_panel(panel: Panel, columns: int, narrow: bool = False) -> Any:
    """Draws a panel as a figure for a page, which shows the title as a caption.

    Args:
        panel: the panel.
        columns: number of panels in a row.
        narrow: whether the figure is for a phone.
    """
    width = NARROW if narrow else WIDTHS[columns]
    height = panel.height or _HEIGHTS[3 if narrow else columns]
    figure = charts.new_figure(width, height)
    panel.draw(figure.subplots())
    return figure


def _line(name: str, curve: CurveMean, color: int) -> charts.Line:
    several = curve.seeds > 1
    return charts.Line(
        name, curve.steps, curve.mean, color,
        curve.low if several else None, curve.high if several else None,
    )  # fmt: skip


def _limits(
    curves: Iterable[Iterable[CurveMean | None]], line_at: float | None
) -> tuple[float, float] | None:
    """Returns a common range of the y-axes of panels that are compared."""
    found = [curve for part in curves for curve in part if curve is not None]
    values = [value for curve in found for value in (curve.mean, curve.low, curve.high)]
    if line_at is not None:
        values.append(np.array([line_at]))
    return charts.limits_of(values)


def _lines_of_groups(
    curves: Sequence[CurveMean | None],
    line_at: float | None,
    limits: tuple[float, float] | None,
) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        lines = [_line("", curve, place) for place, curve in enumerate(curves) if curve is not None]
        charts.draw_lines(axes, lines, labels=False, line_at=line_at, limits=limits)

    return draw


def _lines_of_tasks(
    curves: Mapping[str, CurveMean],
    tasks: Sequence[str],
    what: str,
    limits: tuple[float, float] | None,
) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        lines = [_line(task, curve, tasks.index(task)) for task, curve in curves.items()]
        line_at = None if what == "probability" else 1.0
        charts.draw_lines(axes, lines, steps=True, line_at=line_at, limits=limits)

    return draw


def _span(items: Iterable[Mapping[str, CurveMean]]) -> tuple[float, float]:
    """Returns the smallest value, at most 0, and the largest value."""
    means = [curve.mean for curves in items for curve in curves.values()]
    return min([0.0, *(float(m.min()) for m in means)]), max(float(m.max()) for m in means)


def _heat_of_tasks(
    curves: Mapping[str, CurveMean], label: str, span: tuple[float, float], power: float = 1.0
) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        steps, values = charts.heat_cells([(c.steps, c.mean) for c in curves.values()])
        least, most = span
        charts.draw_heat(axes, list(curves), steps, values, label, most, power, least)

    return draw


def _mean_curve(curves: Sequence[CurveMean | None]) -> CurveMean | None:
    found = [curve for curve in curves if curve is not None]
    if not found:
        return None
    steps = sorted(set.intersection(*(set(curve.steps.tolist()) for curve in found)))
    if not steps:
        return None
    picked = [np.searchsorted(curve.steps, steps) for curve in found]
    mean, low, high = (
        np.mean([getattr(c, f)[p] for c, p in zip(found, picked, strict=True)], axis=0)
        for f in ("mean", "low", "high")
    )
    return CurveMean(np.array(steps), mean, low, high, max(curve.seeds for curve in found))


def _largest_shares(
    shares: Sequence[Mapping[str, float]], tasks: Sequence[str]
) -> tuple[list[str], list[dict[str, float]]]:
    """Returns the tasks with the largest shares, and all others as one."""
    if len(tasks) <= charts.MAX_LINES:
        return list(tasks), [dict(share) for share in shares]
    total = {task: sum(share.get(task, 0.0) for share in shares) for task in tasks}
    largest = sorted(tasks, key=lambda task: -total[task])[: charts.MAX_LINES - 2]
    others = f"{len(tasks) - len(largest)} others"
    kept = [
        {
            **{task: share.get(task, 0.0) for task in largest},
            others: sum(value for task, value in share.items() if task not in largest),
        }
        if share
        else {}
        for share in shares
    ]
    return [*largest, others], kept


def _bars(
    labels: Sequence[str], shares: Sequence[Mapping[str, float]], tasks: Sequence[str]
) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        from matplotlib.patches import Patch
        from matplotlib.ticker import PercentFormatter

        charts.style(axes, grid=False)
        width = axes.figure.get_size_inches()[0]
        # On a narrow figure, names are above the bars, because there is no room at the left.
        narrow = width <= NARROW
        for row, share in enumerate(shares):
            left = 0.0
            for place, task in enumerate(tasks):
                part = share.get(task, 0.0)
                color = charts.COLORS[place % len(charts.COLORS)]
                axes.barh(
                    row, part, left=left, color=color, height=0.5 if narrow else 0.72, alpha=0.9,
                    linewidth=0,
                )  # fmt: skip
                if part * width > 0.5:  # inches
                    axes.text(
                        left + part / 2, row, f"{part:.0%}",
                        ha="center", va="center", fontsize=7, color=_text_on(color),
                    )  # fmt: skip
                left += part
            if not share:
                axes.text(0.01, row, "not recorded", va="center", fontsize=8, color=charts.MUTED)
            if narrow:
                axes.text(0, row - 0.28, labels[row], va="bottom", fontsize=8, color=charts.INK)
        axes.set_yticks([] if narrow else range(len(labels)), [] if narrow else labels, fontsize=8)
        axes.set_ylim(len(labels) - 0.5, -0.7 if narrow else -0.5)
        axes.set_xlim(0, 1)
        axes.tick_params(axis="y", length=0)
        axes.spines[["left"]].set_visible(False)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        handles = [
            Patch(color=charts.COLORS[i % len(charts.COLORS)], label=task)
            for i, task in enumerate(tasks)
        ]
        longest = max(map(len, tasks))
        # An 8-point letter is about 0.07 inch wide; a patch with its space is 0.35 inch wide.
        columns = max(1, min(len(tasks), int(width / (0.35 + 0.07 * longest))))
        axes.legend(
            handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns,
            fontsize=8, frameon=False, handlelength=0.9, columnspacing=1.0, borderpad=0.1,
            labelcolor=charts.INK,
        )  # fmt: skip

    return draw


def _text_on(color: str) -> str:
    """Returns white or a near-black, whichever is more legible on a color."""
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return charts.ON_DARK if light < 0.45 else charts.ON_LIGHT


def _dots(groups: Sequence[Group], tasks: Sequence[str], metric: str) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        charts.style(axes)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", color=charts.GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        for place, group in enumerate(groups):
            # The marks of a task are below each other, so that none hides another.
            offset = 0.0 if len(groups) < 2 else 0.62 * (place / (len(groups) - 1) - 0.5)
            color = charts.COLORS[place % len(charts.COLORS)]
            for row, task in enumerate(tasks):
                value = group.test(metric, task)
                if value is None:
                    continue
                axes.plot(
                    [value.low, value.high], [row + offset] * 2, color=color, linewidth=1.6,
                    alpha=0.55, solid_capstyle="round",
                )  # fmt: skip
                axes.plot(
                    [value.mean], [row + offset], color=color, markersize=5.5,
                    marker=charts.MARKERS[place % len(charts.MARKERS)], linestyle="none",
                )  # fmt: skip
        for row in range(1, len(tasks)):
            axes.axhline(row - 0.5, color=charts.GRID, linewidth=0.8)
        axes.set_yticks(range(len(tasks)), tasks, fontsize=8)
        axes.set_ylim(len(tasks) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)

    return draw


def _by_rank(
    groups: Sequence[Group], tasks: Sequence[str], metric: str, sizes: Mapping[str, int]
) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        charts.style(axes)
        order = sorted(tasks, key=lambda task: -sizes.get(task, 0))
        for place, group in enumerate(groups):
            values = [group.test(metric, task) for task in order]
            x = [rank for rank, value in enumerate(values, 1) if value is not None]
            y = [value.mean for value in values if value is not None]
            color = charts.COLORS[place % len(charts.COLORS)]
            axes.plot(x, y, color=color, linewidth=1.2, marker=".", markersize=4, alpha=0.85)
        axes.set_xlabel("rank of the task by size, the largest first", fontsize=8)
        if all(value.mean >= 0 for g in groups for t in order if (value := g.test(metric, t))):
            axes.set_ylim(bottom=0)

    return draw
