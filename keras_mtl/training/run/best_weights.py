"""The weights with the best average score of a run."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mtl.metrics import is_better
from keras_mtl.training.run.checkpoints import write_checkpoint
from keras_mtl.training.run.snapshots import Snapshot, Snapshots

_KEY = "best"


class BestWeights:
    """Keeps a checkpoint of the best weights, and their score.

    Args:
        directory: directory of the checkpoint.
        metric: metric of the score, which determines whether higher is better.
        writes: whether to write files; False for a process that is not the chief.

    Attributes:
        score: best score, averaged over the validated tasks; NaN before the first score.
        step: step of its weights; -1 before the first score.
    """

    def __init__(self, directory: Path, metric: str, writes: bool = True):
        self._directory = directory
        self._writes = writes
        self._metric = metric
        self.score, self.step = math.nan, -1

    def write(self, step: int, score: float, model: Any) -> None:
        """Saves the model's current weights if their score is the best so far.

        Raises:
            CheckpointError: the weights cannot be written.
        """
        if self._is_best(step, score) and self._writes:
            write_checkpoint(
                tf.train.Checkpoint(model=model),
                self._directory / f"ckpt-{step}",
                lambda: self._drop_others(step),
            )

    def keep(self, snapshot: Snapshot, score: float, snapshots: Snapshots) -> None:
        """Saves the weights of a snapshot if their score is the best so far.

        Raises:
            CheckpointError: the weights cannot be written.
        """
        if self._is_best(snapshot.step, score) and self._writes:
            snapshots.keep_as_best(
                snapshot, self._directory, lambda: self._drop_others(snapshot.step)
            )

    def forget(self) -> None:
        """Forgets the best score. The checkpoint remains until the next best one replaces it."""
        self.score, self.step = math.nan, -1

    def collect(self) -> dict[str, np.ndarray]:
        """Returns arrays for `restore`."""
        return {_KEY: np.array([self.score, self.step], np.float64)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores the score and the step from the arrays of `collect`."""
        self.score, self.step = float(state[_KEY][0]), int(state[_KEY][1])

    def _is_best(self, step: int, score: float) -> bool:
        """Returns whether a score is the best so far, and records it if it is."""
        if not math.isnan(self.score) and not is_better(self._metric, score, self.score):
            return False
        self.score, self.step = score, step
        return True

    def _drop_others(self, step: int) -> None:
        for file in self._directory.glob("ckpt-*"):
            if file.name.split(".")[0] != f"ckpt-{step}":
                file.unlink(missing_ok=True)
