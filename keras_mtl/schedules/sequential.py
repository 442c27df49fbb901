"""The sequential schedule: one task after the other, each for a number of steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl.errors import ConfigError, nearest_task
from keras_mtl.schedules.base import Schedule, State
from keras_mtl.schedules.registry import register
from keras_mtl.schedules.stages import Stages
from keras_mtl.schedules.tasks import TaskInfo


@register
class Sequential(Schedule):
    """Takes the task of the stage that contains the step; the last stage does not end.

    Args:
        tasks: the tasks.
        stages: list of {task: NAME, steps: NUMBER} or {task: NAME, until: {task: NAME, epochs:
            NUMBER}}: the stage ends after a number of batches, or when a task's data has been
            passed over. A task may appear again. The last stage does not end.
        floor: least probability of every task, in [0, 1/N].

    Reference: Lingvo's SequentialScheduler (which advances by at most one stage per call; here the
    stage is a function of the step).
    """

    name = "sequential"

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        stages: Sequence[Mapping[str, Any]],
        floor: float = 0.0,
    ) -> None:
        super().__init__(tasks, floor=floor)
        names = [task.name for task in self.tasks]
        self.stages = Stages(self.name, stages, ("task",), names)
        self.uses_progress = self.stages.by_data
        for number, stage in enumerate(stages):
            if stage.get("task") not in names:
                raise ConfigError(
                    f"schedule {self.name!r}: stages[{number}].task = {stage.get('task')!r} is not "
                    f"a task{nearest_task(str(stage.get('task')), names)}"
                )
        self.order = [names.index(stage["task"]) for stage in stages]

    def weights(self, step: int, state: State) -> np.ndarray:
        """Returns 1 for the task of the stage, 0 for the others."""
        result = np.zeros(self.num_tasks)
        result[self.order[self.stages.at(step, state)[0]]] = 1
        return result

    def init(self) -> State:
        """Returns the current stage, if stages end with data."""
        return self.stages.init()

    def advance(self, state: State, step: int, consumed: np.ndarray, upcoming: np.ndarray) -> State:
        """Goes to the next stage if the data of the current one has been passed over."""
        return self.stages.advance(state, step, consumed, upcoming)

    def never_drawn(self) -> np.ndarray:
        """Returns which tasks have no stage, bool[N]."""
        if self.floor > 0:
            return super().never_drawn()
        return ~np.isin(np.arange(self.num_tasks), self.order)

    def check_limits(self, stop_at: np.ndarray, max_epochs: np.ndarray, first: int = 0) -> None:
        """Checks that the limits let the stages that end with data end."""
        self.stages.check_limits(stop_at, max_epochs, first)
