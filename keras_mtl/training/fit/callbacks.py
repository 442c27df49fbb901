"""Schedules in `model.fit`, for any Keras model."""

import os
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_mtl.configuration.quantization import domain_name
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.mixture_state import checkpoint_state
from keras_mtl.errors import CheckpointError, ConfigError, nearest_task
from keras_mtl.models.quantizers import quantizers
from keras_mtl.schedules import ScoreBook
from keras_mtl.schedules.adaptive_state import with_baselines
from keras_mtl.training.fit.consumed_batches import ConsumedBatches
from keras_mtl.training.fit.optimizer_tasks import OptimizerTasks, task_optimizer
from keras_mtl.training.fit.state import FitState
from keras_mtl.training.fit.task_evaluation import TaskEvaluation
from keras_mtl.training.run.event_log import EventLog, Scores
from keras_mtl.training.step.learning_rate import last_rate

__all__ = ["TaskEvaluation", "TaskScheduling"]


class TaskScheduling(keras.callbacks.Callback):
    """Lets a schedule change the probabilities of the tasks between the epochs of `fit`.

    The dataset is `mixture.dataset(steps=S)`, and an epoch of `fit` has S steps. Each epoch
    continues where the previous one ended. At the end of an epoch the callback scores the tasks and
    the schedule learns from the scores; the new probabilities apply from the first batch of the
    next epoch. No prefetched example is lost or repeated, because the dataset ends with the epoch.
    Choose S small enough for the schedule to react in time.

    The callback counts the batches that the model was trained on, and Keras saves this number with
    the weights of the model. With `state_path`, a run that was killed resumes at exactly that
    batch: `keras.callbacks.BackupAndRestore` restores weights and optimizer, and this callback
    restores the position in the data of every task, the state of the schedule and the scores. List
    this callback before BackupAndRestore, so that a backup is never newer than the state of the
    schedule.

    A schedule with factors requires a mixture with an `application`. `gradient` works with any
    optimizer whose moments are shared by all tasks; `map_fn` must pass `weight` to the model as the
    sample weight. For `learning_rate`, compile the model with `keras_mtl.Adam` with `num_tasks` and
    `moments="scaled"`.

    The `logs` of an epoch, which `History`, `CSVLogger` and `TensorBoard` record, contain
    `probability/<task>` for the next epoch, `score/<task>`, `scale/<task>` if the schedule has
    factors, and the values of a `TaskEvaluation`.

    Args:
        mixture: the mixture that provides the dataset.
        evaluate: scores the tasks: a `TaskEvaluation`, or a function that returns {task name:
            score}. A task that it omits keeps its score. None for a schedule that does not use
            scores.
        baselines: {task name: score of a model trained on only this task}, > 0. A task without an
            entry has the baseline of its `TaskInfo`.
        higher_is_better: whether a higher score is better. None takes the direction of a
            `TaskEvaluation`, or True for a function.
        interval: number of epochs between evaluations, at least 1.
        state_path: the file that stores the state. None keeps it in memory.
        event_log: a `keras_mtl.EventLog` that also records probabilities and scores, for
            `plot_run`.

    Raises:
        ConfigError: the arguments are inconsistent, or `steps_per_epoch` is not the number of steps
            of the dataset.
        CheckpointError: `state_path` is damaged or belongs to another run.
        InputError: `evaluate` returned something other than scores of the tasks.

    Example:
        ```python
        import keras
        import numpy as np
        from keras_mtl import (
            ArraySource, Bucket, Mixture, TaskEvaluation, TaskInfo, TaskScheduling, schedules
        )

        x = np.random.default_rng(1).normal(size=(300, 4)).astype(np.float32)
        data = {"sum": (x, x.sum(1)), "first": (x[:50], x[:50, 0])}
        sources = [ArraySource(name, {"x": x, "y": y}) for name, (x, y) in data.items()]
        tasks = [TaskInfo(source.name, source.size, baseline=0.2) for source in sources]
        schedule = schedules.create("inverse_ratio", tasks)
        mixture = Mixture(sources, schedule, [Bucket(length=1, rows=32)], seed=1)

        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile("adam", "mse", weighted_metrics=["mae"])
        model.fit(
            mixture.dataset(steps=5, map_fn=lambda b: (b["x"], b["y"], b["weight"])),
            epochs=3,
            verbose=0,
            callbacks=[
                TaskScheduling(mixture, TaskEvaluation(data, "mae"), state_path="run/tasks.npz"),
                keras.callbacks.BackupAndRestore("run/backup", delete_checkpoint=False),
            ],
        )
        ```
    """

    def __init__(
        self,
        mixture: Mixture,
        evaluate: TaskEvaluation | Callable[[], Mapping[str, float]] | None = None,
        baselines: Mapping[str, float] | None = None,
        higher_is_better: bool | None = None,
        interval: int = 1,
        state_path: str | os.PathLike[str] | None = None,
        event_log: EventLog | None = None,
    ):
        super().__init__()
        self._baselines = dict(baselines or {})
        with_baselines(mixture.schedule.tasks, self._baselines)  # Raises if a baseline is wrong.
        if interval < 1:
            raise ConfigError(f"interval must be at least 1 epoch, got {interval}")
        if higher_is_better is None:
            higher_is_better = getattr(evaluate, "higher_is_better", True)
        if isinstance(evaluate, TaskEvaluation):
            for name in evaluate.task_names:
                if name not in mixture.task_names:
                    remedy = nearest_task(name, mixture.task_names, listing="")
                    raise ConfigError(f"evaluate has data of an unknown task {name!r}{remedy}")
        self._mixture = mixture
        # The dataset makes batches in advance, under a strategy those of a whole epoch. They are
        # not consumed yet, so this callback counts the consumed batches itself.
        mixture.finish(mixture.step)
        self._optimizer_tasks = OptimizerTasks(mixture)
        self._evaluate = evaluate
        self._metric = evaluate.label if isinstance(evaluate, TaskEvaluation) else "score"
        self._higher_is_better = higher_is_better
        self._interval = interval
        self._event_log = event_log
        self._state = FitState(None if state_path is None else Path(state_path))
        self._consumed = ConsumedBatches(self._count_for_weights, self._on_save)
        self._trained: keras.Model | None = None
        self._begun = False
        self._epoch_start = 0
        self._batches = self._started = 0

    @property
    def step(self) -> int:
        """Number of batches consumed since the run began, including earlier processes."""
        return self._epoch_start + self._batches

    @property
    def book(self) -> ScoreBook:
        """The scores and baselines of the mixture."""
        return self._mixture.adaptive.book

    def set_model(self, model: keras.Model) -> None:
        _check_distribution(model)
        _check_quantization(model)
        super().set_model(model)
        self._consumed.attach(model)

    def on_train_begin(self, logs: Any = None) -> None:
        self._begun = False
        self._check_steps()
        self._mixture.adaptive.set_metric(self._metric, self._higher_is_better, self._baselines)
        schedule = self._mixture.schedule
        if schedule.uses_scores and self._evaluate is None:
            warnings.warn(
                f"schedule {schedule.name!r} learns from scores, but TaskScheduling has no "
                "evaluate, so the probabilities do not change. Give it a TaskEvaluation or a "
                "function",
                stacklevel=2,
            )
        if schedule.measures is not None:
            warnings.warn(
                f"schedule {schedule.name!r} learns from measurements of the model, which "
                "model.fit does not make, so the probabilities do not change. Call "
                "mixture.adaptive.book.measure and mixture.update, or use another schedule",
                stacklevel=2,
            )
        if schedule.uses_losses:
            warnings.warn(
                f"schedule {schedule.name!r} learns from the training losses of each task, which "
                "model.fit does not report, so the probabilities do not change. Call "
                "mixture.adaptive.observe_losses, or use a schedule that learns from scores",
                stacklevel=2,
            )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        # Not in `on_train_begin`, where BackupAndRestore may not have restored the optimizer yet.
        if not self._begun:
            self._begin()
        self._epoch_start, self._batches, self._started = self._mixture.step, 0, 0
        self._begun = True
        self._optimizer_tasks.epoch(self._epoch_start)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        updates = int(self.model.steps_per_execution)
        self._optimizer_tasks.ahead(self.step, updates)
        self._started = self._within_epoch(batch + updates)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._batches = self._within_epoch(batch + 1)

    def _within_epoch(self, batches: int) -> int:
        # The last execution of several steps may be cut off by the end of the epoch.
        steps = (self.params or {}).get("steps")
        return batches if steps is None else min(batches, steps)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        step = self.step
        # Training may have stopped inside the epoch, when more batches were already prefetched.
        self._mixture.finish(step)
        if self._evaluate is not None and (epoch + 1) % self._interval == 0:
            self._score(step, logs)
        probabilities = dict(
            zip(self._mixture.task_names, self._mixture.probabilities(step).tolist(), strict=True)
        )
        logs.update({f"probability/{name}": value for name, value in probabilities.items()})
        scales = None
        if self._mixture.scaling:
            values = self._mixture.scales(step).tolist()
            scales = dict(zip(self._mixture.task_names, values, strict=True))
            logs.update({f"scale/{name}": value for name, value in scales.items()})
        if self._event_log is not None:
            rate = last_rate(self.model.optimizer)
            self._event_log.train(step, {}, probabilities, learning_rate=rate, scales=scales)
        self._state.add(self._iterations(), self._mixture)

    def _score(self, step: int, logs: dict[str, Any]) -> None:
        assert self._evaluate is not None
        start = time.perf_counter()
        if isinstance(self._evaluate, TaskEvaluation):
            self._evaluate.set_model(self.model)
            scores: Mapping[str, float] = self._evaluate.evaluate(logs)
        else:
            scores = self._evaluate()
        seconds = time.perf_counter() - start
        self._mixture.adaptive.enter_scores(step, scores)
        logs.update({f"score/{name}": float(score) for name, score in scores.items()})
        self._mixture.update(step)
        if self._event_log is not None:
            results = {
                name: Scores({"score": float(score)}, seconds / len(scores))
                for name, score in scores.items()
            }
            self._event_log.evaluation(step, results, self._mixture.adaptive.ratios(), "score")

    def _iterations(self) -> int:
        return int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))

    def _check_steps(self) -> None:
        steps, made = (self.params or {}).get("steps"), self._mixture.dataset_steps
        if steps is None and made == {None}:
            raise ConfigError(
                "the dataset of fit is infinite, but the schedule learns only at the end of an "
                "epoch. Use mixture.dataset(steps=S) with the number of batches of an epoch"
            )
        if not made or steps is None or steps in made:
            return
        own = " or ".join(f"steps={n}" for n in sorted(made, key=str))
        raise ConfigError(
            f"an epoch of fit has {steps} steps, but mixture.dataset was made with {own}: the next "
            "epoch would use batches that were drawn before the schedule learned. Use "
            f"mixture.dataset(steps={steps}) and omit steps_per_epoch"
        )

    def _count_for_weights(self) -> int:
        """Returns the number of batches that the current weights were trained on."""
        if not self._begun:
            restored = self._consumed.restored
            return self.step if restored is None else restored
        # A callback that runs before this one may save before `_batches` is updated.
        return self._epoch_start + max(self._batches, self._started)

    def _on_save(self, batches: int) -> None:
        if self._begun:
            self._state.mark(self._iterations(), batches)

    def _begin(self) -> None:
        self._optimizer_tasks.start(self.model)
        batches = self._consumed.restored
        self._consumed.forget()
        resumed = self._trained is self.model
        self._trained = self.model
        # After an exception in an earlier `fit`, the mixture is at the start of that epoch.
        if batches is None and resumed and self._mixture.step in (self._epoch_start, self.step):
            batches = self.step
        if self._state.has_file:
            self._state.load()
            self._restore(batches)
        elif batches is None or batches == self._mixture.step:
            self._state.add(self._iterations(), self._mixture)
        elif batches < self._mixture.step:
            self._restore(batches)
        else:
            if self._mixture.schedule.adaptive and not resumed:
                warnings.warn(
                    f"the weights were trained on {batches} batches, but the state of the schedule "
                    "and the scores were not saved, so the schedule starts again. Give state_path",
                    stacklevel=2,
                )
            self._mixture.finish(batches)
            self._state.add(self._iterations(), self._mixture)
        if self._event_log is not None:
            self._event_log.resume(self._mixture.step)

    def _restore(self, batches: int | None) -> None:
        """Restores the state that belongs to the current weights of the model."""
        if batches is None:
            batches = self._batches_by_iterations()
        state = None if batches is None else self._state.keep_until(batches)
        path = self._state.path or "the state in memory"
        if state is None:
            done = f"{self._iterations()} iterations" if batches is None else f"{batches} batches"
            raise CheckpointError(
                f"{path} is newer than the model: it begins at batch {self._state.oldest()}, but "
                f"the model was trained for {done}. Restore the backup of the model, or delete "
                f"{path} to start again"
            )
        assert batches is not None
        if forgotten := self._mixture.restore(checkpoint_state(state, "mixture/")):
            warnings.warn(f"{path}: {forgotten}", stacklevel=2)
        # For a backup inside an epoch, the state at its start determines the batches up to it.
        self._mixture.finish(batches)

    def _batches_by_iterations(self) -> int | None:
        """Returns the number of batches of weights that were restored without that number."""
        iterations = self._iterations()
        batches = self._state.batches_at(iterations)
        if batches is not None:
            return batches
        accumulated = task_optimizer(self.model).gradient_accumulation_steps or 1
        batches = self._state.guess(iterations, accumulated)
        if batches is not None:
            warnings.warn(
                "the file of the weights does not contain the number of batches. It is assumed to "
                f"be {batches}, from the {iterations} iterations of the optimizer, which is too "
                "low if updates were skipped",
                stacklevel=2,
            )
        return batches


def _check_quantization(model: keras.Model) -> None:
    """Checks that no state of quantization would have to change during `fit`.

    Raises:
        ConfigError: it would.
    """
    changing = [each.domain for each in quantizers(model) if each.changes]
    if changing:
        raise ConfigError(
            f"the model has the quantization domain {domain_name(changing[0])!r}, whose ranges or "
            "phases change after each step, which only `keras-mtl train` does. For fit, use "
            "kind: dynamic with start_step: 0"
        )


def _check_distribution(model: keras.Model) -> None:
    """Raises ConfigError if Keras distributes the model in a way that does not work here."""
    strategy = getattr(model, "distribute_strategy", None)
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        raise ConfigError(
            "model.fit cannot train on several workers (MultiWorkerMirroredStrategy); use "
            "MirroredStrategy, or `keras-mtl train` with "
            "runtime.distribution_strategy=multi_worker_mirrored"
        )
    if keras.distribution.distribution() is not None:
        raise ConfigError(
            "keras.distribution has no effect on models of the TensorFlow backend; call "
            "keras.distribution.set_distribution(None), and use tf.distribute.MirroredStrategy"
        )
