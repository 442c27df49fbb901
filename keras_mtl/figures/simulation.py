"""The pictures of simulations: probabilities and simulated scores of each schedule."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mtl.figures import charts
from keras_mtl.simulation.comparison import Played

_PROBABILITY = "probability"
_RATIO = "simulated score / baseline"


def draw_simulations(played: Sequence[Played], columns: int = 2) -> Any:
    """Draws probabilities (or factors) and simulated score / baseline over steps by schedule.

    Up to `charts.MAX_LINES` tasks are lines; more are rows of heat maps, the largest above. Panels
    of one kind have one range.

    Args:
        played: the result of each schedule, on the same tasks.
        columns: 2 puts the two panels of a schedule side by side; 1, for a phone, puts one
            above the other.

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
    rows = len(played) * 2 // columns
    figure = charts.new_figure(11.0 if columns == 2 else 3.6, 0.35 + height * rows)
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False).reshape(len(played), 2)
    best = max(float(np.nanmax(item.simulation.ratios)) for item in played)
    given = {item.spec.label: _given(item) for item in played}
    for item, (left, right) in zip(played, grid, strict=True):
        simulation = item.simulation
        what, values = given[item.spec.label]
        values, ratios = values[:, order], simulation.ratios[:, order]
        most = max(0.05, *(float(other.max()) for name, other in given.values() if name == what))
        charts.title(left, item.spec.label)
        if columns == 1:
            charts.title(right, item.spec.label)
        if lines:
            charts.draw_tasks(left, names, simulation.steps, values, most, steps=True)
            charts.draw_tasks(right, names, simulation.steps, ratios, best, line_at=1.0)
            left.set_ylabel(what, fontsize=8)
            right.set_ylabel(_RATIO, fontsize=8)
        else:
            power = 0.5 if what == _PROBABILITY else 1.0
            charts.draw_heat(left, names, simulation.steps, values.T, what, most, power)
            charts.draw_heat(right, names, simulation.steps, ratios.T, _RATIO, best)
    for axes in grid[-1] if columns == 2 else grid[-1, 1:]:
        axes.set_xlabel("training step", fontsize=8)
    return figure


def _given(item: Played) -> tuple[str, np.ndarray]:
    """Returns the label and values, float64[K, N], of probabilities or factors."""
    simulation = item.simulation
    if np.allclose(simulation.scales, 1):
        return _PROBABILITY, simulation.probabilities
    return "factor on updates", simulation.scales
