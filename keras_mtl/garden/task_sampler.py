"""Schedules for the multi-task trainer of TensorFlow Model Garden."""

import io
import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import orbit
import tensorflow as tf
from official.modeling.multitask import task_sampler

from keras_mtl.errors import ConfigError, InputError, nearest
from keras_mtl.schedules import AdaptiveState, ScoreBook, TaskInfo, create, task_index_map
from keras_mtl.schedules.adaptive_state import with_baselines

# Greater than every draw in [0, 1).
_NEVER_REACHED = np.float32(2.0)


class ScheduleTaskSampler(task_sampler.TaskSampler):
    """Uses a schedule as the task sampler of Model Garden's `MultiTaskInterleavingTrainer`.

    The trainer draws the task of each step from `task_cumulative_distribution`; the draw depends
    only on the global step. Scores and losses reach the schedule through the actions of Orbit.

    The checkpoint of the sampler contains the state of the schedule and its scores. To include it
    in the checkpoints of Model Garden's trainer, let `checkpoint_items` of the model return
    `{"task_sampler": sampler}`, or create a `tf.train.Checkpoint` with `task_sampler=sampler`.

    Python computes the probabilities at each step (`tf.numpy_function`), so the program with the
    training loop must run on the host. The steps themselves may run on a TPU.

    Args:
        task_weights: {task: weight}, in the order of the trainer. A weight is the number of
            examples of the task, as in the samplers of Model Garden.
        name: name of the schedule.
        parameters: parameters of the schedule.
        baselines: {task: score of a model trained on only this task}, > 0.
        metric: which of the evaluation results of a task is its score.
        higher_is_better: whether a higher score is better.

    Raises:
        ConfigError: the schedule, a parameter or a baseline is wrong, or the schedule scales
            updates, which the trainer does not support.

    Attributes:
        adaptive: the schedule with its state and its scores.

    Example:
        ```py
        from keras_mtl import ScheduleTaskSampler

        sampler = ScheduleTaskSampler(
            multi_task.task_weights, "inverse_ratio", metric="accuracy", baselines=baselines
        )
        trainer = MultiTaskInterleavingTrainer(multi_task, model, optimizer, sampler)
        controller = orbit.Controller(
            trainer=trainer,
            evaluator=evaluator,
            global_step=trainer.global_step,
            train_actions=[sampler.train_action(trainer)],
            eval_actions=[sampler.eval_action(trainer)],
            checkpoint_manager=manager,
        )
        ```
    """

    def __init__(
        self,
        task_weights: Mapping[str, float],
        name: str,
        parameters: Mapping[str, Any] | None = None,
        baselines: Mapping[str, float] | None = None,
        metric: str = "accuracy",
        higher_is_better: bool = True,
    ):
        super().__init__(task_weights=dict(task_weights))
        # Schedules accept any positive sizes, so weights may also be fractions.
        tasks = [TaskInfo(task, weight) for task, weight in task_weights.items()]
        schedule = create(name, with_baselines(tasks, baselines or {}), **(parameters or {}))
        if schedule.scaling:
            raise ConfigError(
                f"the schedule {name!r} scales updates, which the trainer of Model Garden does not "
                "support. Use an explicit schedule, or train with keras_mtl or model.fit"
            )
        if schedule.uses_progress:
            raise ConfigError(
                f"the schedule {name!r} has stages that end with data, but the trainer of Model "
                "Garden does not count what it has read. Let stages end after steps"
            )
        if schedule.measures is not None:
            raise ConfigError(
                f"the schedule {name!r} measures the model between steps, which the trainer of "
                "Model Garden does not do. Use another schedule, or train with keras_mtl"
            )
        self._names = tuple(task_weights)
        self.adaptive = AdaptiveState(schedule, metric, higher_is_better)
        self._counts = np.zeros(len(tasks), np.int64)
        self._saved_state = _SamplerState(self)

    @property
    def book(self) -> ScoreBook:
        """The scores and baselines."""
        return self.adaptive.book

    def probabilities(self, step: int) -> np.ndarray:
        """Returns the probabilities of the schedule at a step, float64 `[N]`."""
        return self.adaptive.probabilities(int(step))

    def task_cumulative_distribution(self, global_step: tf.Tensor) -> tf.Tensor:
        """Returns the upper bounds of the intervals of the tasks in [0, 1), float32 `[N]`.

        The bounds from the last task with a probability above 0 on are 2. The sum of float32 values
        may be below 1; a draw above it would keep the loop of the trainer without a task forever.

        Args:
            global_step: int64 `[]`.
        """
        bounds = tf.numpy_function(self._bounds, [global_step], tf.float32, stateful=True)
        return tf.ensure_shape(bounds, [len(self._names)])

    def _bounds(self, step: np.ndarray) -> np.ndarray:
        probabilities = self.probabilities(int(step))
        bounds = probabilities.cumsum().astype(np.float32)
        bounds[probabilities.nonzero()[0][-1] :] = _NEVER_REACHED
        return bounds

    def update(self, step: int, results: Mapping[str, Any]) -> None:
        """Lets the schedule learn from an evaluation.

        Args:
            step: the global step of the evaluation.
            results: {task: {metric: value}}, as returned by Model Garden's evaluator, or {task:
                value}. A task that is omitted keeps its score.

        Raises:
            InputError: a task or the metric is unknown, or a value is not a score.
        """
        metric, scores = self.adaptive.metric, {}
        for task, result in results.items():
            if isinstance(result, Mapping):
                if metric not in result:
                    raise InputError(
                        f"task {task!r} has no metric {metric!r}{nearest(metric, result)}; its "
                        f"metrics are {', '.join(result)}"
                    )
                result = result[metric]
            scores[task] = float(result)
        self.adaptive.enter_scores(int(step), scores)
        self.adaptive.update(int(step))

    def eval_action(self, trainer: orbit.StandardTrainer) -> Callable[[Mapping[str, Any]], None]:
        """Returns an action for `orbit.Controller(eval_actions=...)` that calls `update`."""
        # Orbit adds its own numbers to the results, such as steps per second.
        return lambda results: self.update(
            int(trainer.global_step.numpy()),
            {task: results[task] for task in self._names if task in results},
        )

    def train_action(self, trainer: Any) -> Callable[[Mapping[str, Any]], None]:
        """Returns an action for `orbit.Controller(train_actions=...)` that records the losses.

        Args:
            trainer: the `MultiTaskInterleavingTrainer`.
        """
        self._counts = self._task_steps(trainer)

        def observe(results: Mapping[str, Any]) -> None:
            step = int(trainer.global_step.numpy())
            before, self._counts = self._counts, self._task_steps(trainer)
            losses = [float(results[name]["training_loss"]) for name in self._names]
            probabilities = self.probabilities(max(0, step - 1))
            batches = self._counts - before
            self.adaptive.observe_losses(step, np.array(losses), probabilities, batches)
            self.adaptive.update(step)

        return observe

    def _task_steps(self, trainer: Any) -> np.ndarray:
        return np.array([int(trainer.task_step_counter(n).numpy()) for n in self._names], np.int64)


class _SamplerState(tf.train.experimental.PythonState):
    """The checkpointed state of a sampler: the state of the schedule and the scores, by task."""

    def __init__(self, sampler: ScheduleTaskSampler):
        self._sampler = sampler

    def serialize(self) -> bytes:
        sampler = self._sampler
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {
            "task_names": np.frombuffer(json.dumps(sampler._names).encode(), np.uint8),
            **sampler.adaptive.schedule_state(),
            **sampler.adaptive.score_state(),
        }
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    def deserialize(self, string_value: bytes) -> None:
        sampler = self._sampler
        with np.load(io.BytesIO(string_value), allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        adaptive = sampler.adaptive
        index_map = task_index_map(json.loads(arrays["task_names"].tobytes()), adaptive.task_names)
        adaptive.load_schedule(arrays, index_map)
        if forgotten := adaptive.load_scores(arrays, index_map):
            warnings.warn(f"task sampler: {forgotten}", stacklevel=2)
