"""Relative paths of a configuration: which fields hold paths, and what they are relative to.

A path in a configuration file is relative to the directory of the file; a path in
`--params_override` is relative to the working directory. All paths are made absolute when they are
applied, so a run can be used from any directory.
"""

import glob
import os
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

from keras_mtl import errors

_FIELDS = (
    ("task", "data", "data_dir"),
    ("task", "data", "vocabulary", "model_file"),
    ("task", "data", "source_vocabulary", "model_file"),
    ("trainer", "schedule", "baselines_file"),
)
_CORPORA_FIELDS = ("corpora", "dev_corpora", "test_corpora")
# How a params.yaml that `files.save_params` wrote begins.
SAVED_HEAD = "# Written by keras_mtl"

# Only readers know which of their options are paths. They say so when they are registered.
_PATH_OPTIONS: dict[str, tuple[str, ...]] = {}


def register_path_options(reader: str, options: Sequence[str]) -> None:
    """Says which options of a reader hold a path or a list of paths."""
    _PATH_OPTIONS[reader] = tuple(options)


class PathField(NamedTuple):
    """A field that holds paths.

    Attributes:
        place: keys and indices that lead to the field.
        parent: the mapping that contains it.
        key: its key there.
    """

    place: tuple[str | int, ...]
    parent: MutableMapping[str, Any]
    key: str


def path_fields(values: Any) -> Iterator[PathField]:
    """Yields the fields of a configuration, as plain values, that hold a path or a list of paths.

    Values of a wrong type are skipped: the checks of the configuration report them.
    """
    for names in _FIELDS:
        section = values
        for name in names[:-1]:
            section = section.get(name) if isinstance(section, Mapping) else None
        if isinstance(section, MutableMapping) and names[-1] in section:
            yield PathField(names, section, names[-1])
    task = values.get("task") if isinstance(values, Mapping) else None
    if not isinstance(task, Mapping):
        return
    data, pairs, model = task.get("data"), task.get("pairs"), task.get("model")
    sources = model.get("init") if isinstance(model, Mapping) else None
    for i, source in enumerate(sources if isinstance(sources, list) else ()):
        if isinstance(source, MutableMapping) and "from" in source:
            yield PathField(("task", "model", "init", i, "from"), source, "from")
    if isinstance(data, Mapping):
        yield from corpora_fields(data.get("corpora"), ("task", "data", "corpora"))
    for i, pair in enumerate(pairs if isinstance(pairs, list) else ()):
        for name in _CORPORA_FIELDS if isinstance(pair, Mapping) else ():
            yield from corpora_fields(pair.get(name), ("task", "pairs", i, name))


def corpora_fields(corpora: Any, place: tuple[str | int, ...] = ()) -> Iterator[PathField]:
    """Yields the options of a list of corpora that hold a path or a list of paths."""
    for i, corpus in enumerate(corpora if isinstance(corpora, list) else ()):
        options = corpus.get("options") if isinstance(corpus, Mapping) else None
        if isinstance(options, MutableMapping):
            for key in _PATH_OPTIONS.get(str(corpus.get("reader")), ()):
                if key in options:
                    yield PathField((*place, i, "options", key), options, key)


def base_directory(file: str) -> str:
    """Returns the directory that the paths in a configuration file are relative to.

    This is the directory of the file, except for the `params.yaml` of a run: old releases wrote its
    paths relative to the working directory.
    """
    try:
        with open(file, encoding="utf-8", errors="replace") as handle:
            saved = handle.readline().startswith(SAVED_HEAD)
    except OSError:
        saved = False  # Whoever reads the file next reports the error.
    return os.getcwd() if saved else os.path.dirname(os.path.abspath(file))


def absolute(value: Any, directory: str) -> Any:
    """Makes a path, or each path of a list, absolute; returns other values unchanged."""
    if isinstance(value, list):
        return [absolute(each, directory) for each in value]
    if not isinstance(value, str) or not value or "://" in value:  # gs://bucket/directory
        return value
    return os.path.normpath(os.path.join(directory, os.path.expanduser(value)))


def make_absolute(values: Any, directory: str) -> None:
    """Makes the paths of a configuration, as plain values, absolute in place."""
    for field in path_fields(values):
        field.parent[field.key] = absolute(field.parent[field.key], directory)


def check_moved(value: Any, directory: str) -> None:
    """Rejects a path that exists relative to the working directory, but not relative to the file.

    Old releases resolved it in the working directory. The message says how to write the path now.

    Args:
        value: the path as written, or a list of paths.
        directory: directory of the configuration file.

    Raises:
        ConfigError: there is such a path.
    """
    for path in value if isinstance(value, list) else [value]:
        if not isinstance(path, str) or not path or os.path.isabs(path):
            continue
        meant, other = absolute(path, directory), absolute(path, os.getcwd())
        if not _exists(meant) and _exists(other):
            raise errors.ConfigError(
                f"{path!r}: {meant} does not exist, but {other} does; a path in a configuration "
                f"file is relative to that file: write {os.path.relpath(other, directory)!r} or an "
                "absolute path"
            )


def _exists(path: str) -> bool:
    """Whether a path exists, or a pattern matches at least one path."""
    return os.path.exists(path) or any(glob.iglob(path, recursive=True))
