"""Reads a sweep: the runs that `sweep.json` names, grouped by model and setting.

`benchmarks/compare_schedules.py` writes the file into the directory of a sweep. It has these
fields; directories are relative to it:

```json
{"kind": "keras_mtl sweep", "name": "demo",
 "high_resource": ["en-fr", ...], "low_resource": ["en-gl", ...],
 "runs": [{"directory": "runs/tiny-full/temperature_5-1", "setting": "temperature_5",
           "size": "tiny", "sharing": "full", "seed": 1}, ...],
 "baselines": [{"directory": "baselines/tiny/en-fr", "size": "tiny", "task": "en-fr"}, ...]}
```

A model is one size with one sharing. Settings are compared within a model.
"""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_mtl.errors import DataError
from keras_mtl.report.groups import Group
from keras_mtl.report.runs import Run, read_run

SWEEP_FILE = "sweep.json"
SWEEP_KIND = "keras_mtl sweep"


@dataclasses.dataclass(frozen=True)
class Model:
    """The settings of one size and sharing.

    Attributes:
        size: name of the size.
        sharing: value of `task.model.sharing`.
        settings: evaluated runs by setting, in the order of the sweep; the label of a group is the
            name of the setting.
        baselines: evaluated single-task runs by task.
        planned: number of runs that the sweep has for this model.
    """

    size: str
    sharing: str
    settings: tuple[Group, ...]
    baselines: Mapping[str, Run]
    planned: int

    @property
    def name(self) -> str:
        """Name for titles and files, such as `tiny-full`."""
        return f"{self.size}-{self.sharing}"

    @property
    def finished(self) -> int:
        """Number of runs that are trained and evaluated."""
        return sum(len(group.runs) for group in self.settings)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep.

    Attributes:
        directory: its directory.
        name: its name.
        high_resource: names of the tasks that count as high-resource.
        low_resource: names of the tasks that count as low-resource.
        models: the models that have an evaluated run.
        notes: a sentence for everything that is missing or damaged.
    """

    directory: Path
    name: str
    high_resource: tuple[str, ...]
    low_resource: tuple[str, ...]
    models: tuple[Model, ...]
    notes: tuple[str, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks that are compared: high-resource, then low-resource, then the others."""
        others: dict[str, None] = {}
        for model in self.models:
            for group in model.settings:
                others |= dict.fromkeys(group.runs[0].tasks)
        return tuple(dict.fromkeys((*self.high_resource, *self.low_resource, *others)))


def is_sweep(directory: str | os.PathLike[str]) -> bool:
    """Returns whether a directory is that of a sweep."""
    return (Path(directory) / SWEEP_FILE).is_file()


def run_directories(directory: str | os.PathLike[str]) -> list[Path]:
    """Returns the directories of all runs and baselines of a sweep that exist.

    Raises:
        DataError: `sweep.json` cannot be read.
    """
    content = _read_manifest(Path(directory))
    entries = [*content["runs"], *content["baselines"]]
    paths = [Path(directory) / entry["directory"] for entry in entries]
    return [path for path in paths if path.is_dir()]


def read_sweep(directory: str | os.PathLike[str]) -> Sweep:
    """Reads the evaluated runs of a sweep; runs that are not finished are counted.

    Raises:
        DataError: `sweep.json` cannot be read, or no run is finished.
    """
    root = Path(directory)
    content = _read_manifest(root)
    notes: list[str] = []
    models: dict[tuple[str, str], dict[str, list[Run]]] = {}
    planned: dict[tuple[str, str], int] = {}
    for entry in content["runs"]:
        model = entry["size"], entry["sharing"]
        planned[model] = planned.get(model, 0) + 1
        run = _evaluated(root / entry["directory"], notes)
        if run is not None:
            models.setdefault(model, {}).setdefault(entry["setting"], []).append(run)
    baselines: dict[str, dict[str, Run]] = {}
    for entry in content["baselines"]:
        run = _evaluated(root / entry["directory"], notes)
        if run is not None:
            baselines.setdefault(entry["size"], {})[entry["task"]] = run
    order = {entry["setting"]: place for place, entry in enumerate(content["runs"])}
    if not models:
        raise DataError(
            f"{root}: no run of this sweep is finished. Start it with "
            f"benchmarks/compare_schedules.py --model_dir {root}"
        )
    return Sweep(
        directory=root,
        name=content["name"],
        high_resource=tuple(content["high_resource"]),
        low_resource=tuple(content["low_resource"]),
        models=tuple(
            Model(
                size,
                sharing,
                tuple(
                    Group(setting, tuple(sorted(runs, key=lambda run: run.seed or 0)))
                    for setting, runs in sorted(settings.items(), key=lambda item: order[item[0]])
                ),
                baselines.get(size, {}),
                planned[size, sharing],
            )
            for (size, sharing), settings in models.items()
        ),
        notes=tuple(notes),
    )


def _read_manifest(root: Path) -> dict[str, Any]:
    path = root / SWEEP_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; start the sweep again") from error
    fields: dict[str, Sequence[str]] = {
        "runs": ("directory", "setting", "size", "sharing"),
        "baselines": ("directory", "size", "task"),
    }
    if not isinstance(content, dict) or content.get("kind") != SWEEP_KIND:
        raise DataError(f"{path} is not the file of a sweep: its kind is not {SWEEP_KIND!r}")
    for field, keys in fields.items():
        entries = content.get(field)
        if not isinstance(entries, list) or not all(
            isinstance(entry, dict) and all(isinstance(entry.get(key), str) for key in keys)
            for entry in entries
        ):
            raise DataError(f"{path}: {field} must be a list of objects with {', '.join(keys)}")
    for field in ("high_resource", "low_resource"):
        if not isinstance(content.get(field), list):
            raise DataError(f"{path}: {field} must be a list of tasks")
    return {"name": root.name, **content}


def _evaluated(directory: Path, notes: list[str]) -> Run | None:
    """Returns a run if it is evaluated."""
    if not directory.is_dir():
        return None
    try:
        run = read_run(directory)
    except DataError:  # It has no log yet.
        return None
    if not run.test:
        return None
    notes += [f"{directory}: {note}" for note in run.notes]
    return run
