"""Derived decisions about updates: their batches, moments and the effect of schedule factors."""

import dataclasses

from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.errors import ConfigError
from keras_mtl.schedules import Schedule
from keras_mtl.training.step.scaling import moments_for, pairing_warning


@dataclasses.dataclass(frozen=True)
class UpdatePlan:
    """The decisions about updates that no field of the configuration states.

    Attributes:
        num_tasks: number of tasks, >= 1.
        mixed: whether a batch has several tasks.
        accumulation: batches per update, >= 1.
        moments: kind of Adam's moments, one of `keras_mtl.training.step.optimizers.MOMENTS`.
        scales_learning_rate: whether the schedule's factors multiply learning rates. If not, they
            multiply losses.
        of_one_task: whether every update must have a single task, which the optimizer must know.
        warning: a warning for the user if the factors have little or no effect; else None.
    """

    num_tasks: int
    mixed: bool
    accumulation: int
    moments: str
    scales_learning_rate: bool
    of_one_task: bool
    warning: str | None

    @classmethod
    def of(cls, config: ExperimentConfig, schedule: Schedule) -> "UpdatePlan":
        """Makes the plan.

        Args:
            config: the experiment.
            schedule: the schedule that it names; the sizes of its tasks are not used.
        """
        application = config.trainer.schedule.application
        moments = config.trainer.optimizer.moments
        if moments is None:
            moments = moments_for(application) if schedule.scaling else "shared"
        scales_learning_rate = schedule.scaling and application == "learning_rate"
        return cls(
            num_tasks=schedule.num_tasks,
            mixed=config.task.data.granularity == "example",
            accumulation=config.trainer.optimizer.gradient_accumulation_steps,
            moments=moments,
            scales_learning_rate=scales_learning_rate,
            of_one_task=scales_learning_rate or moments != "shared",
            warning=pairing_warning(application, moments) if schedule.scaling else None,
        )

    def check_batches(self) -> None:
        """Checks that each update has a single task if that is required.

        Raises:
            ConfigError: updates would have several tasks.
        """
        if not self.of_one_task:
            return
        if self.scales_learning_rate:
            what = "factors on the learning rate"
            remedy = "trainer.schedule.application to gradient"
        else:
            what, remedy = f"{self.moments} moments", "trainer.optimizer.moments to shared"
        if self.mixed:
            raise ConfigError(
                f"task.data.granularity is 'example', but {what} require updates with a single "
                f"task. Set it to batch, or {remedy}"
            )
        if self.accumulation != 1:
            raise ConfigError(
                f"trainer.optimizer.gradient_accumulation_steps is {self.accumulation}, but {what} "
                "require updates with a single task, and accumulated batches have several. Set it "
                f"to 1 with a larger task.data.tokens_per_batch, or {remedy}"
            )
