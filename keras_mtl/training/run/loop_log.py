"""Records the events and losses at the end of a loop of steps."""

import numpy as np

from keras_mtl.training.run.batch_log import BatchLog
from keras_mtl.training.run.event_log import EventLog
from keras_mtl.training.run.parts import RunParts
from keras_mtl.training.run.periodic_validation import PeriodicValidation
from keras_mtl.training.run.step_loop import OpenLoop
from keras_mtl.training.step import balancing as balance
from keras_mtl.training.step.learning_rate import last_rate


class LoopLog:
    """Logs loops of steps and passes their losses to schedules that use losses.

    Args:
        parts: the objects of the run.
        validation: its validation.
        events: the run's log.
        batches: the log of batches; None does not log batches.
    """

    def __init__(
        self,
        parts: RunParts,
        validation: PeriodicValidation,
        events: EventLog,
        batches: BatchLog | None,
    ):
        self._parts = parts
        self._validation = validation
        self._events = events
        self._batches = batches

    def resume(self, step: int) -> None:
        """Drops the log entries after a step."""
        self._events.resume(step, self._validation.evaluated_step)
        if self._batches:
            self._batches.resume(self._parts.consumed(step))

    def write_batches(self) -> None:
        """Logs the batches consumed since the last call."""
        if self._batches:
            consumed = self._parts.consumed(self._parts.step)
            self._batches.write(self._parts.mixture, consumed)

    def write(self, loop: OpenLoop, skipped: int, tokens_per_second: float) -> None:
        """Logs a finished loop.

        Args:
            loop: the loop.
            skipped: steps skipped since the start of the run.
            tokens_per_second: target tokens per second; 0 if unknown.
        """
        parts = self._parts
        step, names, sums, tokens = parts.step, parts.task_names, loop.sums, loop.sums["tokens"]
        counted = step - loop.start - loop.skipped
        consumed = parts.consumed_by_task()
        seen = np.flatnonzero(tokens)
        probabilities = parts.mixture.probabilities(parts.consumed(step))
        self._observe_losses(loop, consumed)
        scales = parts.mixture.scales(parts.consumed(step))
        self._events.train(
            step,
            {names[i]: float(sums["nll"][i] / tokens[i]) for i in seen},
            dict(zip(names, probabilities, strict=True)),
            tokens_per_second or None,
            last_rate(parts.optimizer),
            gradient_norm=float(sums["gradient_norm"]) / counted if counted else None,
            skipped=skipped,
            batches=dict(zip(names, consumed, strict=True)),
            tokens={names[i]: round(float(tokens[i])) for i in seen},
            scales=None if np.all(scales == 1.0) else dict(zip(names, scales, strict=True)),
            weights=balance.mean_weights(sums, names),
            outliers=parts.norm_tracker.outliers if parts.norm_tracker else None,
        )
        self.write_batches()

    def _observe_losses(self, loop: OpenLoop, consumed: np.ndarray) -> None:
        """Adds the loop's losses to the score book, for schedules that use losses."""
        parts, step, sums = self._parts, self._parts.step, loop.sums
        drawn = consumed - loop.consumed
        # The probabilities with which the loop's batches were drawn. Scores change them only
        # between loops, but a schedule may also depend on the step.
        loop.count(parts.mixture.probabilities, parts.consumed(step))
        batches_of_loop = parts.consumed(step - loop.start)
        given = loop.given / batches_of_loop
        batches = drawn / max(1, drawn.sum()) * batches_of_loop
        tokens = sums["tokens"]
        losses = np.divide(sums["nll"], tokens, out=np.full_like(tokens, np.nan), where=tokens > 0)
        # A mixed batch may come from an older pool and have a task whose probability is now 0. Such
        # a task is ignored, and so is a task whose batches were all skipped.
        parts.mixture.adaptive.observe_losses(step, losses, given, batches)
