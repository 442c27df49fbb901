"""What the schedules that learn from training losses share."""

from typing import NamedTuple

import numpy as np

from keras_mtl.schedules.adaptive import AdaptiveSchedule
from keras_mtl.schedules.base import State
from keras_mtl.schedules.score_book import ScoreBook

_TOTALS = ("loss_weight", "loss_sum", "inverse_probability", "loss_over_probability")


class Observed(NamedTuple):
    """Losses that are new since the last update; see `ScoreBook` for the sums.

    Attributes:
        drawn: bool[N], whether the task had any.
        mean_loss: float64[N], 0 for a task that had none.
        inverse_probability: float64[N].
        loss_over_probability: float64[N].
    """

    drawn: np.ndarray
    mean_loss: np.ndarray
    inverse_probability: np.ndarray
    loss_over_probability: np.ndarray


class LossSchedule(AdaptiveSchedule):
    """Base of schedules that act on the training losses seen since the last update.

    State: the totals of the score book that were taken in, float64[N] each, under `seen_*`.
    """

    uses_losses = True

    def init(self) -> State:
        """No loss yet."""
        return {**super().init(), **{f"seen_{key}": np.zeros(self.num_tasks) for key in _TOTALS}}

    def skip(self, state: State, scores: ScoreBook) -> State:
        """Counts all losses of the book as taken in."""
        return {**state, **{f"seen_{key}": getattr(scores, key).copy() for key in _TOTALS}}

    def observed(self, state: State, scores: ScoreBook) -> Observed:
        """What is new in the book."""
        self.check_book(scores)
        # A book that holds less than was seen is a new one: all of it is new.
        same = scores.loss_weight >= state["seen_loss_weight"]
        weight, loss, inverse, weighted = (
            getattr(scores, key) - np.where(same, state[f"seen_{key}"], 0.0) for key in _TOTALS
        )
        drawn = weight > 0
        return Observed(
            drawn=drawn,
            mean_loss=np.where(drawn, loss / np.where(drawn, weight, 1.0), 0.0),
            inverse_probability=inverse,
            loss_over_probability=weighted,
        )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax of float64[N], safe for large values."""
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()
