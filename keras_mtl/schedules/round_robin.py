"""The round-robin schedule: one task after the other."""

import numpy as np

from keras_mtl.schedules.base import Schedule, State
from keras_mtl.schedules.registry import register


@register
class RoundRobin(Schedule):
    """Takes task t mod N at step t, in the order of the list of tasks.

    The turn is a function of the step, so a restart does not begin again with the first task.

    Args:
        tasks: the tasks.
        floor: least probability of every task, in [0, 1/N].

    Reference: Lingvo's RoundRobinScheduler (which counts calls).
    """

    name = "round_robin"

    def weights(self, step: int, state: State) -> np.ndarray:
        """Returns 1 for the task whose turn it is, 0 for the others."""
        del state
        result = np.zeros(self.num_tasks)
        result[step % self.num_tasks] = 1
        return result
