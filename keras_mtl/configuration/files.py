"""Experiments by name, their overrides, and the configuration file of a run.

The order of overrides is Model Garden's: the registered experiment, each ``--config_file`` in turn,
``--params_override``. The result is written to ``params.yaml`` and can be run again from there.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml
from official.core import exp_factory

import keras_mtl
from keras_mtl import errors
from keras_mtl.configuration import (
    checks as validation,
)
from keras_mtl.configuration import (
    overriding as overrides,
)
from keras_mtl.configuration import (
    paths as config_paths,
)
from keras_mtl.configuration import (
    plugins,
)
from keras_mtl.configuration import presets as _experiments  # noqa: F401  registers them
from keras_mtl.configuration import schema as config_lib
from keras_mtl.files import replace_file
from keras_mtl.run_files import PARAMS_FILE

DEFAULT_EXPERIMENT = "translation/transformer"

_FAMILY = "translation"  # Without a member, it names the default experiment.

validate = validation.validate


class _Absent:
    """Marks, in a difference, a value that one of the two configurations does not have."""

    def __repr__(self) -> str:
        return "(absent)"


ABSENT = _Absent()


def available() -> list[str]:
    """Names of the registered experiments of this package's kind."""
    names: list[str] = []

    def walk(prefix: str, entry: Mapping[str, Any] | Callable[[], Any]) -> None:
        if isinstance(entry, Mapping):
            for key, child in entry.items():
                walk(f"{prefix}/{key}" if prefix else str(key), child)
        elif prefix.startswith(f"{_FAMILY}/"):
            names.append(prefix)

    # exp_factory has no public listing; without one the nearest name could not be shown.
    walk("", exp_factory._REGISTERED_CONFIGS)
    return sorted(names)


def base_experiment(name: str | None = None) -> config_lib.ExperimentConfig:
    """A registered experiment, without overrides.

    Args:
      name: registered name; None or ``translation`` takes :data:`DEFAULT_EXPERIMENT`.

    Raises:
      ConfigError: the name is unknown, or of an experiment that is none of this package's.
    """
    if not name or name == _FAMILY:
        name = DEFAULT_EXPERIMENT
    try:
        config = exp_factory.get_exp_config(name)
    except (LookupError, TypeError) as error:  # TypeError: a family, not an experiment.
        raise errors.ConfigError(
            f"--experiment: {name!r} is not registered{errors.nearest(name, available())}"
        ) from error
    if not isinstance(config, config_lib.ExperimentConfig):
        raise errors.ConfigError(
            f"--experiment: {name!r} is a {type(config).__module__} experiment; keras_mtl runs "
            f"{', '.join(available())}"
        )
    return config


def load_experiment(
    experiment: str | None = None,
    config_files: Sequence[str | os.PathLike[str]] = (),
    params_override: str | Sequence[str] = (),
    *,
    check: bool = True,
    imports: Sequence[str] = (),
) -> config_lib.ExperimentConfig:
    """Builds a configuration: registered experiment, files, overrides, shorthands, checks.

    Args:
      experiment: registered name; None takes :data:`DEFAULT_EXPERIMENT`.
      config_files: YAML files, each over the one before.
      params_override: ``a.b=1,c=x``, YAML text or a YAML file; or several of them.
      check: whether to :func:`validate` the result.
      imports: plug-ins to import before those of the files; the configuration remembers them.

    Returns:
      A new configuration.

    Raises:
      ConfigError: an unknown experiment or key, a wrong type, or (with ``check``) a value that does
        not fit; the message names file, line, field and value.
    """
    texts = [params_override] if isinstance(params_override, str) else list(params_override)
    given = [overrides.from_yaml_file(os.fspath(path)) for path in config_files]
    given += [overrides.from_text(text) for text in texts]
    # Plug-ins first: they may register the experiment, and readers whose options are paths.
    plugins.load_entry_points()
    imported = plugins.load(imports)
    for override in given:
        imported += _load_plugins(override)
    config = base_experiment(experiment)
    places: dict[overrides.Path, str] = {}
    for override in given:
        overrides.apply(config, override, places)
    config.imports = list(dict.fromkeys(imported))
    name_tasks(config)
    if check:
        validate(config, {overrides.dotted(path): place for path, place in places.items()})
    return config


def _load_plugins(override: overrides.Override) -> list[str]:
    """Imports the plug-ins that a file or text names; those of several files add up."""
    directory = os.path.dirname(os.path.abspath(override.name))
    return plugins.load_named(
        override.values,
        directory if os.path.isfile(override.name) else None,
        override.place((plugins.FIELD,)),
    )


def name_tasks(config: config_lib.ExperimentConfig) -> None:
    """Names every task that has no name ``source-target``."""
    for pair in config.task.pairs:
        if not pair.name:
            pair.name = f"{pair.source}-{pair.target}"


def load_params(path: str | os.PathLike[str]) -> config_lib.ExperimentConfig:
    """Reads a configuration that :func:`save_params` wrote.

    Args:
      path: the file, or the model directory that holds ``params.yaml``.

    Raises:
      ConfigError: it is missing or not a configuration.
    """
    if os.path.isdir(path):
        path = os.path.join(path, PARAMS_FILE)
    return load_experiment(config_files=[path])


def save_params(config: config_lib.ExperimentConfig, path: str | os.PathLike[str]) -> None:
    """Writes the whole configuration as YAML, with absolute paths.

    The file is complete or absent.

    Args:
      config: what to write.
      path: the file, or a directory that gets ``params.yaml``; missing directories are created.

    Raises:
      OSError: the disk is full, or the file cannot be written.
    """
    if os.path.isdir(path):
        path = os.path.join(path, PARAMS_FILE)
    values = config.as_dict()
    config_paths.make_absolute(values, os.getcwd())
    text = (
        f"{config_paths.SAVED_HEAD} {keras_mtl.__version__}; --config_file takes it.\n"
        + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    )
    replace_file(path, text)


def diff(
    left: config_lib.ExperimentConfig, right: config_lib.ExperimentConfig
) -> list[tuple[str, Any, Any]]:
    """The fields in which two configurations differ.

    Args:
      left: one configuration.
      right: the other.

    Returns:
      (dotted path, left value, right value), in the order of the fields; tasks are matched by name,
      other list elements by position. What one side lacks is :data:`ABSENT`.
    """
    differences: list[tuple[str, Any, Any]] = []

    def walk(path: str, a: Any, b: Any) -> None:
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            for key in [*a, *(key for key in b if key not in a)]:
                child = key if key.startswith("[") or not path else f".{key}"
                walk(f"{path}{child}", a.get(key, ABSENT), b.get(key, ABSENT))
        elif a != b or type(a) is not type(b):
            differences.append((path, a, b))

    walk("", _keyed(left.as_dict()), _keyed(right.as_dict()))
    return differences


def _keyed(value: Any) -> Any:
    """Lists of sections as mappings: by ``[name]`` where names are unique, else by ``[index]``."""
    if isinstance(value, Mapping):
        return {str(key): _keyed(child) for key, child in value.items()}
    if isinstance(value, list | tuple) and value and all(isinstance(e, Mapping) for e in value):
        names = [e.get("name") for e in value]
        keys = names if all(names) and len(set(names)) == len(names) else range(len(value))
        return {f"[{key}]": _keyed(e) for key, e in zip(keys, value, strict=True)}
    return list(value) if isinstance(value, tuple) else value
