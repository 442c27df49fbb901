"""Base classes of the schedules that learn from measurements of the model.

Such a schedule says what to measure (`Measure`). Training measures it at the end of each interval,
enters it in the score book, and updates the schedule.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mtl.schedules.adaptive import AdaptiveSchedule
from keras_mtl.schedules.base import State
from keras_mtl.schedules.losses import softmax
from keras_mtl.schedules.measure import Measure
from keras_mtl.schedules.registry import integer, number
from keras_mtl.schedules.score_book import ScoreBook
from keras_mtl.schedules.tasks import TaskInfo

# The defaults of algorithm 1 of arXiv 1412.6980.
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


class MeasuredSchedule(AdaptiveSchedule):
    """Base class of schedules that act on measurements of the model.

    State: `seen_measured` int64 scalar, number of the latest measurement that was used. An update
    without a new measurement changes nothing.

    Args:
        tasks: the tasks.
        pairs: number of pairs of a batch of a task, >= 2.
        interval: training steps between two measurements, >= 1.
        **shared: prior, prior_temperature, ema, max_change, floor: see `AdaptiveSchedule`.

    Attributes:
        quantity: one of `measure.QUANTITIES`; a class attribute, or set before the constructor of
            this class.
        passes: number of passes with different dropout, >= 1; set in the same way.
    """

    quantity: str
    passes: int = 1

    def __init__(
        self, tasks: Sequence[TaskInfo], *, pairs: int = 32, interval: int = 1000, **shared: Any
    ) -> None:
        super().__init__(tasks, **shared)
        hint = "the number of training steps between measurements"
        self.interval = integer(self.name, "interval", interval, least=1, hint=hint)
        hint = "the number of pairs of each task that are measured"
        pairs = integer(self.name, "pairs", pairs, least=2, hint=hint)
        self.measures = Measure(self.quantity, pairs, self.passes)

    def init(self) -> State:
        """Returns the state before the first measurement."""
        return {**super().init(), "seen_measured": np.array(0)}

    def skip(self, state: State, scores: ScoreBook) -> State:
        """Marks the measurements of the book as seen."""
        return {**state, "seen_measured": np.array(scores.measured)}

    def measured(self, state: State, scores: ScoreBook, name: str) -> np.ndarray | None:
        """Returns a new measurement, float64[N]; None if there is none.

        A task that was not measured, such as a new one, has the mean of the others.

        Args:
            state: the state so far.
            scores: the book.
            name: name of the numbers in the book.
        """
        self.check_book(scores)
        values = scores.measurements.get(name)
        if values is None or scores.measured == int(state["seen_measured"]):
            return None
        known = np.isfinite(values)
        if not known.any():
            return None
        return np.where(known, values, values[known].mean())


class ActorSchedule(MeasuredSchedule):
    """Base class of schedules that follow a reward R of each task.

    p = softmax(ψ), where ψ begins at the logarithm of the prior. After each measurement, Adam takes
    `actor_steps` steps of `learning_rate` on ψ that increase Σ R_i log p_i. For R >= 0 its maximum
    is at p ∝ R.

    State: `logits` float64[N], ψ; `momentum` and `velocity` float64[N] and `actor_updates` (int64
    scalar), the state of Adam; `reward` float64[N], R, smoothed by ema.

    Args:
        tasks: the tasks.
        prior: `none` (uniform), `proportional` or `temperature`, with prior_temperature.
        actor_steps: number of steps of Adam after a measurement, >= 1.
        learning_rate: learning rate of Adam, > 0.
        **shared: pairs, interval, prior_temperature, ema, max_change, floor: see
            `MeasuredSchedule`.
    """

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        prior: str = "proportional",
        actor_steps: int = 200,
        learning_rate: float = 1e-4,
        **shared: Any,
    ) -> None:
        super().__init__(tasks, prior=prior, **shared)
        hint = "the number of steps of Adam after a measurement"
        self.actor_steps = integer(self.name, "actor_steps", actor_steps, least=1, hint=hint)
        hint = "the learning rate of the logits"
        self.learning_rate = number(self.name, "learning_rate", learning_rate, above=0, hint=hint)

    def init(self) -> State:
        """Returns the state before the first measurement."""
        base, count = super().init(), self.num_tasks
        prior = self.prior / self.prior.sum()
        return {
            **base,
            # A task that the prior excludes stays at 0 after the softmax.
            "logits": np.log(np.maximum(prior, np.finfo(np.float64).tiny)),
            "momentum": np.zeros(count),
            "velocity": np.zeros(count),
            "actor_updates": np.array(0),
            "reward": np.zeros(count),
        }

    def update(self, state: State, step: int, scores: ScoreBook) -> State:
        """Learns from a new measurement."""
        del step
        new = self.measured(state, scores, self.quantity)
        if new is None:
            return dict(state)
        ema = self.ema if int(state["actor_updates"]) else 0.0
        reward = ema * state["reward"] + (1 - ema) * new
        logits, momentum, velocity = state["logits"], state["momentum"], state["velocity"]
        updates = int(state["actor_updates"])
        for _ in range(self.actor_steps):
            updates += 1
            gradient = softmax(logits) * reward.sum() - reward
            momentum = _BETA_1 * momentum + (1 - _BETA_1) * gradient
            velocity = _BETA_2 * velocity + (1 - _BETA_2) * gradient**2
            spread = np.sqrt(velocity / (1 - _BETA_2**updates)) + _EPSILON
            logits = logits - self.learning_rate * momentum / (1 - _BETA_1**updates) / spread
        return {
            **self.skip(state, scores),
            "logits": logits,
            "momentum": momentum,
            "velocity": velocity,
            "actor_updates": np.array(updates),
            "reward": reward,
            "probabilities": self.move_to(state, softmax(logits)),
        }
