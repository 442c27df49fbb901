"""Strict overrides of a configuration: from YAML files and from ``--params_override``.

``hyperparams.Config.override`` takes any value for any field, merges lists element by element and
reports an unknown key without its place. Here every value is checked against the field's type, a
list replaces the list before it, and an error names file, line, field, value and remedy.
"""

import dataclasses
import math
import os
import re
import types
import typing
from typing import Any

import yaml
from official.modeling import hyperparams

from keras_mtl import errors
from keras_mtl.configuration import paths as config_paths
from keras_mtl.configuration import schema as config_lib
from keras_mtl.configuration.yaml_loader import Loader

Path = tuple[str | int, ...]

# A free-form mapping belongs to the component that its neighbor names. When that name changes, the
# old component's options would only be in the way.
_SELECTORS: dict[Any, dict[str, str]] = {
    config_lib.CorpusConfig: {"reader": "options"},
    config_lib.ScheduleConfig: {"name": "parameters"},
    config_lib.BalancingConfig: {"name": "parameters"},
    config_lib.TransformerConfig: {
        "feed_forward": "feed_forward_parameters",
        "norm": "norm_parameters",
    },
}

_MAX_DEPTH = 50  # Deeper than any configuration; a YAML alias that contains itself is endless.


_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclasses.dataclass(frozen=True)
class Override:
    """Values that replace fields, and where each stands.

    Attributes:
      name: file, or ``--params_override``.
      values: nested plain mappings, lists and scalars.
      lines: line (from 1) of each value by its path; empty for the command line.
      directory: what relative paths among the values are relative to; empty is the working
        directory.
    """

    name: str
    values: dict[str, Any]
    lines: dict[Path, int]
    directory: str = ""

    def place(self, path: Path) -> str:
        """The file and line of a value, for a message."""
        line = self.lines.get(path)
        return self.name if line is None else f"{self.name} line {line}"


def from_yaml_file(path: str) -> Override:
    """Reads a YAML file.

    Raises:
      ConfigError: it is missing, unreadable, not UTF-8, not YAML, or not a mapping.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise errors.ConfigError(
            f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8"
        ) from error
    except FileNotFoundError as error:
        raise errors.ConfigError(f"{path}: no such configuration file") from error
    except OSError as error:
        raise errors.ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    override = from_yaml(text, path)
    return dataclasses.replace(override, directory=config_paths.base_directory(path))


def from_yaml(text: str, name: str) -> Override:
    """Reads YAML text.

    Args:
      text: the YAML document; an empty one changes nothing.
      name: what messages call it.

    Raises:
      ConfigError: it is not YAML, has a key twice, or is not a mapping.
    """
    lines: dict[Path, int] = {}
    values = _parse(text, name, lines)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise errors.ConfigError(
            f"{name}: {_show(values)} is {_kind(values)}; a mapping such as "
            "`trainer: {train_steps: 1000}` is expected"
        )
    return Override(name, values, lines)


def from_text(text: str, name: str = "--params_override") -> Override:
    """Reads the value of ``--params_override``.

    Args:
      text: ``a.b=1,c.d=x``, or YAML (JSON), or the name of a YAML file.
      name: what messages call it.

    Raises:
      ConfigError: it is none of these.
    """
    if re.match(r"\s*[\w.]*\s*=", text):
        return _from_assignments(text, name)
    if os.path.isfile(text):
        return from_yaml_file(text)
    return from_yaml(text, name)


def apply(
    config: hyperparams.Config, override: Override, places: dict[Path, str] | None = None
) -> None:
    """Overrides fields of ``config`` in place.

    Sections are merged, lists replaced whole, free-form options merged (empty ones are emptied).
    Paths become absolute, in ``override`` too; plug-ins with readers must be loaded before.

    Args:
      config: what is changed; on an error it may be changed in part.
      override: the values.
      places: filled with file and line of each value that was set, by path.

    Raises:
      ConfigError: an unknown key or a value of the wrong type.
    """
    if override.directory:
        for field in config_paths.path_fields(override.values):
            try:
                config_paths.check_moved(field.parent[field.key], override.directory)
            except errors.ConfigError as error:
                place = override.place(field.place)
                raise errors.ConfigError(f"{place}: {dotted(field.place)} = {error}") from error
    config_paths.make_absolute(override.values, override.directory or os.getcwd())
    _Walk(config, override, {} if places is None else places).section(config, override.values, ())


def dotted(path: Path) -> str:
    """``("task", "pairs", 0, "name")`` as ``task.pairs[0].name``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class _Walk:
    """One override on its way through the tree."""

    def __init__(self, root: hyperparams.Config, override: Override, places: dict[Path, str]):
        self._root = root
        self._override = override
        self._places = places

    def section(self, config: hyperparams.Config, values: Any, path: Path) -> None:
        if values is None:  # A section whose every line is commented out.
            return
        if not isinstance(values, dict):
            self._wrong(path, values, "a mapping")
        if isinstance(config, config_lib.Options):
            self._options(config, values, path)
            return
        hints = typing.get_type_hints(type(config))
        fields = {field.name: hints[field.name] for field in dataclasses.fields(config)}
        for key in values:
            if key not in fields:
                self._unknown(path, key, fields)
        for selector, options in _SELECTORS.get(type(config), {}).items():
            if selector in values and values[selector] != getattr(config, selector):
                config.__dict__[options] = config_lib.Options()
        for key, value in values.items():
            here = (*path, key)
            current = getattr(config, key)
            if isinstance(current, hyperparams.Config):
                self.section(current, value, here)
            else:
                for old in [each for each in self._places if each[: len(here)] == here]:
                    del self._places[old]  # Of a list that is replaced now.
                self._places[here] = self._override.place(here)
                # Not setattr: it would merge a list of sections into the list before it.
                config.__dict__[key] = self._value(fields[key], value, here)

    def _value(self, hint: Any, value: Any, path: Path) -> Any:
        if typing.get_origin(hint) in (typing.Union, types.UnionType):
            if value is None:
                return None
            (hint,) = (each for each in typing.get_args(hint) if each is not type(None))
        if typing.get_origin(hint) is list:
            (element,) = typing.get_args(hint)
            if value is None:
                return []
            if not isinstance(value, list):
                self._wrong(path, value, f"a list of {_TYPE_NAMES.get(element, 'sections')}")
            return [self._value(element, each, (*path, i)) for i, each in enumerate(value)]
        if isinstance(hint, type) and issubclass(hint, hyperparams.Config):
            section = hint()
            if not isinstance(value, dict):
                self._wrong(path, value, "a mapping")
            self._places[path] = self._override.place(path)
            self.section(section, value, path)
            return section
        return self._scalar(hint, value, path)

    def _scalar(self, kind: type, value: Any, path: Path) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if kind is float and is_number:
            return float(value)
        if kind is int and is_number and math.isfinite(value) and value == int(value):
            return int(value)  # 1e5 is a fine way to write a number of steps.
        if kind in (str, bool) and isinstance(value, kind):
            return value
        if kind is str and value is None and not isinstance(path[-1], int):
            return ""  # `baselines_file=` empties it, as an empty list or section is written.
        remedy = ""
        if kind is str and value is not None:
            # YAML 1.1 reads no, yes, on and off as booleans: Norwegian has the language code `no`.
            written = "'no'" if value is False else f"'{value}'"
            remedy = f"; put it in quotes: {written}"
        return self._wrong(path, value, _TYPE_NAMES[kind] + remedy)

    def _options(self, config: config_lib.Options, values: dict[str, Any], path: Path) -> None:
        if not values:
            for key in config.as_dict():
                del config.__dict__[key]
        for key, value in values.items():
            here = (*path, key)
            if hasattr(type(config), key) or key in hyperparams.Config.RESERVED_ATTR:
                raise errors.ConfigError(
                    f"{self._override.place(here)}: {dotted(here)}: {key!r} is reserved and cannot "
                    "be the name of an option"
                )
            self._places[here] = self._override.place(here)
            # Config.override would merge a list of mappings into the list before it, and knows no
            # new key inside one.
            merged = _merged(config.as_dict().get(key), value)
            config.__dict__.pop(key, None)
            try:
                config.override({key: merged}, is_strict=False)
            except TypeError:
                self._wrong(here, value, "a number, text, boolean, mapping, or a list of these")

    def _unknown(self, path: Path, key: str, known: dict[str, Any]) -> typing.NoReturn:
        here = (*path, key)
        elsewhere = [each for each in _field_paths(self._root) if each[-1] == key]
        if elsewhere:
            remedy = f"; did you mean {' or '.join(dotted(each) for each in elsewhere[:3])}?"
        else:
            remedy = errors.nearest(key, known)
        raise errors.ConfigError(f"{self._override.place(here)}: {dotted(here)} is unknown{remedy}")

    def _wrong(self, path: Path, value: Any, expected: str) -> typing.NoReturn:
        raise errors.ConfigError(
            f"{self._override.place(path)}: {dotted(path) or 'the configuration'} = "
            f"{_show(value)} is {_kind(value)}; expected {expected}"
        )


def _merged(old: Any, new: Any) -> Any:
    """`new` over `old`: mappings are merged, an empty one empties, all else is replaced."""
    if not (isinstance(old, dict) and isinstance(new, dict) and new):
        return new
    return old | {key: _merged(old.get(key), value) for key, value in new.items()}


_TYPE_NAMES = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}


def _kind(value: Any) -> str:
    """What a value is, in the words of the messages."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return _TYPE_NAMES.get(type(value), f"a {type(value).__name__}")


def _show(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _field_paths(config: hyperparams.Config) -> list[Path]:
    """Paths of all fields that exist outside of lists."""
    paths: list[Path] = []
    for field in dataclasses.fields(config):
        paths.append((field.name,))
        value = getattr(config, field.name)
        if isinstance(value, hyperparams.Config):
            paths.extend((field.name, *rest) for rest in _field_paths(value))
    return paths


def _parse(text: str, name: str, lines: dict[Path, int]) -> Any:
    """Turns YAML text into plain values; fills in the line of each."""
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        return None if node is None else _build(loader, node, (), lines, name)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = name if mark is None else f"{name} line {mark.line + 1} column {mark.column + 1}"
        problem = getattr(error, "problem", None) or str(error)
        raise errors.ConfigError(f"{place}: not valid YAML: {problem}") from error
    finally:
        loader.dispose()


def _build(loader: Loader, node: yaml.Node, path: Path, lines: dict[Path, int], name: str) -> Any:
    """Turns a YAML node into plain values and notes the line of each."""
    lines.setdefault(path, node.start_mark.line + 1)
    if len(path) > _MAX_DEPTH:
        raise errors.ConfigError(f"{name} line {lines[path]}: nested too deeply")
    if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN_TAGS:
        raise errors.ConfigError(f"{name} line {lines[path]}: the tag {node.tag!r} is not known")
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, each, (*path, i), lines, name) for i, each in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node)
    first_line: dict[str, int] = {}
    for key_node, _ in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise errors.ConfigError(f"{name} line {line}: a key must be a plain word")
        if key_node.value in first_line:
            raise errors.ConfigError(
                f"{name} line {line}: {dotted((*path, key_node.value))} is given a second time; "
                f"the first is in line {first_line[key_node.value]}"
            )
        first_line[key_node.value] = line
    loader.flatten_mapping(node)  # Resolves `<<: *anchor`.
    values = {}
    for key_node, value_node in node.value:
        # The text of the key, not its YAML type: a key `no` or `2` is a name too.
        here = (*path, key_node.value)
        lines[here] = key_node.start_mark.line + 1
        values[key_node.value] = _build(loader, value_node, here, lines, name)
    return values


def _from_assignments(text: str, name: str) -> Override:
    """Reads ``a.b=1,c=[2,3]``."""
    values: dict[str, Any] = {}
    for assignment in _split(text, name):
        key, equals, value_text = assignment.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise errors.ConfigError(
                f"{name}: {assignment.strip()!r} is no assignment; write field.subfield=value, "
                "with commas between them"
            )
        value = _parse(value_text, f"{name}: {key.strip()}", {})
        section = values
        for part in parts[:-1]:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                break
        if not isinstance(section, dict) or parts[-1] in section:
            raise errors.ConfigError(f"{name}: {key.strip()} is set twice")
        section[parts[-1]] = value
    return Override(name, values, {})


def _split(text: str, name: str) -> list[str]:
    """Splits at commas that are not inside quotes or brackets."""
    pieces = [""]
    depth = 0
    quote = ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "[{":
            depth += 1
        elif character in "]}":
            depth -= 1
        elif character == "," and depth == 0:
            pieces.append("")
            continue
        pieces[-1] += character
    if quote or depth:
        raise errors.ConfigError(f"{name}: {text!r} has an unclosed quote or bracket")
    return [piece for piece in pieces if piece.strip()]
