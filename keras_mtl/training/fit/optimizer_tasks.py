"""Tells the optimizer of `model.fit` the task of each update."""

import warnings

import keras
import numpy as np

from keras_mtl.data.mixture import Mixture
from keras_mtl.errors import ConfigError
from keras_mtl.training.step.optimizers import PLANNED_UPDATES, Adam
from keras_mtl.training.step.scaling import pairing_warning


class OptimizerTasks:
    """Plans the tasks of the next updates in keras_mtl's Adam during `fit`.

    A training step of Keras has no argument for the task, and one call may run several steps. The
    tasks of the next batches are known before the batches are read, so the optimizer receives them
    in advance.

    Args:
        mixture: the mixture that provides the dataset of `fit`.

    Raises:
        ConfigError: the schedule has factors, but the mixture has no application for them.
    """

    def __init__(self, mixture: Mixture):
        if mixture.application is None and mixture.scaling:
            raise ConfigError(
                "this schedule scales updates, but the mixture has no application. Use "
                "Mixture(..., application='gradient'), which scales the weights of the examples, "
                "or application='learning_rate', with keras_mtl.Adam and scaled moments"
            )
        self._mixture = mixture
        self._application = mixture.application
        self._optimizer: Adam | None = None
        self._may_skip = False
        self._planned = 0

    def start(self, model: keras.Model) -> None:
        """Checks the optimizer of a model whose training begins.

        Raises:
            ConfigError: the optimizer does not support the application of the mixture.
        """
        optimizer, tasks = task_optimizer(model), len(self._mixture.task_names)
        ours = isinstance(optimizer, Adam) and optimizer.num_tasks > 0
        self._optimizer = optimizer if ours else None
        self._may_skip = optimizer is not model.optimizer
        self._planned = 0
        if not ours and self._application == "learning_rate":
            raise ConfigError(
                f"the optimizer is {type(optimizer).__name__!r}, but factors on learning rates "
                "require keras_mtl.Adam. Use "
                f"compile(optimizer=keras_mtl.Adam(..., num_tasks={tasks}, moments='scaled'))"
            )
        if self._application is not None and self._mixture.scaling:
            moments = optimizer.moments if isinstance(optimizer, Adam) else "shared"
            if warning := pairing_warning(self._application, moments):
                warnings.warn(warning, stacklevel=2)
        if not ours:
            return
        if optimizer.num_tasks != tasks:
            raise ConfigError(
                f"the optimizer has num_tasks={optimizer.num_tasks}, but the mixture has {tasks} "
                f"tasks. Create the optimizer with num_tasks={tasks}"
            )
        if self._mixture.granularity != "batch":
            raise ConfigError(
                f"the mixture has granularity={self._mixture.granularity!r}, but an optimizer with "
                "num_tasks requires batches with one task each. Use granularity='batch', or "
                "application='gradient' and an optimizer without num_tasks"
            )
        if self._may_skip and int(model.steps_per_execution) > 1:
            raise ConfigError(
                f"steps_per_execution is {model.steps_per_execution}, but the optimizer scales "
                "losses: an update skipped inside an execution would shift the tasks of the "
                "others. Compile with steps_per_execution=1, or train in mixed_bfloat16"
            )
        if not model.optimizer.built:
            with model.distribute_strategy.scope():
                model.optimizer.build(model.trainable_variables)

    def epoch(self, step: int) -> None:
        """Sets the factors from a step on, and forgets the plan before it."""
        self._planned = step
        if self._optimizer is not None and self._application == "learning_rate":
            self._optimizer.set_factors(self._mixture.scales(step))

    def ahead(self, step: int, updates: int) -> None:
        """Plans at least the updates of the next call of the training step.

        Args:
            step: number of batches consumed.
            updates: number of updates in one call, `steps_per_execution`.
        """
        if self._optimizer is None or (step + updates <= self._planned and not self._may_skip):
            return
        if updates > PLANNED_UPDATES:
            raise ConfigError(
                f"steps_per_execution is {updates}, but at most {PLANNED_UPDATES} updates can be "
                f"planned. Compile with steps_per_execution <= {PLANNED_UPDATES}"
            )
        tasks: np.ndarray = self._mixture.upcoming_tasks(step, PLANNED_UPDATES)
        self._optimizer.plan_tasks(tasks)
        self._planned = step + PLANNED_UPDATES


def task_optimizer(model: keras.Model) -> keras.optimizers.Optimizer:
    """Returns the optimizer of a compiled model, without loss scaling around it.

    Plans follow the iterations of this optimizer, which do not advance if loss scaling skips an
    update.
    """
    optimizer = model.optimizer
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    return optimizer.inner_optimizer if scaled else optimizer
