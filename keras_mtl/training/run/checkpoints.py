"""Checkpoints with the complete state of a run, and what to restore if one is damaged.

`keras_mtl.files` cannot write them: TensorFlow chooses the names of the files, which are several.
They follow the same rule: written aside, flushed to the disk, renamed, index last.
"""

import io
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mtl.errors import CheckpointError
from keras_mtl.files import sync

_NUMBER = re.compile(r"^ckpt-(\d+)$")


class ArrayState(tf.train.experimental.PythonState):
    """A flat dict of numpy arrays that travels inside a `tf.train.Checkpoint`.

    Args:
        collect: returns the arrays at the moment of saving.
    """

    def __init__(self, collect: Callable[[], Mapping[str, np.ndarray]]):
        self._collect = collect
        self.restored: dict[str, np.ndarray] | None = None

    def serialize(self) -> bytes:
        buffer = io.BytesIO()
        arrays: dict[str, Any] = dict(self._collect())
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    def deserialize(self, string_value: bytes) -> None:
        with np.load(io.BytesIO(string_value), allow_pickle=False) as arrays:
            self.restored = {name: arrays[name] for name in arrays.files}


class RunCheckpoints:
    """Saves and restores everything that a run needs to resume.

    Args:
        model_dir: directory of the run; checkpoints are `ckpt-<step>`.
        checkpoint: what to save, made with an `ArrayState` among its parts.
        max_to_keep: newest checkpoints kept, >= 1.
        log: function that gets a line for the user.
        read: reads the checkpoint of a prefix into the objects, and raises when it cannot be read;
            None reads all of `checkpoint`.
    """

    def __init__(
        self,
        model_dir: Path,
        checkpoint: tf.train.Checkpoint,
        max_to_keep: int,
        log: Callable[[str], None] = print,
        read: Callable[[str], None] | None = None,
    ):
        self._model_dir = Path(model_dir)
        self._checkpoint = checkpoint
        self._read = read or (lambda prefix: read_all(checkpoint, prefix))
        self._max_to_keep = max_to_keep
        self._log = log

    def paths(self) -> list[str]:
        """Returns the prefixes of the complete checkpoints, oldest first."""
        found = []
        for index in self._model_dir.glob("ckpt-*.index"):
            match = _NUMBER.match(index.name.removesuffix(".index"))
            if match:
                found.append((int(match.group(1)), str(index.with_suffix(""))))
        return [prefix for _, prefix in sorted(found)]

    def steps(self) -> list[int]:
        """Returns the steps of the complete checkpoints, in increasing order."""
        return [int(Path(prefix).name.removeprefix("ckpt-")) for prefix in self.paths()]

    def save(self, step: int) -> str:
        """Writes `ckpt-<step>` and drops the oldest beyond `max_to_keep`.

        The checkpoint is written under another name and renamed, index last: one that is listed
        is complete.

        Raises:
            CheckpointError: the disk is full or the directory cannot be written; earlier
                checkpoints are untouched.
        """
        return write_checkpoint(self._checkpoint, self._model_dir / f"ckpt-{step}", self._prune)

    def _prune(self) -> None:
        for prefix in self.paths()[: -self._max_to_keep]:
            _delete(prefix)

    def restore(self, tidy: bool = True) -> str | None:
        """Restores the newest checkpoint that can be read.

        A damaged one is reported and renamed to `damaged-ckpt-<step>.*`, and the one before it
        is taken.

        Args:
            tidy: rename damaged ones, and remove what a killed process left half written; False
                leaves the directory as it is, to another process that may be writing there.

        Returns:
            The prefix that was restored, None if there are no checkpoints.

        Raises:
            CheckpointError: there are checkpoints and none can be read.
        """
        if tidy:
            _remove_partials(self._model_dir, "ckpt-*")
        paths = self.paths()
        for prefix in reversed(paths):
            try:
                self._read(prefix)
            except Exception as error:  # TensorFlow's reader raises IndexError, RuntimeError, ...
                reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
                self._log(
                    f"checkpoint {prefix} cannot be read ({reason}); taking the one before it"
                )
                if tidy:
                    _set_aside(prefix)
                continue
            return prefix
        if paths:
            raise CheckpointError(
                f"none of the {len(paths)} checkpoints in {self._model_dir} can be read"
                f"{'; they were renamed to damaged-*' if tidy else ''}; start again in a new "
                "model_dir, or restore a copy of them"
            )
        return None


def read_all(checkpoint: tf.train.Checkpoint, prefix: str) -> None:
    """Reads a checkpoint; raises when an object is not in it, or it is damaged."""
    checkpoint.read(prefix).assert_existing_objects_matched()


def write_checkpoint(
    checkpoint: tf.train.Checkpoint, prefix: Path, before_return: Callable[[], None] | None = None
) -> str:
    """Writes a checkpoint under a temporary name and renames it, index last.

    Args:
        checkpoint: what to write.
        prefix: its final name, without `.index`.
        before_return: called when it is in place.

    Returns:
        The prefix.

    Raises:
        CheckpointError: it cannot be written.
    """

    def write(temporary: Path) -> None:
        checkpoint.write(str(temporary))

    return _replace(prefix, write, before_return)


def copy_checkpoint(
    source: Path, prefix: Path, before_return: Callable[[], None] | None = None
) -> str:
    """Copies a checkpoint, index last; the copy is made of hard links if the file system has them.

    Args:
        source: name of the checkpoint, without `.index`.
        prefix: the name of the copy, without `.index`.
        before_return: called when it is in place.

    Returns:
        The prefix.

    Raises:
        CheckpointError: it cannot be written.
    """
    return _replace(prefix, _copy_of(source), before_return)


def _copy_of(source: Path) -> Callable[[Path], None]:
    """Returns a function that copies a checkpoint to the prefix that it is given."""

    def copy(temporary: Path) -> None:
        for file in _files(str(source)):
            partial = temporary.with_name(temporary.name + file.name.removeprefix(source.name))
            try:
                os.link(file, partial)
            except OSError:
                shutil.copyfile(file, partial)

    return copy


def _replace(
    prefix: Path, write: Callable[[Path], None], before_return: Callable[[], None] | None
) -> str:
    """Writes a checkpoint, in place of one of the same name if there is one.

    The files of a checkpoint cannot be replaced all at once. The new one is therefore first listed
    under a second name for the same step, `ckpt-05` for `ckpt-5`, so that a process that is
    killed leaves one that is complete.
    """
    prefix.parent.mkdir(parents=True, exist_ok=True)
    try:
        if prefix.with_name(f"{prefix.name}.index").exists():
            second = prefix.with_name(prefix.name.replace("ckpt-", "ckpt-0", 1))
            _write_files(second, write)
            _write_files(prefix, _copy_of(second))
            _delete(str(second))
        else:
            _write_files(prefix, write)
    except (tf.errors.OpError, OSError) as error:
        raise _not_written(prefix, error) from error
    if before_return:
        before_return()
    return str(prefix)


def _write_files(prefix: Path, write: Callable[[Path], None]) -> None:
    """Writes the files of a checkpoint aside and renames them; without its index it is not listed.

    Args:
        prefix: the final name.
        write: writes the files with the prefix that it is given.
    """
    temporary = prefix.with_name(f"partial-{prefix.name}")
    _remove_partials(prefix.parent, f"{prefix.name}*")
    write(temporary)
    index, *data = _files(str(temporary))
    for file in (*data, index):  # A name must not outlive a power failure without its content.
        sync(file)
    # An index that is left from before belongs to other data.
    prefix.with_name(f"{prefix.name}.index").unlink(missing_ok=True)
    for file in (*data, index):
        target = prefix.with_name(file.name.removeprefix("partial-"))
        # Renaming does nothing if both names are links to one file.
        target.unlink(missing_ok=True)
        file.rename(target)
    sync(prefix.parent)


def _not_written(prefix: Path, error: Exception) -> CheckpointError:
    """Removes what is left of a checkpoint that could not be written; returns what to raise."""
    _remove_partials(prefix.parent, "ckpt-*")
    reason = str(error).strip().splitlines()[0][:300]
    return CheckpointError(
        f"checkpoint {prefix} could not be written: {reason}; free space or correct the "
        "directory's permissions, then start the same command again: it resumes from the last "
        "complete checkpoint"
    )


def _remove_partials(directory: Path, name: str) -> None:
    """Removes files of an interrupted save, and TensorFlow's own temporary directory."""
    for left in directory.glob(f"partial-{name}"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _files(prefix: str) -> list[Path]:
    path = Path(prefix)
    return [path.with_name(f"{path.name}.index"), *path.parent.glob(f"{path.name}.data-*")]


def _delete(prefix: str) -> None:
    for file in _files(prefix):
        file.unlink(missing_ok=True)


def _set_aside(prefix: str) -> None:
    for file in _files(prefix):
        if file.exists():
            file.rename(file.with_name(f"damaged-{file.name}"))
