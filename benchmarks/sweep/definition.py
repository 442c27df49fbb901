"""Reads the YAML file of a sweep: settings × seeds × sizes × sharings.

    config_files: ../../configs/demo.yaml     # one file or a list, relative to this file
    experiment: translation/transformer_tiny  # optional
    overrides: {trainer.train_steps: 2000}    # of every run
    baselines: {trainer.train_steps: 600}     # of single-task runs; without it, none
    seeds: [1, 2, 3]
    sizes:                                    # overrides by name; default: that of the files
      tiny: {}
      small: {task.model.hidden_dim: 256}
    sharings: [full, encoder]                 # default: that of the files
    settings_file: settings.yaml              # optional: settings that several sweeps share
    settings:                                 # overrides by name; they replace those of the file
      proportional: {trainer.schedule.name: proportional}
      temperature_5:
        trainer.schedule: {name: temperature, parameters: {temperature: 5}}
    runs:                                     # default: everything with everything
    - {sizes: [tiny]}                         # what an entry leaves out means all of it
    - {sizes: [small], settings: [temperature_5], seeds: [1]}
    high_resource: [en-fr, en-de]             # default: the larger half of the tasks
    low_resource: [en-ca, en-gl]              # default: the smaller half

Keys of overrides are paths of fields, dotted or nested. A setting replaces the parameters of the
configuration's own schedule. The text `@baseline_losses` as a value becomes the training losses of
the baselines by task, as `excess_loss` needs them.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_mtl.configuration.reading import from_yaml_file
from keras_mtl.errors import ConfigError, nearest

# Names become parts of paths.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_AXES = ("settings", "sizes", "sharings", "seeds")
_FIELDS = (
    *("config_files", "experiment", "overrides", "baselines", "settings_file", *_AXES, "runs"),
    *("high_resource", "low_resource"),
)

Values = Mapping[str, Any]


class RunKey(NamedTuple):
    """What identifies a run of a sweep."""

    setting: str
    size: str
    sharing: str
    seed: int

    @property
    def directory(self) -> str:
        """Directory of the run in that of the sweep."""
        return f"runs/{self.size}-{self.sharing}/{self.setting}-{self.seed}"


@dataclasses.dataclass(frozen=True)
class Definition:
    """A sweep.

    Attributes:
        path: its file.
        config_files: configuration files that all runs start from.
        experiment: name of the preset below the files; None for the default.
        overrides: nested overrides of every run.
        baselines: nested overrides of every single-task run; None trains none.
        settings: nested overrides by setting.
        sizes: nested overrides by size; empty means that of the configuration.
        sharings: values of `task.model.sharing`; empty means that of the configuration.
        seeds: values of `runtime.seed`.
        runs: for each entry of `runs`, the members of each axis that it lists.
        high_resource: names of tasks; empty means the larger half.
        low_resource: names of tasks; empty means the smaller half.
    """

    path: Path
    config_files: tuple[Path, ...]
    experiment: str | None
    overrides: Values
    baselines: Values | None
    settings: Mapping[str, Values]
    sizes: Mapping[str, Values]
    sharings: tuple[str, ...]
    seeds: tuple[int, ...]
    runs: tuple[Mapping[str, Sequence[Any]], ...]
    high_resource: tuple[str, ...]
    low_resource: tuple[str, ...]

    def with_models(self, size: str, sharing: str) -> "Definition":
        """Returns the sweep with names for a size and a sharing that the file leaves open."""
        return dataclasses.replace(
            self, sizes=self.sizes or {size: {}}, sharings=self.sharings or (sharing,)
        )

    def run_keys(self) -> list[RunKey]:
        """Returns the runs, each once. Runs of the first seed come first.

        So a sweep that is not finished has compared as many settings as possible.
        """
        found: dict[RunKey, None] = {}
        for entry in self.runs or ({},):
            for size in entry.get("sizes", self.sizes):
                for sharing in entry.get("sharings", self.sharings):
                    for setting in entry.get("settings", self.settings):
                        for seed in entry.get("seeds", self.seeds):
                            found[RunKey(setting, size, sharing, seed)] = None
        return sorted(found, key=lambda key: self.seeds.index(key.seed))


def read_definition(path: Path) -> Definition:
    """Reads the file of a sweep.

    Raises:
        ConfigError: the file cannot be read, or one of its fields is wrong.
    """
    values = from_yaml_file(str(path)).values
    for name in values:
        if name not in _FIELDS:
            raise ConfigError(f"{path}: unknown field {name!r}{nearest(name, _FIELDS)}")
    files = values.get("config_files", [])
    files = [files] if isinstance(files, str) else files
    if not _is_list_of(files, str) or not files:
        raise ConfigError(f"{path}: config_files is {files!r}. Give one or more YAML files")
    settings = _settings(path, values)
    axes = {
        "settings": tuple(settings),
        "sizes": tuple(sizes := _named(path, "sizes", values.get("sizes") or {})),
        "sharings": _list(path, "sharings", values.get("sharings", []), str),
        "seeds": _list(path, "seeds", values.get("seeds", [1]), int),
    }
    baselines = values.get("baselines")
    return Definition(
        path=path,
        config_files=tuple(path.parent / file for file in files),
        experiment=values.get("experiment"),
        overrides=nested(path, "overrides", values.get("overrides") or {}),
        baselines=None if baselines is None else nested(path, "baselines", baselines),
        settings=settings,
        sizes=sizes,
        sharings=axes["sharings"],
        seeds=axes["seeds"],
        runs=tuple(_entries(path, values.get("runs", []), axes)),
        high_resource=_list(path, "high_resource", values.get("high_resource", []), str),
        low_resource=_list(path, "low_resource", values.get("low_resource", []), str),
    )


def nested(path: Path, field: str, values: Any) -> Values:
    """Returns overrides with nested instead of dotted keys.

    Raises:
        ConfigError: they are not a mapping, or a key is both a field and a section.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{path}: {field} is {values!r}. Give fields and values, such as "
            "{trainer.train_steps: 1000}"
        )
    result: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = str(key).split(".")
        place = result
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{path}: {field}: {key} is in a section that has a value")
        if isinstance(value, Mapping) and isinstance(place.get(name), dict):
            place[name] |= value
        else:
            place[name] = dict(value) if isinstance(value, Mapping) else value
    return result


def _settings(path: Path, values: Values) -> dict[str, Values]:
    """Returns the settings of the sweep's own file over those of `settings_file`."""
    shared: dict[str, Values] = {}
    file = values.get("settings_file")
    if file is not None:
        if not isinstance(file, str):
            raise ConfigError(f"{path}: settings_file is {file!r}. Give a YAML file")
        other = path.parent / file
        shared = _named(other, "the file", from_yaml_file(str(other)).values)
    settings = shared | _named(path, "settings", values.get("settings") or {})
    if not settings:
        raise ConfigError(f"{path}: settings is missing. Give the overrides of each setting")
    return settings


def _named(path: Path, field: str, values: Any) -> dict[str, Values]:
    """Returns nested overrides by name."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: {field} is {values!r}. Give overrides by name")
    for name in values:
        if not _NAME.fullmatch(str(name)):
            raise ConfigError(
                f"{path}: {field}: {name!r} cannot be a directory's name. Use letters, digits "
                "and _ . + -"
            )
    return {str(name): nested(path, f"{field}.{name}", own or {}) for name, own in values.items()}


def _entries(
    path: Path, entries: Any, axes: Mapping[str, Sequence[Any]]
) -> Iterator[Mapping[str, Sequence[Any]]]:
    """Yields the entries of `runs`, after a check of what they name."""
    if not _is_list_of(entries, Mapping):
        raise ConfigError(f"{path}: runs is {entries!r}. Give a list of mappings")
    for entry in entries:
        for axis, members in entry.items():
            if axis not in _AXES:
                raise ConfigError(f"{path}: runs: unknown field {axis!r}{nearest(axis, _AXES)}")
            for member in _list(path, f"runs.{axis}", members, int if axis == "seeds" else str):
                if member not in axes[axis]:
                    known = nearest(str(member), map(str, axes[axis]))
                    raise ConfigError(f"{path}: runs: {axis} do not include {member!r}{known}")
        yield entry


def _list(path: Path, field: str, values: Any, kind: type) -> tuple[Any, ...]:
    if not _is_list_of(values, kind):
        raise ConfigError(f"{path}: {field} is {values!r}. Give a list of {kind.__name__}")
    return tuple(dict.fromkeys(values))


def _is_list_of(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, kind) and not isinstance(value, bool) for value in values
    )
