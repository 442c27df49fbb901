"""Derived decisions about updates: their batches, moments and the effect of schedule factors."""

import dataclasses

from keras_mtl.configuration.schema import TrainerConfig
from keras_mtl.schedules import PlannedSchedule
from keras_mtl.training.step.scaling import moments_for, pairing_warning


@dataclasses.dataclass(frozen=True)
class UpdatePlan:
    """The decisions about updates that no field of the configuration states.

    Attributes:
        num_tasks: number of tasks, >= 1.
        mixed: whether a batch has several tasks.
        accumulation: batches of one update, >= 1.
        moments: kind of Adam's moments, one of `keras_mtl.training.step.scaling.MOMENTS`.
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
    def of(
        cls, trainer: TrainerConfig, granularity: str, schedule: PlannedSchedule
    ) -> "UpdatePlan":
        """Makes the plan.

        Args:
            trainer: the settings of the optimizer and of the application of the schedule's factors.
            granularity: `batch` or `example`.
            schedule: the schedule.

        Raises:
            ConfigError: the application or the kind of moments is unknown.
        """
        application = trainer.schedule.application
        moments = trainer.optimizer.moments
        if moments is None:
            moments = moments_for(application) if schedule.scaling else "shared"
        scales_learning_rate = schedule.scaling and application == "learning_rate"
        return cls(
            num_tasks=len(schedule.baselines),
            mixed=granularity == "example",
            accumulation=trainer.optimizer.gradient_accumulation_steps,
            moments=moments,
            scales_learning_rate=scales_learning_rate,
            of_one_task=scales_learning_rate or moments != "shared",
            warning=pairing_warning(application, moments) if schedule.scaling else None,
        )

    def problems(self) -> list[tuple[str, str]]:
        """Returns the settings that conflict with the required updates of a single task.

        Returns:
            For each problem the path of a field and the text that follows it.
        """
        if not self.of_one_task:
            return []
        if self.scales_learning_rate:
            what = "factors on the learning rate"
            remedy = "trainer.schedule.application to gradient"
        else:
            what, remedy = f"{self.moments} moments", "trainer.optimizer.moments to shared"
        found = []
        if self.mixed:
            found.append(
                (
                    "task.data.granularity",
                    f"= 'example', but {what} require updates with a single task. Set it to "
                    f"batch, or {remedy}",
                )
            )
        if self.accumulation != 1:
            found.append(
                (
                    "trainer.optimizer.gradient_accumulation_steps",
                    f"= {self.accumulation}, but {what} require updates with a single task, and "
                    "accumulated batches have several. Set it to 1 with a larger "
                    f"task.data.tokens_per_batch, or {remedy}",
                )
            )
        return found
