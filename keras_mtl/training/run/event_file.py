"""A file of events, one JSON object per line, that a resumed run shortens."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keras_mtl.events import Event, read_events
from keras_mtl.files import naming, replace_file


class EventFile:
    """Appends events to a file, which is created with the first event.

    Args:
        path: the file.
        writes: whether to write anything; False for a process that is not the chief.
    """

    def __init__(self, path: Path, writes: bool = True):
        self.path = path
        self._writes = writes
        self._file: Any = None

    def append(self, event: Mapping[str, Any]) -> None:
        """Writes an event and flushes, so that `tail -f` can follow the file."""
        if not self._writes:
            return
        if self._file is None:
            self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115  held over calls
        with naming(self.path):
            self._file.write(_encode(event))
            self._file.flush()

    def keep(
        self,
        is_known: Callable[[Event], bool],
        drop: Callable[[list[Event], list[Event]], None] = lambda kept, dropped: None,
    ) -> int:
        """Drops events; the shortened file replaces the old one atomically.

        Args:
            is_known: returns whether to keep an event.
            drop: called with the kept and the dropped events before the file is replaced.

        Returns:
            The number of dropped lines, including an incomplete last one.

        Raises:
            DataError: a line other than the last is not an event.
        """
        self.close()
        if not self._writes or not self.path.exists():
            return 0
        lines = self.path.read_bytes().split(b"\n")
        kept: list[Event] = []
        dropped: list[Event] = []
        for event in read_events(self.path, as_written=True):
            (kept if is_known(event) else dropped).append(event)
        written = sum(1 for line in lines if line.strip())
        if len(kept) < written or lines[-1]:
            drop(kept, dropped)
            replace_file(self.path, "".join(_encode(_finite(event)) for event in kept))
        return written - len(kept)

    def close(self) -> None:
        """Closes the file; a later event reopens it."""
        if self._file is not None:
            self._file.close()
            self._file = None


def number(value: float | None) -> float | None:
    """Returns a value for JSON, which has no NaN: None in its place."""
    if value is None:
        return None
    found = float(value)
    return found if math.isfinite(found) else None


def _finite(value: Any) -> Any:
    """Returns a value of JSON with None for the numbers that JSON lacks, which Python reads."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _encode(event: Mapping[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n"
