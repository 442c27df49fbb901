"""Builds, saves, loads and compares the configuration of a run.

Values are applied in Model Garden's order: the preset, each `--config_file` in turn, then
`--params_override`. The result is written to `params.yaml`, from which the run can be repeated.
"""

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

import keras_mtl
from keras_mtl.configuration import overriding, paths, plugins, presets, reading
from keras_mtl.configuration.checks import check_values
from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.schema import (
    ExperimentConfig,
    as_dict,
    source_language,
    task_name,
)
from keras_mtl.files import replace_file
from keras_mtl.run_files import PARAMS_FILE

Check = Callable[[Draft], None]
"""A function such as `check_values` of `keras_mtl.configuration.checks`: it adds problems."""


class _Absent:
    """Marks a value that one of two compared configurations does not have."""

    def __repr__(self) -> str:
        return "(absent)"


ABSENT = _Absent()


def load_experiment(
    experiment: str | ExperimentConfig | None = None,
    config_files: Sequence[str | os.PathLike[str]] = (),
    params_override: str | Sequence[str] = (),
    *,
    check: Check | None = check_values,
    imports: Sequence[str] = (),
) -> ExperimentConfig:
    """Builds a configuration: preset, files, overrides, checks.

    Args:
        experiment: as of `read_experiment`.
        config_files: as of `read_experiment`.
        params_override: as of `read_experiment`.
        check: adds to the draft what is wrong with the values; None adds nothing.
        imports: as of `read_experiment`.

    Returns:
        A new configuration.

    Raises:
        ConfigError: as of `read_experiment`; or an unknown key, a wrong type, or a value that does
            not fit: the message has a line for each, with file, line, field and value.
    """
    draft = read_experiment(experiment, config_files, params_override, imports=imports)
    if check is not None:
        check(draft)
    return draft.finish()


def read_experiment(
    experiment: str | ExperimentConfig | None = None,
    config_files: Sequence[str | os.PathLike[str]] = (),
    params_override: str | Sequence[str] = (),
    *,
    imports: Sequence[str] = (),
) -> Draft:
    """Reads a configuration: preset, files, overrides. Its values are not checked yet.

    Paths of corpora become absolute only if the reader is registered: import
    `keras_mtl.data.corpora` first.

    Args:
        experiment: name of a preset, or a configuration to start from, which is not changed; None
            takes `presets.DEFAULT`.
        config_files: YAML files, each over the one before.
        params_override: `a.b=1,c=x`, YAML text or a YAML file; or several of them.
        imports: plug-ins to import before those of the files; the configuration remembers them.

    Returns:
        A new configuration, with the unknown keys and the values of a wrong type.

    Raises:
        ConfigError: the preset is unknown, a file cannot be read, or a plug-in cannot be imported.
    """
    texts = [params_override] if isinstance(params_override, str) else list(params_override)
    given = [reading.from_yaml_file(os.fspath(path)) for path in config_files]
    given += [reading.from_text(text) for text in texts]
    # Plug-ins first: they may register the preset, and readers whose options are paths.
    plugins.load_entry_points()
    imported = plugins.load(imports)
    for override in given:
        imported += _load_plugins(override)
    if isinstance(experiment, ExperimentConfig):
        config = copy.deepcopy(experiment)
    else:
        config = presets.preset(experiment)
    places: dict[reading.Path, str] = {}
    unreadable = []
    for override in given:
        unreadable += overriding.apply(config, override, places)
    config.imports = list(dict.fromkeys(imported))
    name_tasks(config)
    return Draft(
        config,
        {reading.dotted(path): place for path, place in places.items()},
        [(reading.dotted(path), text) for path, text in unreadable],
    )


def _load_plugins(override: reading.Override) -> list[str]:
    """Imports the plug-ins that a file or an override names; each adds to those before it."""
    directory = os.path.dirname(os.path.abspath(override.name))
    return plugins.load_named(
        override.values.get(plugins.FIELD),
        directory if os.path.isfile(override.name) else None,
        override.place((plugins.FIELD,)),
    )


def name_tasks(config: ExperimentConfig) -> None:
    """Fills the name of every task that has none, and the source language of one side."""
    for pair in config.task.pairs:
        pair.name, pair.source = task_name(pair), source_language(pair)


def load_params(path: str | os.PathLike[str]) -> ExperimentConfig:
    """Reads a configuration that `save_params` wrote.

    Args:
        path: the file, or the model directory that holds `params.yaml`.

    Raises:
        ConfigError: the file is missing or is not a configuration.
    """
    if os.path.isdir(path):
        path = os.path.join(path, PARAMS_FILE)
    return load_experiment(config_files=[path])


def save_params(config: ExperimentConfig, path: str | os.PathLike[str]) -> None:
    """Writes the whole configuration as YAML, with absolute paths.

    The file is complete or absent.

    Args:
        config: what to write.
        path: the file, or a directory that gets `params.yaml`; missing directories are created.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    if os.path.isdir(path):
        path = os.path.join(path, PARAMS_FILE)
    values = as_dict(config)
    paths.make_absolute(values, os.getcwd())
    text = (
        f"{paths.SAVED_HEAD} {keras_mtl.__version__}; --config_file takes it.\n"
        + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    )
    replace_file(path, text)


def diff(left: ExperimentConfig, right: ExperimentConfig) -> list[tuple[str, Any, Any]]:
    """Returns the fields in which two configurations differ.

    Args:
        left: one configuration.
        right: the other.

    Returns:
        (dotted path, left value, right value), in the order of the fields; tasks are matched by
        name, other list elements by position. A value that one side does not have is `ABSENT`.
    """
    differences: list[tuple[str, Any, Any]] = []

    def walk(path: str, a: Any, b: Any) -> None:
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            for key in [*a, *(key for key in b if key not in a)]:
                child = key if key.startswith("[") or not path else f".{key}"
                walk(f"{path}{child}", a.get(key, ABSENT), b.get(key, ABSENT))
        elif a != b or type(a) is not type(b):
            differences.append((path, a, b))

    walk("", _keyed(as_dict(left)), _keyed(as_dict(right)))
    return differences


def _keyed(value: Any) -> Any:
    """Turns lists of sections into mappings: by `[name]` if names are unique, else by `[index]`."""
    if isinstance(value, Mapping):
        return {str(key): _keyed(child) for key, child in value.items()}
    if isinstance(value, list | tuple) and value and all(isinstance(e, Mapping) for e in value):
        names = [e.get("name") for e in value]
        keys = names if all(names) and len(set(names)) == len(names) else range(len(value))
        return {f"[{key}]": _keyed(e) for key, e in zip(keys, value, strict=True)}
    return list(value) if isinstance(value, tuple) else value
