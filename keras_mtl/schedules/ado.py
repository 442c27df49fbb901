"""ADO: favors tasks whose loss is expected to fall fast, by scaling laws fitted while training."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mtl.schedules.base import State, apply_floor, normalize
from keras_mtl.schedules.loss_curves import LossCurves
from keras_mtl.schedules.losses import LossSchedule
from keras_mtl.schedules.power_law import fit_power_laws
from keras_mtl.schedules.registry import integer, register
from keras_mtl.schedules.score_book import ScoreBook
from keras_mtl.schedules.tasks import TaskInfo

# From the code of the authors.
_LEAST_EXPONENT = 0.05
_CREDIT_POWER = 0.5
_SHARE_OF_NEW = 0.1
# Default floor; with many tasks, the floors together have at most this share.
_FLOOR = 0.01
_LARGEST_SUM_OF_FLOORS = 0.25

_CURVES = LossCurves("curve")


@register
class Ado(LossSchedule):
    """Adaptive data optimization.

    The loss of each task is fitted by L_i(n) = ε_i + β_i n^(−α_i), where n is the number of batches
    so far. With h_i a moving average of the share of the batches that task i got, and p0 the prior,

        u_i ∝ p0_i · max(α_i, 0.05) (L_i(n) − ε_i) / n · √h_i,    raised to at least floor,
        p = 0.9 m + 0.1 u,    m = mean of u over the training so far, which begins with the prior.

    Losses before batch `start` are not fitted. The first fit is `refit` batches later, and is
    repeated every `refit` batches. Before the first fit, p is the prior. A task with too few losses
    for a fit has the mean slope of the others.

    Each update adds the mean losses since the last one to the loss curves, so they have one point
    per `interval`. Curves keep at most 64 points: when they are full, neighbors are merged.

    State: the loss curves, see `LossCurves`, under `curve_*`; `last` and `fit` int64 scalars,
    batches of the last update and of the last fit;
    `scale`, `exponent` float64[N], β at the batch of the fit and α, 0 without a fit; `credit`
    float64[N], h; `average` float64[N], m.

    Args:
        tasks: the tasks.
        start: number of batches whose losses are not fitted, >= 1.
        refit: number of batches between two fits, >= 1.
        interval: training steps between two updates, >= 0; 0 updates with each validation.
        floor: least probability, in [0, 1/N]; None is 0.01, but at most 0.25 / N.
        prior: p0: `none` (uniform), `proportional` or `temperature`, with prior_temperature.
        ema: share of the old value in h, in [0, 1).
        **shared: prior_temperature, max_change: see `LossSchedule`.

    Reference: Jiang et al. 2024, "Adaptive Data Optimization", arXiv 2410.11820; constants, and
    the same n for all tasks, are from the authors' code (github.com/yidingjiang/ado, `curr_dist`
    of src/data_selectors/ado.py). That code also keeps ε_i above 1.65, which losses of
    translation may fall below; keras_mtl keeps it above 0.
    """

    name = "ado"

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        start: int = 1000,
        refit: int = 1000,
        interval: int = 100,
        floor: float | None = None,
        prior: str = "proportional",
        ema: float = 0.9,
        **shared: Any,
    ) -> None:
        if floor is None:
            floor = min(_FLOOR, _LARGEST_SUM_OF_FLOORS / max(1, len(tasks)))
        super().__init__(tasks, interval=interval, floor=floor, prior=prior, ema=ema, **shared)
        hint = "the number of batches whose losses are not fitted"
        self.start = integer(self.name, "start", start, least=1, hint=hint)
        hint = "the number of batches between two fits"
        self.refit = integer(self.name, "refit", refit, least=1, hint=hint)

    def init(self) -> State:
        """Returns the state before the first loss."""
        base, count = super().init(), self.num_tasks
        return {
            **base,
            **_CURVES.init(count),
            "last": np.array(0),
            "fit": np.array(0),
            "scale": np.zeros(count),
            "exponent": np.zeros(count),
            "credit": base["probabilities"].copy(),
            "average": base["probabilities"].copy(),
        }

    def update(self, state: State, step: int, scores: ScoreBook) -> State:
        """Learns from the losses since the last update."""
        new = self.observed(state, scores)
        if not new.drawn.any():
            return dict(state)
        last = int(state["last"])
        batches = np.where(new.drawn, new.weight, 0.0)
        state = {
            **self.skip(state, scores),
            **_CURVES.add(state, 0.5 * (last + step), new.mean_loss, batches),
            "last": np.array(max(last, step)),
            "credit": self.ema * state["credit"] + (1 - self.ema) * normalize(batches),
        }
        if step - max(self.start, int(state["fit"])) >= self.refit:
            state |= self._fit(state, step)
        if not state["exponent"].any():
            return state
        return self._mixed(state, step, max(1, step - last))

    def same_draws(self, before: State, after: State) -> bool:
        """Before the first fit, updates only extend the curves."""
        return np.array_equal(before["probabilities"], after["probabilities"])

    def rebalance(self, state: State, kept: np.ndarray) -> State:
        """Makes the shares of the remaining and the new tasks sum to 1."""
        state = super().rebalance(state, kept)
        sums = {key: normalize(state[key]) for key in ("credit", "average")}
        return {**state, **sums}

    def _fit(self, state: State, step: int) -> State:
        """Returns the new entries of the state after a fit of all curves."""
        positions, losses, weights = _CURVES.points(state)
        used = positions >= self.start
        laws = fit_power_laws(positions[used], losses[:, used], weights[:, used], step)
        return {
            "fit": np.array(step),
            "scale": np.where(laws.fitted, laws.scale, state["scale"]),
            "exponent": np.where(laws.fitted, laws.exponent, state["exponent"]),
        }

    def _mixed(self, state: State, step: int, steps: int) -> State:
        """Returns the state with the probabilities of `step`, `steps` batches after the last."""
        exponent, fitted = state["exponent"], state["exponent"] > 0
        # L(n) − ε falls from `scale` since the fit; the common 1/n of the slopes cancels.
        decline = (step / max(1, int(state["fit"]))) ** -exponent
        slope = np.maximum(exponent, _LEAST_EXPONENT) * state["scale"] * decline
        slope = np.where(fitted, slope, slope[fitted].mean())
        preferred = self.prior * slope * np.sqrt(state["credit"])
        if not preferred.any():  # No loss can fall.
            preferred = self.prior
        preferred = apply_floor(normalize(preferred), self.floor)
        average = state["average"]
        mixture = (1 - _SHARE_OF_NEW) * average + _SHARE_OF_NEW * preferred
        average = average + min(1.0, steps / (step + 1)) * (preferred - average)
        return {
            **state,
            "average": average,
            "probabilities": self.move_to(state, mixture),
        }
