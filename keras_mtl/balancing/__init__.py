"""Loss and gradient balancing: how the tasks of one step together update shared weights.

`Balancing` is a Keras layer that holds a method and its state; `create` returns only the method.
Importing this package registers all methods.
"""

from keras_mtl.balancing.aligned_mtl import AlignedMTL
from keras_mtl.balancing.base import Balancer, Combiner, Seen
from keras_mtl.balancing.cagrad import CAGrad
from keras_mtl.balancing.config import ConFIG
from keras_mtl.balancing.dwa import DynamicWeightAverage
from keras_mtl.balancing.fairgrad import FairGrad
from keras_mtl.balancing.famo import Famo
from keras_mtl.balancing.gls import GeometricLoss
from keras_mtl.balancing.graddrop import GradDrop
from keras_mtl.balancing.gradnorm import GradNorm
from keras_mtl.balancing.gradvac import GradVaccine
from keras_mtl.balancing.imtl_g import ImtlG
from keras_mtl.balancing.imtl_l import ImtlL
from keras_mtl.balancing.layer import Balancing, gram_matrix, sum_over_replicas
from keras_mtl.balancing.mgda import Mgda
from keras_mtl.balancing.nash_mtl import NashMTL
from keras_mtl.balancing.pcgrad import PCGrad
from keras_mtl.balancing.random_weights import RandomWeights
from keras_mtl.balancing.registry import available, create, parameters_of, register
from keras_mtl.balancing.stch import SmoothTchebycheff
from keras_mtl.balancing.uncertainty import Uncertainty
from keras_mtl.balancing.upgrad import UPGrad

__all__ = [
    "AlignedMTL",
    "Balancer",
    "Balancing",
    "CAGrad",
    "Combiner",
    "ConFIG",
    "DynamicWeightAverage",
    "FairGrad",
    "Famo",
    "GeometricLoss",
    "GradDrop",
    "GradNorm",
    "GradVaccine",
    "ImtlG",
    "ImtlL",
    "Mgda",
    "NashMTL",
    "PCGrad",
    "RandomWeights",
    "Seen",
    "SmoothTchebycheff",
    "UPGrad",
    "Uncertainty",
    "available",
    "create",
    "gram_matrix",
    "parameters_of",
    "register",
    "sum_over_replicas",
]
