"""The picture of a run: probabilities and scores of each task."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mtl.errors import DataError, nearest_task
from keras_mtl.events import Curve, Event, read_events, task_curves, validation_metric
from keras_mtl.figures import charts
from keras_mtl.metrics import ratio_title, title

_PROBABILITY = "probability of the next batch"


def plot_run(
    model_dir: str | os.PathLike[str],
    output_png: str | os.PathLike[str],
    tasks: Sequence[str] | None = None,
) -> Path:
    """Draws the probability and the score / baseline of each task over the steps of a run.

    Up to `charts.MAX_LINES` tasks are lines; more are rows of two heat maps.

    Args:
        model_dir: directory of a run, which holds `metrics.jsonl`.
        output_png: the PNG file to write; missing directories are created.
        tasks: tasks to draw, in this order; None draws all.

    Returns:
        The path of the picture.

    Raises:
        DataError: nothing has been logged yet, or a task is unknown.

    Example:
        ```python
        import keras_mtl

        keras_mtl.plot_run("runs/demo", "demo.png", tasks=["en-fr", "en-gl"])
        ```
    """
    events = read_events(model_dir)
    probabilities = task_curves(events, "probabilities")
    if not probabilities:
        raise DataError(f"{model_dir} holds no training event yet: train first, then plot")
    scores, score_label = _scores(events)
    names = list(probabilities) if tasks is None else list(tasks)
    for name in names:
        if name not in probabilities:
            raise DataError(
                f"{model_dir}: unknown task {name!r}{nearest_task(name, probabilities)}"
            )
    if len(names) <= charts.MAX_LINES:
        figure = charts.new_figure(9.0, 6.6)
        draw = _draw_lines
    else:
        figure = charts.new_figure(9.0, 2.2 + 0.30 * len(names))
        draw = _draw_rows
    top, bottom = figure.subplots(2, 1, sharex=True)
    draw(top, names, probabilities, _PROBABILITY)
    if scores:
        draw(bottom, names, scores, score_label)
    else:
        charts.style(bottom)
        bottom.set_ylabel(score_label)
        bottom.text(
            0.5, 0.5, "no evaluation yet",
            transform=bottom.transAxes, ha="center", color=charts.MUTED,
        )  # fmt: skip
    bottom.set_xlabel("training step")
    return charts.save_png(figure, output_png)


def _scores(events: Sequence[Event]) -> tuple[dict[str, Curve], str]:
    """Score/baseline by task if every evaluated task has a baseline, else the score."""
    metric = validation_metric(events)
    if not metric:
        return {}, "score"
    scores, ratios = task_curves(events, "scores", metric), task_curves(events, "ratios")
    if scores and set(scores) == set(ratios):
        return ratios, ratio_title(metric)
    return scores, title(metric)


def _draw_lines(axes: Any, names: Sequence[str], curves: Mapping[str, Curve], label: str) -> None:
    lines = [
        charts.Line(name, np.array(list(curves[name])), np.array(list(curves[name].values())), i)
        for i, name in enumerate(names)
        if name in curves
    ]
    axes.set_ylabel(label)
    charts.draw_lines(
        axes,
        lines,
        # Probabilities hold until the next update; scores are measured at points.
        steps=label == _PROBABILITY,
        line_at=1.0 if "baseline" in label else None,
    )


def _draw_rows(axes: Any, names: Sequence[str], curves: Mapping[str, Curve], label: str) -> None:
    found = [curves.get(name, {}) for name in names]
    steps, values = charts.heat_cells(
        [(np.array(list(curve)), np.array(list(curve.values()))) for curve in found]
    )
    charts.draw_heat(axes, names, steps, values)
    charts.title(axes, label)
