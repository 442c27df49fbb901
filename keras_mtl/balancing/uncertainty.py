"""Uncertainty weighting: each task's noise level is learned."""

import numpy as np
import tensorflow as tf

from keras_mtl.balancing import adam
from keras_mtl.balancing.base import Balancer, Seen, State
from keras_mtl.balancing.registry import choice, number, register

_FACTORS = {"regression": 0.5, "classification": 1.0}


@register
class Uncertainty(Balancer):
    """w_i = ½ e^(−u_i), where u_i = log σ_i² descends ½ e^(−u_i) L_i + ½ u_i.

    At rest u_i = log L_i: each loss counts by the inverse of its size. The u_i are learned by an
    Adam of their own, so the model's optimizer and its clipping do not see them.

    Args:
        num_tasks: N.
        seed: not used.
        form: `regression` (above) or `classification`: w_i = e^(−u_i), from
            e^(−u_i) L_i + ½ u_i.
        learning_rate: of the u_i, > 0.

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
        """Every u_i is 0, σ_i is 1."""
        return {"log_variance": np.zeros(self.num_tasks, np.float32), **adam.init(self.num_tasks)}

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """The formula above."""
        del seen
        return self.factor * tf.exp(-state["log_variance"])

    def update(self, state: State, seen: Seen) -> State:
        """One step of Adam down the objective above."""
        gradient = 0.5 - self.factor * tf.exp(-state["log_variance"]) * seen.known_losses
        change, new = adam.step(state, gradient, seen.present, self.learning_rate)
        return {"log_variance": state["log_variance"] + change, **new}
