"""DRO-MT: the mixture near the prior on which the present losses are largest."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl.schedules.base import State, normalize
from keras_mtl.schedules.losses import LossSchedule
from keras_mtl.schedules.parameters import per_task
from keras_mtl.schedules.registry import number, register
from keras_mtl.schedules.score_book import ScoreBook
from keras_mtl.schedules.tasks import TaskInfo

# Halvings of an interval: more than the bits of a float64.
_BISECTIONS = 60


@register
class DroMt(LossSchedule):
    """Distributionally robust mixing by iterated best response.

    With p0 the prior and l_i the mean training loss of task i since the last update, less its
    reference loss, p is the mixture with the largest Σ p_i l_i among those with

        ½ Σ p0_i (p_i / p0_i - 1)² <= rho   and   p_i / p0_i >= least_ratio, up to normalization.

    It has the form p_i ∝ max(p0_i max(l_i - η, 0) / z, least_ratio p0_i), where η is found by
    bisection and z makes the first term sum to 1. A task that was not drawn since the last update
    keeps its last loss; one that was never drawn has the mean loss of the others.

    State: `losses` float64[N], smoothed, without the reference losses; `known` int64[N], 1 for a
    task that had a loss.

    Args:
        tasks: the tasks.
        rho: size of the χ² ball around the prior, > 0; the paper tunes it.
        least_ratio: least p_i / p0_i before normalization, in [0, 1].
        reference_losses: {task name: loss} or a list, subtracted from the losses: training loss per
            token of a reference model. If every loss is below its reference, they are ignored.
            None means 0.
        prior: p0: `none` (uniform), `proportional` or `temperature`, with prior_temperature.
        **shared: interval, prior_temperature, ema, max_change, floor: see `LossSchedule`. ema
            smooths the losses; the paper uses the losses of an epoch.

    Reference: Zhou, Levy, Li, Ghazvininejad, Neubig 2021, "Distributionally Robust Multilingual
    Machine Translation", arXiv 2109.04020. The χ² ball, bisection, losses below every reference and
    least_ratio with its value are those of the authors' code (github.com/violet-zct/
    fairseq-dro-mnmt, `update_mw` of criterions/chi_square_resample.py), which updates after each
    epoch.
    """

    name = "dro_mt"

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        rho: float = 0.1,
        least_ratio: float = 0.2,
        reference_losses: Mapping[str, float] | Sequence[float] | None = None,
        prior: str = "proportional",
        **shared: Any,
    ) -> None:
        super().__init__(tasks, prior=prior, **shared)
        self.rho = number(self.name, "rho", rho, above=0, hint="the size of the χ² ball")
        hint = "1 would never leave the prior"
        self.least_ratio = number(self.name, "least_ratio", least_ratio, least=0, most=1, hint=hint)
        self.reference_losses = (
            np.zeros(self.num_tasks)
            if reference_losses is None
            else per_task(self.name, "reference_losses", reference_losses, self.tasks)
        )

    def init(self) -> State:
        """Returns the state before the first loss."""
        return {
            **super().init(),
            "losses": np.zeros(self.num_tasks),
            "known": np.zeros(self.num_tasks, np.int64),
        }

    def update(self, state: State, step: int, scores: ScoreBook) -> State:
        """Learns from the losses since the last update."""
        del step
        new = self.observed(state, scores)
        if not new.drawn.any():
            return dict(state)
        ema = np.where(state["known"] > 0, self.ema, 0.0)
        smoothed = ema * state["losses"] + (1 - ema) * new.mean_loss
        state = {
            **self.skip(state, scores),
            "losses": np.where(new.drawn, smoothed, state["losses"]),
            "known": np.maximum(state["known"], new.drawn),
        }
        return {**state, "probabilities": self.move_to(state, self._respond(state))}

    def _respond(self, state: State) -> np.ndarray:
        """Returns the best response to the losses, float64[N]; the prior without a loss."""
        known = state["known"] > 0
        center = normalize(self.prior)
        if not known.any():
            return center
        excess = state["losses"] - self.reference_losses
        if excess[known].max() < 0:
            excess = state["losses"]
        excess = np.where(known, excess, excess[known].mean())
        return best_response(excess, center, self.rho, self.least_ratio)


def best_response(
    losses: np.ndarray, center: np.ndarray, rho: float, least_ratio: float
) -> np.ndarray:
    """Returns the mixture in a χ² ball with the largest mean loss.

    Args:
        losses: float64[N].
        center: p0, the center of the ball, float64[N] >= 0, sums to 1.
        rho: ½ Σ p0_i (p_i / p0_i − 1)² is at most this, > 0.
        least_ratio: least p_i / p0_i before normalization, in [0, 1].

    Returns:
        float64[N], sums to 1; 0 where the center is 0.
    """
    inside = center > 0
    highest = losses[inside].max()

    def mixture(eta: float) -> np.ndarray:
        response = center * np.maximum(losses - eta, 0.0)
        return normalize(np.maximum(normalize(response), least_ratio * center))

    def distance(p: np.ndarray) -> float:
        ratio = p[inside] / center[inside] - 1
        return float(0.5 * (center[inside] * ratio**2).sum())

    spread = highest - losses[inside].min()
    if spread <= 1e-12 * max(1.0, abs(highest)):
        return center
    # At `low` the mixture is inside the ball: the ratios differ from 1 by at most √(2 rho).
    low, high = highest - spread * (1 + 1 / np.sqrt(2 * rho)), highest
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if middle >= highest or distance(mixture(middle)) > rho:
            high = middle
        else:
            low = middle
    return mixture(low)
