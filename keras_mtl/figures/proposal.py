"""The picture of a proposal: weights, how well the laws predict, and the law of each task."""

import math
from typing import Any

import numpy as np

from keras_mtl.figures import charts
from keras_mtl.proposal.objective import MEAN
from keras_mtl.proposal.proposer import INTERVAL, Proposal

_POINTS = 60
_COLUMNS = 4
# Each has a panel; of more tasks, those with the largest change of weight.
_MOST_PANELS = 12
_NATURAL, _PROPOSED = 8, 0  # colors


def draw_proposal(proposal: Proposal) -> Any:
    """Draws a proposal.

    The first panel shows the weights with their intervals and the largest ones that the passes
    permit. The second one compares predicted with measured losses of runs that were left out of the
    fit. Each other panel shows the loss of a task over its weight: the proxy runs, and the law
    with a band of the bootstrap. Along the line, the other tasks share the rest as proposed.

    Returns:
        The figure.
    """
    tasks = proposal.found.tasks
    change = np.abs(np.log(proposal.weights / proposal.natural))
    shown = sorted(np.argsort(-change, kind="stable")[:_MOST_PANELS].tolist())
    columns = min(_COLUMNS, max(2, len(shown)))
    rows = math.ceil(len(shown) / columns)
    head = max(2.6, 0.6 + 0.19 * min(len(tasks), 40))
    figure = charts.new_figure(max(9.0, 3.0 * columns), head + 2.4 * rows)
    top, below = figure.subfigures(2, 1, height_ratios=[head, 2.4 * rows])
    left, right = top.subplots(1, 2, width_ratios=[1.6, 1.0])
    _draw_weights(left, proposal)
    _draw_predictions(right, proposal)
    grid = below.subplots(rows, columns, squeeze=False)
    for axes in grid.ravel()[len(shown) :]:
        axes.set_visible(False)
    for axes, task in zip(grid.ravel(), shown, strict=False):
        _draw_law(axes, proposal, task)
    for line in grid:
        line[0].set_ylabel("dev loss (nats per token)", fontsize=8)
    return figure


def _draw_weights(axes: Any, proposal: Proposal) -> None:
    charts.style(axes, grid=False)
    axes.grid(axis="x", color=charts.GRID, linewidth=0.8, zorder=0)
    count = len(proposal.weights)
    places = np.arange(count)
    low, high = proposal.interval()
    color, gray = charts.COLORS[_PROPOSED], charts.COLORS[_NATURAL]
    if len(proposal.samples):
        axes.hlines(places, low, high, color=color, linewidth=5, alpha=0.25, zorder=2)
    axes.plot(
        proposal.natural, places, marker="D", color=gray, linestyle="none", markersize=5, zorder=3
    )
    axes.plot(
        proposal.weights, places, marker="o", color=color, linestyle="none", markersize=6, zorder=4
    )
    capped = proposal.space.high < 1
    axes.plot(
        proposal.space.high[capped],
        places[capped],
        marker="|",
        color=charts.COLORS[1],
        linestyle="none",
        markersize=12,
        markeredgewidth=1.6,
        zorder=3,
    )
    _set_log_scale(axes)
    axes.set_yticks(places, proposal.found.tasks, fontsize=8 if count <= 20 else 6)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.margins(x=0.05)
    charts.title(axes, "weights")
    labels = ["proposed", "natural distribution", f"{proposal.space.max_passes:g} passes"]
    handles = [axes.lines[1], axes.lines[0], axes.lines[2]]
    shown = 3 if capped.any() else 2
    axes.legend(handles[:shown], labels[:shown], fontsize=7, frameon=False, loc="best", numpoints=1)


def _draw_predictions(axes: Any, proposal: Proposal) -> None:
    """Draws measured over predicted losses of left-out runs."""
    charts.style(axes)
    losses = proposal.found.losses
    for task, fit in enumerate(proposal.fits):
        axes.plot(
            fit.chosen.predicted,
            losses[:, task],
            marker=charts.MARKERS[task % len(charts.MARKERS)],
            color=charts.COLORS[task % len(charts.COLORS)],
            linestyle="none",
            markersize=4,
            alpha=0.8,
            zorder=3,
        )
    ends = [float(np.nanmin(losses)), float(np.nanmax(losses))]
    axes.plot(ends, ends, color=charts.MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.set_xlabel("loss predicted without the run", fontsize=8)
    axes.set_ylabel("measured loss", fontsize=8)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    name = "mean" if proposal.objective.kind == MEAN else "worst"
    charts.title(axes, f"predictions (objective: {name})")


def _draw_law(axes: Any, proposal: Proposal, task: int) -> None:
    """Draws the loss of a task over its weight."""
    charts.style(axes)
    found, weight = proposal.found, float(proposal.weights[task])
    measured = found.of_task(task)
    tried = found.weights[measured, task]
    least = min(float(tried[tried > 0].min()), weight)
    grid = np.geomspace(least, max(float(tried.max()), weight), _POINTS)
    line = proposal.weights * ((1 - grid) / (1 - weight))[:, None]
    line[:, task] = grid
    color = charts.COLORS[task % len(charts.COLORS)]
    if proposal.sampled_laws:
        curves = np.stack([laws.loss(line)[:, task] for laws in proposal.sampled_laws])
        low, high = np.quantile(curves, INTERVAL, axis=0)
        axes.fill_between(grid, low, high, color=color, alpha=0.2, linewidth=0, zorder=1)
    axes.plot(grid, proposal.laws.loss(line)[:, task], color=color, linewidth=1.6, zorder=3)
    axes.plot(
        tried,
        found.losses[measured, task],
        marker="o",
        color=charts.MUTED,
        linestyle="none",
        markersize=3,
        alpha=0.8,
        zorder=2,
    )
    axes.axvline(weight, color=charts.COLORS[_PROPOSED], linewidth=1.2, zorder=2)
    natural = float(proposal.natural[task])
    axes.axvline(natural, color=charts.COLORS[_NATURAL], linewidth=1, linestyle=":", zorder=2)
    baselines = proposal.objective.baselines
    if baselines is not None:
        axes.axhline(
            baselines[task], color=charts.MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1
        )
    _set_log_scale(axes)
    fit = proposal.fits[task]
    kind = fit.chosen.kind.replace("_", "-")
    charts.title(axes, f"{found.tasks[task]}: {kind}, {max(0.0, fit.explained):.0%}")


def _set_log_scale(axes: Any) -> None:
    """Gives the axis of the weights a logarithmic scale with plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=12))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", labelsize=7)
    axes.set_xlabel("weight", fontsize=8)
