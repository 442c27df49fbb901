"""The proportional schedule: all examples are seen equally often."""

from collections.abc import Sequence

from keras_mtl.schedules.base import FixedSchedule
from keras_mtl.schedules.parameters import sizes_of
from keras_mtl.schedules.registry import register
from keras_mtl.schedules.tasks import TaskInfo


@register
class Proportional(FixedSchedule):
    """w_i = n_i, the number of training examples of task i.

    Args:
        tasks: the tasks.
        floor: least probability of every task, in [0, 1/N].
    """

    name = "proportional"

    def __init__(self, tasks: Sequence[TaskInfo], *, floor: float = 0.0) -> None:
        sizes = sizes_of(self.name, tasks)
        super().__init__(tasks, sizes, floor=floor)
