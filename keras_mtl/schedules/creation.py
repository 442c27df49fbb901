"""Schedules made by name: checked before the sizes of the tasks are known, made when they are."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from keras_mtl.schedules.base import Schedule
from keras_mtl.schedules.limits import LimitedSchedule, Limits
from keras_mtl.schedules.measure import Measure
from keras_mtl.schedules.registry import SCHEDULES
from keras_mtl.schedules.tasks import TaskInfo, check_tasks


def create(name: str, tasks: Sequence[TaskInfo], /, **parameters: Any) -> Schedule:
    """Creates a schedule by name.

    Args:
        name: a registered name; `available` lists them.
        tasks: the tasks, N >= 1. All arrays of the schedule have their order.
        **parameters: the parameters of the schedule, and `floor`.

    Returns:
        The schedule.

    Raises:
        ConfigError: the name is unknown, or a parameter is unknown, missing or out of range.

    Example:
        ```python
        from keras_mtl import TaskInfo, schedules

        tasks = [TaskInfo("en-fr", size=200_000), TaskInfo("en-oc", size=400)]
        schedule = schedules.create("temperature", tasks, temperature=5.0)
        schedule.probabilities(0, schedule.init())  # array([0.776, 0.224])
        ```
    """
    check_tasks(tasks)
    return SCHEDULES.find(name, parameters)(tasks, **parameters)


@dataclasses.dataclass(frozen=True)
class PlannedSchedule:
    """A schedule that was checked and is made once the sizes of its tasks are known.

    Attributes:
        name: its registered name.
        baselines: the tasks in their order, each with its baseline, or None.
        parameters: its parameters by name; they fit the tasks.
        adaptive: whether it learns while training.
        scaling: whether it scales updates.
        uses_scores: whether it learns from validation scores.
        interval: training steps between its updates in addition to validations; 0: none.
        measures: what training measures of the model for it; None: nothing.
        limits: the limits of its tasks; None without any.
        never_drawn: names of the tasks that it never draws, such as those with the weight 0.
    """

    name: str
    baselines: Mapping[str, float | None]
    parameters: Mapping[str, Any]
    adaptive: bool
    scaling: bool
    uses_scores: bool
    interval: int = 0
    measures: Measure | None = None
    limits: Limits | None = None
    never_drawn: tuple[str, ...] = ()

    def make(self, sizes: Mapping[str, float]) -> Schedule:
        """Makes the schedule.

        Args:
            sizes: number of training examples of each task, finite and >= 0, in the order of every
                array.
        """
        tasks = [TaskInfo(task, size, self.baselines[task]) for task, size in sizes.items()]
        schedule = create(self.name, tasks, **self.parameters)
        return schedule if self.limits is None else LimitedSchedule(schedule, self.limits)


def plan(
    name: str,
    baselines: Mapping[str, float | None],
    parameters: Mapping[str, Any],
    limits: Limits | None = None,
) -> PlannedSchedule:
    """Checks a schedule before the sizes of its tasks are known.

    Args:
        name: a registered name.
        baselines: the tasks in their order, each with its baseline, or None.
        parameters: its parameters by name.
        limits: the limits of its tasks; None without any.

    Raises:
        ConfigError: as for `create`.
    """
    # A constructor checks the parameters. None of them is checked against a size.
    tasks = [TaskInfo(task, 1, baseline) for task, baseline in baselines.items()]
    trial = create(name, tasks, **parameters)
    if limits is not None:
        trial = LimitedSchedule(trial, limits)
    return PlannedSchedule(
        name,
        dict(baselines),
        dict(parameters),
        trial.adaptive,
        trial.scaling,
        trial.uses_scores,
        trial.interval,
        trial.measures,
        limits,
        tuple(task.name for task, never in zip(tasks, trial.never_drawn(), strict=True) if never),
    )
