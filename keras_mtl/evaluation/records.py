"""The entries of a report other than scores: weights, date, machine, and what is missing."""

import contextlib
import datetime
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras_mtl
from keras_mtl import hardware
from keras_mtl.errors import DataError
from keras_mtl.evaluation.results import ScoredPairs
from keras_mtl.events import read_events
from keras_mtl.metrics import TEXT_METRICS

_CHECKPOINT = re.compile(r"ckpt-(\d+)")


def checkpoint_record(
    model_dir: str | os.PathLike[str], checkpoint: str, given: bool
) -> dict[str, Any]:
    """Returns which checkpoint was scored and how far the run had been trained.

    Args:
        model_dir: directory of the run.
        checkpoint: prefix of the checkpoint that was read.
        given: whether the user chose it. Otherwise it is the best checkpoint of validation or, if
            there is none, the newest.

    Returns:
        `checkpoint` (relative to the directory if it is inside), `checkpoint_choice` (`given`,
        `best` or `newest`), `step` and `trained_steps`. An unknown step is None.
    """
    directory, path = Path(model_dir).resolve(), Path(checkpoint).resolve()
    inside = path.is_relative_to(directory)
    match = _CHECKPOINT.fullmatch(path.name)
    choice = "best" if path.parent.name == "best" else "newest"
    return {
        "checkpoint": path.relative_to(directory).as_posix() if inside else str(path),
        "checkpoint_choice": "given" if given else choice,
        "step": int(match[1]) if match else None,
        "trained_steps": trained_steps(directory),
    }


def machine_record(accelerators: Sequence[str]) -> dict[str, Any]:
    """Returns `date`, `keras_mtl` (the version) and `hardware`."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "keras_mtl": keras_mtl.__version__,
        "hardware": hardware.describe(accelerators),
    }


def trained_steps(model_dir: str | os.PathLike[str]) -> int | None:
    """Returns the number of steps that a run has been trained for, or None if unknown.

    It is the step of the newest checkpoint. The log of a run that was killed may be ahead of it. If
    only the best checkpoint was kept, the log counts, too.
    """
    directory = Path(model_dir)
    steps = _checkpoint_steps(directory)
    if not steps:
        steps = _checkpoint_steps(directory / "best")
        with contextlib.suppress(DataError):
            steps += [int(event["step"]) for event in read_events(directory, True)]
    return max(steps, default=None)


def _checkpoint_steps(directory: Path) -> list[int]:
    matches = [_CHECKPOINT.fullmatch(path.stem) for path in directory.glob("ckpt-*.index")]
    return [int(match[1]) for match in matches if match]


def weights_hash(arrays: Iterable[Any]) -> str:
    """Returns a hash of the weights of a model, 16 hexadecimal digits.

    Args:
        arrays: NumPy arrays, in the order of the model.
    """
    digest = hashlib.blake2b(digest_size=8)
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def partial_fields(
    scored: Mapping[str, ScoredPairs], metrics: Sequence[str], left_out: Sequence[str] = ()
) -> list[str]:
    """Lists what is missing from an evaluation. Empty for a complete one.

    Args:
        scored: the scored pairs, by task.
        metrics: names of the metrics.
        left_out: tasks of the model that have sentences but are not scored.
    """
    noun = "task" if len(left_out) == 1 else "tasks"
    missing = [f"without {noun} {', '.join(left_out)}"] if left_out else []
    missing += [
        f"{found.pairs:,} of {found.available:,} pairs of {task}"
        for task, found in scored.items()
        if found.pairs < found.available
    ]
    return missing + [f"without {name}" for name in TEXT_METRICS if name not in metrics]
