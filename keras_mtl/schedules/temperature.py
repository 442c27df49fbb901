"""The temperature schedule: between proportional and uniform."""

from collections.abc import Sequence

import numpy as np

from keras_mtl.schedules.base import FixedSchedule
from keras_mtl.schedules.parameters import sizes_of
from keras_mtl.schedules.registry import number, register
from keras_mtl.schedules.tasks import TaskInfo


@register
class Temperature(FixedSchedule):
    """w_i = min(n_i, cap)^(1/T), with n_i the number of training examples of task i.

    Args:
        tasks: the tasks.
        temperature: T > 0; 1 is proportional, large is uniform.
        cap: larger sizes count as this size, > 0; None is no cap.
        floor: least probability of every task, in [0, 1/N].

    Reference: Arivazhagan et al. 2019, arXiv 1907.05019 (T = 5); the cap is T5's, arXiv 1910.10683.
    """

    name = "temperature"

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        temperature: float = 5.0,
        cap: float | None = None,
        floor: float = 0.0,
    ) -> None:
        hint = "1 is proportional, larger is more even"
        temperature = number(self.name, "temperature", temperature, above=0, hint=hint)
        if cap is not None:
            cap = number(self.name, "cap", cap, above=0, hint="a number of examples")
        sizes = sizes_of(self.name, tasks)
        super().__init__(tasks, size_weights(sizes, 1 / temperature, cap), floor=floor)


def size_weights(sizes: np.ndarray, exponent: float, cap: float | None = None) -> np.ndarray:
    """Returns weights min(n_i, cap)^exponent, up to a common factor.

    Args:
        sizes: numbers of examples, float64[N] >= 0, at least one above 0.
        exponent: >= 0; 1 is proportional, 0 uniform over the tasks that have examples.
        cap: larger sizes count as this size; None is no cap.

    Returns:
        float64[N] in [0, 1], with a largest weight of 1; a task without examples has weight 0.
    """
    if cap is not None:
        sizes = np.minimum(sizes, cap)
    # Relative to the largest size, so that a small temperature cannot overflow.
    return np.where(sizes > 0, (sizes / sizes.max()) ** exponent, 0.0)
