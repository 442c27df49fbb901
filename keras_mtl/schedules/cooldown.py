"""The cooldown schedule: even first, proportional later, by one change of temperature."""

from collections.abc import Sequence

import numpy as np

from keras_mtl.schedules.base import Schedule, State
from keras_mtl.schedules.parameters import sizes_of
from keras_mtl.schedules.registry import integer, number, register
from keras_mtl.schedules.tasks import TaskInfo
from keras_mtl.schedules.temperature import size_weights


@register
class Cooldown(Schedule):
    """Uses temperature `initial` before `switch_step`, and temperature `final` from then on.

    Small tasks are learned early, and are not repeated so often that they are memorized.

    Args:
        tasks: the tasks.
        switch_step: first step of the final temperature, >= 0 (half of the training in the paper).
        initial: temperature before `switch_step`, > 0.
        final: temperature from `switch_step` on, > 0.
        cap: larger sizes count as this size, > 0; None is no cap.
        floor: least probability of every task, in [0, 1/N].

    Reference: Li et al. 2025, "Upsample or upweight?", arXiv 2410.04579.
    """

    name = "cooldown"

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        switch_step: int,
        initial: float = 5.0,
        final: float = 1.0,
        cap: float | None = None,
        floor: float = 0.0,
    ) -> None:
        super().__init__(tasks, floor=floor)
        sizes_of(self.name, tasks)  # Raises an error if all tasks are empty.
        hint = "the first step of the final temperature"
        self.switch_step = integer(self.name, "switch_step", switch_step, least=0, hint=hint)
        hint = "a temperature: 1 is proportional, larger is more even"
        initial = number(self.name, "initial", initial, above=0, hint=hint)
        final = number(self.name, "final", final, above=0, hint=hint)
        if cap is not None:
            cap = number(self.name, "cap", cap, above=0, hint="a number of examples")
        self._initial = size_weights(self.sizes, 1 / initial, cap)
        self._final = size_weights(self.sizes, 1 / final, cap)

    def weights(self, step: int, state: State) -> np.ndarray:
        """Returns the weights for the temperature at the step."""
        del state
        return self._initial if step < self.switch_step else self._final
