"""Schedules: which task gets the next batch, and how strongly its update acts.

Plain NumPy. `create` makes a schedule by name; `sample` draws from its probabilities. A new
schedule is a file and one import below (see docs/extending.md).
"""

from keras_mtl.schedules.base import Schedule, State, TaskInfo, task_index_map
from keras_mtl.schedules.constant import Constant
from keras_mtl.schedules.inverse_ratio import InverseRatio
from keras_mtl.schedules.proportional import Proportional
from keras_mtl.schedules.registry import available, create, parameters_of, register
from keras_mtl.schedules.sampling import blend, pick, sample, uniforms
from keras_mtl.schedules.score_book import ScoreBook
from keras_mtl.schedules.temperature import Temperature
from keras_mtl.schedules.uniform import Uniform

__all__ = [
    "Constant",
    "InverseRatio",
    "Proportional",
    "Schedule",
    "ScoreBook",
    "State",
    "TaskInfo",
    "Temperature",
    "Uniform",
    "available",
    "blend",
    "create",
    "parameters_of",
    "pick",
    "register",
    "sample",
    "task_index_map",
    "uniforms",
]
