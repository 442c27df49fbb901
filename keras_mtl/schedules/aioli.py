"""Aioli: favors tasks that lower the dev losses of all tasks, as short trials show."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mtl.errors import ConfigError
from keras_mtl.schedules.adaptive import bounded
from keras_mtl.schedules.base import State, apply_floor, normalize
from keras_mtl.schedules.losses import softmax
from keras_mtl.schedules.measured import MeasuredSchedule
from keras_mtl.schedules.registry import integer, number, register
from keras_mtl.schedules.score_book import ScoreBook
from keras_mtl.schedules.tasks import TaskInfo

# The rounds of the authors' scripts have at least this number of steps.
_ROUND = 250
# Below this difference of two probabilities, the mixtures of all trials are the same.
_SAME = 1e-9


@register
class Aioli(MeasuredSchedule):
    """Measures how much a batch of each task lowers the dev loss of every task.

    Training is a sequence of rounds of `interval` steps. A round begins with `lp_rounds` · N
    trials of `lp_steps` steps each. In a trial of task j, it has the probability
    `one_hot_factor`, and the other tasks share the rest equally. With D_ij the mean decrease of the
    dev loss of task i in the trials of task j, and P the matrix of the probabilities of the trials,

        A_i = P⁻¹ D_i,    Ā = (A − min(0, min A)) / sum of that,    p_j ← p_j exp(eta Σ_i Ā_ij).

    The rest of the round draws by p. With `ema`, Ā is smoothed over the rounds, and its weights
    multiply the prior instead of the previous p.

    A measurement is the loss of `pairs` dev pairs of each task, the same pairs every time. A round
    takes `lp_rounds` · N + 1 of them. Trials are steps of the training as all others. In every N
    trials, each task has one; their order depends on the round and on the names of the tasks.

    After a change of the tasks, the rest of the round draws by p, and the next round begins as
    usual.

    State: `mixture` float64[N], p; `effects` float64[N, N], Ā, with a row for each dev loss and a
    column for each trained task; `rounds` int64 scalar, number of rounds in `effects`; `trials`
    int64 scalar, number of trials so far in this round, -1 outside of the trials; `losses`
    float64[N], dev losses after the last trial; `drops` float64[N, N], sums of the decreases.

    Args:
        tasks: the tasks.
        eta: step size of p, > 0.
        lp_rounds: number of trials of each task in a round, >= 1.
        lp_steps: training steps of a trial, >= 1.
        one_hot_factor: probability of the task in its trials, in (1/N, 1].
        interval: training steps of a round, more than `lp_rounds` · `lp_steps` · N. None is 250,
            but at least twice the steps of the trials.
        start: number of training steps before the first round, which draw by the prior, >= 0.
        **shared: pairs (of the dev set of each task), prior (the first p), prior_temperature, ema,
            max_change (of p), floor: see `MeasuredSchedule`.

    Reference: Chen et al. 2024, "Aioli: A unified optimization framework for language model data
    mixing", arXiv 2411.05735, algorithms 1 (rounds, normalization, update of p) and 2 (trials,
    A = P⁻¹ D). The normalization with min(0, ·), a permutation of the tasks for every N trials,
    `ema` with its base, and the defaults are those of the authors' code. The paper continues from
    the uniform p after its initial steps, which is `prior: none`.
    """

    name = "aioli"
    quantity = "dev_loss"
    limitable = False

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        eta: float = 0.2,
        lp_rounds: int = 4,
        lp_steps: int = 4,
        one_hot_factor: float = 0.625,
        interval: int | None = None,
        start: int = 0,
        **shared: Any,
    ) -> None:
        hint = "the number of trials of each task in a round"
        self.lp_rounds = integer(self.name, "lp_rounds", lp_rounds, least=1, hint=hint)
        hint = "the number of training steps of a trial"
        self.lp_steps = integer(self.name, "lp_steps", lp_steps, least=1, hint=hint)
        trials = self.lp_rounds * self.lp_steps * len(tasks)
        if interval is None:
            interval = max(_ROUND, 2 * trials)
        super().__init__(tasks, interval=interval, **shared)
        if self.interval <= trials:
            raise ConfigError(
                f"schedule {self.name!r}: interval = {self.interval} must be above {trials}, the "
                f"steps of the trials (lp_rounds x lp_steps x {len(tasks)} tasks). Raise interval, "
                "or lower lp_rounds or lp_steps"
            )
        self.eta = number(self.name, "eta", eta, above=0, hint="the step size, usually 0.1 to 1")
        hint = "the number of training steps before the first round"
        self.start = integer(self.name, "start", start, least=0, hint=hint)
        # A task that the prior excludes is not tried.
        self._tried = np.flatnonzero(self.prior > 0)
        count = len(self._tried)
        hint = "the probability of a task in its trials, above that of the others"
        factor = number(self.name, "one_hot_factor", one_hot_factor, above=0, most=1, hint=hint)
        if count > 1 and factor * count <= 1:
            raise ConfigError(
                f"schedule {self.name!r}: one_hot_factor = {factor} must be above 1/{count}: with "
                f"{count} tasks, it would be no more than the probability of the others"
            )
        self._trials = self.lp_rounds * count if count > 1 else 0
        # Of the other tasks in a trial, and what its task has in addition.
        self._low = max((1 - factor) / (count - 1), self.floor) if count > 1 else 0.0
        self._excess = 1 - count * self._low

    def init(self) -> State:
        """Returns the state before the first measurement."""
        base, count = super().init(), self.num_tasks
        return {
            **base,
            "mixture": base["probabilities"].copy(),
            "effects": np.zeros((count, count)),
            "rounds": np.array(0),
            "trials": np.array(-1),
            "losses": np.zeros(count),
            "drops": np.zeros((count, count)),
        }

    def next_update(self, step: int) -> int | None:
        """Returns the next training step at which a round begins or a trial ends."""
        passed, offset = divmod(max(step + 1 - self.start, 0), self.interval)
        trial = -(-offset // self.lp_steps)
        offset = trial * self.lp_steps if trial <= self._trials else self.interval
        return self.start + passed * self.interval + offset

    def update(self, state: State, step: int, scores: ScoreBook) -> State:
        """Learns from a new measurement."""
        del step
        losses = self.measured(state, scores, self.quantity)
        if losses is None:
            return dict(state)
        state = self.skip(state, scores)
        at = scores.measured_step
        if self.next_update(at - 1) != at:
            return state
        passed, offset = divmod(at - self.start, self.interval)
        trial = offset // self.lp_steps
        if trial == 0:
            zeros = np.zeros_like(state["drops"])
            state = {**state, "drops": zeros, "trials": np.array(0), "losses": losses}
        elif trial == int(state["trials"]) + 1:
            drops = state["drops"].copy()
            drops[:, self._task_of(passed, trial - 1)] += state["losses"] - losses
            state = {**state, "drops": drops, "trials": np.array(trial), "losses": losses}
        else:  # A measurement is missing, for example because the tasks have changed.
            return self._drawn_by_mixture(state)
        if trial < self._trials:
            return {**state, "probabilities": self._mixture_of(self._task_of(passed, trial))}
        return self._drawn_by_mixture(self._learned(state))

    def remap(self, state: State, index_map: np.ndarray) -> State:
        """See `Schedule.remap`; if the tasks change, their effects are measured again."""
        shape = (self.num_tasks, self.num_tasks)
        state = {
            key: value
            for key, value in state.items()
            if key not in ("effects", "drops") or np.shape(value) == shape
        }
        return super().remap(state, index_map)

    def rebalance(self, state: State, kept: np.ndarray) -> State:
        """Makes p sum to 1 and waits for the next round."""
        fresh, state = self.init(), super().rebalance(state, kept)
        again = {key: fresh[key] for key in ("effects", "rounds", "losses", "drops")}
        mixture = apply_floor(normalize(state["mixture"]), self.floor)
        return self._drawn_by_mixture({**state, **again, "mixture": mixture})

    def _drawn_by_mixture(self, state: State) -> State:
        """Returns the state outside of the trials."""
        return {**state, "trials": np.array(-1), "probabilities": state["mixture"]}

    def _task_of(self, passed: int, trial: int) -> int:
        """Returns the task of a trial, after a number of rounds."""
        repetition, place = divmod(trial, len(self._tried))

        def key(task: int) -> bytes:
            text = f"{passed} {repetition} {self.tasks[task].name}"
            return hashlib.blake2b(text.encode(), digest_size=8).digest()

        return sorted(self._tried.tolist(), key=key)[place]

    def _mixture_of(self, task: int) -> np.ndarray:
        """Returns the probabilities in a trial of a task."""
        mixture = np.zeros(self.num_tasks)
        mixture[self._tried] = self._low
        mixture[task] += self._excess
        return mixture

    def _learned(self, state: State) -> State:
        """Returns the state after the trials of a round, with a new p."""
        found, rounds = self._effects(state["drops"] / self.lp_rounds), int(state["rounds"])
        smoothed = self.ema > 0
        if smoothed and rounds:
            found = self.ema * state["effects"] + (1 - self.ema) * found
        base = normalize(self.prior) if smoothed else state["mixture"]
        logits = np.log(np.maximum(base, np.finfo(np.float64).tiny))
        target = apply_floor(softmax(logits + self.eta * found.sum(axis=0)), self.floor)
        return {
            **state,
            "effects": found,
            "rounds": np.array(rounds + 1),
            "mixture": bounded(state["mixture"], target, self.max_change),
        }

    def _effects(self, drops: np.ndarray) -> np.ndarray:
        """Returns Ā for the mean decreases of the losses, float64[N, N]."""
        effects, tried = np.zeros_like(drops), np.ix_(self._tried, self._tried)
        if self._excess < _SAME:  # The floor makes all trials the same.
            return effects
        # P = excess · I + low · 11ᵀ, and its rows sum to 1.
        decrease = drops[tried]
        found = (decrease - self._low * decrease.sum(axis=1, keepdims=True)) / self._excess
        found -= min(0.0, found.min())
        total = found.sum()
        effects[tried] = found / total if total > 0 else 0.0
        return effects
