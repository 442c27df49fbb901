"""The excess-loss schedule: favors tasks whose loss is above that of a reference model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl.schedules.base import State, normalize
from keras_mtl.schedules.losses import LossSchedule, softmax
from keras_mtl.schedules.parameters import per_task
from keras_mtl.schedules.registry import number, register
from keras_mtl.schedules.score_book import ScoreBook
from keras_mtl.schedules.tasks import TaskInfo


@register
class ExcessLoss(LossSchedule):
    """Exponentiated gradient ascent on the excess loss (group DRO).

    With l_i the mean training loss of task i since the last update and r_i its reference loss:

        x_i = max(l_i - r_i, 0)
        w <- (1 - c) softmax(log w + eta x) + c / N

    A task that was not drawn since the last update keeps its last x_i. Because the smoothing is
    part of the recursion, every task can come back within about ln(N/c) / (eta x) updates.

    State: `mixture` float64[N], the weights w; `excess` float64[N], x.

    Args:
        tasks: the tasks.
        reference_losses: {task name: loss} or a list: training loss per token of a reference model
            (for example a model trained on only that task), in the unit of the training loss.
        eta: step size of an update, > 0.
        smoothing: c, the share of the weights that is spread evenly, in [0, 1].
        **shared: prior, prior_temperature, ema, max_change, floor: see `AdaptiveSchedule`. ema
            smooths x.

    Reference: Xie et al. 2023, "DoReMi", arXiv 2305.10429, algorithm 1 (which
    updates at every step).
    """

    name = "excess_loss"

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        reference_losses: Mapping[str, float] | Sequence[float],
        eta: float = 1.0,
        smoothing: float = 1e-3,
        **shared: Any,
    ) -> None:
        super().__init__(tasks, **shared)
        self.reference_losses = per_task(
            self.name, "reference_losses", reference_losses, self.tasks
        )
        self.eta = number(self.name, "eta", eta, above=0, hint="the step size, usually 1")
        hint = "the share that is spread evenly"
        self.smoothing = number(self.name, "smoothing", smoothing, least=0, most=1, hint=hint)

    def init(self) -> State:
        """Returns the state before the first loss."""
        count = self.num_tasks
        return {**super().init(), "mixture": np.full(count, 1 / count), "excess": np.zeros(count)}

    def update(self, state: State, step: int, scores: ScoreBook) -> State:
        """Learns from the losses since the last update."""
        del step
        new = self.observed(state, scores)
        if not new.drawn.any():
            return dict(state)
        excess = np.maximum(new.mean_loss - self.reference_losses, 0.0)
        ema = np.where(state["seen_loss_weight"] == 0, 0.0, self.ema)
        old = state["excess"]
        excess = np.where(new.drawn, ema * old + (1 - ema) * excess, old)
        # Without smoothing a weight may reach 0 and then stays there; its logarithm must be finite.
        logits = np.log(np.maximum(state["mixture"], np.finfo(np.float64).tiny))
        mixture = softmax(logits + self.eta * excess)
        mixture = (1 - self.smoothing) * mixture + self.smoothing / self.num_tasks
        return {
            **self.skip(state, scores),
            "mixture": mixture,
            "excess": excess,
            "probabilities": self.move(state, mixture),
        }

    def rebalance(self, state: State, kept: np.ndarray) -> State:
        """Makes the weights sum to 1; a new task begins with an even share."""
        state = super().rebalance(state, kept)
        return {**state, "mixture": normalize(state["mixture"])}
