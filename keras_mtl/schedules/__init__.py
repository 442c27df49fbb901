"""Schedules: which task gets the next batch, and how strongly its update acts.

Schedules use only NumPy. `create` makes a schedule by name; `sample` draws from its probabilities.
A new schedule is one file and one import in this module (see docs/how-to/extending.md).
"""

from keras_mtl.schedules.adaptive_state import AdaptiveState
from keras_mtl.schedules.ado import Ado
from keras_mtl.schedules.aioli import Aioli
from keras_mtl.schedules.annealed import Annealed
from keras_mtl.schedules.bandit import Bandit
from keras_mtl.schedules.base import FixedSchedule, Schedule, State
from keras_mtl.schedules.constant import Constant
from keras_mtl.schedules.cooldown import Cooldown
from keras_mtl.schedules.creation import PlannedSchedule, create, plan
from keras_mtl.schedules.dro_mt import DroMt
from keras_mtl.schedules.dynamic_temperature import DynamicTemperature
from keras_mtl.schedules.excess_loss import ExcessLoss
from keras_mtl.schedules.exponential import Exponential
from keras_mtl.schedules.implicit import Implicit
from keras_mtl.schedules.inverse_ratio import InverseRatio
from keras_mtl.schedules.limits import LimitedSchedule, Limits
from keras_mtl.schedules.measure import Measure
from keras_mtl.schedules.multi_dds_s import MultiDdsS
from keras_mtl.schedules.multi_uat import MultiUat
from keras_mtl.schedules.piecewise import Piecewise
from keras_mtl.schedules.pike import Pike
from keras_mtl.schedules.proportional import Proportional
from keras_mtl.schedules.registry import available, parameters_of, register
from keras_mtl.schedules.round_robin import RoundRobin
from keras_mtl.schedules.sampling import blend, pick, sample, systematic, uniforms
from keras_mtl.schedules.score_book import ScoreBook
from keras_mtl.schedules.sequential import Sequential
from keras_mtl.schedules.sigmoid import Sigmoid
from keras_mtl.schedules.simple_adaptive import SimpleAdaptive
from keras_mtl.schedules.tasks import TaskInfo, task_index_map
from keras_mtl.schedules.temperature import Temperature
from keras_mtl.schedules.uniform import Uniform
from keras_mtl.schedules.unimax import UniMax

__all__ = [
    "AdaptiveState",
    "Ado",
    "Aioli",
    "Annealed",
    "Bandit",
    "Constant",
    "Cooldown",
    "DroMt",
    "DynamicTemperature",
    "ExcessLoss",
    "Exponential",
    "FixedSchedule",
    "Implicit",
    "InverseRatio",
    "LimitedSchedule",
    "Limits",
    "Measure",
    "MultiDdsS",
    "MultiUat",
    "Piecewise",
    "Pike",
    "PlannedSchedule",
    "Proportional",
    "RoundRobin",
    "Schedule",
    "ScoreBook",
    "Sequential",
    "Sigmoid",
    "SimpleAdaptive",
    "State",
    "TaskInfo",
    "Temperature",
    "UniMax",
    "Uniform",
    "available",
    "blend",
    "create",
    "parameters_of",
    "pick",
    "plan",
    "register",
    "sample",
    "systematic",
    "task_index_map",
    "uniforms",
]
