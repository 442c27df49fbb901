"""Smooth Tchebycheff: descends a smooth maximum of the losses."""

import numpy as np
import tensorflow as tf

from keras_mtl.balancing.base import LOSSES, Balancer, Seen, State
from keras_mtl.balancing.registry import choice, integer, number, register

_FORMS = ("loss", "log")
_LEAST_LOSS = 1e-8


@register
class SmoothTchebycheff(Balancer):
    """Descends μ log Σ (q_i / Q) exp(x_i / μ) times Q, with Q = Σ q_i.

    For the form `loss`, x_i = L_i, and w_i = Q exp(x_i / μ) / Σ q_j exp(x_j / μ). For the form
    `log`, x_i = log(L_i / R_i), where R_i is the mean loss of the task over its first steps, and
    w_i has the additional factor 1 / L_i; during these steps x_i = 0. A small μ descends only the
    largest x_i; a large μ gives the plain step, or the sum of the logarithms.

    Args:
        num_tasks: number of tasks N, >= 1.
        seed: has no effect.
        form: `loss`, or `log` for losses of different units.
        mu: μ > 0, in the unit of x.
        warmup: number of steps of the mean R_i of the form `log`, >= 1.

    Reference: Lin et al. 2024, "Smooth Tchebycheff Scalarization for Multi-Objective
    Optimization", arXiv 2402.19078, with an ideal point of 0; the form `log` is from
    the authors' code (github.com/Xi-L/STCH, STCH_MTL/LibMTL/weighting/STCH.py).
    """

    name = "stch"
    uses = LOSSES

    def __init__(
        self,
        num_tasks: int,
        seed: int = 0,
        *,
        form: str = "loss",
        mu: float = 1.0,
        warmup: int = 1000,
    ) -> None:
        super().__init__(num_tasks, seed)
        self.form = choice(self.name, "form", form, _FORMS)
        self.mu = number(self.name, "mu", mu, above=0)
        self.warmup = integer(self.name, "warmup", warmup, least=1)

    def init(self) -> dict[str, np.ndarray]:
        """Returns the sum and number of the first losses; nothing for the form `loss`."""
        if self.form == "loss":
            return {}
        return {name: np.zeros(self.num_tasks, np.float32) for name in ("sum", "count")}

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Returns the weights by the formulas of the class, float32 [N]."""
        losses = tf.maximum(seen.known_losses, _LEAST_LOSS)
        if self.form == "loss":
            heights = seen.known_losses
        else:
            mean = tf.math.divide_no_nan(state["sum"], state["count"])
            known = state["count"] >= self.warmup
            heights = tf.where(known, tf.math.log(losses / tf.where(known, mean, 1.0)), 0.0)
        powers = tf.where(seen.present, heights / self.mu, heights.dtype.min)
        powers = tf.exp(powers - tf.reduce_max(powers))
        total = tf.reduce_sum(seen.shares)
        factors = powers * tf.math.divide_no_nan(total, tf.reduce_sum(seen.shares * powers))
        return factors if self.form == "loss" else factors / losses

    def update(self, state: State, seen: Seen) -> State:
        """Adds the losses of the first steps."""
        if self.form == "loss":
            return {}
        counted = seen.present & (state["count"] < self.warmup)
        losses = tf.maximum(seen.known_losses, _LEAST_LOSS)
        return {
            "sum": state["sum"] + tf.where(counted, losses, 0.0),
            "count": state["count"] + tf.cast(counted, tf.float32),
        }
