"""Pictures of a report; each panel is drawn once, for the page and for the PNG alike."""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_mtl import charts
from keras_mtl.report.groups import CurveMean, Group
from keras_mtl.report.tables import TITLES

MOST_PANELS = 12
"""Most tasks with a panel of their own; more are told by their mean and by heat maps."""

PANEL_SIZE = (4.5, 2.9)


# Fields of a run: the unit, and words for the title.
_GIVEN = {
    "probabilities": ("probability", ""),
    "scales": ("factor", "factors on updates"),
    "weights": ("weight", "weights of the losses"),
}


class Panel(NamedTuple):
    """One chart.

    Attributes:
      title: above it.
      draw: draws it on axes.
      size: width and height in inches on a page.
    """

    title: str
    draw: Callable[[Any], None]
    size: tuple[float, float] = PANEL_SIZE


def score_panels(groups: Sequence[Group], tasks: Sequence[str]) -> tuple[str, list[Panel]]:
    """Score / baseline over steps, or the score where a task has no baseline; a line a group.

    Returns:
      What is drawn, for a headline, and the panels; none when nothing was validated.
    """
    metric = next((run.metric for group in groups for run in group.runs if run.metric), "")
    ratio = any(run.ratios for group in groups for run in group.runs)
    label = f"{TITLES.get(metric, metric)} / baseline" if ratio else TITLES.get(metric, metric)

    def curve(group: Group, task: str) -> CurveMean | None:
        if ratio:
            return group.curve(lambda run: run.ratios.get(task))
        return group.curve(lambda run: run.scores.get(metric, {}).get(task))

    line_at = 1.0 if ratio else None
    if len(tasks) <= MOST_PANELS:
        panels = []
        for task in tasks:
            found = [curve(group, task) for group in groups]
            if any(found):
                panels.append(Panel(task, _lines_of_groups(found, line_at)))
        return label, panels
    means = [_mean_curve([curve(group, task) for task in tasks]) for group in groups]
    if not any(means):
        return label, []
    panels = [Panel("mean over tasks", _lines_of_groups(means, line_at))]
    by_group = {
        group.label: {task: c for task in tasks if (c := curve(group, task))} for group in groups
    }
    span = _span(by_group.values())
    for name, curves in by_group.items():
        if curves:
            panels.append(Panel(name, _heat_of_tasks(curves, label, span)))
    return label, panels


def probability_panels(groups: Sequence[Group], tasks: Sequence[str]) -> list[Panel]:
    """Probabilities of the tasks over steps, a panel a group; factors and weights of balancing."""
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
        if many:
            span = _span(item for (_, other), item in found.items() if other == field)
            # Probabilities of many tasks differ by orders of magnitude.
            power = 0.5 if what == "probability" else 1.0
            panels.append(Panel(title, _heat_of_tasks(curves, what, span, power)))
        else:
            panels.append(Panel(title, _lines_of_tasks(curves, tasks, what)))
    return panels


def share_panels(groups: Sequence[Group], tasks: Sequence[str]) -> list[Panel]:
    """Shares of batches and of target tokens, a bar a group."""
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
            panels.append(Panel(title, _bars(labels, shares, parts), (9.2, height)))
    return panels


def final_panel(
    groups: Sequence[Group], tasks: Sequence[str], metric: str, sizes: Mapping[str, int]
) -> Panel | None:
    """Test scores: a row a task, a mark a group with the range of its seeds."""
    tested = [task for task in tasks if any(group.test(metric, task) for group in groups)]
    if not tested:
        return None
    name = TITLES.get(metric, metric)
    if len(tested) > 30:
        return Panel(
            f"{name} on test, tasks by size", _by_rank(groups, tested, metric, sizes), (9.2, 4.2)
        )
    height = 0.8 + len(tested) * max(0.32, 0.10 * len(groups))
    return Panel(f"{name} on test", _dots(groups, tested, metric), (9.2, height))


def compose(panels: Sequence[Panel], legend: Sequence[str] = ()) -> Any:
    """Puts panels into one figure, two or three a row, with a legend of groups above."""
    wide = max(panel.size[0] for panel in panels) > PANEL_SIZE[0]
    columns = 1 if wide else min(3 if len(panels) > 4 else 2, len(panels))
    parts = [panels[place : place + columns] for place in range(0, len(panels), columns)]
    heights = [max(panel.size[1] for panel in part) for part in parts]
    figure = charts.new_figure(
        panels[0].size[0] * columns, sum(heights) + 0.25 * -(-len(legend) // 3)
    )
    grid = figure.subplots(
        len(parts), columns, squeeze=False, gridspec_kw={"height_ratios": heights}
    ).ravel()
    for panel, axes in zip(panels, grid, strict=False):
        panel.draw(axes)
        charts.title(axes, textwrap.fill(panel.title, int(10 * panel.size[0])))
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    if legend:
        from matplotlib.lines import Line2D

        handles = [
            Line2D(
                [],
                [],
                color=charts.COLOURS[i % len(charts.COLOURS)],
                marker=charts.MARKERS[i % len(charts.MARKERS)],
                markersize=5,
                label=label,
            )
            for i, label in enumerate(legend)
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=3, fontsize=8, frameon=False)
    return figure


def alone(panel: Panel) -> Any:
    """One panel as a figure for a page, whose own headline is the panel's title."""
    figure = charts.new_figure(*panel.size)
    panel.draw(figure.subplots())
    return figure


def _series(name: str, curve: CurveMean, colour: int) -> charts.Series:
    several = curve.seeds > 1
    return charts.Series(
        name, curve.steps, curve.mean, colour,
        curve.low if several else None, curve.high if several else None,
    )  # fmt: skip


def _lines_of_groups(
    curves: Sequence[CurveMean | None], line_at: float | None
) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        series = [
            _series("", curve, place) for place, curve in enumerate(curves) if curve is not None
        ]
        charts.draw_lines(axes, series, labels=False, line_at=line_at)

    return draw


def _lines_of_tasks(
    curves: Mapping[str, CurveMean], tasks: Sequence[str], what: str
) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        series = [_series(task, curve, tasks.index(task)) for task, curve in curves.items()]
        charts.draw_lines(axes, series, steps=True, line_at=None if what == "probability" else 1.0)

    return draw


def _span(items: Iterable[Mapping[str, CurveMean]]) -> tuple[float, float]:
    """The least value, at most 0, and the largest."""
    means = [curve.mean for curves in items for curve in curves.values()]
    return min([0.0, *(float(m.min()) for m in means)]), max(float(m.max()) for m in means)


def _heat_of_tasks(
    curves: Mapping[str, CurveMean], label: str, span: tuple[float, float], power: float = 1.0
) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        steps = np.unique(np.concatenate([curve.steps for curve in curves.values()]))
        values = np.full((len(curves), len(steps)), np.nan)
        for row, curve in enumerate(curves.values()):
            values[row, np.searchsorted(steps, curve.steps)] = curve.mean
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
    """The tasks with the largest shares; all others as one."""
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
        charts.style(axes, grid=False)
        for row, share in enumerate(shares):
            left = 0.0
            for place, task in enumerate(tasks):
                width = share.get(task, 0.0)
                colour = charts.COLOURS[place % len(charts.COLOURS)]
                axes.barh(row, width, left=left, color=colour, height=0.72, alpha=0.9, linewidth=0)
                if width > 0.055:
                    axes.text(
                        left + width / 2, row, f"{width:.0%}",
                        ha="center", va="center", fontsize=7, color=_text_on(colour),
                    )  # fmt: skip
                left += width
            if not share:
                axes.text(0.01, row, "not recorded", va="center", fontsize=8, color=charts.MUTED)
        axes.set_yticks(range(len(labels)), labels, fontsize=8)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.tick_params(axis="y", length=0)
        axes.spines[["left"]].set_visible(False)
        from matplotlib.ticker import PercentFormatter

        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        from matplotlib.patches import Patch

        handles = [
            Patch(color=charts.COLOURS[i % len(charts.COLOURS)], label=task)
            for i, task in enumerate(tasks)
        ]
        axes.legend(
            handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(tasks),
            fontsize=8, frameon=False, handlelength=0.9, columnspacing=1.0, borderpad=0.1,
            labelcolor=charts.INK,
        )  # fmt: skip

    return draw


def _text_on(colour: str) -> str:
    """White or nearly black, whichever is the more legible on a colour."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    light = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return charts.ON_DARK if light < 0.45 else charts.ON_LIGHT


def _dots(groups: Sequence[Group], tasks: Sequence[str], metric: str) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        charts.style(axes)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", color=charts.GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        for place, group in enumerate(groups):
            # Marks of one task lie below each other, so that none hides another.
            offset = 0.0 if len(groups) < 2 else 0.62 * (place / (len(groups) - 1) - 0.5)
            colour = charts.COLOURS[place % len(charts.COLOURS)]
            for row, task in enumerate(tasks):
                value = group.test(metric, task)
                if value is None:
                    continue
                axes.plot(
                    [value.low, value.high], [row + offset] * 2, color=colour, linewidth=1.6,
                    alpha=0.55, solid_capstyle="round",
                )  # fmt: skip
                axes.plot(
                    [value.mean], [row + offset], color=colour, markersize=5.5,
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
            colour = charts.COLOURS[place % len(charts.COLOURS)]
            axes.plot(x, y, color=colour, linewidth=1.2, marker=".", markersize=4, alpha=0.85)
        axes.set_xlabel("rank of the task by size, the largest first", fontsize=8)
        if all(value.mean >= 0 for g in groups for t in order if (value := g.test(metric, t))):
            axes.set_ylim(bottom=0)

    return draw
