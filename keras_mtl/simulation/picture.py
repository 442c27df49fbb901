"""Pictures of simulations: what each schedule gave the tasks, and what they made of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mtl import charts
from keras_mtl.simulation.comparison import Played


def draw_comparison(played: Sequence[Played]) -> Any:
    """Draws a row for each schedule: probabilities (or scales) and score / baseline over steps.

    Up to `charts.MAX_LINES` tasks are lines, more are rows of heat maps, the largest above.

    Args:
      played: what came of each schedule, on the same tasks.

    Returns:
      The figure.
    """
    tasks = played[0].schedule.tasks
    lines = len(tasks) <= charts.MAX_LINES
    order = np.arange(len(tasks))
    if not lines:
        order = np.argsort([-task.size for task in tasks], kind="stable")
    names = [tasks[index].name for index in order]
    height = 2.5 if lines else min(3.6, 1.4 + 0.04 * len(names))
    figure = charts.new_figure(11.0, 0.35 + height * len(played))
    grid = figure.subplots(len(played), 2, sharex=True, squeeze=False)
    best = max(float(np.nanmax(item.simulation.ratios)) for item in played)
    likeliest = max(float(item.simulation.probabilities.max()) for item in played)
    for item, (left, right) in zip(played, grid, strict=True):
        simulation = item.simulation
        scaled = not np.allclose(simulation.scales, 1)
        what = "factor on updates" if scaled else "probability"
        given = (simulation.scales if scaled else simulation.probabilities)[:, order]
        ratios = simulation.ratios[:, order]
        charts.title(left, item.spec.label)
        if lines:
            most = max(0.05, float(given.max()))
            draw_tasks(left, names, simulation.steps, given, most, steps=True)
            draw_tasks(right, names, simulation.steps, ratios, best, line_at=1.0)
            left.set_ylabel(what, fontsize=8)
            right.set_ylabel("score / baseline", fontsize=8)
        else:
            most = float(given.max()) if scaled else likeliest
            power = 1.0 if scaled else 0.5
            charts.draw_heat(left, names, simulation.steps, given.T, what, most, power)
            charts.draw_heat(right, names, simulation.steps, ratios.T, "score / baseline", best)
    for axes in grid[-1]:
        axes.set_xlabel("training step", fontsize=8)
    return figure


def draw_tasks(
    axes: Any, names: Sequence[str], x: np.ndarray, values: np.ndarray, most: float, **more: Any
) -> None:
    """Draws a line for each task, with its name at its end.

    Args:
      axes: where.
      names: of the N tasks.
      x: int64[K].
      values: float64[K, N].
      most: largest value that the axis has to hold.
      **more: see `charts.draw_lines`.
    """
    series = [charts.Series(name, x, values[:, index], index) for index, name in enumerate(names)]
    charts.draw_lines(axes, series, labels=False, **more)
    axes.set_ylim(0, 1.05 * most)
    ends = [
        (float(values[-1, index]), name, charts.COLOURS[index % len(charts.COLOURS)])
        for index, name in enumerate(names)
    ]
    charts.label_ends(axes, ends)
