"""FAMO: makes all losses fall at the same rate, without a gradient for each task."""

import numpy as np
import tensorflow as tf

from keras_mtl.balancing import adam
from keras_mtl.balancing.base import LOSSES, Balancer, Seen, State
from keras_mtl.balancing.registry import number, register

_LEAST_LOSS = 1e-8


@register
class Famo(Balancer):
    """w_i = c z_i / (L_i − b), z = softmax(ξ), with c such that Σ q_i w_i = Σ q_i.

    After the update of the model, the losses of the same batch are computed again. With
    δ_i = log(L_i before − b) − log(L_i after − b), the logits take a step of Adam along
    −(Jᵀδ + decay ξ), where J is the Jacobian of the softmax. Tasks whose loss fell faster than that
    of other tasks lose weight. Absent tasks are ignored.

    Args:
        num_tasks: number of tasks N, >= 1.
        seed: has no effect.
        learning_rate: learning rate of ξ, > 0.
        decay: weight decay of ξ, >= 0.
        min_loss: b, a lower bound of every loss; 0 for losses that can fall to 0.

    Reference: Liu, Feng, Stone, Liu 2023, arXiv 2306.03792, equations 10 to 12; Adam and b are
    from the authors' code.
    """

    name = "famo"
    uses = LOSSES
    looks_back = True

    def __init__(
        self,
        num_tasks: int,
        seed: int = 0,
        *,
        learning_rate: float = 0.025,
        decay: float = 1e-3,
        min_loss: float = 0.0,
    ) -> None:
        super().__init__(num_tasks, seed)
        self.learning_rate = number(self.name, "learning_rate", learning_rate, above=0)
        self.decay = number(self.name, "decay", decay, least=0)
        self.min_loss = number(self.name, "min_loss", min_loss)

    def init(self) -> dict[str, np.ndarray]:
        """Returns logits of 0, which give all tasks the same weight."""
        return {"logits": np.zeros(self.num_tasks, np.float32), **adam.init(self.num_tasks)}

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Returns the weights by the formula of the class, float32 [N]."""
        present = seen.present
        shifted = tf.where(present, self._above(seen.known_losses), 1.0)
        raw = tf.where(present, self._softmax(state, present) / shifted, 0.0)
        total = tf.reduce_sum(seen.shares * raw)
        return raw * tf.math.divide_no_nan(tf.reduce_sum(seen.shares), total)

    def update_after(self, state: State, seen: Seen, losses_after: tf.Tensor) -> State:
        """Takes one step of Adam on the logits."""
        present = seen.present
        fall = tf.math.log(self._above(seen.known_losses)) - tf.math.log(self._above(losses_after))
        fall = tf.where(present, fall, 0.0)
        z = self._softmax(state, present)
        gradient = z * (fall - tf.reduce_sum(z * fall)) + self.decay * state["logits"]
        change, new = adam.step(state, gradient, present, self.learning_rate)
        return {"logits": state["logits"] + change, **new}

    def _above(self, losses: tf.Tensor) -> tf.Tensor:
        return tf.maximum(losses - self.min_loss, _LEAST_LOSS)

    def _softmax(self, state: State, present: tf.Tensor) -> tf.Tensor:
        logits = tf.where(present, state["logits"], state["logits"].dtype.min)
        return tf.where(present, tf.nn.softmax(logits), 0.0)
