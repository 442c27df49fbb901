"""The state of a run in its checkpoints, except weights and moments."""

import json
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_mtl.data.mixture_state import checkpoint_state
from keras_mtl.errors import CheckpointError
from keras_mtl.schedules import task_index_map
from keras_mtl.training.run.checkpoints import ArrayState, read_all
from keras_mtl.training.run.parts import RunParts
from keras_mtl.training.run.periodic_validation import PeriodicValidation
from keras_mtl.training.run.step_loop import OpenLoop
from keras_mtl.training.step import balancing as balance
from keras_mtl.training.step.moments import moments_state, optimizer_state, restore_moments


class RunState:
    """The state of a run: read cursors, schedule, scores, counters and the open loop.

    Args:
        parts: the objects of the run.
        validation: its validation.

    Attributes:
        checkpoint: a `tf.train.Checkpoint` with the whole state of the run.
        validates: whether the run validates.
        open_loop: the loop of steps that has not ended; None between loops.
        validation_due: whether a validation is due at this step and has not run yet.
        skipped: number of steps that were skipped because of their gradient.
    """

    def __init__(self, parts: RunParts, validation: PeriodicValidation):
        self._parts = parts
        self._validation = validation
        self.validates = False
        self.open_loop: OpenLoop | None = None
        self.validation_due = False
        self.skipped = 0
        self._arrays = ArrayState(self._collect)
        self._saved_parts = {
            "model": parts.model,
            "optimizer": optimizer_state(parts.optimizer),
            "global_step": parts.trainer.global_step,
            "state": self._arrays,
        }
        self.checkpoint = tf.train.Checkpoint(
            **self._saved_parts, moments=moments_state(parts.optimizer)
        )

    def read(self, prefix: str) -> None:
        """Reads a checkpoint into the variables; `restore` does the rest.

        Raises:
            CheckpointError: a part is missing. TensorFlow raises other exceptions if the files are
                damaged.
        """
        read_all(tf.train.Checkpoint(**self._saved_parts), prefix)
        restore_moments(self._parts.optimizer, prefix, self._saved_tasks())
        if self.validates:
            self._validation.check(self._restored)

    def restore(self, log: Callable[[str], None]) -> None:
        """Restores everything except variables from the checkpoint that was read.

        Args:
            log: function that receives a line if scores are forgotten.
        """
        arrays, saved_tasks, parts = self._restored, self._saved_tasks(), self._parts
        forgotten = parts.mixture.restore(checkpoint_state(arrays, "mixture/"))
        if forgotten:
            log(f"the metric has changed since the checkpoint: {forgotten}")
        balance.restore(parts.balancing, arrays, saved_tasks)
        for part in (parts.loss_scale, parts.norm_tracker):
            if part:
                part.restore(arrays)
        self.skipped, evaluated_step = (int(value) for value in arrays["counters"])
        self._validation.restore(arrays, saved_tasks, evaluated_step, forgotten is None, log)
        self.validation_due = self.validates and bool(arrays.get("validation_due", False))
        self.open_loop = OpenLoop.from_arrays(arrays, saved_tasks)

    def _collect(self) -> dict[str, np.ndarray]:
        parts, loop, inside = self._parts, self.open_loop, {}
        consumed = parts.consumed(parts.step)
        if loop:
            loop.count(parts.mixture.probabilities, consumed)
            inside = loop.collect()
        return {
            **{f"mixture/{name}": value for name, value in parts.mixture.state(consumed).items()},
            **self._validation.collect(),
            **balance.collect(parts.balancing),
            **(parts.loss_scale.collect() if parts.loss_scale else {}),
            **(parts.norm_tracker.collect() if parts.norm_tracker else {}),
            **inside,
            "validation_due": np.array(self.validation_due),
            "counters": np.array([self.skipped, self._validation.evaluated_step], np.int64),
        }

    @property
    def _restored(self) -> dict[str, np.ndarray]:
        if self._arrays.restored is None:
            raise CheckpointError("the checkpoint does not contain the state of the mixture")
        return self._arrays.restored

    def _saved_tasks(self) -> np.ndarray:
        """Returns the index of each task in the checkpoint that was read; -1 for new tasks."""
        names = json.loads(self._restored["mixture/task_names"].tobytes())
        return task_index_map(names, self._parts.task_names)
