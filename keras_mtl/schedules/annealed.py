"""The annealed schedule: from proportional towards uniform, epoch by epoch."""

from collections.abc import Sequence

import numpy as np

from keras_mtl.schedules.base import Schedule, State
from keras_mtl.schedules.parameters import sizes_of
from keras_mtl.schedules.registry import integer, register
from keras_mtl.schedules.tasks import TaskInfo
from keras_mtl.schedules.temperature import size_weights


@register
class Annealed(Schedule):
    """w_i = n_i^a, with a = 1 - 0.8 (e - 1) / (E - 1) in epoch e = 1 ... E.

    Epochs after the last one keep a = 0.2; with E = 1, a is 1.

    Args:
        tasks: the tasks.
        steps_per_epoch: steps that count as an epoch, >= 1.
        epochs: E, >= 1.
        floor: least probability of every task, in [0, 1/N].

    Reference: Stickland & Murray 2019, "BERT and PALs", arXiv 1902.02671. (Model Garden's
    annealing sampler counts e from 0, so its a begins above 1.)
    """

    name = "annealed"

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        steps_per_epoch: int,
        epochs: int,
        floor: float = 0.0,
    ) -> None:
        super().__init__(tasks, floor=floor)
        sizes_of(self.name, tasks)  # Raises an error if all tasks are empty.
        hint = "the number of steps that count as an epoch"
        self.steps_per_epoch = integer(
            self.name, "steps_per_epoch", steps_per_epoch, least=1, hint=hint
        )
        self.epochs = integer(self.name, "epochs", epochs, least=1, hint="the number of epochs")

    def exponent(self, step: int) -> float:
        """Returns the exponent a at a step, in [0.2, 1]."""
        epoch = min(step // self.steps_per_epoch, self.epochs - 1)  # e - 1
        return 1 - 0.8 * epoch / max(1, self.epochs - 1)

    def weights(self, step: int, state: State) -> np.ndarray:
        """Returns the weights by the formula of the class, up to a common factor."""
        del state
        return size_weights(self.sizes, self.exponent(step))
