"""Checks of arguments that do not need TensorFlow: ranges, paths, models.

The types are for `add_arguments`. The other functions are for `check_arguments`, which runs before
plug-ins and TensorFlow are imported, so that a wrong argument is reported immediately.
"""

import argparse
import math
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_mtl import errors
from keras_mtl.messages import to_stderr
from keras_mtl.remote_files import is_remote

if TYPE_CHECKING:
    from keras_mtl.decoding.tasks import TranslationTask


def _integer(low: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not an integer") from None
        if value < low:
            raise argparse.ArgumentTypeError(f"must be at least {low}, got {value}")
        return value

    return convert


positive_int = _integer(1)
"""Type of an integer >= 1."""

natural_int = _integer(0)
"""Type of an integer >= 0."""


def positive_float(text: str) -> float:
    """Type of a finite number > 0."""
    value = _number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {text}")
    return value


def natural_float(text: str) -> float:
    """Type of a finite number >= 0."""
    value = _number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {text}")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return value


def check_input_file(option: str, path: str | os.PathLike[str]) -> None:
    """Checks that a path can be opened for reading. Does not open it, so pipes are supported.

    Args:
        option: the option that gave the path, such as `--config_file`.
        path: the path.

    Raises:
        ConfigError: the path does not exist, is a directory, or is not readable.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise errors.ConfigError(f"{option} {path}: {reason}. Check the path") from error
    if stat.S_ISDIR(mode):
        raise errors.ConfigError(f"{option} {path}: this is a directory. Give a file")
    if not os.access(path, os.R_OK):
        raise errors.ConfigError(
            f"{option} {path}: permission denied. Make the file readable, or give another file"
        )


def check_local(option: str, path: str | os.PathLike[str]) -> None:
    """Checks that a path is not a URL.

    Raises:
        ConfigError: it is a URL.
    """
    if is_remote(path):
        raise errors.ConfigError(
            f"{option} {os.fspath(path)}: this is a URL. Give a local path; only --model_dir of "
            "`keras-mtl train` and `keras-mtl prepare` may be a URL"
        )


def check_output_directory(option: str, path: str | os.PathLike[str]) -> None:
    """Checks that a directory is writable, or can be created if it does not exist.

    Args:
        option: the option that gave the path, such as `--model_dir`.
        path: the directory.

    Raises:
        ConfigError: the directory or one of its parents is a file or is not writable.
    """
    check_local(option, path)
    path = Path(path)
    for place in (path, *path.absolute().parents):
        if not os.path.lexists(place):
            continue
        if not place.is_dir():
            what = "this" if place == path else place
            raise errors.ConfigError(f"{option} {path}: {what} is a file. Give a directory")
        if not os.access(place, os.W_OK | os.X_OK):
            raise errors.ConfigError(
                f"{option} {path}: {place} is not writable. Change its permissions, or give "
                "another directory"
            )
        return


def check_output_file(option: str, path: str | os.PathLike[str]) -> None:
    """Checks that a file can be written, whether or not it exists.

    Raises:
        ConfigError: it is a directory, or its directory is not writable or cannot be created.
    """
    check_local(option, path)
    if os.path.isdir(path):
        raise errors.ConfigError(f"{option} {path}: this is a directory. Give the name of a file")
    check_output_directory(option, Path(path).absolute().parent)


def check_model(
    option: str, path: str | os.PathLike[str], wanted: str, *, directory_only: bool = False
) -> None:
    """Checks that a path is a trained model directory or, by default, an engine file.

    Args:
        option: the option that gave the path, such as `--model`.
        path: the path.
        wanted: the accepted kinds, for messages, such as `a model directory or an engine file`.
        directory_only: whether engine files are rejected.

    Raises:
        InputError: the path is something else.
    """
    from keras_mtl.decoding import model_kinds

    kinds = [model_kinds.ModelKind.MODEL_DIR]
    if not directory_only:
        kinds.append(model_kinds.ModelKind.ENGINE_FILE)
    if model_kinds.model_kind(path) not in kinds:
        raise errors.InputError(f"{option} {model_kinds.not_usable(path, wanted)}")


def check_checkpoint(path: str | os.PathLike[str] | None) -> None:
    """Checks that `--checkpoint` is a checkpoint or a directory of checkpoints.

    Raises:
        CheckpointError: it is neither.
    """
    if path is None:
        return
    from keras_mtl.decoding.checkpoint_files import chosen_checkpoints

    if not chosen_checkpoints(path):
        raise errors.CheckpointError(
            f"--checkpoint {path}: there is no such checkpoint. Give its path without suffix, such "
            "as runs/demo/ckpt-1000, or a directory of checkpoints"
        )


def check_task(path: str | os.PathLike[str], task: str) -> None:
    """Checks that a model directory has a task. Other models are checked after loading.

    Raises:
        InputError: the model does not have the task; the message lists its tasks.
    """
    from keras_mtl.decoding import model_kinds
    from keras_mtl.decoding.tasks import TaskList, find_task

    if model_kinds.model_kind(path) is model_kinds.ModelKind.MODEL_DIR:
        find_task(TaskList.read(path).tasks, task)


def note_zero_shot(tasks: "Sequence[TranslationTask]", task: str) -> None:
    """Prints a note on standard error if a direction was not trained.

    Raises:
        InputError: the model cannot translate it.
    """
    from keras_mtl.decoding.tasks import find_task, is_zero_shot

    chosen = find_task(tasks, task)
    if is_zero_shot(tasks, task):
        to_stderr(
            f"note: the model was not trained on {task}; it translates from {chosen.source} into "
            f"{chosen.target} because it knows both languages from other tasks"
        )


def check_option_names(options: Sequence[str]) -> None:
    """Checks the names of beam-search options. Ranges are checked later, with the model's options.

    Raises:
        InputError: a name is unknown; the message suggests the nearest one.
    """
    import dataclasses

    from keras_mtl.decoding.options import BeamOptions

    known = [field.name for field in dataclasses.fields(BeamOptions)]
    for name in options:
        if name not in known:
            raise errors.InputError(
                f"--options: unknown decoding option {name!r}{errors.nearest(name, known)}"
            )
