"""The registry of schedules, and checks of their parameters."""

from typing import Any

from keras_mtl.configuration.components import Family

# Of `keras_mtl.schedules.base.Schedule`, whose module imports this one.
SCHEDULES: Family[Any] = Family("schedule")

register = SCHEDULES.register
available = SCHEDULES.available
parameters_of = SCHEDULES.parameters_of
number = SCHEDULES.number
integer = SCHEDULES.integer
choice = SCHEDULES.choice
