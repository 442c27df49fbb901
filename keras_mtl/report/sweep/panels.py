"""The pictures of a sweep: the trade-off plot, and learning curves over steps and over seconds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl.figures import charts
from keras_mtl.figures.trade_off import Point, draw_trade_off
from keras_mtl.metrics import title as metric_title
from keras_mtl.report.panels import Panel
from keras_mtl.report.sweep.differences import HIGH, LOW, test_mean
from keras_mtl.report.sweep.families import FAMILIES
from keras_mtl.report.sweep.scores import ModelScores, Setting, dev_curve

MOST_LINES = charts.MAX_LINES
"""Largest number of settings in a chart of learning curves."""

_WORDS = {HIGH: "high-resource tasks", LOW: "low-resource tasks"}
# Number of seconds at which curves over seconds are drawn.
_PLACES = 60


def trade_off_panel(found: ModelScores) -> Panel | None:
    """Returns the trade-off plot of test scores; None if there are not two lists of tasks."""
    points = []
    for setting in found.settings:
        pairs = [
            (test_mean(run, found.metric, found.parts[HIGH]), low)
            for run in setting.group.runs
            if (low := test_mean(run, found.metric, found.parts[LOW])) is not None
        ]
        x, y = (
            np.array([pair[i] for pair in pairs if pair[0] is not None], np.float64) for i in (0, 1)
        )
        if len(x):
            color = FAMILIES.index(setting.family)
            points.append(Point(setting.name, x, y, color, setting.temperature))
    if not points:
        return None
    name = metric_title(found.metric)
    labels = (f"mean {name}, {_WORDS[HIGH]}", f"mean {name}, {_WORDS[LOW]}")
    single = found.baselines
    reference = (single[HIGH], single[LOW]) if HIGH in single and LOW in single else None

    def draw(axes: Any) -> None:
        draw_trade_off(axes, points, labels, reference)

    return Panel(f"{name} on test: {_WORDS[LOW]} against {_WORDS[HIGH]}", draw, 5.6)


def families_in(settings: Sequence[Setting]) -> list[str]:
    """Returns the families of settings, in the order of their colors."""
    present = {setting.family for setting in settings}
    return [family for family in FAMILIES if family in present]


def curve_sets(found: ModelScores) -> dict[str, list[Setting]]:
    """Returns the settings of each set of learning curves, by title.

    All settings are one set if there are few. Otherwise each family is a set, with the best
    temperature in each of them.
    """
    settings = list(found.settings)
    if len(settings) <= MOST_LINES:
        return {"all settings": settings}
    best = [setting for setting in settings if setting.name == found.best_temperature]
    sets: dict[str, list[Setting]] = {}
    for family in families_in(settings):
        members = [setting for setting in settings if setting.family == family]
        shown = [*best, *(setting for setting in members if setting not in best)]
        for number, start in enumerate(range(0, len(shown), MOST_LINES), 1):
            title = family if len(shown) <= MOST_LINES else f"{family}, part {number}"
            sets[title] = shown[start : start + MOST_LINES]
    return sets


def curve_panels(found: ModelScores, settings: Sequence[Setting]) -> list[Panel]:
    """Returns learning curves: low-resource and high-resource tasks, over steps and seconds."""
    panels = []
    for part in (LOW, HIGH):
        tasks = found.parts[part]
        metric = found.dev_metric
        over: dict[str, Mapping[int, Sequence[tuple[np.ndarray, np.ndarray]]]] = {
            "steps": {i: _over_steps(s, metric, tasks) for i, s in enumerate(settings)},
            "seconds": {i: _over_seconds(s, metric, tasks) for i, s in enumerate(settings)},
        }
        for what, curves in over.items():
            lines = [_line(index, own) for index, own in curves.items() if own]
            if lines:
                panels.append(Panel(f"{_WORDS[part]}, over {what}", _drawn(lines)))
    return panels


def _over_steps(
    setting: Setting, metric: str, tasks: Sequence[str]
) -> list[tuple[np.ndarray, np.ndarray]]:
    curves = [curve for r in setting.group.runs if (curve := dev_curve(r, metric, tasks))]
    return [(np.array(list(c), np.float64), np.array(list(c.values()))) for c in curves]


def _over_seconds(
    setting: Setting, metric: str, tasks: Sequence[str]
) -> list[tuple[np.ndarray, np.ndarray]]:
    found = []
    for run in setting.group.runs:
        timed = setting.clocks.get(str(run.directory))
        curve = dev_curve(run, metric, tasks)
        if timed and curve:
            found.append((timed.at(np.array(list(curve))), np.array(list(curve.values()))))
    return found


def _line(color: int, curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> charts.Line:
    """Returns the mean of curves, with a band from the lowest to the highest seed."""
    first = curves[0][0]
    if all(len(x) == len(first) and np.array_equal(x, first) for x, _ in curves):
        places = first
    else:
        # Seeds need different times; the mean covers the times that all of them have.
        start, end = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
        places = np.linspace(start, max(start, end), _PLACES)
    values = np.array([np.interp(places, x, y) for x, y in curves])
    several = len(curves) > 1
    return charts.Line(
        "",
        places,
        values.mean(0),
        color,
        values.min(0) if several else None,
        values.max(0) if several else None,
    )


def _drawn(lines: Sequence[charts.Line]) -> Callable[[Any], None]:
    edges = [edge for line in lines for edge in (line.y, line.low, line.high) if edge is not None]
    limits = charts.limits_of(edges)

    def draw(axes: Any) -> None:
        charts.draw_lines(axes, lines, labels=False, limits=limits)

    return draw
