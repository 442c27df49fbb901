"""Passes the task of each update to the optimizer of `model.fit`."""

import warnings

import keras
import numpy as np

from keras_mtl.data.mixture import Mixture
from keras_mtl.errors import ConfigError
from keras_mtl.training.step.optimizers import PLANNED_UPDATES, Adam
from keras_mtl.training.step.scaling import pairing_warning


class OptimizerTasks:
    """Keeps the plan of tasks in keras_mtl's Adam ahead of the updates of `fit`.

    A training step of Keras does not know of tasks, and several of them may run in one call. The
    tasks of the next batches are known before they are read, so the optimizer gets them in advance.

    Args:
        mixture: what the model is trained on, element for element.

    Raises:
        ConfigError: the schedule has factors, and the mixture has no application for them.
    """

    def __init__(self, mixture: Mixture):
        if mixture.application is None and mixture.scaling:
            raise ConfigError(
                "this schedule scales updates: say what its factors multiply, "
                "Mixture(..., application='gradient') (the weights of the examples) or "
                "application='learning_rate' (with keras_mtl's Adam and scaled moments)"
            )
        self._mixture = mixture
        self._application = mixture.application
        self._optimizer: Adam | None = None
        self._may_skip = False
        self._planned = 0

    def start(self, model: keras.Model) -> None:
        """Looks at the optimizer of a model that is about to be trained.

        Raises:
            ConfigError: it cannot do what the application asks of it.
        """
        optimizer, tasks = task_optimizer(model), len(self._mixture.task_names)
        ours = isinstance(optimizer, Adam) and optimizer.num_tasks > 0
        self._optimizer = optimizer if ours else None
        self._may_skip = optimizer is not model.optimizer
        self._planned = 0
        if not ours and self._application == "learning_rate":
            raise ConfigError(
                f"the model's optimizer is {type(optimizer).__name__!r}, which knows no tasks; "
                "factors on learning rates need keras_mtl.training.step.optimizers.Adam: "
                f"compile(optimizer=Adam(..., num_tasks={tasks}, moments='scaled'))"
            )
        if self._application is not None and self._mixture.scaling:
            moments = optimizer.moments if isinstance(optimizer, Adam) else "shared"
            if warning := pairing_warning(self._application, moments):
                warnings.warn(warning, stacklevel=2)
        if not ours:
            return
        if optimizer.num_tasks != tasks:
            raise ConfigError(
                f"the optimizer has num_tasks={optimizer.num_tasks}, the mixture {tasks} tasks; "
                f"make the optimizer with num_tasks={tasks}"
            )
        if self._mixture.granularity != "batch":
            raise ConfigError(
                f"the mixture has granularity {self._mixture.granularity!r}: an optimizer with "
                "num_tasks needs batches of one task; make the Mixture with granularity='batch', "
                "or take application='gradient' and an optimizer without num_tasks"
            )
        if self._may_skip and int(model.steps_per_execution) > 1:
            raise ConfigError(
                f"steps_per_execution is {model.steps_per_execution} and the optimizer scales "
                "losses: an update that is skipped inside an execution would shift the tasks of "
                "the others; compile with steps_per_execution=1, or train in mixed_bfloat16"
            )
        if not model.optimizer.built:
            with model.distribute_strategy.scope():
                model.optimizer.build(model.trainable_variables)

    def epoch(self, step: int) -> None:
        """Sets the factors that hold from a step on, and forgets the plan before it."""
        self._planned = step
        if self._optimizer is not None and self._application == "learning_rate":
            self._optimizer.set_factors(self._mixture.scales(step))

    def ahead(self, step: int, updates: int) -> None:
        """Plans at least the updates that the next call of the training step will do.

        Args:
            step: batches consumed.
            updates: updates in one call, `steps_per_execution`.
        """
        if self._optimizer is None or (step + updates <= self._planned and not self._may_skip):
            return
        if updates > PLANNED_UPDATES:
            raise ConfigError(
                f"steps_per_execution is {updates}, and at most {PLANNED_UPDATES} updates can be "
                f"planned; compile with steps_per_execution <= {PLANNED_UPDATES}"
            )
        tasks: np.ndarray = self._mixture.upcoming_tasks(step, PLANNED_UPDATES)
        self._optimizer.plan_tasks(tasks)
        self._planned = step + PLANNED_UPDATES


def task_optimizer(model: keras.Model) -> keras.optimizers.Optimizer:
    """The optimizer that updates a compiled model, without the loss scaling around it.

    Plans follow its iterations, which do not advance if loss scaling skips an update.
    """
    optimizer = model.optimizer
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    return optimizer.inner_optimizer if scaled else optimizer
