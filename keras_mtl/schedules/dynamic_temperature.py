"""The dynamic temperature schedule: the temperature rises linearly, epoch by epoch."""

from collections.abc import Sequence

import numpy as np

from keras_mtl.schedules.base import Schedule, State
from keras_mtl.schedules.parameters import sizes_of
from keras_mtl.schedules.registry import integer, number, register
from keras_mtl.schedules.tasks import TaskInfo
from keras_mtl.schedules.temperature import size_weights


@register
class DynamicTemperature(Schedule):
    """w_i = n_i^(1/T_k) with T_k = T_0 + (T_m - T_0) min(1, (k - 1) / E) in epoch k = 1, 2, ...

    With T_0 < T_m, large tasks are learned first, and the mixture becomes more even over E epochs.

    Args:
        tasks: the tasks.
        steps_per_epoch: steps that count as an epoch, >= 1.
        initial: T_0, the temperature of the first epoch, > 0.
        final: T_m, the temperature from epoch E + 1 on, > 0.
        epochs: E, >= 1.
        floor: least probability of every task, in [0, 1/N].

    Reference: Wang, Zhai, Hassan Awadalla 2020, arXiv 2010.02523.
    """

    name = "dynamic_temperature"

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        steps_per_epoch: int,
        initial: float = 1.0,
        final: float = 5.0,
        epochs: int = 5,
        floor: float = 0.0,
    ) -> None:
        super().__init__(tasks, floor=floor)
        sizes_of(self.name, tasks)  # Raises an error if all tasks are empty.
        hint = "the number of steps that count as an epoch"
        self.steps_per_epoch = integer(
            self.name, "steps_per_epoch", steps_per_epoch, least=1, hint=hint
        )
        hint = "a temperature: 1 is proportional, larger is more even"
        self.initial = number(self.name, "initial", initial, above=0, hint=hint)
        self.final = number(self.name, "final", final, above=0, hint=hint)
        hint = "the number of epochs over which the temperature changes"
        self.epochs = integer(self.name, "epochs", epochs, least=1, hint=hint)

    def temperature(self, step: int) -> float:
        """Returns the temperature at a step, between `initial` and `final`."""
        done = min(step // self.steps_per_epoch, self.epochs) / self.epochs  # (k - 1) / E
        return self.initial + (self.final - self.initial) * done

    def weights(self, step: int, state: State) -> np.ndarray:
        """Returns the weights by the formula of the class, up to a common factor."""
        del state
        return size_weights(self.sizes, 1 / self.temperature(step))
