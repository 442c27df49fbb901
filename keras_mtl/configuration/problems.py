"""The problems of a configuration, collected with file and line."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from keras_mtl import errors
from keras_mtl.configuration.schema import ExperimentConfig


class Problems:
    """Collects problems of fields, which a path such as `task.pairs[0].name` names."""

    def __init__(self, config: ExperimentConfig, places: Mapping[str, str]):
        self.config = config
        self._places = places
        self._problems: list[tuple[str, str]] = []

    def finish(self, ignored: str = "(?!)") -> None:
        """Raises ConfigError if there are problems.

        Args:
            ignored: regular expression; problems of fields whose path begins with a match are left
                out.
        """
        lines = [text for path, text in self._problems if not re.match(ignored, path)]
        if lines:
            raise errors.ConfigError("\n  ".join(lines))

    def problem(self, path: str, text: str) -> None:
        self._add(path, f"{path} {text}")

    def error(self, path: str, error: errors.ConfigError) -> None:
        """Adds an error that another component raised about a field."""
        text = str(error)
        self._add(path, text if text.startswith(path) else f"{path}: {text}")

    def _add(self, path: str, text: str) -> None:
        place = self._place(path)
        line = f"{place}: {text}" if place else text
        if (path, line) not in self._problems:  # Tasks may share a corpus.
            self._problems.append((path, line))

    def _place(self, path: str) -> str | None:
        """Returns the file and line that set a field, or else its list element or section."""
        while path and path not in self._places:
            path = re.sub(r"(\.|^)[^.\[]+$|\[\d+\]$", "", path)
        return self._places.get(path)

    def range(
        self,
        path: str,
        low: float,
        high: float = math.inf,
        low_open: bool = False,
        high_open: bool = False,
    ) -> None:
        """Checks that a number is in [low, high]; an open end is excluded, and None passes."""
        value = self._value(path)
        if value is None:
            return
        above = value > low if low_open else value >= low
        below = value < high if high_open else value <= high
        if above and below and math.isfinite(value):
            return
        expected = f"{'>' if low_open else '>='} {low}"
        if high != math.inf:
            expected += f" and {'<' if high_open else '<='} {high}"
        self.problem(path, f"= {value}: must be {expected}")

    def choice(self, path: str, known: Sequence[str]) -> None:
        value = self._value(path)
        if value not in known:
            self.problem(path, f"= {value!r} is unknown{errors.nearest(value, known)}")

    def _value(self, path: str) -> Any:
        value: Any = self.config
        for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
            value = getattr(value, name) if name else value[int(index)]
        return value
