"""Creates schedules by name."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_mtl.schedules.base import Schedule
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
    return SCHEDULES.create(name, parameters, tasks)


def create_unsized(
    name: str, baselines: Mapping[str, float | None], /, **parameters: Any
) -> Schedule:
    """Creates a schedule before the sizes of its tasks are known.

    The schedule checks its parameters and says what it needs, such as scores. Its probabilities
    are meaningless.

    Args:
        name: a registered name.
        baselines: {task name: baseline, or None}, in the order of the tasks.
        **parameters: as for `create`.

    Raises:
        ConfigError: as for `create`.
    """
    # No schedule checks a parameter against a size.
    tasks = [TaskInfo(task, 1, baseline) for task, baseline in baselines.items()]
    return create(name, tasks, **parameters)
