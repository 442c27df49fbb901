"""The sections of `trainer` that say what follows from the scores of validations."""

import dataclasses

MACRO, WORST = "macro", "worst"  # Scores of all tasks together; every other name is a task.


@dataclasses.dataclass(slots=True)
class StoppingConfig:
    """Early stopping: training ends when a score has not improved for some validations.

    Attributes:
        score: `macro` (the mean over the validated tasks), `worst` (the task with the lowest score
            / baseline, or the worst score if a task has no baseline), or the name of a task.
        patience: number of validations in a row without an improvement after which training ends;
            0 never ends it early.
        min_delta: smallest improvement that counts, in the unit of the score; >= 0.
        min_steps: training does not end before this step; >= 0.
    """

    score: str = MACRO
    patience: int = 0
    min_delta: float = 0.0
    min_steps: int = 0


@dataclasses.dataclass(slots=True)
class BestConfig:
    """Number of best weights that are kept.

    Attributes:
        macro: those with the best mean over the validated tasks; >= 1. The best are in `best/`; if
            there are several, all are in `best/macro/`.
        worst: those whose worst task is best (see `StoppingConfig.score`), in `best/worst/`; >= 0.
        tasks: those that are best for a task, for each validated task in `best/tasks/<task>/`;
            >= 0.
    """

    macro: int = 1
    worst: int = 0
    tasks: int = 0


@dataclasses.dataclass(slots=True)
class PlateauConfig:
    """Decay of the learning rate on a plateau: when a score has not improved for some validations.

    Attributes:
        score: as `StoppingConfig.score`.
        patience: number of validations in a row without an improvement after which the learning
            rate is multiplied by `factor`; 0 never decays it.
        factor: factor on the learning rate; in (0, 1).
        min_factor: least product of all these factors; in [0, 1].
        min_delta: smallest improvement that counts, in the unit of the score; >= 0.
    """

    score: str = MACRO
    patience: int = 0
    factor: float = 0.5
    min_factor: float = 0.01
    min_delta: float = 0.0
