"""One task after the other."""

import numpy as np

from keras_mtl.schedules.base import Schedule, State
from keras_mtl.schedules.registry import register


@register
class RoundRobin(Schedule):
    """Task t mod N at step t, in the order of the list of tasks.

    A function of the step, so that a restart does not begin again with the first task.

    Args:
        tasks: the tasks.
        floor: least probability of every task, in [0, 1/N].

    Reference: Lingvo's RoundRobinScheduler (which counts calls).
    """

    name = "round_robin"

    def weights(self, step: int, state: State) -> np.ndarray:
        """1 for the task whose turn it is."""
        del state
        result = np.zeros(self.num_tasks)
        result[step % self.num_tasks] = 1
        return result
