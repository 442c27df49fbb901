"""Gradient vaccine: turns gradients towards their usual angle."""

import numpy as np
import tensorflow as tf

from keras_mtl.balancing.base import GRADIENTS, Balancer, Seen, State
from keras_mtl.balancing.pcgrad import random_orders
from keras_mtl.balancing.registry import number, register

# Largest expected cosine: at 1 the formula divides by zero.
_MOST = 1 - 1e-4


@register
class GradVaccine(Balancer):
    """PCGrad with an expected cosine φ̂_ij instead of 0.

    Let φ be the cosine of h_i' and h_j. If φ < φ̂_ij,

        h_i' += ‖h_i'‖ (φ̂ √(1 − φ²) − φ √(1 − φ̂²)) / (‖h_j‖ √(1 − φ̂²)) h_j,

    so that their cosine becomes φ̂. Then φ̂_ij ← (1 − β) φ̂_ij + β φ. φ̂ begins at 0, for which the
    rule is that of PCGrad. Cosines are computed over all shared variables together, which the paper
    calls "whole model"; it also tries them for each layer.

    Args:
        num_tasks: number of tasks N, >= 1.
        seed: seed of the random orders.
        beta: β in [0, 1], the rate at which the expected cosines follow.

    Reference: Wang, Tsvetkov, Firat, Cao 2021, arXiv 2010.05874: its update rule and its moving
    average of the cosines, which are also those of GradVac in LibMTL
    (github.com/median-research-group/LibMTL).
    """

    name = "gradvac"
    uses = GRADIENTS
    shared_only = True

    def __init__(self, num_tasks: int, seed: int = 0, *, beta: float = 0.01) -> None:
        super().__init__(num_tasks, seed)
        self.beta = number(self.name, "beta", beta, least=0, most=1)

    def init(self) -> dict[str, np.ndarray]:
        """Returns expected cosines of 0."""
        return {"cosines": np.zeros((self.num_tasks, self.num_tasks), np.float32)}

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Returns the sum over i of the coefficients of h_j in h_i', float32 [N]."""
        coefficients, _ = self._turn(state, seen)
        return tf.reduce_sum(tf.where(seen.present[:, None], coefficients, 0.0), axis=0)

    def update(self, state: State, seen: Seen) -> State:
        """Moves the expected cosines towards those of the step."""
        _, cosines = self._turn(state, seen)
        return {"cosines": cosines}

    def _turn(self, state: State, seen: Seen) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the coefficients of the h_i', and the new expected cosines, both [N, N]."""
        gram = seen.contributions
        norms = tf.sqrt(tf.linalg.diag_part(gram))
        orders = random_orders(self, seen.step)
        rows = tf.range(self.num_tasks)
        coefficients, cosines = tf.eye(self.num_tasks), state["cosines"]
        for turn in range(self.num_tasks):
            other = orders[:, turn]
            at_other = tf.one_hot(other, self.num_tasks)
            products = tf.matmul(coefficients, gram)
            norm = tf.sqrt(tf.maximum(tf.reduce_sum(products * coefficients, axis=1), 0.0))
            dots = tf.reduce_sum(products * at_other, axis=1)
            norm_of_other = tf.gather(norms, other)
            scale = norm * norm_of_other
            real = (other != rows) & (scale > 0)
            cosine = tf.clip_by_value(tf.math.divide_no_nan(dots, scale), -1.0, 1.0)
            expected = tf.reduce_sum(cosines * at_other, axis=1)
            aim = tf.clip_by_value(expected, -_MOST, _MOST)
            root = tf.sqrt(1 - tf.square(aim))
            turned = aim * tf.sqrt(1 - tf.square(cosine)) - cosine * root
            amount = norm * turned / (tf.where(real, norm_of_other, 1.0) * root)
            amount = tf.where(real & (cosine < aim), amount, 0.0)
            coefficients += amount[:, None] * at_other
            moved = tf.where(real, self.beta * (cosine - expected), 0.0)
            cosines += moved[:, None] * at_other
        return coefficients, cosines
