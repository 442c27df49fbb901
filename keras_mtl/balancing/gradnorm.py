"""GradNorm: gradients of similar norm, larger for tasks that train slowly."""

import numpy as np
import tensorflow as tf

from keras_mtl.balancing import adam
from keras_mtl.balancing.base import GRADIENTS, Balancer, Seen, State, mean_over
from keras_mtl.balancing.registry import number, register

_LEAST_WEIGHT = 1e-4


@register
class GradNorm(Balancer):
    """Learns weights w_i that minimize Σ |G_i − Ḡ r_i^a|, where G_i = ‖w_i g_i‖.

    Ḡ is the mean of the G_i. r_i is the relative inverse training rate: L_i / L_i(0), divided by
    its mean over the tasks. Ḡ r_i^a is treated as constant. After each step the weights are divided
    by their mean. The g_i are gradients with respect to all shared variables; to save time, the
    paper uses only those of the last shared layer.

    Args:
        num_tasks: number of tasks N, >= 1.
        seed: has no effect.
        a: how strongly tasks that train slowly are favored, >= 0; 0 makes all norms equal.
        learning_rate: learning rate of the Adam that learns the weights, > 0.

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
        """Returns weights of 1 and initial losses of 0, which means that they are not known."""
        return {
            "weights": np.ones(self.num_tasks, np.float32),
            "initial": np.zeros(self.num_tasks, np.float32),
            **adam.init(self.num_tasks),
        }

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Returns the learned weights, float32 [N], mean 1."""
        del seen
        # The mean is not 1 if tasks were added.
        return state["weights"] / tf.reduce_mean(state["weights"])

    def update(self, state: State, seen: Seen) -> State:
        """Takes one step of Adam on the objective of the class."""
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
