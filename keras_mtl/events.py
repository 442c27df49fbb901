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
from typing import Any, NamedTuple, TypeGuard

from keras_mtl.errors import DataError
from keras_mtl.run_files import METRICS_FILE

Event = dict[str, Any]

Curve = dict[int, float]
"""{step: value}, in increasing order of steps."""


# Fields that have a number for each task, or for each metric. A value that was not finite is null,
# but counts never are.
_BY_TASK = ("loss", "probabilities", "scales", "weights", "ratios", "macro_average")
_COUNTS = ("batches", "tokens")
# Fields that have a number, or null.
_NUMBERS = (
    "tokens_per_second",
    "learning_rate",
    "gradient_norm",
    "skipped",
    "outliers",
    "seconds",
    "waited_seconds",
)
_MOST_STEPS = 2**63  # Steps are in arrays of int64.


class DamagedLine(NamedTuple):
    """A line that is not an event, or an event with wrong values.

    Attributes:
        number: number of the line, from 1.
        content: beginning of the line.
        reason: why it is not an event, or which values are wrong.
        torn: whether it is the incomplete end of the file, which a killed process may leave.
        skipped: whether the line is not an event; False if only its wrong values are left out.
    """

    number: int
    content: bytes
    reason: str
    torn: bool
    skipped: bool = True


def effective_step(event: Mapping[str, Any]) -> int:
    """Returns the step from which the probabilities of an event hold."""
    found = event.get("effective_step")
    return found if _is_step(found) else int(event["step"])


def is_finite(value: Any) -> TypeGuard[int | float]:
    """Returns whether a value is a finite number that float64 can represent."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # JSON has integers of any size.
        return False


def readable(event: Event) -> tuple[Event, list[str]]:
    """Returns an event without the values that cannot be used, so that consumers need no checks.

    Args:
        event: an object with a step, as the file has it.

    Returns:
        The event, in which unknown fields are as they were, and a text for each value that was left
        out, such as `batches.en-fr is null`.
    """
    wrong: list[str] = []
    result: Event = {}
    for field, value in event.items():
        if field in _BY_TASK or field in _COUNTS:
            found: Any = _numbers(field, value, field in _BY_TASK, wrong)
        elif field == "scores" and isinstance(value, Mapping):
            by_metric = {
                metric: _numbers(f"{field}.{metric}", scores, True, wrong)
                for metric, scores in value.items()
            }
            found = {metric: scores for metric, scores in by_metric.items() if scores is not None}
        elif _is_valid(field, value):
            found = value
        else:
            found = None
            if value is not None:
                wrong.append(_described(field, value))
        if found is not None or (value is None and field in _NUMBERS):
            result[field] = found
    return result, wrong


def _numbers(
    field: str, values: Any, nullable: bool, wrong: list[str]
) -> dict[str, float | None] | None:
    """Returns the numbers of a field by task; None if the field has no tasks."""
    if not isinstance(values, Mapping):
        if values is not None:
            wrong.append(_described(field, values))
        return None
    found = {}
    for task, value in values.items():
        if is_finite(value) or (value is None and nullable):
            found[task] = value
        else:
            wrong.append(_described(f"{field}.{task}", value))
    return found


def _is_valid(field: str, value: Any) -> bool:
    """Whether a consumer can use the value of a field that has no tasks."""
    if field == "effective_step":
        return _is_step(value)
    if field in _NUMBERS:
        return is_finite(value)
    if field in ("event", "metric"):
        return isinstance(value, str)
    return field != "scores"


def _is_step(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_STEPS


def _described(field: str, value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return f"{field} is {text if len(text) <= 30 else text[:27] + '...'}"


def read_log(
    path: str | os.PathLike[str], as_written: bool = False
) -> tuple[list[Event], list[DamagedLine]]:
    """Reads all lines of `metrics.jsonl` that can be read.

    Args:
        path: the file, or the `model_dir` that holds it.
        as_written: whether to return wrong values, too; for code that writes the events again.

    Returns:
        The events in file order, without wrong values (see `readable`), and the damaged lines.

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
            if not isinstance(event, dict) or not _is_step(event["step"]):
                raise ValueError("not an object with a step")
        except (ValueError, KeyError) as error:
            damaged.append(DamagedLine(number, line[:80], str(error), number == len(lines)))
            continue
        wrong: list[str] = []
        if not as_written:
            event, wrong = readable(event)
        if wrong:
            damaged.append(DamagedLine(number, line[:80], "; ".join(wrong), False, skipped=False))
        events.append(event)
    return events, damaged


def read_events(path: str | os.PathLike[str], as_written: bool = False) -> list[Event]:
    """Reads `metrics.jsonl`.

    Args:
        path: the file, or the `model_dir` that holds it.
        as_written: see `read_log`.

    Returns:
        The events in file order. An incomplete last line, which a killed process may leave, and
        wrong values are skipped with a warning.

    Raises:
        DataError: there is no such file, or a line other than the last is not an event.
    """
    path = _log_file(path)
    events, damaged = read_log(path, as_written)
    wrong = [line for line in damaged if not line.skipped]
    if wrong:
        lines = f" and {len(wrong) - 1} more lines" if len(wrong) > 1 else ""
        warnings.warn(
            f"{path}:{wrong[0].number}{lines}: values that cannot be used are skipped "
            f"({wrong[0].reason})",
            stacklevel=2,
        )
    for line in damaged:
        if not line.skipped:
            continue
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
            if is_finite(value):
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
