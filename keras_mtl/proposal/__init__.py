"""Proposes fixed weights of tasks from small runs with different weights (`keras-mtl propose`).

A law is fitted to the losses of each task as a function of the weights, and the weights with the
best predicted losses are proposed. The package uses only NumPy.
"""

from keras_mtl.proposal.double_power_law import DoublePowerLaw
from keras_mtl.proposal.fitting import Measurements, TaskFit
from keras_mtl.proposal.log_linear import LogLinearLaw
from keras_mtl.proposal.objective import Objective, importance_of
from keras_mtl.proposal.proposer import Proposal, Space, propose

__all__ = [
    "DoublePowerLaw",
    "LogLinearLaw",
    "Measurements",
    "Objective",
    "Proposal",
    "Space",
    "TaskFit",
    "importance_of",
    "propose",
]
