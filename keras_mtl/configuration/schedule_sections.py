"""The sections of `trainer` that decide what a task contributes to training."""

import dataclasses
from typing import Any


@dataclasses.dataclass(slots=True)
class ScheduleConfig:
    """The schedule, which decides which task gets the next batch.

    Attributes:
        name: name of a registered schedule, for example proportional, temperature or inverse_ratio.
        parameters: parameters of the schedule, for example `{alpha: 1.0, epsilon: 0.05}`.
        baselines_file: JSON file `{task: score}`; the `baseline` of a task takes precedence.
        application: what the factors of an implicit schedule multiply: `gradient` (a weight of
            the loss) or `learning_rate`, which needs batches of one task and no accumulation.
        draw: `random` draws tasks by their probabilities; `blend` is deterministic and takes the
            task that is furthest behind its share.
        max_epochs: largest number of passes over the pairs of each task; the rest of its
            probability goes to the other tasks. None repeats without a limit.
        overfit_patience: number of validations in a row, each with a worse score than the one
            before, after which the probability of a task falls to the schedule's floor for good;
            validations before which the task was not trained do not count; 0 is off.
    """

    name: str = "temperature"
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    baselines_file: str = ""
    application: str = "gradient"
    draw: str = "random"
    max_epochs: float | None = None
    overfit_patience: int = 0


@dataclasses.dataclass(slots=True)
class BalancingConfig:
    """The balancing method, which combines losses or gradients of several tasks in one update.

    Attributes:
        name: name of a registered method, for example dwa or pcgrad; empty sums the losses.
        parameters: parameters of the method, for example `{temperature: 2.0}`.
    """

    name: str = ""
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
