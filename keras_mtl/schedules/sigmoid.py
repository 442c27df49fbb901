"""The sigmoid schedule: from one set of weights to another along a sigmoid."""

from keras_mtl.schedules.exponential import ShiftedExponential
from keras_mtl.schedules.registry import register


@register
class Sigmoid(ShiftedExponential):
    """w_i(t) = p1_i + (2 p0_i - p1_i) exp(-alpha t); parameters as in `ShiftedExponential`.

    The probabilities follow a sigmoid only if p0 and p1 each sum to 1: with p0 = (.5, .5) and
    p1 = (1, 0) the first probability is 1 / (1 + exp(-alpha t)).

    Reference: Kiperwasser & Ballesteros 2018, arXiv 1804.08915; Lingvo's SigmoidScheduler.
    """

    name = "sigmoid"
    start_factor = 2.0
