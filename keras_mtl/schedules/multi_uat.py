"""MultiUAT: favors tasks of whose translations the model is uncertain."""

from collections.abc import Sequence
from typing import Any

from keras_mtl.schedules.measured import ActorSchedule
from keras_mtl.schedules.registry import choice, integer, register
from keras_mtl.schedules.tasks import TaskInfo

REWARDS = ("entropy", "improbability")


@register
class MultiUat(ActorSchedule):
    """Uncertainty-aware balancing: the reward of a task is the model's uncertainty on dev pairs.

    p = softmax(ψ) as in `ActorSchedule`. The model predicts the tokens of dev references with
    dropout (Monte Carlo dropout), `passes` times. R_i is the mean entropy of the predictions, or
    one minus the mean probability of the most probable tokens. It needs dev pairs of every task.

    State: see `ActorSchedule`.

    Args:
        tasks: the tasks.
        reward: `entropy` (of the predicted distribution of each token, in nats) or `improbability`
            (1 − the mean over sentences of the geometric mean over tokens of the largest
            probability).
        passes: number of passes with different dropout, >= 1.
        interval: training steps between two measurements, >= 1.
        **shared: pairs (of the dev set of each task), prior, prior_temperature, actor_steps,
            learning_rate, ema, max_change, floor: see `ActorSchedule`. ema smooths R.

    Reference: Wu et al. 2021, "Uncertainty-Aware Balancing for Multilingual and Multi-Domain
    Neural Machine Translation Training", arXiv 2109.02284. The rewards are `enttp` and `exptp` of
    the authors' code (github.com/huawei-noah/noah-research, noahnmt/multiuat), whose Adam on ψ,
    interval, steps and learning rate these are.
    """

    name = "multi_uat"

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        *,
        reward: str = "entropy",
        passes: int = 5,
        interval: int = 2000,
        **shared: Any,
    ) -> None:
        self.quantity = choice(self.name, "reward", reward, REWARDS)
        hint = "the number of passes with dropout"
        self.passes = integer(self.name, "passes", passes, least=1, hint=hint)
        super().__init__(tasks, interval=interval, **shared)
