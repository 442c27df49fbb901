"""Typed overrides: values of YAML files and of `--params_override` replace those of fields.

Every value is checked against the type of its field, and a list replaces the whole list before it.
All problems are reported together, each with file, line, field, value and remedy.
"""

import copy
import dataclasses
import math
import os
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from keras_mtl import errors
from keras_mtl.configuration import paths, schema
from keras_mtl.configuration.reading import TYPE_NAMES, Override, Path, dotted, kind_of, shown
from keras_mtl.messages import to_stderr

# A free-form mapping belongs to the component that the field next to it names. When the name
# changes, the options of the old component no longer apply.
_SELECTORS: dict[Any, dict[str, str]] = {
    schema.CorpusConfig: {"reader": "options"},
    schema.ScheduleConfig: {"name": "parameters"},
    schema.BalancingConfig: {"name": "parameters"},
    schema.OptimizerConfig: {
        "name": "parameters",
        "learning_rate_schedule": "learning_rate_parameters",
    },
    schema.TransformerConfig: {
        "feed_forward": "feed_forward_parameters",
        "norm": "norm_parameters",
        "self_attention": "self_attention_parameters",
    },
}
# Former names of fields, which configurations of older versions use.
_FORMER_NAMES: dict[Path, str] = {
    ("trainer", "optimizer", "schedule"): "learning_rate_schedule",
}
_PLAIN = (str, int, float, bool, type(None))


def apply(
    config: Any,
    override: Override,
    places: dict[Path, str] | None = None,
    log: Callable[[str], None] = to_stderr,
) -> list[tuple[Path, str]]:
    """Overrides fields of a configuration in place.

    Sections are merged, and lists are replaced as a whole. Free-form options are merged, and an
    empty mapping removes all of them. Paths become absolute, also in `override`. Plug-ins that
    register readers must be loaded before.

    Args:
        config: what is changed, an `ExperimentConfig`; a value that is wrong leaves its field as it
            is.
        override: the values.
        places: filled with file and line of each value that was set, by path.
        log: gets a line for each field that has its former name.

    Returns:
        The path of each unknown key and each value of the wrong type, and a message for it.
    """
    override = _with_present_names(override, log)
    walk = _Walk(config, override, {} if places is None else places)
    if override.directory:
        for field in paths.path_fields(override.values):
            try:
                paths.check_moved(field.parent[field.key], override.directory)
            except errors.ConfigError as error:
                walk.problem(field.place, f"= {error}")
    paths.make_absolute(override.values, override.directory or os.getcwd())
    walk.section(config, override.values, ())
    return walk.problems


def _with_present_names(override: Override, log: Callable[[str], None]) -> Override:
    """Renames fields that are given by a former name, also in `override.values`."""
    lines = dict(override.lines)
    for path, name in _FORMER_NAMES.items():
        section: Any = override.values
        for key in path[:-1]:
            section = section.get(key) if isinstance(section, dict) else None
        present = (*path[:-1], name)
        # If both names are given, the old one is reported as unknown.
        if isinstance(section, dict) and path[-1] in section and name not in section:
            log(f"{override.place(path)}: {dotted(path)} is called {dotted(present)} now")
            section[name] = section.pop(path[-1])
            if path in lines:
                lines[present] = lines.pop(path)
    return dataclasses.replace(override, lines=lines)


def set_values(section: Any, values: Mapping[str, Any]) -> None:
    """Sets fields of a section from plain values, with the checks of `apply`.

    Example:
        ```python
        from keras_mtl.configuration.overriding import set_values
        from keras_mtl.configuration.schema import ExperimentConfig

        config = ExperimentConfig()
        set_values(config.task, {"model": {"size": "tiny"}, "data": {"max_length": 64}})
        ```

    Args:
        section: a configuration or a section of one, changed in place.
        values: nested mappings, lists and scalars. Paths are not made absolute.

    Raises:
        ConfigError: unknown keys or values of the wrong type; the message has a line for each.
    """
    copied = copy.deepcopy(dict(values))
    walk = _Walk(section, Override(type(section).__name__, copied, {}), {})
    walk.section(section, copied, ())
    if walk.problems:
        raise errors.ConfigError("\n  ".join(text for _, text in walk.problems))


class _Walk:
    """Applies one override to a tree of sections.

    Attributes:
        problems: path and message of what is wrong. A wrong value leaves its field as it is.
    """

    def __init__(self, root: Any, override: Override, places: dict[Path, str]) -> None:
        self.problems: list[tuple[Path, str]] = []
        self._root = root
        self._override = override
        self._places = places

    def problem(self, path: Path, text: str) -> None:
        name = dotted(path) or "the configuration"
        self.problems.append((path, f"{self._override.place(path)}: {name} {text}"))

    def section(self, config: Any, values: Any, path: Path) -> None:
        if values is None:  # A section whose every line is commented out.
            return
        if not isinstance(values, dict):
            self._wrong(path, values, "a mapping")
            return
        hints = typing.get_type_hints(type(config))
        fields = {
            schema.field_name(field.name): hints[field.name] for field in dataclasses.fields(config)
        }
        for selector, options in _SELECTORS.get(type(config), {}).items():
            if selector in values and values[selector] != getattr(config, selector):
                setattr(config, options, {})
        for key, value in values.items():
            here = (*path, key)
            if key not in fields:
                self._unknown(here, fields)
                continue
            attribute = schema.attribute_name(key)
            current = getattr(config, attribute)
            if dataclasses.is_dataclass(current):
                self.section(current, value, here)
            elif fields[key] == schema.Options:
                self._options(current, value, here)
            else:
                for old in [each for each in self._places if each[: len(here)] == here]:
                    del self._places[old]  # An element of a list that is replaced now.
                self._places[here] = self._override.place(here)
                setattr(config, attribute, self._value(fields[key], value, here, current))

    def _value(self, hint: Any, value: Any, path: Path, current: Any) -> Any:
        """Returns the new value of a field; `current` if the given value is wrong."""
        if typing.get_origin(hint) is types.UnionType:
            if value is None:
                return None
            (hint,) = (each for each in typing.get_args(hint) if each is not type(None))
        if typing.get_origin(hint) is list:
            (element,) = typing.get_args(hint)
            if value is None:
                return []
            if not isinstance(value, list):
                self._wrong(path, value, f"a list of {TYPE_NAMES.get(element, 'sections')}")
                return current
            before = len(self.problems)
            found = [self._value(element, each, (*path, i), None) for i, each in enumerate(value)]
            # A section with a wrong field still has its other fields; a number or text is lost.
            lost = element in TYPE_NAMES and len(self.problems) > before
            return current if lost else found
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            section: Any = hint()
            self._places[path] = self._override.place(path)
            if value is None:
                self._wrong(path, value, "a mapping")
            else:
                self.section(section, value, path)
            return section
        return self._scalar(hint, value, path, current)

    def _scalar(self, kind: type, value: Any, path: Path, current: Any) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if kind is float and is_number:
            return float(value)
        if kind is int and is_number and math.isfinite(value) and value == int(value):
            return int(value)  # A number of steps may be written as 1e5.
        if kind in (str, bool) and isinstance(value, kind):
            return value
        if kind is str and value is None and not isinstance(path[-1], int):
            return ""  # `baselines_file=` empties a string, as it empties a list.
        remedy = ""
        if kind is str and value is not None:
            # YAML 1.1 reads no, yes, on and off as booleans: Norwegian has the language code `no`.
            written = "'no'" if value is False else f"'{value}'"
            remedy = f"; put it in quotes: {written}"
        self._wrong(path, value, TYPE_NAMES[kind] + remedy)
        return current

    def _options(self, options: schema.Options, values: Any, path: Path) -> None:
        """Merges free-form options; an empty mapping removes all of them."""
        if values is None:  # Like an empty section.
            return
        if not isinstance(values, dict):
            self._wrong(path, values, "a mapping")
            return
        if not values:
            options.clear()
        for key, value in values.items():
            here = (*path, key)
            self._places[here] = self._override.place(here)
            if _is_plain(value):
                options[key] = _merged(options.get(key), value)
            else:
                self._wrong(here, value, "a number, string, boolean, mapping, or a list of these")

    def _unknown(self, path: Path, known: dict[str, Any]) -> None:
        elsewhere = [each for each in _field_paths(self._root) if each[-1] == path[-1]]
        if elsewhere:
            remedy = f"; did you mean {' or '.join(dotted(each) for each in elsewhere[:3])}?"
        else:
            remedy = errors.nearest(str(path[-1]), known)
        self.problem(path, f"is unknown{remedy}")

    def _wrong(self, path: Path, value: Any, expected: str) -> None:
        self.problem(path, f"= {shown(value)} is {kind_of(value)}; expected {expected}")


def _is_plain(value: Any) -> bool:
    """Whether options may hold a value: YAML also has dates and bytes."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(each) for each in value)
    return isinstance(value, _PLAIN)


def _merged(old: Any, new: Any) -> Any:
    """Merges `new` over `old`; what is not a mapping is replaced, and an empty mapping empties."""
    if not (isinstance(old, dict) and isinstance(new, dict) and new):
        return new
    return old | {key: _merged(old.get(key), value) for key, value in new.items()}


def _field_paths(config: Any) -> list[Path]:
    """Returns the paths of all fields that are not in lists."""
    found: list[Path] = []
    for field in dataclasses.fields(config):
        found.append((field.name,))
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            found.extend((field.name, *rest) for rest in _field_paths(value))
    return found
