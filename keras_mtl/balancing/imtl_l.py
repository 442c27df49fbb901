"""IMTL-L: learned scales that make the losses of all tasks equal."""

import numpy as np
import tensorflow as tf

from keras_mtl.balancing import adam
from keras_mtl.balancing.base import Balancer, Seen, State
from keras_mtl.balancing.registry import number, register


@register
class ImtlL(Balancer):
    """w_i = e^(s_i), where s_i minimizes e^(s_i) L_i − s_i.

    At the minimum w_i = 1 / L_i, so every weighted loss is 1. A separate Adam learns the s_i, so
    they are not part of the model's optimizer and its clipping.

    Args:
        num_tasks: number of tasks N, >= 1.
        seed: has no effect.
        learning_rate: learning rate of the s_i, > 0.

    Reference: Liu et al. 2021, "Towards Impartial Multi-task Learning", ICLR,
    openreview.net/forum?id=IMPnRXEWpvr. The objective is also that of IMTL in LibMTL
    (github.com/median-research-group/LibMTL). The learning rate is that of
    `uncertainty` (arXiv 1705.07115), whose regression form has half these weights.
    """

    name = "imtl_l"

    def __init__(self, num_tasks: int, seed: int = 0, *, learning_rate: float = 1e-3) -> None:
        super().__init__(num_tasks, seed)
        self.learning_rate = number(self.name, "learning_rate", learning_rate, above=0)

    def init(self) -> dict[str, np.ndarray]:
        """Returns s_i = 0, and thus a weight of 1, for every task."""
        return {"log_scale": np.zeros(self.num_tasks, np.float32), **adam.init(self.num_tasks)}

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Returns the weights by the formula of the class, float32 [N]."""
        del seen
        return tf.exp(state["log_scale"])

    def update(self, state: State, seen: Seen) -> State:
        """Takes one step of Adam on the objective of the class."""
        gradient = tf.exp(state["log_scale"]) * seen.known_losses - 1.0
        change, new = adam.step(state, gradient, seen.present, self.learning_rate)
        return {"log_scale": state["log_scale"] + change, **new}
