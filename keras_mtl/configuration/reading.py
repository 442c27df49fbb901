"""Reading configurations: YAML with the line of each value, and assignments as `a.b=1`."""

import dataclasses
import os
import re
from typing import Any

import yaml

from keras_mtl import errors
from keras_mtl.configuration import paths

Path = tuple[str | int, ...]
"""Keys and indices that lead to a value."""

_MAX_DEPTH = 50  # More than any configuration has; an alias that contains itself is endless.
_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class Loader(yaml.SafeLoader):
    """Reads `1e-9` as a number; YAML 1.1 reads it as a string because it has no dot."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


@dataclasses.dataclass(frozen=True)
class Override:
    """Values that replace those of fields, and the line of each.

    Attributes:
        name: path of the file, or `--params_override`.
        values: nested plain mappings, lists and scalars.
        lines: line (from 1) of each value by its path; empty for the command line.
        directory: directory of relative paths among the values; empty means the working directory.
    """

    name: str
    values: dict[str, Any]
    lines: dict[Path, int]
    directory: str = ""

    def place(self, path: Path) -> str:
        """Returns the file and line of a value, for a message."""
        line = self.lines.get(path)
        return self.name if line is None else f"{self.name} line {line}"


def from_yaml_file(path: str) -> Override:
    """Reads a YAML file.

    Raises:
        ConfigError: the file is missing, unreadable, not UTF-8, not YAML, or not a mapping.
    """
    override = from_yaml(_read_text(path), path)
    return dataclasses.replace(override, directory=paths.base_directory(path))


def from_yaml(text: str, name: str) -> Override:
    """Reads YAML text.

    Args:
        text: the YAML document; an empty document changes nothing.
        name: name of the document in messages.

    Raises:
        ConfigError: the text is not YAML, has a key twice, or is not a mapping.
    """
    lines: dict[Path, int] = {}
    values = _parse(text, name, lines)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise errors.ConfigError(
            f"{name}: {shown(values)} is {kind_of(values)}; expected a mapping such as "
            "`trainer: {train_steps: 1000}`"
        )
    return Override(name, values, lines)


def from_text(text: str, name: str = "--params_override") -> Override:
    """Reads the value of `--params_override`.

    Args:
        text: `a.b=1,c.d=x`, or YAML (JSON), or the name of a YAML file.
        name: name of the text in messages.

    Raises:
        ConfigError: the text is none of these.
    """
    if text.strip() and not re.search("[=:{]", text) and not os.path.isfile(text):
        raise errors.ConfigError(
            f"{name}: {text!r} is neither FIELD=VALUE nor a YAML file that exists; write it as "
            "trainer.train_steps=1000"
        )
    if re.match(r"\s*[\w.]*\s*=", text):
        return _from_assignments(text, name)
    if os.path.isfile(text):
        return from_yaml_file(text)
    return from_yaml(text, name)


def load_yaml(path: str | os.PathLike[str]) -> Any:
    """Reads a YAML or JSON file as plain values: a mapping, a list or a scalar.

    Raises:
        ConfigError: the file is missing, unreadable, not UTF-8 or not YAML.
    """
    path = os.fspath(path)
    return _parse(_read_text(path), path, {})


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise errors.ConfigError(
            f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8"
        ) from error
    except FileNotFoundError as error:
        raise errors.ConfigError(f"{path}: no such file; check the path") from error
    except OSError as error:
        raise errors.ConfigError(f"{path}: cannot be read ({error.strerror})") from error


def read_values(path: str | os.PathLike[str]) -> Any:
    """Reads a YAML file as plain values; returns None if it cannot be read."""
    try:
        return load_yaml(path)
    except errors.ConfigError:
        return None


def dotted(path: Path) -> str:
    """Returns a path as text: `("task", "pairs", 0, "name")` becomes `task.pairs[0].name`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


TYPE_NAMES = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


def kind_of(value: Any) -> str:
    """Returns the kind of a value in words, for messages."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return TYPE_NAMES.get(type(value), f"a {type(value).__name__}")


def shown(value: Any) -> str:
    """Returns a value as text for a message, cut short if it is long."""
    text = "null" if value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _parse(text: str, name: str, lines: dict[Path, int]) -> Any:
    """Turns YAML text into plain values and fills in the line of each."""
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
    """Turns a YAML node into plain values and fills in the line of each."""
    lines.setdefault(path, node.start_mark.line + 1)
    if len(path) > _MAX_DEPTH:
        raise errors.ConfigError(
            f"{name} line {lines[path]}: nested too deeply; at most {_MAX_DEPTH} levels are read"
        )
    if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN_TAGS:
        raise errors.ConfigError(
            f"{name} line {lines[path]}: the tag {node.tag!r} is not known; remove it"
        )
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, each, (*path, i), lines, name) for i, each in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return loader.construct_object(node)
    first_line: dict[str, int] = {}
    for key_node, _ in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise errors.ConfigError(f"{name} line {line}: a key must be a single word")
        if key_node.value in first_line:
            raise errors.ConfigError(
                f"{name} line {line}: {dotted((*path, key_node.value))} is set twice; "
                f"line {first_line[key_node.value]} already sets it: remove one of them"
            )
        first_line[key_node.value] = line
    loader.flatten_mapping(node)  # Resolves `<<: *anchor`.
    values = {}
    for key_node, value_node in node.value:
        # The text of the key, not its YAML type: a key may be `no` or `2`.
        here = (*path, key_node.value)
        lines[here] = key_node.start_mark.line + 1
        values[key_node.value] = _build(loader, value_node, here, lines, name)
    return values


def _from_assignments(text: str, name: str) -> Override:
    """Reads `a.b=1,c=[2,3]`."""
    values: dict[str, Any] = {}
    for assignment in _split(text, name):
        key, equals, value_text = assignment.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise errors.ConfigError(
                f"{name}: {assignment.strip()!r} is not an assignment; write field.subfield=value, "
                "with commas between them"
            )
        value = _parse(value_text, f"{name}: {key.strip()}", {})
        section = values
        for part in parts[:-1]:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                break
        if not isinstance(section, dict) or parts[-1] in section:
            raise errors.ConfigError(f"{name}: {key.strip()} is set twice; set it once")
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
        raise errors.ConfigError(f"{name}: {text!r} has an unclosed quote or bracket; close it")
    return [piece for piece in pieces if piece.strip()]
