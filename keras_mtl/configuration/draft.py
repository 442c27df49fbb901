"""A configuration that is being read and checked: its values, their places, and what is wrong."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_mtl import errors
from keras_mtl.configuration.components import UnknownName
from keras_mtl.configuration.schema import ExperimentConfig, attribute_name


class Draft:
    """A configuration with the problems that were found in it so far.

    Reading collects wrong keys and types, checks add wrong values, and `finish` reports all of them
    together. Dotted paths such as `task.pairs[0].name` name the fields.

    Args:
        config: the configuration; a field whose value could not be read has its default.
        places: file and line that set a field, by path; they make messages more helpful.
        unreadable: (path, message) of each unknown key and each value of a wrong type. Checks
            ignore these fields, because their values are not what the user wrote.

    Attributes:
        config: the configuration.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        places: Mapping[str, str] | None = None,
        unreadable: Iterable[tuple[str, str]] = (),
    ) -> None:
        self.config = config
        self._places = dict(places or {})
        self._problems = list(unreadable)
        self._unreadable = [path for path, _ in self._problems]

    def finish(self, ignored: str = "(?!)") -> ExperimentConfig:
        """Returns the configuration if nothing is wrong.

        Args:
            ignored: regular expression; problems of fields that match are left out.

        Raises:
            ConfigError: something is wrong; the message has a line for each problem.
        """
        lines = [text for path, text in self._problems if not re.match(ignored, path)]
        if lines:
            raise errors.ConfigError("\n  ".join(lines))
        return self.config

    def problem(self, path: str, text: str) -> None:
        """Adds a problem of a field; the text follows the field's path."""
        self._add(path, f"{path} {text}")

    def error(self, path: str, error: errors.ConfigError) -> None:
        """Adds what another room says of a field."""
        text = str(error)
        self._add(path, text if text.startswith(path) else f"{path}: {text}")

    def component_error(
        self,
        section: str,
        error: errors.ConfigError,
        name: str = "name",
        parameters: str = "parameters",
    ) -> None:
        """Adds what a registered component says of its name or of its parameters.

        Args:
            section: path of the section that chooses the component.
            error: the component's error.
            name: field of the section with the component's name.
            parameters: field of the section with the component's parameters.
        """
        text = str(error)
        if isinstance(error, UnknownName):
            self.problem(f"{section}.{name}", error.text)
            return
        field = f"{section}.{parameters}"
        # The parameter that the error names first, else any one: the mapping itself has no place.
        rest = text.replace(repr(self._value(f"{section}.{name}")), "", 1)
        places = [
            (rest.find(key) if key in rest else len(rest), f"{field}.{key}")
            for key in self._value(field)
            if f"{field}.{key}" in self._places
        ]
        path = min(places)[1] if places else None
        if path is None:
            self._add(f"{section}.{name}", f"{section}: {text}")
        else:
            self._add(path, f"{field}: {text}")

    def range(
        self,
        path: str,
        low: float,
        high: float = math.inf,
        low_open: bool = False,
        high_open: bool = False,
    ) -> None:
        """A number in [low, high], or without an end that is open; None is a default."""
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
        if math.isinf(value):
            expected += " and finite"
        self.problem(path, f"= {value}: must be {expected}")

    def choice(self, path: str, known: Sequence[str]) -> None:
        """One of the known words."""
        value = self._value(path)
        if value not in known:
            self.problem(path, f"= {value!r} is unknown{errors.nearest(value, known)}")

    def _add(self, path: str, text: str) -> None:
        if any(self._follows_from(path, text, other) for other in self._unreadable):
            return
        place = self._place(path)
        line = f"{place}: {text}" if place else text
        if (path, line) not in self._problems:  # Tasks may share a corpus.
            self._problems.append((path, line))

    def _follows_from(self, path: str, text: str, unreadable: str) -> bool:
        """Whether a problem is about an unreadable field, or about one that it may have meant."""
        if _holds(unreadable, path) or _holds(path, unreadable) or unreadable in text:
            return True
        section = unreadable.rpartition(".")[0]
        return path.rpartition(".")[0] == section and not self._is_set(path)

    def _is_set(self, path: str) -> bool:
        """Whether a file or an override set the field or a part of it."""
        return any(_holds(path, place) for place in self._places)

    def _place(self, path: str) -> str | None:
        """File and line that set a field, or else the list element or section that it is in."""
        while path and path not in self._places:
            path = re.sub(r"(\.|^)[^.\[]+$|\[\d+\]$", "", path)
        return self._places.get(path)

    def _value(self, path: str) -> Any:
        value: Any = self.config
        for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
            value = getattr(value, attribute_name(name)) if name else value[int(index)]
        return value


def _holds(path: str, other: str) -> bool:
    """Whether a path is another one or leads to it."""
    return f"{other}.".startswith((f"{path}.", f"{path}["))
