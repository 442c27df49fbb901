"""Checkpoints with the complete state of a run, and the fallback if one is damaged.

`keras_mtl.files` cannot write checkpoints, because they consist of several files whose names
TensorFlow chooses. The procedure is the same: write temporary files, flush them to disk, and rename
them, the index last.
"""

import io
import os
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mtl.errors import CheckpointError
from keras_mtl.files import sync
from keras_mtl.training.run.checkpoint_copy import CheckpointCopy

_NUMBER = re.compile(r"^ckpt-(\d+)$")


class ArrayState(tf.train.experimental.PythonState):
    """A flat dict of NumPy arrays that is saved in a `tf.train.Checkpoint`.

    Args:
        collect: function that returns the arrays to save.

    Attributes:
        restored: the arrays of the checkpoint that was read; None before.
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
        model_dir: directory of the run; checkpoints are named `ckpt-<step>`.
        checkpoint: the objects to save, including an `ArrayState`.
        max_to_keep: number of newest checkpoints to keep, >= 1.
        log: function that receives lines for the user.
        read: function that reads the checkpoint with a given prefix into the objects and raises if
            that fails; None reads all of `checkpoint`.
        in_background: whether `save` copies the state and returns, and a thread writes the copy.
        after_save: called after each checkpoint, by the thread that wrote it.
    """

    def __init__(
        self,
        model_dir: Path,
        checkpoint: tf.train.Checkpoint,
        max_to_keep: int,
        log: Callable[[str], None] = print,
        read: Callable[[str], None] | None = None,
        in_background: bool = False,
        after_save: Callable[[], None] = lambda: None,
    ):
        self._model_dir = Path(model_dir)
        self._checkpoint = checkpoint
        self._read = read or (lambda prefix: read_all(checkpoint, prefix))
        self._max_to_keep = max_to_keep
        self._log = log
        self._in_background = in_background
        self._after_save = after_save
        self._writing: _Write | None = None

    def paths(self) -> list[str]:
        """Returns the prefixes of the complete checkpoints, oldest first."""
        found = []
        for index in self._model_dir.glob("ckpt-*.index"):
            match = _NUMBER.match(index.name.removesuffix(".index"))
            if match:
                found.append((int(match.group(1)), str(index.with_suffix(""))))
        return [prefix for _, prefix in sorted(found)]

    def steps(self) -> list[int]:
        """Returns the steps of the checkpoints, in increasing order.

        They include the one that is being written.
        """
        steps = {int(Path(prefix).name.removeprefix("ckpt-")) for prefix in self.paths()}
        if self._writing:
            steps.add(self._writing.step)
        return sorted(steps)

    def save(self, step: int) -> None:
        """Writes `ckpt-<step>` and deletes the oldest checkpoints beyond `max_to_keep`.

        The files are written under temporary names and renamed, the index last. So every listed
        checkpoint is complete. In the background, at most one checkpoint is written at a time;
        `save` waits for the previous one.

        Raises:
            CheckpointError: this or, in the background, the previous checkpoint cannot be written,
                because the disk is full or the directory is not writable; earlier checkpoints are
                unchanged.
        """
        self.wait()
        if self._in_background:
            copy = CheckpointCopy(self._checkpoint)
            self._writing = _Write(step, lambda: self._write(step, copy.checkpoint()))
            self._writing.start()
        else:
            self._write(step, self._checkpoint)

    def wait(self) -> None:
        """Waits until the checkpoint that is being written is complete.

        Raises:
            CheckpointError: it cannot be written.
        """
        writing, self._writing = self._writing, None
        if writing:
            writing.join()
            if writing.error:
                raise writing.error

    def close(self) -> None:
        """Waits as `wait`, but logs an error: another one has ended the run."""
        try:
            self.wait()
        except CheckpointError as error:
            self._log(f"warning: {error}")

    def _write(self, step: int, checkpoint: tf.train.Checkpoint) -> None:
        write_checkpoint(checkpoint, self._model_dir / f"ckpt-{step}", self._prune)
        self._after_save()

    def _prune(self) -> None:
        for prefix in self.paths()[: -self._max_to_keep]:
            _delete(prefix)

    def restore(self, tidy: bool = True) -> str | None:
        """Restores the newest readable checkpoint.

        A damaged checkpoint is reported and renamed to `damaged-ckpt-<step>.*`, and the previous
        one is restored instead.

        Args:
            tidy: whether to rename damaged checkpoints and to delete partial files of a killed
                process. False does not change the directory, in which another process may write.

        Returns:
            The prefix of the restored checkpoint; None if there are no checkpoints.

        Raises:
            CheckpointError: there are checkpoints, but none can be read.
        """
        if tidy:
            _remove_partials(self._model_dir, "ckpt-*")
        paths = self.paths()
        for prefix in reversed(paths):
            try:
                self._read(prefix)
            except Exception as error:  # TensorFlow's reader raises IndexError, RuntimeError, ...
                reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
                self._log(f"checkpoint {prefix} cannot be read ({reason}); trying the previous one")
                if tidy:
                    _set_aside(prefix)
                continue
            return prefix
        if paths:
            raise CheckpointError(
                f"none of the {len(paths)} checkpoints in {self._model_dir} can be read"
                f"{'; they were renamed to damaged-*' if tidy else ''}. Start again in a new "
                "model_dir, or restore them from a backup"
            )
        return None


class _Write(threading.Thread):
    """A thread that writes a checkpoint.

    The interpreter waits for it when it exits.

    Args:
        step: step of the checkpoint.
        write: function that writes it.

    Attributes:
        step: step of the checkpoint.
        error: why it could not be written; None if it could.
    """

    def __init__(self, step: int, write: Callable[[], None]):
        super().__init__(name=f"checkpoint-{step}")
        self.step = step
        self.error: Exception | None = None
        self._write = write

    def run(self) -> None:
        try:
            self._write()
        except Exception as error:  # `wait` raises it in the thread that trains.
            self.error = error
        finally:
            del self._write  # It holds the copy.


def read_all(checkpoint: tf.train.Checkpoint, prefix: str) -> None:
    """Reads a checkpoint. Raises an exception if it is damaged or an object is missing in it.

    It may contain more: `restore_moments` reads the moments.
    """
    checkpoint.read(prefix).assert_existing_objects_matched().expect_partial()


def write_checkpoint(
    checkpoint: tf.train.Checkpoint, prefix: Path, before_return: Callable[[], None] | None = None
) -> str:
    """Writes a checkpoint under temporary names and renames the files, the index last.

    Args:
        checkpoint: the objects to write.
        prefix: prefix of the final file names.
        before_return: function that is called after the files were renamed.

    Returns:
        The prefix.

    Raises:
        CheckpointError: the checkpoint cannot be written.
    """

    def write(temporary: Path) -> None:
        checkpoint.write(str(temporary))

    return _replace(prefix, write, before_return)


def copy_checkpoint(
    source: Path, prefix: Path, before_return: Callable[[], None] | None = None
) -> str:
    """Copies a checkpoint, the index last. Uses hard links if the file system supports them.

    Args:
        source: prefix of the checkpoint.
        prefix: prefix of the copy.
        before_return: function that is called after the files were renamed.

    Returns:
        The prefix of the copy.

    Raises:
        CheckpointError: the copy cannot be written.
    """
    return _replace(prefix, _copy_of(source), before_return)


def _copy_of(source: Path) -> Callable[[Path], None]:
    """Returns a function that copies a checkpoint to a given prefix."""

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
    """Writes a checkpoint, replacing one of the same name.

    Several files cannot be replaced atomically. So the new checkpoint is first written under a
    second name for the same step (`ckpt-05` for `ckpt-5`). If the process is killed, one of them is
    complete.
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
    """Writes the files of a checkpoint under temporary names and renames them, the index last.

    Args:
        prefix: prefix of the final file names.
        write: function that writes the files with a given prefix.
    """
    temporary = prefix.with_name(f"partial-{prefix.name}")
    _remove_partials(prefix.parent, f"{prefix.name}*")
    write(temporary)
    index, *data = _files(str(temporary))
    for file in (*data, index):  # After a power failure, no name may exist without its content.
        sync(file)
    # An old index belongs to other data.
    prefix.with_name(f"{prefix.name}.index").unlink(missing_ok=True)
    for file in (*data, index):
        target = prefix.with_name(file.name.removeprefix("partial-"))
        # rename() does nothing if both names are hard links to the same file.
        target.unlink(missing_ok=True)
        file.rename(target)
    sync(prefix.parent)


def _not_written(prefix: Path, error: Exception) -> CheckpointError:
    """Removes the partial files of a failed save and returns the error to raise."""
    _remove_partials(prefix.parent, "ckpt-*")
    reason = str(error).strip().splitlines()[0][:300]
    return CheckpointError(
        f"checkpoint {prefix} cannot be written: {reason}. Free disk space or fix the directory's "
        "permissions, then run the same command again: it resumes from the last complete checkpoint"
    )


def _remove_partials(directory: Path, name: str) -> None:
    """Removes the files of an interrupted save and TensorFlow's temporary directory."""
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
