"""The limits of the tasks of a configuration."""

from collections.abc import Sequence

from keras_mtl.configuration.schedule_sections import ScheduleConfig
from keras_mtl.configuration.schema import PairConfig
from keras_mtl.schedules.limits import Limits


def configured_limits(
    pairs: Sequence[PairConfig], schedule: ScheduleConfig, batches_per_step: int
) -> Limits | None:
    """Returns the limits of the tasks, in batches; None if no task has one.

    Args:
        pairs: the tasks.
        schedule: the section `trainer.schedule`.
        batches_per_step: number of batches of an update.
    """
    limits = Limits(
        introduce_at=[pair.introduce_at * batches_per_step for pair in pairs],
        stop_at=[
            None if pair.stop_at is None else pair.stop_at * batches_per_step for pair in pairs
        ],
        max_epochs=[
            schedule.max_epochs if pair.max_epochs is None else pair.max_epochs for pair in pairs
        ],
        overfit_patience=schedule.overfit_patience,
    )
    return limits if limits.limits_anything else None
