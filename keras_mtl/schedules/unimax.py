"""UniMax: uniform, but no task is repeated more than a given number of times."""

from collections.abc import Sequence

import numpy as np

from keras_mtl.schedules.base import FixedSchedule
from keras_mtl.schedules.parameters import sizes_of
from keras_mtl.schedules.registry import number, register
from keras_mtl.schedules.tasks import TaskInfo


@register
class UniMax(FixedSchedule):
    """From the smallest task up, w_i = min(remaining budget / remaining tasks, epochs * n_i).

    Args:
        tasks: the tasks.
        budget: number of examples of the whole training (steps * rows of a batch), > 0.
        epochs: largest number of passes over the examples of a task, > 0.
        floor: least probability of every task, in [0, 1/N].

    Reference: Chung et al. 2023, "UniMax", arXiv 2304.09151, algorithm 1.
    """

    name = "unimax"

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        budget: float,
        epochs: float = 1.0,
        floor: float = 0.0,
    ) -> None:
        hint = "the number of examples of the whole training, steps * rows of a batch"
        left = number(self.name, "budget", budget, above=0, hint=hint)
        epochs = number(self.name, "epochs", epochs, above=0, hint="the most passes over a task")
        sizes = sizes_of(self.name, tasks)
        weights = np.zeros(len(tasks))
        for position, task in enumerate(np.argsort(sizes, kind="stable")):
            weights[task] = min(left / (len(tasks) - position), epochs * sizes[task])
            left -= weights[task]
        super().__init__(tasks, weights, floor=floor)
