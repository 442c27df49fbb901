"""The sigmoid schedule: from one set of weights to another along a sigmoid."""

from keras_mtl.schedules.exponential import ShiftedExponential
from keras_mtl.schedules.registry import register


@register
class Sigmoid(ShiftedExponential):
    """w_i(t) = p1_i + (2 p0_i - p1_i) exp(-alpha t).

    The probabilities follow a sigmoid only if p0 and p1 each sum to 1: with p0 = (.5, .5) and
    p1 = (1, 0) the first probability is 1 / (1 + exp(-alpha t)).

    Args:
        tasks: the tasks.
        alpha: rate per step, >= 0.
        p0: weights at step 0, {task name: weight} or a list, each >= 0 and at least one above 0.
        p1: weights at the end, in the same form.
        floor: least probability of every task, in [0, 1/N].

    Reference: Kiperwasser & Ballesteros 2018, arXiv 1804.08915; Lingvo's SigmoidScheduler.
    """

    name = "sigmoid"
    start_factor = 2.0
