"""What is known about the tasks during training: scores, baselines and training losses."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from keras_mtl.errors import CheckpointError, ConfigError, InputError
from keras_mtl.schedules.tasks import TaskInfo, check_tasks

# A lower-is-better score of 0 would give an infinite ratio; no schedule distinguishes larger ones.
_LARGEST_RATIO = 1e6


class ScoreBook:
    """Holds the latest validation score, the baseline and the training losses of each task.

    Schedules read the book and never write to it. Losses are kept as running totals, so each
    schedule gets the losses since its last update as a difference.

    Args:
        tasks: the tasks with their baselines, N >= 1.
        higher_is_better: direction of the metric (True for BLEU, False for log-perplexity), or a
            direction for each task.

    Attributes:
        names: names of the tasks.
        directions: bool[N], whether higher scores are better for each task.
        baselines: float64[N], NaN for a task without a baseline.
        scores: float64[N], latest scores, NaN for a task without a score.
        steps: int64[N], steps of the latest scores, -1 for a task without a score.
        counts: int64[N], numbers of scores that were set.
        loss_weight: float64[N], total weight of the observed losses (1 for a whole batch).
        loss_sum: float64[N], sum of weight * loss.
        inverse_probability: float64[N], sum of weight / probability.
        loss_over_probability: float64[N], sum of weight * loss / probability.
        measurements: latest measurements of the model by name, float64[N] each, NaN for a task that
            was not measured.
        measured: number of measurements so far.
        measured_step: training step of the latest measurement, -1 without one.

    Example:
        ```python
        from keras_mtl import ScoreBook, TaskInfo

        tasks = [TaskInfo("en-fr", 9000, baseline=40.0), TaskInfo("en-oc", 200, baseline=20.0)]
        book = ScoreBook(tasks)
        book.set(0, step=1000, value=30.0)
        book.ratios()  # array([0.75, 0.  ])
        ```
    """

    _ARRAYS = (
        "scores",
        "steps",
        "counts",
        "loss_weight",
        "loss_sum",
        "inverse_probability",
        "loss_over_probability",
    )

    def __init__(
        self, tasks: Sequence[TaskInfo], higher_is_better: bool | Sequence[bool] = True
    ) -> None:
        check_tasks(tasks)
        self.names = tuple(task.name for task in tasks)
        self.directions: np.ndarray = np.full(len(tasks), higher_is_better, bool)
        self.baselines = np.array(
            [math.nan if task.baseline is None else task.baseline for task in tasks], np.float64
        )
        count = len(tasks)
        self.scores = np.full(count, math.nan)
        self.steps = np.full(count, -1, np.int64)
        self.counts = np.zeros(count, np.int64)
        self.loss_weight = np.zeros(count)
        self.loss_sum = np.zeros(count)
        self.inverse_probability = np.zeros(count)
        self.loss_over_probability = np.zeros(count)
        self.measurements: dict[str, np.ndarray] = {}
        self.measured = 0
        self.measured_step = -1

    @property
    def higher_is_better(self) -> bool:
        """Whether higher scores are better for every task."""
        return bool(self.directions.all())

    @property
    def num_tasks(self) -> int:
        """Number of tasks N."""
        return len(self.names)

    def set(self, task: int, step: int, value: float) -> None:
        """Records a validation score.

        Args:
            task: index in [0, N).
            step: the step that was scored, >= 0.
            value: the score. An infinitely bad score is accepted (its ratio is 0); an infinitely
                good score is not.

        Raises:
            InputError: if the task does not exist or the score is NaN or infinitely good.
        """
        name = self._name(task)
        value = float(value)
        higher = bool(self.directions[task])
        best = math.inf if higher else -math.inf
        if math.isnan(value) or value == best:
            raise InputError(
                f"task {name!r}: score = {value} at step {step} is not a score; "
                "skip a task that could not be scored: it keeps its previous score"
            )
        if not higher and value < 0:
            raise InputError(
                f"task {name!r}: score = {value} at step {step} is negative, but if lower is "
                "better, scores must be >= 0 (log-perplexity, error rate); "
                "give a negated metric without its sign"
            )
        self.scores[task] = value
        self.steps[task] = step
        self.counts[task] += 1

    def observe(
        self, task: int, step: int, loss: float, probability: float, weight: float = 1.0
    ) -> None:
        """Records a training loss, for schedules that learn from losses.

        Args:
            task: index in [0, N).
            step: the step of the batch, or the last of several.
            loss: mean loss per token over the batches that `weight` counts.
            probability: probability with which the task was drawn, in (0, 1]. It makes the sums of
                tasks comparable although their probabilities differ.
            weight: number of batches of this task over which `loss` is the mean, > 0; for a mixed
                batch, the task's share of the rows.

        Raises:
            InputError: if the task does not exist or a value is out of range.
        """
        name = self._name(task)
        if not (math.isfinite(loss) and 0 < probability <= 1 + 1e-9 and 0 < weight < math.inf):
            raise InputError(
                f"task {name!r}: loss = {loss}, probability = {probability}, weight = {weight} at "
                f"step {step} cannot be recorded: the loss must be finite, the probability in "
                "(0, 1], the weight > 0; skip steps whose loss is not finite"
            )
        self.loss_weight[task] += weight
        self.loss_sum[task] += weight * loss
        self.inverse_probability[task] += weight / probability
        self.loss_over_probability[task] += weight * loss / probability

    def measure(self, values: Mapping[str, np.ndarray], step: int) -> None:
        """Records a measurement of the model, for schedules that use one.

        Args:
            values: numbers of the tasks by name, float64[N] each.
            step: number of training steps before it, >= 0.
        """
        self.measurements = {name: np.array(value, np.float64) for name, value in values.items()}
        self.measured += 1
        self.measured_step = step

    def take_measurements(self, other: "ScoreBook") -> None:
        """Continues the measurements of another book of the same tasks."""
        self.measurements = dict(other.measurements)
        self.measured, self.measured_step = other.measured, other.measured_step

    def ratios(self) -> np.ndarray:
        """Returns how close each task is to its baseline.

        Returns:
            float64[N] in [0, 1e6]: score / baseline, or baseline / score if lower is better; 0 for
            a task without a score and for a negative score.

        Raises:
            ConfigError: if a task has no baseline.
        """
        without = np.isnan(self.baselines)
        if without.any():
            raise missing_baseline(self.names[int(without.argmax())])
        known = ~np.isnan(self.scores)
        scores = self.scores[known]
        baselines = self.baselines[known]
        result = np.zeros(self.num_tasks)
        result[known] = np.where(
            self.directions[known],
            scores / baselines,
            baselines / np.maximum(scores, baselines / _LARGEST_RATIO),
        )
        return result.clip(0, _LARGEST_RATIO)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Returns the whole book as a flat dict of new float64 and int64 arrays."""
        state = {key: getattr(self, key).copy() for key in self._ARRAYS}
        state["baselines"] = self.baselines.copy()
        if self.measured:
            state["measured"] = np.array(self.measured)
            state["measured_step"] = np.array(self.measured_step)
            state |= {f"measured/{name}": value.copy() for name, value in self.measurements.items()}
        # One number if the tasks agree, as in older versions.
        same = self.directions.all() or not self.directions.any()
        directions = self.directions[0] if same else self.directions
        state["higher_is_better"] = np.array(directions, np.int64)
        return state

    @classmethod
    def from_state(
        cls,
        tasks: Sequence[TaskInfo],
        state: Mapping[str, np.ndarray],
        index_map: np.ndarray | None = None,
    ) -> "ScoreBook":
        """Restores a saved book.

        Args:
            tasks: the present tasks. Their baselines take precedence over saved ones.
            state: from `state_dict`.
            index_map: int64[N], the saved index of each present task, -1 for a new one
                (from `task_index_map`); None if the list did not change.

        Returns:
            A book of the present tasks. If the metric has changed, create a new book instead.

        Raises:
            CheckpointError: if an array is missing or does not fit the map.
        """
        if index_map is None:
            index_map = np.arange(len(tasks))
        kept = index_map >= 0
        directions = np.asarray(state.get("higher_is_better", 1)).astype(bool)
        book = cls(tasks, bool(directions.all()))
        if directions.ndim and len(directions) > index_map.max(initial=-1):
            book.directions[kept] = directions[index_map[kept]]
        for key in (*cls._ARRAYS, "baselines"):
            saved = np.asarray(state.get(key, ()))
            if saved.ndim != 1 or len(saved) <= index_map.max(initial=-1):
                raise CheckpointError(
                    f"score book: the saved {key!r} of shape {saved.shape} does not fit the saved "
                    "list of tasks; the checkpoint is damaged: resume from an earlier one"
                )
            own = getattr(book, key)
            write = kept & np.isnan(own) if key == "baselines" else kept
            own[write] = saved[index_map[write]]
        book.measured = int(state.get("measured", 0))
        book.measured_step = int(state.get("measured_step", -1))  # Older versions did not save it.
        for key, saved in state.items():
            name = key.removeprefix("measured/")
            if name != key and len(saved) > index_map.max(initial=-1):
                values = np.full(len(tasks), math.nan)
                values[kept] = saved[index_map[kept]]
                book.measurements[name] = values
        return book

    def _name(self, task: int) -> str:
        if not 0 <= task < self.num_tasks:
            raise InputError(f"task index {task} must be in [0, {self.num_tasks})")
        return self.names[task]


def missing_baseline(task: str) -> ConfigError:
    """Returns the error for a task whose baseline is needed but not known."""
    return ConfigError(
        f"task {task!r} has no baseline; give it the score of a model trained on only this task: "
        "TaskInfo(..., baseline=SCORE) in Python, `baseline: SCORE` or a baselines_file in a "
        "configuration"
    )
