"""Base class of the schedules that learn from training losses."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_mtl.schedules.adaptive import AdaptiveSchedule
from keras_mtl.schedules.base import State
from keras_mtl.schedules.registry import integer
from keras_mtl.schedules.score_book import ScoreBook
from keras_mtl.schedules.tasks import TaskInfo

_TOTALS = ("loss_weight", "loss_sum", "inverse_probability", "loss_over_probability")


class Observed(NamedTuple):
    """Training losses since the last update; see `ScoreBook` for the sums.

    Attributes:
        drawn: bool[N], whether the task had a loss.
        weight: float64[N], number of batches.
        mean_loss: float64[N], 0 for a task without a loss.
        inverse_probability: float64[N], sum of weight / probability.
        loss_over_probability: float64[N], sum of weight * loss / probability.
    """

    drawn: np.ndarray
    weight: np.ndarray
    mean_loss: np.ndarray
    inverse_probability: np.ndarray
    loss_over_probability: np.ndarray


class LossSchedule(AdaptiveSchedule):
    """Base class of schedules that act on the training losses since the last update.

    State: `seen_*`, float64[N] each: the totals of the score book at the last update.

    Args:
        tasks: the tasks.
        interval: training steps between two updates, >= 0; 0 updates with each validation, and
            only then.
        **shared: prior, prior_temperature, ema, max_change, floor: see `AdaptiveSchedule`.
    """

    uses_losses = True

    def __init__(self, tasks: Sequence[TaskInfo], *, interval: int = 0, **shared: Any) -> None:
        super().__init__(tasks, **shared)
        hint = "the number of training steps between updates; 0 updates with each validation"
        self.interval = integer(self.name, "interval", interval, least=0, hint=hint)

    def init(self) -> State:
        """Returns the state before the first loss."""
        return {**super().init(), **{f"seen_{key}": np.zeros(self.num_tasks) for key in _TOTALS}}

    def skip(self, state: State, scores: ScoreBook) -> State:
        """Marks all losses of the book as seen."""
        return {**state, **{f"seen_{key}": getattr(scores, key).copy() for key in _TOTALS}}

    def observed(self, state: State, scores: ScoreBook) -> Observed:
        """Returns the losses that the book got since the last update."""
        self.check_book(scores)
        # A book with smaller totals than those seen is another book: all of its losses are new.
        same = scores.loss_weight >= state["seen_loss_weight"]
        weight, loss, inverse, weighted = (
            getattr(scores, key) - np.where(same, state[f"seen_{key}"], 0.0) for key in _TOTALS
        )
        drawn = weight > 0
        return Observed(
            drawn=drawn,
            weight=weight,
            mean_loss=np.where(drawn, loss / np.where(drawn, weight, 1.0), 0.0),
            inverse_probability=inverse,
            loss_over_probability=weighted,
        )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the softmax of float64[N]; large values do not overflow."""
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()
