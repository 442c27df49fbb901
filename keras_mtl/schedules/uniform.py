"""The uniform schedule: all tasks are drawn equally often."""

from collections.abc import Sequence

import numpy as np

from keras_mtl.schedules.base import FixedSchedule
from keras_mtl.schedules.registry import register
from keras_mtl.schedules.tasks import TaskInfo


@register
class Uniform(FixedSchedule):
    """w_i = 1 for every task.

    Args:
        tasks: the tasks.
        floor: least probability of every task; has no effect here.
    """

    name = "uniform"

    def __init__(self, tasks: Sequence[TaskInfo], *, floor: float = 0.0) -> None:
        super().__init__(tasks, np.ones(len(tasks)), floor=floor)
