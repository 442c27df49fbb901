"""GradNorm: gradients of like size, larger where training is slow."""

import numpy as np
import tensorflow as tf

from keras_mtl.balancing import adam
from keras_mtl.balancing.base import GRADIENTS, Balancer, Seen, State, mean_over
from keras_mtl.balancing.registry import number, register

_LEAST_WEIGHT = 1e-4


@register
class GradNorm(Balancer):
    """The w_i descend Σ |G_i − Ḡ r_i^a|, G_i = ‖w_i g_i‖, with Ḡ r_i^a held constant.

    r_i = (L_i / L_i(0)) / mean of those is the inverse rate of training, Ḡ the mean of the G_i.
    After each step the weights are divided by their mean. The g_i are the gradients by all shared
    variables, where the paper takes those by the last shared layer to save time.

    Args:
        num_tasks: N.
        seed: not used.
        a: strength of the pull towards tasks that train slowly, >= 0; 0 makes all norms equal.
        learning_rate: of the weights' own Adam, > 0.

    Reference: Chen, Badrinarayanan, Lee, Rabinovich 2018, arXiv 1711.02257, equations 1 and 2.
    """

    name = "gradnorm"
    uses = GRADIENTS

    def __init__(
        self, num_tasks: int, seed: int = 0, *, a: float = 1.5, learning_rate: float = 0.025
    ) -> None:
        super().__init__(num_tasks, seed)
        self.a = number(self.name, "a", a, least=0)
        self.learning_rate = number(self.name, "learning_rate", learning_rate, above=0)

    def init(self) -> dict[str, np.ndarray]:
        """Weights of 1; initial losses of 0, which means not known."""
        return {
            "weights": np.ones(self.num_tasks, np.float32),
            "initial": np.zeros(self.num_tasks, np.float32),
            **adam.init(self.num_tasks),
        }

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """The weights as learned so far."""
        del seen
        # Tasks may have joined since the mean was 1.
        return state["weights"] / tf.reduce_mean(state["weights"])

    def update(self, state: State, seen: Seen) -> State:
        """One step of Adam down the objective above."""
        present, losses = seen.present, seen.known_losses
        weights = self.weights(state, seen)
        initial = tf.where(present & (state["initial"] <= 0), losses, state["initial"])
        progress = tf.math.divide_no_nan(losses, initial)
        rate = tf.math.divide_no_nan(progress, mean_over(progress, present))
        norms = tf.sqrt(tf.linalg.diag_part(seen.gramian))
        target = mean_over(weights * norms, present) * tf.pow(tf.maximum(rate, 0.0), self.a)
        gradient = norms * tf.sign(weights * norms - target)
        change, new = adam.step(state, gradient, present, self.learning_rate)
        moved = tf.maximum(weights + change, _LEAST_WEIGHT)
        return {"weights": moved / tf.reduce_mean(moved), "initial": initial, **new}
