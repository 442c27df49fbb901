"""The limits of the tasks of a configuration."""

from collections.abc import Sequence

from keras_mtl.configuration.schema import PairConfig
from keras_mtl.schedules.limits import Limits


def configured_limits(
    pairs: Sequence[PairConfig],
    max_epochs: float | None,
    overfit_patience: int,
    batches_per_step: int,
) -> Limits | None:
    """Returns the limits of the tasks, in batches; None if no task has one.

    Args:
        pairs: the tasks.
        max_epochs: `trainer.schedule.max_epochs`.
        overfit_patience: `trainer.schedule.overfit_patience`.
        batches_per_step: number of batches of an update.
    """
    limits = Limits(
        introduce_at=[pair.introduce_at * batches_per_step for pair in pairs],
        stop_at=[
            None if pair.stop_at is None else pair.stop_at * batches_per_step for pair in pairs
        ],
        max_epochs=[max_epochs if pair.max_epochs is None else pair.max_epochs for pair in pairs],
        overfit_patience=overfit_patience,
        batches_per_step=batches_per_step,
    )
    return limits if limits.limits_anything else None
