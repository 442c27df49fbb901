"""Draws charts in one style, as PNG and as SVG that follows the colors of a page.

A chart is drawn once on matplotlib axes, by `draw_lines`, `draw_tasks` or `draw_heat`. The same
figure becomes an SVG (`to_svg`) or a PNG (`save_png`), because the two serve different readers. A
page needs SVG: its colors are CSS variables that follow a light or dark screen, and its text can be
selected and has the page's font. A PNG can be opened everywhere else: in a README, a slide, a paper
or an image viewer.
"""

import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_mtl.files import replace_file

MAX_LINES = 10
"""Largest number of tasks that are drawn as lines; more become rows of a heat map."""

# Okabe and Ito, "Color Universal Design" (2008), without its yellow, which is too light for a line,
# and with a gray and a brown at the end for nine and ten tasks.
COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#7A5195",
    "#8C8C8C",
    "#8B4513",
)
# The same on a dark background: lighter, and black becomes white.
DARK_COLORS = (
    "#4BA6E0",
    "#F08A4B",
    "#2CC79A",
    "#E3A0C6",
    "#F2BC4A",
    "#8FCFF2",
    "#F2F2F2",
    "#B494CF",
    "#A9A9A9",
    "#C98A55",
)
# Shapes distinguish tasks where colors do not, as in print.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")

INK, MUTED, GRID = "#222222", "#666666", "#DDDDDD"
# Text on a color, and cells without a value.
ON_DARK, ON_LIGHT, NOTHING = "#FDFDFD", "#141414", "#EEEEEE"
_VARIABLES = {
    **{color: f"--series-{index}" for index, color in enumerate(COLORS)},
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    ON_DARK: "--on-dark",
    ON_LIGHT: "--on-light",
    NOTHING: "--nothing",
}


class Line(NamedTuple):
    """A line of a chart.

    Attributes:
        name: name at the end of the line.
        x: float64[n].
        y: float64[n].
        color: index of the color and marker.
        low: float64[n], lower edge of a band around it; None for no band.
        high: float64[n], upper edge.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    color: int
    low: np.ndarray | None = None
    high: np.ndarray | None = None


def new_figure(width: float, height: float) -> Any:
    """Returns a figure that uses no window system or global state; sizes are in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Any, path: str | os.PathLike[str], dpi: int = 120) -> Path:
    """Writes a figure as a PNG file that is complete or absent; equal figures give equal files."""
    content = io.BytesIO()
    # By default Matplotlib writes its version into the file.
    figure.savefig(content, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return replace_file(path, content.getvalue())


def to_svg(figure: Any, name: str, label: str) -> str:
    """Returns a figure as an `<svg>` element for a page.

    Args:
        figure: a figure from `new_figure`.
        name: name that is unique on the page; it distinguishes ids from those of other figures.
        label: description of the picture for screen readers.

    Returns:
        SVG text whose colors are CSS variables (`--series-0` … `--series-9`, `--ink`,
        `--muted`, `--grid`, `--on-dark`, `--on-light`, `--nothing`), and which is as wide
        as its place on the page.
    """
    import html

    import matplotlib

    buffer = io.StringIO()
    # Text stays text: smaller, selectable, in the page's font. A fixed salt makes ids repeatable.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(xlink:href="|url\()#', rf"\1#{name}-", text)
    for color, variable in _VARIABLES.items():
        text = re.sub(re.escape(color), f"var({variable})", text, flags=re.IGNORECASE)
    text = re.sub(r"font-family: [^;\"]*; ?", "", text)  # the page's
    head = re.sub(r'\s(width|height)="[^"]*"', "", text[: text.index(">")])
    body = text[text.index(">") :]
    shown = html.escape(label, quote=True)
    return f'{head} role="img" aria-label="{shown}"{body}'


def draw_lines(
    axes: Any,
    lines: Sequence[Line],
    *,
    steps: bool = False,
    labels: bool = True,
    line_at: float | None = None,
    limits: tuple[float, float] | None = None,
) -> None:
    """Draws lines with their names at their ends.

    Args:
        axes: the axes to draw on.
        lines: the lines.
        steps: whether a value holds until the next one.
        labels: whether to write the names.
        line_at: value of a dashed line; None draws none.
        limits: lowest and highest value of the axis, for charts that are compared; None begins the
            axis at 0 if no value is below.
    """
    style(axes)
    ends: list[tuple[float, str, str]] = []
    for item in lines:
        if not len(item.x):
            continue
        color = COLORS[item.color % len(COLORS)]
        if item.low is not None and item.high is not None:
            step = "post" if steps else None
            axes.fill_between(
                item.x, item.low, item.high, step=step, color=color, alpha=0.18, linewidth=0
            )
        axes.plot(
            item.x,
            item.y,
            color=color,
            marker=MARKERS[item.color % len(MARKERS)],
            markersize=4,
            markevery=_mark_at(item.x),
            linewidth=1.6,
            drawstyle="steps-post" if steps else "default",
            clip_on=False,
            zorder=3,
        )
        ends.append((float(item.y[-1]), item.name, color))
    if line_at is not None:
        axes.axhline(line_at, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    axes.margins(x=0.0)
    values = [item.y[np.isfinite(item.y)] for item in lines]
    if limits is not None:
        axes.set_ylim(*limits)
    elif all((value >= 0).all() for value in values):
        axes.set_ylim(bottom=0.0)
    if labels:
        label_ends(axes, ends)


def draw_tasks(
    axes: Any, names: Sequence[str], x: np.ndarray, values: np.ndarray, most: float, **options: Any
) -> None:
    """Draws a line for each task, with its name at its end.

    Args:
        axes: the axes to draw on.
        names: names of the N tasks.
        x: int64[K].
        values: float64[K, N].
        most: largest value that the axis must include.
        **options: see `draw_lines`.
    """
    lines = [Line(name, x, values[:, index], index) for index, name in enumerate(names)]
    draw_lines(axes, lines, limits=(0, 1.05 * most), **options)


def heat_cells(
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """Resamples curves to the cells of a heat map.

    Args:
        curves: (x, y) of each row, x increasing.

    Returns:
        Every x of any curve, in rising order, and float64[rows, columns]; NaN if a row has no
        value.
    """
    columns = np.unique(np.concatenate([x for x, _ in curves]))
    values = np.full((len(curves), len(columns)), np.nan)
    for row, (x, y) in enumerate(curves):
        values[row, np.searchsorted(columns, x)] = y
    return columns, values


def draw_heat(
    axes: Any,
    names: Sequence[str],
    x: np.ndarray,
    values: np.ndarray,
    label: str = "",
    most: float | None = None,
    power: float = 1.0,
    least: float = 0.0,
) -> Any:
    """Draws a heat map with a row for each task.

    Args:
        axes: the axes to draw on.
        names: names of the rows; not drawn if there is no room for them.
        x: float64[n], beginning of each column.
        values: float64[rows, n]; NaN is gray.
        label: label of the color bar.
        most: value of the brightest color, so that charts compare; None is the largest value, and
            the darkest color is then the smallest one.
        power: colors follow values to this power; below 1 distinguishes small values.
        least: value of the darkest color if `most` is given.
    """
    from matplotlib.colors import PowerNorm

    width = x[-1] - x[-2] if len(x) > 1 else 1
    mesh = axes.pcolormesh(
        np.append(x, x[-1] + width),
        np.arange(len(names) + 1),
        np.ma.masked_invalid(values),
        cmap="cividis",
        norm=PowerNorm(power, None if most is None else least, most),
        rasterized=True,  # A path for each cell would be megabytes of SVG.
    )
    style(axes, grid=False)
    axes.set_facecolor(NOTHING)
    # A line of 7-point text and its leading are 0.12 inch.
    if len(names) * 0.12 <= _height_of(axes):
        axes.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=7)
    else:
        axes.set_yticks([])
        axes.set_ylabel(f"{len(names)} tasks, the largest above", fontsize=8, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    bar = axes.figure.colorbar(mesh, ax=axes, pad=0.01, aspect=40)
    bar.ax.tick_params(labelsize=7, colors=INK)
    bar.set_label(label, fontsize=8, color=INK)
    return mesh


def style(axes: Any, grid: bool = True) -> None:
    """Removes unneeded lines, and sets the colors that a page can change."""
    if grid:
        axes.grid(axis="y", color=GRID, linewidth=0.8, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=INK, labelsize=8)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.title.set_color(INK)
    from matplotlib.ticker import EngFormatter

    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def limits_of(values: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """Returns one range for the axes of several charts.

    Args:
        values: values of all lines of all charts; NaN does not count.

    Returns:
        The lowest and the highest value with a margin; it begins at 0 if no value is below. None if
        there are no values.
    """
    finite = [value[np.isfinite(value)] for value in values]
    found = np.concatenate(finite) if finite else np.array([])
    if not len(found):
        return None
    low, high = float(found.min()), float(found.max())
    if low >= 0:
        return 0.0, 1.05 * high if high > 0 else 1.0
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def title(axes: Any, text: str) -> None:
    """Writes the title of a panel at the left."""
    axes.set_title(text, fontsize=10, loc="left", color=INK)


def label_ends(axes: Any, labels: Sequence[tuple[float, str, str]]) -> None:
    """Writes names at the ends of lines, and separates names that would overlap.

    Args:
        axes: the axes, after all lines are drawn.
        labels: (last value, name, color) of each line.
    """
    if not labels:
        return
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    ordered = sorted(labels)
    to_axes = axes.transData + axes.transAxes.inverted()
    right = axes.get_xlim()[1]
    ends = np.array([to_axes.transform((right, value))[1] for value, _, _ in ordered])
    # A line of 8-point text and its leading are 0.15 inch.
    rows = max(4, int(_height_of(axes) / 0.15))
    places = spread_labels(ends, gap=1.0 / rows)
    for end, place, (value, name, color) in zip(ends, places, ordered, strict=True):
        axes.annotate(
            f"{name}  {short_number(value)}",
            xy=(1.0, end),
            xycoords="axes fraction",
            xytext=(1.035, place),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=color,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "linewidth": 0.7,
                "relpos": (0.0, 0.5),
                "shrinkA": 1,
                "shrinkB": 4,
            },
        )


def _height_of(axes: Any) -> float:
    """Returns the approximate height of axes in inches."""
    box = axes.get_subplotspec()
    rows = box.get_gridspec().nrows if box is not None else 1
    return float(axes.figure.get_size_inches()[1]) / rows * 0.78


def short_number(value: float) -> str:
    """Returns a number with about three significant digits."""
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def spread_labels(ends: np.ndarray, gap: float) -> np.ndarray:
    """Moves sorted places at least `gap` apart, each as little as can be, within [0, 1].

    Least squares under that constraint is isotonic regression of `ends - index * gap`; neighbors
    that would overlap are pooled to their mean.
    """
    pools: list[tuple[float, int]] = []
    for index, end in enumerate(ends):
        mean, count = float(end) - index * gap, 1
        while pools and pools[-1][0] > mean:
            other, added = pools.pop()
            mean, count = (mean * count + other * added) / (count + added), count + added
        pools.append((mean, count))
    places = np.concatenate([np.full(count, mean) for mean, count in pools])
    places = np.clip(places, 0.0, max(0.0, 1.0 - gap * (len(ends) - 1)))
    return places + gap * np.arange(len(ends))


def _mark_at(x: np.ndarray) -> list[int]:
    """Returns about ten places of markers, evenly spread over the axis."""
    if len(x) <= 12:
        return list(range(len(x)))
    wanted = np.linspace(x[0], x[-1], 11)
    return sorted(set(np.searchsorted(x, wanted).clip(0, len(x) - 1).tolist()))
