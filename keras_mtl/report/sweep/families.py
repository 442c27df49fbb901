"""The kind of a setting: a temperature, another fixed schedule, an adaptive one, or balancing."""

import math
from typing import Any

from keras_mtl.errors import ConfigError
from keras_mtl.report.runs import Run
from keras_mtl.schedules import PlannedSchedule, parameters_of
from keras_mtl.schedules import plan as plan_schedule

FAMILIES = ("temperatures", "fixed in advance", "adaptive", "scaled updates", "balanced gradients")
"""Families of settings, in the order of their charts."""

# Fields that keep a setting off the temperature curve if they are set: of the schedule, and of a
# task.
_LIMITS = ("max_epochs", "overfit_patience")
_TASK_LIMITS = ("introduce_at", "stop_at", "max_epochs")


def temperature_of(run: Run) -> float | None:
    """Returns the temperature of a run's schedule: 1 for proportional and infinity for uniform.

    Returns:
        The temperature; None for another schedule, and for one with a cap, a floor, a limit (also
        one of a single task) or a balancing method.
    """
    limited = any(run.param(f"trainer.schedule.{field}") for field in _LIMITS)
    for pair in run.pairs:
        limited = limited or any(pair.get(field) for field in _TASK_LIMITS)
    if limited or run.param("trainer.balancing.name"):
        return None
    parameters = dict(run.param("trainer.schedule.parameters", {}))
    temperature = parameters.pop("temperature", None)
    if any(parameters.values()):
        return None
    if run.schedule == "temperature":
        default: Any = parameters_of("temperature")["temperature"].default
        return float(default if temperature is None else temperature)
    return {"proportional": 1.0, "uniform": math.inf}.get(run.schedule)


def family_of(run: Run) -> str:
    """Returns the family of a run's setting, one of `FAMILIES`."""
    if temperature_of(run) is not None:
        return "temperatures"
    if run.param("trainer.balancing.name"):
        return "balanced gradients"
    planned = planned_schedule(run)
    if planned is None or (planned.adaptive and not planned.scaling):
        return "adaptive"
    return "scaled updates" if planned.scaling else "fixed in advance"


def uses_scores(run: Run) -> bool:
    """Returns whether the schedule of a run learns from validation scores."""
    planned = planned_schedule(run)
    return planned is None or planned.uses_scores


def planned_schedule(run: Run) -> PlannedSchedule | None:
    """Returns the schedule of a run; None if it is not known, as one of a missing plug-in."""
    # Whether a schedule is adaptive does not depend on the baselines.
    baselines = dict.fromkeys(run.tasks, 1.0)
    try:
        return plan_schedule(run.schedule, baselines, run.param("trainer.schedule.parameters", {}))
    except ConfigError:
        return None
