"""PiKE: favors tasks with a large and certain gradient."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mtl.schedules.base import State, normalize
from keras_mtl.schedules.losses import softmax
from keras_mtl.schedules.measured import MeasuredSchedule
from keras_mtl.schedules.registry import number, register
from keras_mtl.schedules.score_book import ScoreBook
from keras_mtl.schedules.tasks import TaskInfo


@register
class Pike(MeasuredSchedule):
    """w_i ← w_i exp(ζ1 ‖∇L_i‖² − ½ ζ2 V_i) after each measurement, then normalized.

    L_i is the loss of a token of task i, and V_i = E ‖g − ∇L_i‖² is the variance of the gradient g
    of a batch of `pairs` pairs. Both are estimated from the gradients of two halves of a batch
    of training pairs. Without conflicts of gradients, a step on a task lowers the sum of the losses
    by about ζ1 ‖∇L_i‖², less the noise.

    The paper subtracts ζ2 σ_i² / 2b, where σ_i² is the variance of the gradient of one example and
    b the number of examples of a training batch. Because V_i = σ_i² / pairs, zeta2 is the paper's
    ζ2 times pairs / b.

    State: `mixture` float64[N], w; `square` and `variance` float64[N], smoothed.

    Args:
        tasks: the tasks.
        zeta1: ζ1 > 0. Choose it so that zeta1 ‖∇L‖² is about 0.1: the weight of a task then changes
            by a factor of at most about 1.1 in an update.
        zeta2: ζ2 >= 0; 0 ignores the noise.
        **shared: pairs, interval, prior (the first w), prior_temperature, ema, max_change, floor:
            see `MeasuredSchedule`. ema smooths ‖∇L_i‖² and V_i.

    Reference: Li, Deng, Zhong, Razaviyayn, Mirrokni 2025, "PiKE", arXiv 2502.06244, algorithm 1
    (v2), a mirror descent step on its equation 9 with constant factors. The paper tunes ζ1 and ζ2
    for each model (section 3.2), so they have no defaults. Its batches mix the tasks, and w starts
    uniform or at tuned weights.
    """

    name = "pike"
    quantity = "gradient"

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        zeta1: float,
        zeta2: float,
        **shared: Any,
    ) -> None:
        super().__init__(tasks, **shared)
        hint = "such that zeta1 times a squared gradient norm is about 0.1"
        self.zeta1 = number(self.name, "zeta1", zeta1, above=0, hint=hint)
        self.zeta2 = number(self.name, "zeta2", zeta2, least=0, hint="0 ignores the noise")

    def init(self) -> State:
        """Returns the state before the first measurement."""
        base, count = super().init(), self.num_tasks
        return {
            **base,
            "mixture": normalize(self.prior),
            "square": np.zeros(count),
            "variance": np.zeros(count),
        }

    def update(self, state: State, step: int, scores: ScoreBook) -> State:
        """Learns from a new measurement."""
        del step
        square = self.measured(state, scores, "gradient_square")
        variance = self.measured(state, scores, "gradient_variance")
        if square is None or variance is None:
            return dict(state)
        ema = self.ema if int(state["seen_measured"]) else 0.0
        square = ema * state["square"] + (1 - ema) * square
        variance = ema * state["variance"] + (1 - ema) * variance
        logits = np.log(np.maximum(state["mixture"], np.finfo(np.float64).tiny))
        mixture = softmax(logits + self.zeta1 * square - 0.5 * self.zeta2 * variance)
        return {
            **self.skip(state, scores),
            "mixture": mixture,
            "square": square,
            "variance": variance,
            "probabilities": self.move_to(state, mixture),
        }

    def rebalance(self, state: State, kept: np.ndarray) -> State:
        """Makes the weights of the remaining and the new tasks sum to 1."""
        state = super().rebalance(state, kept)
        return {**state, "mixture": normalize(state["mixture"])}
