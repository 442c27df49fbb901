"""The sequential schedule: one task after the other, each for a number of steps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl.errors import ConfigError, nearest, nearest_task
from keras_mtl.schedules.base import Schedule, State
from keras_mtl.schedules.registry import integer, register
from keras_mtl.schedules.tasks import TaskInfo


@register
class Sequential(Schedule):
    """Takes the task of the stage that contains the step; the last stage does not end.

    Args:
        tasks: the tasks.
        stages: list of {task: NAME, steps: NUMBER}; a task may appear again. The last stage may
            omit its steps.
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
        self.ends = stage_ends(self.name, stages, ("task", "steps"))
        for number, stage in enumerate(stages):
            if stage.get("task") not in names:
                raise ConfigError(
                    f"schedule {self.name!r}: stages[{number}].task = {stage.get('task')!r} is not "
                    f"a task{nearest_task(str(stage.get('task')), names)}"
                )
        self.order = [names.index(stage["task"]) for stage in stages]

    def weights(self, step: int, state: State) -> np.ndarray:
        """Returns 1 for the task of the stage, 0 for the others."""
        del state
        result = np.zeros(self.num_tasks)
        result[self.order[stage_of(self.ends, step)]] = 1
        return result


def stage_ends(schedule: str, stages: Any, keys: Sequence[str]) -> np.ndarray:
    """Checks a list of stages.

    Args:
        schedule: name of the schedule, for messages.
        stages: list of mappings with `steps`; the last one may omit it.
        keys: the keys that a stage may have.

    Returns:
        int64[stages - 1], the first step after each stage except the last.

    Raises:
        ConfigError: if the list is empty, a key is unknown, or `steps` is not a whole number >= 1.
    """
    if not isinstance(stages, Sequence) or isinstance(stages, str) or not stages:
        raise ConfigError(
            f"schedule {schedule!r}: stages = {stages!r} must be a list with at least one stage of "
            f"the form {{{', '.join(keys)}}}"
        )
    lengths = []
    for number, stage in enumerate(stages):
        field = f"stages[{number}]"
        if not isinstance(stage, Mapping):
            raise ConfigError(
                f"schedule {schedule!r}: {field} = {stage!r} must have the form "
                f"{{{', '.join(keys)}}}"
            )
        for key in stage:
            if key not in keys:
                raise ConfigError(
                    f"schedule {schedule!r}: {field} has the unknown field {key!r}"
                    f"{nearest(str(key), keys)}"
                )
        steps = stage.get("steps")
        if number == len(stages) - 1 and steps is None:
            continue
        if steps is None:
            raise ConfigError(
                f"schedule {schedule!r}: {field} has no steps; only the last stage may omit them"
            )
        hint = "the number of steps of the stage"
        lengths.append(integer(schedule, f"{field}.steps", steps, least=1, hint=hint))
    return np.cumsum(lengths, dtype=np.int64)[: len(stages) - 1]


def stage_of(ends: np.ndarray, step: int) -> int:
    """Returns the index of the stage that contains a step."""
    return int(np.searchsorted(ends, step, side="right"))
