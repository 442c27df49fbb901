"""Learning curves: scores and losses of tasks from the examples drawn so far."""

import abc
import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from keras_mtl.errors import ConfigError
from keras_mtl.schedules import TaskInfo

# Loss per token before and after training, in nats: the logarithm of a vocabulary of a few thousand
# tokens, and the loss of good translation models. Only schedules that learn from losses use them.
_FIRST_LOSS = 8.0
_LAST_LOSS = 1.0


@dataclasses.dataclass(frozen=True)
class CurveSettings:
    """Parameters of a modeled learning curve.

    Let y_i be the number of useful examples of task i plus `transfer` times those of the other
    tasks, and s_i the recent share of the task in the updates. Then the fraction of the goal that
    the task has reached is

        (1 - (1 + y_i / onset)^-exponent) s_i^interference (1 + f) s_i / (s_i + f)

    with f = forgetting / N.

    Attributes:
        exponent: exponent of the power law, > 0.
        onset: number of examples at which the curve bends, > 0.
        transfer: value of an example of another task, in [0, 1].
        interference: exponent of the share of the model's capacity that a task gets, >= 0.
        forgetting: recent share, relative to an even share, at which half of a task is forgotten,
            >= 0.
        repeats: passes over the data after which a repeat is worth 1/e of a new example, > 0.
        memory: number of steps of the recent share; 0 means a twentieth of all steps.

    With the defaults of the first three parameters the model reproduces the baselines that were
    measured for `configs/demo.yaml`. The default of `repeats`, and the form
    1 + R (1 - exp(-passes / R)), are from Muennighoff et al. 2023, "Scaling data-constrained
    language models", arXiv 2305.16264. A power law with a capacity that follows the share is the
    form of Fernandes et al. 2023, "Scaling laws for multilingual neural machine translation",
    arXiv 2302.09650.

    Raises:
        ConfigError: a value is out of range.
    """

    exponent: float = 0.5
    onset: float = 5000.0
    transfer: float = 0.2
    interference: float = 0.03
    forgetting: float = 0.03
    repeats: float = 15.0
    memory: float = 0.0

    def __post_init__(self) -> None:
        for name, above, most in (
            ("exponent", True, math.inf),
            ("onset", True, math.inf),
            ("transfer", False, 1.0),
            ("interference", False, math.inf),
            ("forgetting", False, math.inf),
            ("repeats", True, math.inf),
            ("memory", False, math.inf),
        ):
            value = getattr(self, name)
            if not (
                math.isfinite(value) and (value > 0 if above else value >= 0) and value <= most
            ):
                limit = "" if most == math.inf else f" and <= {most:g}"
                raise ConfigError(
                    f"curve parameter {name} = {value} must be finite, {'>' if above else '>='} 0"
                    f"{limit}"
                )

    def useful(self, seen: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Returns the value of the drawn examples, in numbers of new examples.

        Args:
            seen: float64[N], numbers of drawn examples, including repeats.
            sizes: float64[N], numbers of examples of the tasks.

        Returns:
            float64[N], at most sizes * (1 + repeats).
        """
        repeated = np.maximum(seen / np.maximum(sizes, 1e-300) - 1, 0.0)
        repeats = -np.expm1(-repeated / self.repeats) * self.repeats
        return np.where(sizes > 0, np.minimum(seen, sizes) + sizes * repeats, 0.0)

    def retained(self, share: np.ndarray) -> np.ndarray:
        """Returns the fraction of its learning that each task retains, float64[N]."""
        f = self.forgetting / len(share)
        kept = np.where(share > 0, (1 + f) * share / np.maximum(share + f, 1e-300), float(f == 0))
        return kept * share**self.interference


GIVEN, MODELED, RECORDED = "given", "modeled", "recorded"


class Curves(abc.ABC):
    """Base class of learning curves.

    Attributes:
        tasks: the tasks, each with a baseline.
        baseline_sources: source of each task's baseline: `given` by the user, `modeled` by the
            curve, or `recorded`, the best score of the recorded run. Empty if all are given.
        higher_is_better: direction of the scores.
        settings: effects of repeats, other tasks and recent shares.
    """

    tasks: tuple[TaskInfo, ...]
    higher_is_better: bool
    settings: CurveSettings
    baseline_sources: tuple[str, ...] = ()

    @abc.abstractmethod
    def scores(self, learned: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Returns validation scores in the unit of the baselines.

        Args:
            learned: float64[N], see `CurveSettings.useful`.
            share: float64[N], recent shares of the updates; they sum to 1.

        Returns:
            float64[N], >= 0.
        """

    @abc.abstractmethod
    def losses(self, learned: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Returns the training loss per token in nats, float64[N]; arguments as for `scores`."""

    def held(self, learned: np.ndarray) -> np.ndarray:
        """Returns whether each curve is used beyond its last known point, bool[N]."""
        return np.zeros(len(learned), bool)


class PowerLawCurves(Curves):
    """A power law for each task.

    A model trained on only one task reaches its baseline in exactly `alone_steps` steps. If a task
    has no baseline, it is modeled: the score after `alone_steps` steps on a curve that ends at 100
    (or, if lower is better, at 1 nat).

    Args:
        tasks: the tasks.
        rows: float64[N], number of examples of a batch.
        alone_steps: number of steps in which the baselines are reached.
        settings: parameters of the curve.
        higher_is_better: False for log-perplexity.

    Raises:
        ConfigError: a task has no examples, so it cannot be simulated.
    """

    def __init__(
        self,
        tasks: Sequence[TaskInfo],
        rows: np.ndarray,
        alone_steps: int,
        settings: CurveSettings | None = None,
        higher_is_better: bool = True,
    ) -> None:
        self.settings = settings or CurveSettings()
        self.higher_is_better = higher_is_better
        sizes = np.array([task.size for task in tasks], np.float64)
        for task in tasks:
            if task.size < 1:
                raise ConfigError(
                    f"task {task.name!r} has no examples to simulate with; give its size"
                )
        single = self.settings.useful(alone_steps * np.asarray(rows, np.float64), sizes)
        way = self._way(single)  # without other tasks, its share is 1 and all is retained
        given = np.array([math.nan if t.baseline is None else t.baseline for t in tasks])
        if higher_is_better:
            self._goal = np.where(np.isnan(given), 100.0, given / way)
            baselines = self._goal * way
        else:
            # If a low baseline cannot be reached in this way, the goal is a perfect model.
            goal = np.maximum((given - _FIRST_LOSS * (1 - way)) / way, 0.0)
            self._goal = np.where(np.isnan(given), _LAST_LOSS, goal)
            baselines = np.where(np.isnan(given), _FIRST_LOSS + way * (1 - _FIRST_LOSS), given)
        self.baseline_sources = tuple(MODELED if np.isnan(value) else GIVEN for value in given)
        self.tasks = tuple(
            TaskInfo(task.name, task.size, float(baseline))
            for task, baseline in zip(tasks, baselines, strict=True)
        )

    def scores(self, learned: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Returns the reached fraction of the goal; for losses, from the first loss to the goal."""
        way = self._way(self._shared(learned)) * self.settings.retained(share)
        if self.higher_is_better:
            return self._goal * way
        return _FIRST_LOSS + way * (self._goal - _FIRST_LOSS)

    def losses(self, learned: np.ndarray, share: np.ndarray) -> np.ndarray:
        """Returns losses between the first and the last one, by the same fraction."""
        way = self._way(self._shared(learned)) * self.settings.retained(share)
        last = _LAST_LOSS if self.higher_is_better else self._goal
        return _FIRST_LOSS + way * (last - _FIRST_LOSS)

    def _shared(self, learned: np.ndarray) -> np.ndarray:
        return learned + self.settings.transfer * (learned.sum() - learned)

    def _way(self, learned: np.ndarray) -> np.ndarray:
        return 1 - (1 + learned / self.settings.onset) ** -self.settings.exponent
