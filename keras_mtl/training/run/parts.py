"""The objects that a run trains with, made in the order that its random numbers depend on."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_mtl.balancing import Balancing
from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.prepare import PreparedData
from keras_mtl.evaluation.tasks import decoder_of_task
from keras_mtl.models import Transformer
from keras_mtl.schedules import Schedule, TaskInfo
from keras_mtl.training.run import building
from keras_mtl.training.step.balancing import build_balancing
from keras_mtl.training.step.distribution import compiles_with_xla, to_all_replicas
from keras_mtl.training.step.loss_scale import DynamicLossScale
from keras_mtl.training.step.optimizers import Adam
from keras_mtl.training.step.trainer import MultiTaskTrainer
from keras_mtl.training.step.update_plan import UpdatePlan


@dataclasses.dataclass(frozen=True)
class RunParts:
    """The objects of a run, which share the tasks and their order.

    Attributes:
        strategy: the process's strategy, under which variables were made.
        plan: what updates are made of.
        tasks: the tasks.
        schedule: decides which task comes next.
        mixture: the tasks' batches.
        decoder_of_task: for each task the index of its decoder.
        model: the model, built.
        optimizer: its optimizer, built.
        balancing: the balancing method; None for none.
        loss_scale: the loss scale of float16; None for other types.
        trainer: the training step.
    """

    strategy: tf.distribute.Strategy
    plan: UpdatePlan
    tasks: Sequence[TaskInfo]
    schedule: Schedule
    mixture: Mixture
    decoder_of_task: Sequence[int]
    model: Transformer
    optimizer: Adam
    balancing: Balancing | None
    loss_scale: DynamicLossScale | None
    trainer: MultiTaskTrainer

    @property
    def task_names(self) -> list[str]:
        """Names of the tasks, in their order."""
        return [task.name for task in self.tasks]

    @property
    def step(self) -> int:
        """Updates done."""
        return int(self.trainer.global_step.numpy())

    def consumed(self, step: int) -> int:
        """Returns the number of batches that training has consumed at a step."""
        return step * self.plan.accumulation

    def consumed_by_task(self) -> np.ndarray:
        """Returns what training has consumed of each task so far, int64 [N].

        The unit is a batch, or an example if batches are mixed.
        """
        return self.mixture.consumed(self.mixture.state(self.consumed(self.step)))

    def read_from(self, step: int) -> None:
        """Starts reading at a step, with the probabilities that hold from there."""
        start, replicas = self.consumed(step), self.strategy.num_replicas_in_sync
        self.trainer.set_dataset(
            to_all_replicas(
                self.strategy, lambda: self.mixture.dataset(start_step=start, replicas=replicas)
            )
        )


def build_parts(
    config: ExperimentConfig,
    plan: UpdatePlan,
    prepared: PreparedData,
    strategy: tf.distribute.Strategy,
) -> RunParts:
    """Makes the objects of a run.

    Args:
        config: validated configuration.
        plan: the plan of its updates.
        prepared: prepared data.
        strategy: the process's strategy.
    """
    tasks = building.task_infos(config, prepared)
    schedule = building.build_schedule(config, tasks)
    replicas = strategy.num_replicas_in_sync
    mixture = building.build_mixture(config, plan, prepared, schedule, replicas)
    decoders = decoder_of_task(config, prepared)
    with strategy.scope():
        model = building.build_model(config, prepared)
        optimizer = building.build_optimizer(config, plan, model.hidden_dim)
        optimizer.build(model.trainable_variables)
        balancing = build_balancing(config, len(tasks))
        loss_scale = building.build_loss_scale(config, plan.accumulation)
    trainer = MultiTaskTrainer(
        model,
        optimizer,
        strategy,
        len(tasks),
        decoders,
        label_smoothing=config.task.model.label_smoothing,
        global_clipnorm=config.trainer.optimizer.global_clipnorm,
        accumulation=plan.accumulation,
        jit_compile=compiles_with_xla(config.runtime),
        scale_learning_rate=plan.scales_learning_rate,
        balancing=balancing,
        mixed=plan.mixed,
        loss_scale=loss_scale,
    )
    return RunParts(
        strategy,
        plan,
        tasks,
        schedule,
        mixture,
        decoders,
        model,
        optimizer,
        balancing,
        loss_scale,
        trainer,
    )
