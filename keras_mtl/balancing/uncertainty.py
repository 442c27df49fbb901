"""Uncertainty weighting: learns the noise level of each task."""

import numpy as np
import tensorflow as tf

from keras_mtl.balancing import adam
from keras_mtl.balancing.base import Balancer, Seen, State
from keras_mtl.balancing.registry import choice, number, register

_FACTORS = {"regression": 0.5, "classification": 1.0}


@register
class Uncertainty(Balancer):
    """w_i = ½ e^(−u_i), where u_i = log σ_i² minimizes ½ e^(−u_i) L_i + ½ u_i.

    At the minimum u_i = log L_i, so each loss has the inverse of its size as weight. A separate
    Adam learns the u_i, so they are not part of the model's optimizer and its clipping.

    Args:
        num_tasks: number of tasks N, >= 1.
        seed: has no effect.
        form: `regression` (above), or `classification`, which has w_i = e^(−u_i) and minimizes
            e^(−u_i) L_i + ½ u_i.
        learning_rate: learning rate of the u_i, > 0.

    Reference: Kendall, Gal, Cipolla 2018, arXiv 1705.07115, equations 7 (regression) and 10
    (classification).
    """

    name = "uncertainty"

    def __init__(
        self,
        num_tasks: int,
        seed: int = 0,
        *,
        form: str = "regression",
        learning_rate: float = 1e-3,
    ) -> None:
        super().__init__(num_tasks, seed)
        self.factor = _FACTORS[choice(self.name, "form", form, tuple(_FACTORS))]
        self.learning_rate = number(self.name, "learning_rate", learning_rate, above=0)

    def init(self) -> dict[str, np.ndarray]:
        """Returns u_i = 0, and thus σ_i = 1, for every task."""
        return {"log_variance": np.zeros(self.num_tasks, np.float32), **adam.init(self.num_tasks)}

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Returns the weights by the formula of the class, float32 [N]."""
        del seen
        return self.factor * tf.exp(-state["log_variance"])

    def update(self, state: State, seen: Seen) -> State:
        """Takes one step of Adam on the objective of the class."""
        gradient = 0.5 - self.factor * tf.exp(-state["log_variance"]) * seen.known_losses
        change, new = adam.step(state, gradient, seen.present, self.learning_rate)
        return {"log_variance": state["log_variance"] + change, **new}
