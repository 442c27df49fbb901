"""What a report says in addition to scores: weights, date, machine, and what it lacks."""

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
    """Says which checkpoint was scored, and how far the run was trained then.

    Args:
        model_dir: the run's directory.
        checkpoint: prefix of the checkpoint that was read.
        given: whether the user named it; otherwise it is the best of validation, or else the
            newest.

    Returns:
        `checkpoint` (relative to the directory if it is inside), `checkpoint_choice` (`given`,
        `best` or `newest`), `step` and `trained_steps`; a step that is not known is None.
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
    """Says when, by which version and on which machine: `date`, `keras_mtl`, `hardware`."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "keras_mtl": keras_mtl.__version__,
        "hardware": hardware.describe(accelerators),
    }


def trained_steps(model_dir: str | os.PathLike[str]) -> int | None:
    """Returns how far a run has been trained; None if that is not known.

    It is the step of its newest checkpoint: a log may be ahead of it if a run was killed. If only
    the best checkpoint was kept, the log counts too.
    """
    directory = Path(model_dir)
    steps = _checkpoint_steps(directory)
    if not steps:
        steps = _checkpoint_steps(directory / "best")
        with contextlib.suppress(DataError):
            steps += [int(event["step"]) for event in read_events(directory)]
    return max(steps, default=None)


def _checkpoint_steps(directory: Path) -> list[int]:
    matches = [_CHECKPOINT.fullmatch(path.stem) for path in directory.glob("ckpt-*.index")]
    return [int(match[1]) for match in matches if match]


def weights_hash(arrays: Iterable[Any]) -> str:
    """Returns a hash of a model's weights, 16 hexadecimal digits.

    Args:
        arrays: NumPy arrays, in the model's order.
    """
    digest = hashlib.blake2b(digest_size=8)
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def partial_fields(
    scored: Mapping[str, ScoredPairs], metrics: Sequence[str], left_out: Sequence[str] = ()
) -> list[str]:
    """Lists what an evaluation lacks; empty for a complete one.

    Args:
        scored: the scored pairs by task.
        metrics: names of the metrics.
        left_out: tasks of the model that are not scored although they have sentences.
    """
    noun = "task" if len(left_out) == 1 else "tasks"
    missing = [f"without {noun} {', '.join(left_out)}"] if left_out else []
    missing += [
        f"{found.pairs:,} of {found.available:,} pairs of {task}"
        for task, found in scored.items()
        if found.pairs < found.available
    ]
    return missing + [f"without {name}" for name in TEXT_METRICS if name not in metrics]
