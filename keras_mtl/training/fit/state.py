"""The state file of `TaskScheduling`: states at the ends of epochs, and marks of backups."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_mtl.data.mixture import Mixture
from keras_mtl.errors import CheckpointError
from keras_mtl.files import replace_file
from keras_mtl.schedules.adaptive_state import with_prefix

# A backup is from the end of the current epoch, of the previous one (if the process was killed
# between two files), or of the one before it (double_checkpoint of BackupAndRestore).
_KEPT_STATES = 3
# ModelCheckpoint may save after every batch.
_KEPT_MARKS = 1000

Arrays = dict[str, np.ndarray]


class FitState:
    """States of a mixture, its schedule and its scores, in the order of consumed batches.

    Whenever weights are saved, a mark records the iterations of the optimizer and the number of
    batches. Marks are used for weights that were restored without `ConsumedBatches`, for example by
    `load_model`.

    Args:
        path: the file. None keeps the states in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._states: list[Arrays] = []
        self._marks: list[tuple[int, int]] = []  # (iterations, batches)

    @property
    def has_file(self) -> bool:
        """Whether the file exists."""
        return self.path is not None and self.path.exists()

    def add(self, iterations: int, mixture: Mixture) -> None:
        """Adds the current state and writes the file."""
        state = {
            "iterations": np.array(iterations, np.int64),
            **{f"mixture/{key}": value for key, value in mixture.state().items()},
        }
        self._states = [*self._states, state][-_KEPT_STATES:]
        self._write()

    def mark(self, iterations: int, batches: int) -> None:
        """Adds a mark for weights that are being saved, and updates the file if it still exists."""
        if (iterations, batches) not in self._marks[-1:]:
            self._marks = [*self._marks, (iterations, batches)][-_KEPT_MARKS:]
            if self.has_file:
                self._write()

    def load(self) -> None:
        """Reads the file.

        Raises:
            CheckpointError: the file is damaged.
        """
        assert self.path is not None
        try:
            with np.load(self.path, allow_pickle=False) as file:
                flat = {key: file[key] for key in file.files}
            marks = flat.pop("marks", np.zeros((0, 2), np.int64))
            count = 1 + max(int(key.split("/", 1)[0]) for key in flat)
            states = [with_prefix(flat, f"{number}/") for number in range(count)]
            if not all("iterations" in state and "mixture/step" in state for state in states):
                raise ValueError("a state without iterations and step")
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise CheckpointError(
                f"{self.path} is not a saved state of TaskScheduling ({error}). Restore a copy, or "
                "delete it to start again"
            ) from error
        self._states = states
        self._marks = [(int(iterations), int(batches)) for iterations, batches in marks]

    def batches_at(self, iterations: int) -> int | None:
        """Returns the number of batches consumed at a number of iterations of the optimizer.

        Returns:
            The number at the latest saved weights or end of an epoch with these iterations, or
            None.
        """
        known = [(int(state["iterations"]), _step(state)) for state in self._states]
        found = [batches for done, batches in [*known, *self._marks] if done == iterations]
        return max(found, default=None)

    def guess(self, iterations: int, accumulated: int) -> int | None:
        """Estimates the number of batches from iterations, as if no update had been skipped.

        Args:
            iterations: iterations of the optimizer.
            accumulated: number of batches in each update.

        Returns:
            The number, or None if every state has more iterations.
        """
        known = [state for state in self._states if state["iterations"] <= iterations]
        if not known:
            return None
        return _step(known[-1]) + (iterations - int(known[-1]["iterations"])) * accumulated

    def keep_until(self, batches: int) -> Arrays | None:
        """Drops the states that are newer than the weights, because their steps will be repeated.

        Returns:
            The newest remaining state. None if none remains; then no state is dropped.
        """
        kept = [state for state in self._states if _step(state) <= batches]
        if not kept:
            return None
        self._states = kept
        self._marks = [mark for mark in self._marks if mark[1] <= batches]
        return kept[-1]

    def oldest(self) -> int:
        """Returns the number of batches consumed at the oldest state."""
        return _step(self._states[0])

    def _write(self) -> None:
        if self.path is None:
            return
        flat: dict[str, Any] = {
            f"{number}/{key}": value
            for number, saved in enumerate(self._states)
            for key, value in saved.items()
        }
        marks = np.array(self._marks, np.int64).reshape(-1, 2)
        buffer = io.BytesIO()
        np.savez(buffer, marks=marks, **flat)
        replace_file(self.path, buffer.getvalue())


def _step(state: Mapping[str, np.ndarray]) -> int:
    return int(state["mixture/step"])
