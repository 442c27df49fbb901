"""Snapshots of weights, kept until their validation has taken effect in all checkpoints."""

import dataclasses
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.errors import CheckpointError
from keras_mtl.export.engine_file import export_engine_file
from keras_mtl.files import replacing_directory
from keras_mtl.training.run.checkpoints import write_checkpoint

ENGINE_FILE = "model.kmtl"
_NAME = re.compile(r"(\d+)-(\d+)")


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A validation whose scores are not in effect yet.

    Attributes:
        step: number of updates of the weights.
        due: step at which the scores take effect, >= step.
    """

    step: int
    due: int


class Snapshots:
    """The snapshots of a run, each in a directory `<step>-<due>`.

    A snapshot consists of an engine file for validation and a checkpoint of the same weights, which
    is kept if they are the best. A run that resumes from a checkpoint between the two steps needs
    both again.

    Args:
        directory: the parent directory of the snapshots.
    """

    def __init__(self, directory: Path):
        self._directory = directory

    def write(
        self,
        snapshot: Snapshot,
        model: Any,
        vocabulary: Vocabulary,
        tasks: Sequence[TranslationTask],
        weight_type: str,
    ) -> None:
        """Writes the model's current weights; the directory is complete or absent.

        Raises:
            ExportError: a weight is not finite, or the engine file cannot be written.
            CheckpointError: the checkpoint cannot be written.
        """
        directory = self._of(snapshot)
        try:
            # An existing one is from a run that got further and then resumed before this step.
            with replacing_directory(directory) as partial:
                export_engine_file(
                    model, vocabulary, tasks, partial / ENGINE_FILE, weight_type=weight_type
                )
                write_checkpoint(
                    tf.train.Checkpoint(model=model), partial / f"ckpt-{snapshot.step}"
                )
        except OSError as error:
            raise CheckpointError(f"{directory} cannot be written: {error.strerror}") from error

    def engine_file(self, snapshot: Snapshot) -> Path:
        """Returns the engine file of a snapshot."""
        return self._of(snapshot) / ENGINE_FILE

    def check(self, snapshot: Snapshot) -> None:
        """Raises CheckpointError if a snapshot does not exist."""
        directory = self._of(snapshot)
        if not (directory.is_dir() and self.engine_file(snapshot).is_file()):
            raise CheckpointError(
                f"{directory} is missing; it contained the weights of step {snapshot.step}, which "
                "were being validated when the checkpoint was saved"
            )

    def checkpoint(self, snapshot: Snapshot) -> Path:
        """Returns the prefix of the checkpoint of a snapshot."""
        return self._of(snapshot) / f"ckpt-{snapshot.step}"

    def prune(self, checkpoints: Callable[[], Sequence[int]], pending: Snapshot | None) -> None:
        """Deletes the snapshots that neither a checkpoint nor the pending validation needs.

        Args:
            checkpoints: function that returns the steps of the checkpoints.
            pending: the validation whose scores are not in effect yet; None: there is none.
        """
        if not self._directory.is_dir():
            return
        steps = checkpoints()
        for directory in self._directory.glob("*-*"):
            match = _NAME.fullmatch(directory.name)
            snapshot = match and Snapshot(*map(int, match.groups()))
            if snapshot and (
                snapshot == pending or any(snapshot.step <= s < snapshot.due for s in steps)
            ):
                continue
            shutil.rmtree(directory, ignore_errors=True)
        if not any(self._directory.iterdir()):
            self._directory.rmdir()

    def _of(self, snapshot: Snapshot) -> Path:
        return self._directory / f"{snapshot.step}-{snapshot.due}"
