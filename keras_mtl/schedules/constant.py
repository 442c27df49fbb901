"""The constant schedule: weights that the user gives."""

from collections.abc import Mapping, Sequence

from keras_mtl.schedules.base import FixedSchedule
from keras_mtl.schedules.parameters import per_task
from keras_mtl.schedules.registry import register
from keras_mtl.schedules.tasks import TaskInfo


@register
class Constant(FixedSchedule):
    """Weights w_i that the user gives.

    Args:
        tasks: the tasks.
        weights: {task name: weight} or a list in the order of the tasks, each >= 0 and at least
            one above 0; they need not sum to 1.
        floor: least probability of every task, in [0, 1/N].

    Reference: Lingvo's ConstantScheduler.
    """

    name = "constant"

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        weights: Mapping[str, float] | Sequence[float],
        floor: float = 0.0,
    ) -> None:
        given = per_task(self.name, "weights", weights, tasks, weights=True)
        super().__init__(tasks, given, floor=floor)
