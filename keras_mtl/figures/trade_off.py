"""The trade-off of schedules: low-resource scores against high-resource scores."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_mtl.figures import charts

# Steps of the search for a place of a label, in points, around its mark.
_PLACES = ((7, 0), (7, 9), (7, -9), (-7, 0), (-7, 9), (-7, -9), (0, 12), (0, -12))
_FAR = 1.9
# About the shares of a figure that the axes take, and that the list of names takes from them.
_WIDTH, _HEIGHT, _LIST_WIDTH = 0.88, 0.82, 0.2
# With more settings, names would cover each other and the marks.
_MOST_NAMES = 16
# Size in points of a name in the list, and the distance of two names.
_LISTED, _LINE = 7, 10


class Point(NamedTuple):
    """A setting.

    Attributes:
        name: name next to the mark.
        x: float64[n], high-resource score of each seed.
        y: float64[n], low-resource score of each seed.
        color: index of the color and marker.
        order: place on the line of the temperatures; None if it is not on the line.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    color: int
    order: float | None = None


def draw_trade_off(
    axes: Any,
    points: Sequence[Point],
    labels: tuple[str, str],
    reference: tuple[float, float] | None = None,
) -> None:
    """Draws a mark for each setting, with an ellipse of one standard deviation over its seeds.

    Names are next to the marks. More than 16 settings are numbered from the highest low-resource
    score down, and a list to the right has their names.

    Args:
        axes: the axes to draw on.
        points: the settings.
        labels: labels of the x-axis and the y-axis.
        reference: scores at which dashed lines are drawn, such as those of single-task models.
    """
    charts.style(axes)
    axes.grid(axis="x", color=charts.GRID, linewidth=0.8, zorder=0)
    axes.set_xlabel(labels[0], fontsize=8)
    axes.set_ylabel(labels[1], fontsize=8)
    if reference is not None:
        axes.axvline(reference[0], color=charts.MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.axhline(reference[1], color=charts.MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    line = sorted((p for p in points if p.order is not None), key=lambda p: p.order or 0.0)
    if len(line) > 1:
        color = charts.COLORS[line[0].color % len(charts.COLORS)]
        means = [(p.x.mean(), p.y.mean()) for p in line]
        axes.plot(*zip(*means, strict=True), color=color, linewidth=1.2, alpha=0.7, zorder=2)
    for point in points:
        color = charts.COLORS[point.color % len(charts.COLORS)]
        if len(point.x) > 1:
            axes.add_patch(_ellipse(point, color))
        axes.plot(
            [point.x.mean()],
            [point.y.mean()],
            color=color,
            marker=charts.MARKERS[point.color % len(charts.MARKERS)],
            markersize=6,
            linestyle="none",
            zorder=4,
        )
    axes.margins(0.08)
    if len(points) > _MOST_NAMES:
        points = sorted(points, key=lambda point: -point.y.mean())
        _list_names(axes, points)
        points = [point._replace(name=str(n)) for n, point in enumerate(points, 1)]
    _label(axes, points)


def _list_names(axes: Any, points: Sequence[Point]) -> None:
    """Writes numbers and names of the settings to the right of the axes, from the top down."""
    height = axes.figure.get_size_inches()[1] * 72 * _HEIGHT
    gap = min(_LINE / height, 1.0 / len(points))
    for number, point in enumerate(points, 1):
        axes.text(
            1.02,
            1.0 - (number - 0.5) * gap,
            f"{number}  {point.name}",
            transform=axes.transAxes,
            va="center",
            fontsize=_LISTED,
            color=charts.COLORS[point.color % len(charts.COLORS)],
        )


def _ellipse(point: Point, color: str) -> Any:
    """Returns the ellipse of one standard deviation over seeds; two seeds give a line."""
    from matplotlib.patches import Ellipse

    values, vectors = np.linalg.eigh(np.cov(point.x, point.y))
    height, width = 2 * np.sqrt(np.maximum(values, 0.0))
    return Ellipse(
        (point.x.mean(), point.y.mean()),
        width,
        height,
        angle=float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))),
        facecolor=color,
        edgecolor=color,
        alpha=0.2,
        linewidth=1.2,
        zorder=2,
    )


def _label(axes: Any, points: Sequence[Point]) -> None:
    """Writes each name next to its mark, at the place that overlaps least with what is there."""
    if not points:
        return
    figure = axes.figure
    width, height = (size * 72 for size in figure.get_size_inches())
    low, high = axes.get_xlim(), axes.get_ylim()
    axes.set_xlim(low)
    axes.set_ylim(high)
    # In points from the lower left corner.
    share = _WIDTH - (_LIST_WIDTH if len(points) > _MOST_NAMES else 0)
    scale = np.array([share * width / (low[1] - low[0]), _HEIGHT * height / (high[1] - high[0])])
    marks = np.array([[p.x.mean() - low[0], p.y.mean() - high[0]] for p in points]) * scale
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in marks]
    right = (low[1] - low[0]) * scale[0]
    # The marks with the most neighbors have the least choice.
    near = [np.sum(np.abs(marks - mark).max(axis=1) < 30) for mark in marks]
    for index in sorted(range(len(points)), key=lambda i: -near[i]):
        point, (x, y) = points[index], marks[index]
        long = 4.3 * len(point.name)  # A 7-point letter is about 4.3 points wide.
        best = None
        for factor in (1.0, _FAR):
            for right_by, up_by in _PLACES:
                dx, dy = factor * right_by, factor * up_by
                left = x + dx - (0 if dx > 0 else long if dx < 0 else long / 2)
                box = (left, y + dy - 4, left + long, y + dy + 4)
                outside = max(0.0, -box[0]) + max(0.0, box[2] - right)
                cost = sum(_overlap(box, other) for other in taken) + 8 * outside + factor
                if best is None or cost < best[0] - 1e-9:
                    best = (cost, (dx, dy), box)
        assert best is not None
        _, (dx, dy), box = best
        taken.append(box)
        axes.annotate(
            point.name,
            (point.x.mean(), point.y.mean()),
            xytext=(dx, dy),
            textcoords="offset points",
            ha="left" if dx > 0 else "right" if dx < 0 else "center",
            va="center",
            fontsize=7,
            color=charts.COLORS[point.color % len(charts.COLORS)],
            annotation_clip=False,
            zorder=5,
        )


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Returns the area that two boxes (left, bottom, right, top) share."""
    across = min(a[2], b[2]) - max(a[0], b[0])
    return max(0.0, across) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
