"""The events of a run, as ``metrics.jsonl`` holds them: one JSON object a line.

`keras_mtl.training.run.event_log` writes the file and describes the events.
"""

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_mtl.errors import DataError
from keras_mtl.run_files import METRICS_FILE


def effective_step(event: Mapping[str, Any]) -> int:
    """Returns the step from which an event's probabilities hold; it was written at that step."""
    return event.get("effective_step", event["step"])


def read_events(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Reads ``metrics.jsonl``.

    Args:
      path: the file, or the ``model_dir`` that holds it.

    Returns:
      Its events in file order. An incomplete last line, as a killed process may leave, is skipped.

    Raises:
      DataError: there is no such file, or a line other than the last is not an event.
    """
    path = Path(path)
    if path.is_dir():
        path = path / METRICS_FILE
    if not path.exists():
        raise DataError(f"{path} does not exist: give the model_dir of a run that has trained")
    events = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
            if not isinstance(event, dict) or not isinstance(event["step"], int):
                raise ValueError("not an object with a step")
        except (ValueError, KeyError) as error:
            if number == len(lines):
                warnings.warn(f"{path}: the last line is torn and left out", stacklevel=2)
                break
            raise DataError(
                f"{path}:{number}: not an event ({error}): {line[:80]!r}; delete this line"
            ) from error
        events.append(event)
    return events
