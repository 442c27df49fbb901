"""Baselines: for each task, the score of a model that is trained on only this task.

A baseline is given in `task.pairs`, or in the JSON file that `trainer.schedule.baselines_file`
names. `keras-mtl baselines` writes that file.
"""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_mtl.configuration.schema import PairConfig, task_name
from keras_mtl.errors import ConfigError, nearest_task

_FIELD = "trainer.schedule.baselines_file"
_EXAMPLE = 'a JSON file such as {"en-fr": 41.2}'


def read_file(path: str | os.PathLike[str]) -> dict[str, float]:
    """Reads a baselines file.

    Args:
        path: the file.

    Returns:
        {task: score}, each > 0.

    Raises:
        ConfigError: the file is missing, cannot be read, or does not hold such an object.
    """
    path = os.fspath(path)
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{_FIELD} {path!r} does not exist; `keras-mtl baselines --model_dir DIR` with the "
            f"same configuration writes DIR/baselines.json, or write {_EXAMPLE}"
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{_FIELD} {path!r} cannot be read: {error}; `keras-mtl baselines` writes it, or give "
            f"{_EXAMPLE}"
        ) from error
    if not isinstance(found, dict):
        raise ConfigError(f"{_FIELD} {path!r} holds {found!r:.40}; give {_EXAMPLE}")
    return {name: _score(name, value, path) for name, value in found.items()}


def _score(name: str, value: Any, path: str) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise ConfigError(
            f"{_FIELD} {path!r}: the baseline of task {name!r} is {value!r}; it must be a number "
            "above 0"
        )
    return float(value)


def of_tasks(
    pairs: Sequence[PairConfig], baselines_file: str
) -> tuple[dict[str, float | None], tuple[str, ...]]:
    """Returns each task's baseline: its own field, else that of the file, else None.

    Args:
        pairs: the tasks.
        baselines_file: the file; empty for none.

    Returns:
        The baselines, and a line for each task whose own baseline overrides that of the file.

    Raises:
        ConfigError: as of `read_file`, or the file has an unknown task.
    """
    from_file = read_file(baselines_file) if baselines_file else {}
    names = [task_name(pair) for pair in pairs]
    for name in from_file:
        if name not in names:
            raise ConfigError(f"{baselines_file}: unknown task {name!r}{nearest_task(name, names)}")
    found: dict[str, float | None] = {}
    notes = []
    for name, pair in zip(names, pairs, strict=True):
        other = from_file.get(name)
        found[name] = other if pair.baseline is None else pair.baseline
        if other not in (None, found[name]):
            notes.append(
                f"{name}: the baseline {pair.baseline:g} of task.pairs is used, not the "
                f"{other:g} of {baselines_file}"
            )
    return found, tuple(notes)
