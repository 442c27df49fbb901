"""A picture of a run: what the schedule gave each task, and what the task made of it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mtl.errors import DataError, nearest_task
from keras_mtl.events import effective_step, read_events
from keras_mtl.figures.charts import COLORS, MARKERS, MAX_LINES, label_ends, new_figure, save_png
from keras_mtl.metrics import title


def plot_run(
    model_dir: str | os.PathLike[str],
    output_png: str | os.PathLike[str],
    tasks: Sequence[str] | None = None,
) -> Path:
    """Draws probabilities and score/baseline of each task over steps.

    Up to `MAX_LINES` tasks are lines; more are rows of two heat maps.

    Args:
      model_dir: a run's directory, which holds ``metrics.jsonl``.
      output_png: the picture to write; its directory is made when missing.
      tasks: tasks to draw, in this order; None draws all.

    Returns:
      The path of the picture.

    Raises:
      DataError: nothing has been logged yet, or a task is unknown.
    """
    events = read_events(model_dir)
    probabilities = _series(events, None, "probabilities")
    if not probabilities:
        raise DataError(f"{model_dir} holds no training event yet: train first, then plot")
    scores, score_label = _scores(events)
    names = list(probabilities) if tasks is None else list(tasks)
    for name in names:
        if name not in probabilities:
            raise DataError(
                f"{model_dir}: unknown task {name!r}{nearest_task(name, probabilities)}"
            )
    draw = _lines if len(names) <= MAX_LINES else _heat_maps
    figure = draw(names, probabilities, scores, score_label)
    return save_png(figure, output_png)


Series = dict[str, tuple[np.ndarray, np.ndarray]]


def _series(
    events: Sequence[Mapping[str, Any]], kind: str | None, field: str, key: str = ""
) -> Series:
    """By task: steps int64[n] and values float64[n], in the order in which tasks appear.

    Events of other kinds are passed over; None takes all. A score is of the step whose weights had
    it, probabilities are of the step from which on they hold. Of two events at a step the later one
    is what holds from there, which a line of steps and a heat map both draw so.
    """
    points: dict[str, list[tuple[int, float]]] = {}
    for event in events:
        values = event.get(field) if kind in (None, event.get("event")) else None
        if key and values:
            values = values.get(key)
        step = effective_step(event) if field == "probabilities" else event["step"]
        for task, value in (values or {}).items():
            if value is not None:
                points.setdefault(task, []).append((step, value))
    return {
        task: (np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs]))
        for task, pairs in points.items()
    }


def _scores(events: Sequence[Mapping[str, Any]]) -> tuple[Series, str]:
    """Score/baseline by task where every evaluated task has a baseline, else the score."""
    evaluations = [event for event in events if event.get("event") == "evaluation"]
    if not evaluations:
        return {}, "score"
    metric = evaluations[-1].get("metric") or next(iter(evaluations[-1]["scores"]))
    scores = _series(events, "evaluation", "scores", metric)
    ratios = _series(events, "evaluation", "ratios")
    if scores and set(scores) == set(ratios):
        return ratios, f"{title(metric)} / baseline"
    return scores, title(metric)


def _figure(height: float) -> tuple[Any, Any]:
    figure = new_figure(9.0, height)
    return figure, figure.subplots(2, 1, sharex=True)


def _lines(names: Sequence[str], probabilities: Series, scores: Series, score_label: str) -> Any:
    figure, (top, bottom) = _figure(6.6)
    ends: list[list[tuple[float, str, str]]] = [[], []]
    for index, name in enumerate(names):
        color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
        for panel, (axes, series) in enumerate(((top, probabilities), (bottom, scores))):
            if name not in series:
                continue
            steps, values = series[name]
            axes.plot(
                steps,
                values,
                color=color,
                marker=marker,
                markersize=4.5,
                markevery=max(1, len(steps) // 12),
                linewidth=1.6,
                # Probabilities hold until the next update; scores are measured at points.
                drawstyle="steps-post" if panel == 0 else "default",
                clip_on=False,
                zorder=3,
            )
            ends[panel].append((float(values[-1]), name, color))
    top.set_ylabel("probability of the next batch")
    bottom.set_ylabel(score_label)
    bottom.set_xlabel("training step")
    for axes in (top, bottom):
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.8, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.0)
    top.set_ylim(bottom=0.0)
    if score_label.endswith("baseline"):
        bottom.axhline(1.0, color="#555555", linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    if scores and min(values.min() for _, values in scores.values()) >= 0:
        bottom.set_ylim(bottom=0.0)
    if not scores:
        _say_nothing_evaluated(bottom)
    for axes, labels in zip((top, bottom), ends, strict=True):
        label_ends(axes, labels)
    return figure


def _heat_maps(
    names: Sequence[str], probabilities: Series, scores: Series, score_label: str
) -> Any:
    figure, (top, bottom) = _figure(2.2 + 0.30 * len(names))
    for axes, series, label in (
        (top, probabilities, "probability of the next batch"),
        (bottom, scores, score_label),
    ):
        if not series:
            _say_nothing_evaluated(axes)
            continue
        steps = np.unique(np.concatenate([at for at, _ in series.values()]))
        grid = np.full((len(names), len(steps)), np.nan)
        for row, name in enumerate(names):
            if name in series:
                at, values = series[name]
                grid[row, np.searchsorted(steps, at)] = values
        # A cell spans from its step to the next; the last is as wide as the one before.
        width = steps[-1] - steps[-2] if len(steps) > 1 else 1
        edges = np.append(steps, steps[-1] + width)
        mesh = axes.pcolormesh(
            edges, np.arange(len(names) + 1), np.ma.masked_invalid(grid), cmap="cividis"
        )
        axes.set_facecolor("#EEEEEE")
        axes.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=8)
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.set_title(label, fontsize=10, loc="left")
        figure.colorbar(mesh, ax=axes, pad=0.01, aspect=40)
    bottom.set_xlabel("training step")
    return figure


def _say_nothing_evaluated(axes: Any) -> None:
    axes.text(0.5, 0.5, "no evaluation yet", transform=axes.transAxes, ha="center", color="#777777")
