"""Reads the events of a run from `metrics.jsonl`, which has one JSON object per line.

`keras_mtl.training.run.event_log` writes the file and documents the events. This module is its only
reader. It returns whole events, or the curve of one field for each task.
"""

import json
import math
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_mtl.errors import DataError
from keras_mtl.run_files import METRICS_FILE

Event = dict[str, Any]

Curve = dict[int, float]
"""{step: value}, in increasing order of steps."""


class DamagedLine(NamedTuple):
    """A line that is not an event.

    Attributes:
        number: number of the line, from 1.
        content: beginning of the line.
        reason: why it is not an event.
        torn: whether it is the incomplete end of the file, which a killed process may leave.
    """

    number: int
    content: bytes
    reason: str
    torn: bool


def effective_step(event: Mapping[str, Any]) -> int:
    """Returns the step from which the probabilities of an event hold."""
    return event.get("effective_step", event["step"])


def read_log(path: str | os.PathLike[str]) -> tuple[list[Event], list[DamagedLine]]:
    """Reads all lines of `metrics.jsonl` that can be read.

    Args:
        path: the file, or the `model_dir` that holds it.

    Returns:
        The events in file order, and the lines that are not events.

    Raises:
        DataError: there is no such file.
    """
    path = _log_file(path)
    events: list[Event] = []
    damaged: list[DamagedLine] = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
            if not isinstance(event, dict) or not isinstance(event["step"], int):
                raise ValueError("not an object with a step")
        except (ValueError, KeyError) as error:
            damaged.append(DamagedLine(number, line[:80], str(error), number == len(lines)))
        else:
            events.append(event)
    return events, damaged


def read_events(path: str | os.PathLike[str]) -> list[Event]:
    """Reads `metrics.jsonl`.

    Args:
        path: the file, or the `model_dir` that holds it.

    Returns:
        The events in file order. An incomplete last line, which a killed process may leave, is
        skipped with a warning.

    Raises:
        DataError: there is no such file, or a line other than the last is not an event.
    """
    path = _log_file(path)
    events, damaged = read_log(path)
    for line in damaged:
        if not line.torn:
            raise DataError(
                f"{path}:{line.number}: not an event ({line.reason}): {line.content!r}; delete "
                "this line"
            )
        warnings.warn(f"{path}: the last line is incomplete and is skipped", stacklevel=2)
    return events


def of_kind(events: Iterable[Event], kind: str) -> list[Event]:
    """Returns the events of one kind, `train` or `evaluation`."""
    return [event for event in events if event.get("event") == kind]


def validation_metric(events: Sequence[Event]) -> str:
    """Returns the metric that drives the schedule in the last evaluation; empty if there is none.

    The metric of a run may change. Older versions did not write it; the first metric is used then.
    """
    for event in reversed(of_kind(events, "evaluation")):
        found = event.get("metric") or next(iter(_mapping(event.get("scores"))), "")
        if found:
            return str(found)
    return ""


def task_curves(events: Iterable[Event], field: str, metric: str = "") -> dict[str, Curve]:
    """Returns the curve of each task in a field that has a value for each task.

    Args:
        events: events of one kind or of both.
        field: `loss`, `probabilities`, `ratios`, `scores`, ...
        metric: key within the field, for `scores`.

    Returns:
        Finite values by task and step, in increasing order of steps; tasks are in the order in
        which they appear. The step of a value is that of the weights, but the step of a probability
        is the one from which it holds. If a step has several values, the last one is used.
    """
    points: list[tuple[int, Mapping[str, Any]]] = []
    for event in events:
        values = event.get(field)
        if metric:
            values = _mapping(values).get(metric)
        step = effective_step(event) if field == "probabilities" else event["step"]
        points.append((step, _mapping(values)))
    curves: dict[str, Curve] = {}
    for step, values in sorted(points, key=lambda point: point[0]):
        for task, value in values.items():
            if isinstance(value, int | float) and math.isfinite(value):
                curves.setdefault(str(task), {})[step] = float(value)
    return curves


def _log_file(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if path.is_dir():
        path = path / METRICS_FILE
    if not path.exists():
        raise DataError(f"{path} does not exist; give the model_dir of a run that has been trained")
    return path


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
