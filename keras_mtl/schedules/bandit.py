"""The bandit schedule: tasks are arms; the reward is the training loss or its decrease."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mtl.schedules.base import State
from keras_mtl.schedules.losses import LossSchedule, softmax
from keras_mtl.schedules.registry import choice, number, register
from keras_mtl.schedules.score_book import ScoreBook
from keras_mtl.schedules.tasks import TaskInfo

REWARDS = ("loss", "progress")


@register
class Bandit(LossSchedule):
    """EXP3, in the form of online data mixing.

    For each batch drawn from task i with probability p_i: R_i += reward / reward_scale / p_i. Then,
    with e_t = min(1/N, sqrt(ln N / (N t))) and e' its value at the previous update (1/N at first),

        p_i = (1 - N e_t) softmax(e' R)_i + e_t

    Rewards of several batches between two updates add up; each is divided by the probability with
    which its task was drawn. Scores and baselines are not used.

    State: `reward` float64[N], the sums R; `exploration` float64 scalar, e'; `last_loss`
    float64[N], mean loss of each task at its last update.

    Args:
        tasks: the tasks.
        reward: `loss` (a task with a high loss has most to learn) or `progress` (the decrease of
            the mean loss of the task between updates).
        reward_scale: divisor that brings rewards to about [0, 1], > 0.
        **shared: prior, prior_temperature, ema, max_change, floor: see `AdaptiveSchedule`. With
            ema, R becomes a moving average: ema * R + (1 - ema) * new instead of R + new.

    Reference: Albalak et al. 2023, "Efficient online data mixing", arXiv 2312.02406 (reward_scale
    10 is from their code); Auer et al. 2002; reward `progress` after Graves et al. 2017,
    arXiv 1704.03003.
    """

    name = "bandit"

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        reward: str = "loss",
        reward_scale: float = 10.0,
        **shared: Any,
    ) -> None:
        super().__init__(tasks, **shared)
        self.reward = choice(self.name, "reward", reward, REWARDS)
        hint = "the usual largest reward"
        self.reward_scale = number(self.name, "reward_scale", reward_scale, above=0, hint=hint)

    def init(self) -> State:
        """Returns the state before the first reward."""
        return {
            **super().init(),
            "reward": np.zeros(self.num_tasks),
            "exploration": np.array(1 / self.num_tasks),
            "last_loss": np.zeros(self.num_tasks),
        }

    def update(self, state: State, step: int, scores: ScoreBook) -> State:
        """Learns from the losses since the last update."""
        new = self.observed(state, scores)
        if not new.drawn.any():
            return dict(state)
        if self.reward == "loss":
            gain = new.loss_over_probability
        else:
            known = new.drawn & (state["seen_loss_weight"] > 0)
            fall = np.where(known, state["last_loss"] - new.mean_loss, 0.0)
            gain = fall * new.inverse_probability
        gain = gain / self.reward_scale
        old = state["reward"]
        reward = old + gain if self.ema == 0 else self.ema * old + (1 - self.ema) * gain
        count = self.num_tasks
        exploration = min(1 / count, math.sqrt(math.log(count) / (count * max(1, step))))
        mixed = (1 - count * exploration) * softmax(float(state["exploration"]) * reward)
        return {
            **self.skip(state, scores),
            "reward": reward,
            "exploration": np.array(exploration),
            "last_loss": np.where(new.drawn, new.mean_loss, state["last_loss"]),
            "probabilities": self.move(state, np.maximum(mixed, 0) + exploration),
        }

    def rebalance(self, state: State, kept: np.ndarray) -> State:
        """A new task begins with the mean reward of the others, so that it is not far behind."""
        reward = state["reward"]
        if kept.any():
            reward = np.where(kept, reward, reward[kept].mean())
        return {**super().rebalance(state, kept), "reward": reward}
