"""The objects of a training run. Their random numbers depend on the order of construction."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mtl.balancing import Balancing
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.prepare import PreparedData
from keras_mtl.evaluation.task_metrics import TaskMetrics
from keras_mtl.evaluation.tasks import translation_tasks
from keras_mtl.models import Transformer
from keras_mtl.models.variables import freeze
from keras_mtl.schedules import Schedule, TaskInfo
from keras_mtl.training.run import building
from keras_mtl.training.run.planning import TrainingPlan
from keras_mtl.training.step.adapter_users import both, with_adapter_users
from keras_mtl.training.step.balancing import build_balancing, check_shared_variables
from keras_mtl.training.step.distribution import (
    compiles_with_xla,
    static_shapes,
    to_all_replicas,
)
from keras_mtl.training.step.gradient_norm import GradientNormTracker
from keras_mtl.training.step.loss_scale import DynamicLossScale
from keras_mtl.training.step.rate_factors import trained_by
from keras_mtl.training.step.trainer import MultiTaskTrainer
from keras_mtl.training.step.update_plan import UpdatePlan
from keras_mtl.training.step.workers import Workers


@dataclasses.dataclass(frozen=True)
class RunParts:
    """The objects of a run, which share the tasks and their order.

    Attributes:
        workers: the processes of the run; the variables are made under their strategy.
        plan: the plan of updates.
        tasks: the tasks.
        schedule: the schedule that selects the next task.
        mixture: the mixture of the tasks' batches.
        decoder_of_task: ints [N], the decoder of each task.
        model: the built model.
        optimizer: its built optimizer, an `Adam` or a `KerasOptimizer`.
        balancing: the balancing method; None without balancing.
        loss_scale: the loss scale for float16; None for other types.
        norm_tracker: what finds updates with too large gradients; None if none is skipped.
        trainer: the training step.
    """

    workers: Workers
    plan: UpdatePlan
    tasks: Sequence[TaskInfo]
    schedule: Schedule
    mixture: Mixture
    decoder_of_task: Sequence[int]
    model: Transformer
    optimizer: Any
    balancing: Balancing | None
    loss_scale: DynamicLossScale | None
    norm_tracker: GradientNormTracker | None
    trainer: MultiTaskTrainer

    @property
    def task_names(self) -> list[str]:
        """Names of the tasks, in their order."""
        return [task.name for task in self.tasks]

    @property
    def step(self) -> int:
        """Number of updates so far."""
        return int(self.trainer.global_step.numpy())

    def consumed(self, step: int) -> int:
        """Returns the number of batches that training has consumed at a given step."""
        return step * self.plan.accumulation

    def consumed_by_task(self) -> np.ndarray:
        """Returns the number of consumed batches of each task, int64 [N].

        If batches are mixed, counts examples instead.
        """
        return self.mixture.consumed(self.mixture.state(self.consumed(self.step)))

    def read_from(self, step: int) -> None:
        """Starts reading batches at a step, with the schedule's current probabilities."""
        start, replicas = self.consumed(step), self.workers.strategy.num_replicas_in_sync
        self.trainer.set_dataset(
            to_all_replicas(
                self.workers.strategy,
                lambda parts: self.mixture.dataset(
                    start_step=start,
                    replicas=replicas,
                    parts=parts,
                    map_fn=self.trainer.mark,
                ),
            )
        )


@dataclasses.dataclass(frozen=True)
class StepParts:
    """The objects of a run that make an update; see `RunParts`."""

    decoder_of_task: Sequence[int]
    model: Transformer
    optimizer: Any
    balancing: Balancing | None
    loss_scale: DynamicLossScale | None
    norm_tracker: GradientNormTracker | None
    trainer: MultiTaskTrainer


def build_parts(
    plan: TrainingPlan,
    prepared: PreparedData,
    workers: Workers,
) -> RunParts:
    """Makes the objects of a run.

    Args:
        plan: the plan of the training.
        prepared: prepared data.
        workers: the processes of the run; the variables are made under their strategy.
    """
    task, runtime, updates = plan.config.task, plan.config.runtime, plan.updates
    schedule = plan.schedule.make({each.name: each.train_size for each in prepared.tasks})
    strategy = workers.strategy
    replicas = strategy.num_replicas_in_sync
    mixture = building.build_mixture(
        task,
        plan.config.trainer,
        TaskMetrics.of(plan.config),
        runtime.seed,
        prepared,
        schedule,
        replicas,
        workers.chief,
    )
    step = build_step(
        plan,
        strategy,
        prepared.vocabulary.size,
        static_shapes(strategy, mixture.buckets),
        prepared.vocabulary.source_size,
    )
    return RunParts(
        workers,
        updates,
        schedule.tasks,
        schedule,
        mixture,
        step.decoder_of_task,
        step.model,
        step.optimizer,
        step.balancing,
        step.loss_scale,
        step.norm_tracker,
        step.trainer,
    )


def build_step(
    plan: TrainingPlan,
    strategy: tf.distribute.Strategy,
    vocabulary_size: int,
    shapes: Sequence[tuple[int, int]] | None,
    source_vocabulary_size: int | None = None,
) -> StepParts:
    """Makes what an update consists of. It needs no data.

    Args:
        plan: the plan of the training.
        strategy: the strategy under whose scope the variables are made.
        vocabulary_size: number of ids.
        shapes: (rows of a replica, length) of each bucket if the step needs static shapes.
        source_vocabulary_size: number of ids of sources; None if it is `vocabulary_size`.
    """
    task, runtime, updates = plan.config.task, plan.config.runtime, plan.updates
    pairs = task.pairs
    tasks = translation_tasks(task.model, pairs)
    decoders = [each.decoder for each in tasks]
    with strategy.scope():
        model = building.build_model(task.model, vocabulary_size, pairs, source_vocabulary_size)
        freeze(model, plan.config.trainer.freeze)
        optimizer = building.build_optimizer(plan.config.trainer, updates, model.hidden_dim)
        optimizer.build(model.trainable_variables)
        balancing = build_balancing(plan.config.trainer.balancing, updates.num_tasks, runtime.seed)
        loss_scale = building.build_loss_scale(
            runtime.mixed_precision_dtype, task.data.tokens_per_batch * updates.accumulation
        )
        norm_tracker = building.build_norm_tracker(plan.config.trainer.optimizer.max_norm_deviation)
    trained = trained_by(
        model.trainable_variables,
        [pair.train_only for pair in pairs],
        [f"task.pairs[{number}].train_only" for number in range(len(pairs))],
    )
    if not updates.mixed:
        trained = with_adapter_users(model.trainable_variables, trained, model.adapter_sets, tasks)
        trained = both(trained, model.variable_users([each.route for each in tasks]))
    check_shared_variables(plan.config.trainer.balancing, model, trained, len(pairs))
    trainer = MultiTaskTrainer(
        model,
        optimizer,
        strategy,
        updates.num_tasks,
        decoders,
        label_smoothing=task.model.label_smoothing,
        global_clipnorm=plan.config.trainer.optimizer.global_clipnorm,
        accumulation=updates.accumulation,
        jit_compile=compiles_with_xla(runtime),
        scale_learning_rate=updates.scales_learning_rate,
        balancing=balancing,
        mixed=updates.mixed,
        loss_scale=loss_scale,
        shapes=shapes,
        norm_tracker=norm_tracker,
        trained_by=trained,
        routes=[each.route for each in tasks],
    )
    return StepParts(decoders, model, optimizer, balancing, loss_scale, norm_tracker, trainer)
