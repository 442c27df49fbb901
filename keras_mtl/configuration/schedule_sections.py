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
    """

    name: str = "temperature"
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    baselines_file: str = ""
    application: str = "gradient"
    draw: str = "random"


@dataclasses.dataclass(slots=True)
class BalancingConfig:
    """The balancing method, which combines losses or gradients of several tasks in one update.

    Attributes:
        name: name of a registered method, for example dwa or pcgrad; empty sums the losses.
        parameters: parameters of the method, for example `{temperature: 2.0}`.
    """

    name: str = ""
    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
