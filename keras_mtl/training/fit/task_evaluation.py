"""Scores of every task inside `model.fit`, each on its own data."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_mtl.errors import ConfigError, nearest, nearest_task

Metric = str | Callable[[keras.Model, Any], float]

# The last words of Keras' names for metrics for which lower is better.
_LOWER_IS_BETTER = frozenset(
    ("loss", "error", "mae", "mse", "mape", "msle", "rmse", "crossentropy", "perplexity")
)


class TaskEvaluation(keras.callbacks.Callback):
    """Evaluates a model on the validation data of each task at the end of an epoch.

    Listed among the callbacks of `fit`, it writes to the `logs` of the epoch, which `History`,
    `CSVLogger`, `TensorBoard` and `ModelCheckpoint(monitor="digits/accuracy")` read. Given to
    `TaskScheduling` as `evaluate`, it also provides the scores for the schedule; do not list it
    among the callbacks then. The `logs` contain `<task>/<metric>` for every metric of
    `model.evaluate`, or for the name of the function.

    Args:
        data: for each task an argument of `model.evaluate`: a `tf.data.Dataset` of batches, or a
            tuple (inputs, labels) or (inputs, labels, weights).
        metric: the score: the name of a metric of `model.evaluate`, such as `accuracy`, or a
            function of the model and the data of a task that returns a number. To use different
            metrics, for example for a model with a head for each task, give {task: name or
            function}.
        higher_is_better: whether a higher score is better. None decides by the names: lower is
            better if the last word is loss, error, mae, mse, rmse or similar, as in `digits_loss`.
            For a function, higher is better.
        interval: number of epochs between evaluations, at least 1. `TaskScheduling` uses its own
            interval instead.
        batch_size: number of rows in a batch if the data are arrays.

    Attributes:
        scores: the latest scores, {task: score}. Empty before the first evaluation.

    Raises:
        ConfigError: there are no tasks, `metric` does not fit the tasks, or the model does not have
            the metric.

    Example:
        ```python
        import keras
        import numpy as np
        from keras_mtl import TaskEvaluation

        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", metrics=["mae"])
        x, y = np.ones((8, 2)), np.ones((8, 1))
        evaluation = TaskEvaluation({"first": (x, y), "second": (-x, y)}, metric="mae")
        model.fit(x, y, verbose=0, callbacks=[evaluation])
        evaluation.scores  # {"first": ..., "second": ...}
        ```
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        metric: Metric | Mapping[str, Metric] = "loss",
        higher_is_better: bool | None = None,
        interval: int = 1,
        batch_size: int | None = None,
    ):
        super().__init__()
        if not data:
            raise ConfigError("data has no tasks. Give validation data for each task")
        if interval < 1:
            raise ConfigError(f"interval must be at least 1 epoch, got {interval}")
        self._data = dict(data)
        self._metrics = _metric_of_each(metric, self._data)
        self._interval = interval
        self._batch_size = batch_size
        if higher_is_better is None:
            higher_is_better = _direction(self._metrics)
        self.higher_is_better = higher_is_better
        self.scores: dict[str, float] = {}

    @property
    def label(self) -> str:
        """The name of the metric. If tasks have different metrics, all names with their tasks."""
        labels = {task: _label(metric) for task, metric in self._metrics.items()}
        different = sorted(set(labels.values()))
        if len(different) == 1:
            return different[0]
        return ", ".join(f"{task}: {label}" for task, label in sorted(labels.items()))

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks with data."""
        return tuple(self._data)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if (epoch + 1) % self._interval == 0:
            self.evaluate({} if logs is None else logs)

    def evaluate(self, logs: dict[str, Any]) -> dict[str, float]:
        """Evaluates every task now.

        Args:
            logs: receives the values of all metrics.

        Returns:
            {task: score}.
        """
        for name, data in self._data.items():
            metric, label = self._metrics[name], _label(self._metrics[name])
            if callable(metric):
                results = {label: float(metric(self.model, data))}
            else:
                results = self._keras_metrics(data)
            if label not in results:
                raise ConfigError(
                    f"metric of task {name!r} is {label!r}, but model.evaluate returns "
                    f"{', '.join(results)}{nearest(label, results)}. Compile the model with "
                    "weighted_metrics=[...]"
                )
            logs.update({f"{name}/{key}": value for key, value in results.items()})
            self.scores[name] = results[label]
        return dict(self.scores)

    def _keras_metrics(self, data: Any) -> dict[str, float]:
        options: dict[str, Any] = {"batch_size": self._batch_size, "verbose": 0}
        if isinstance(data, tuple | list):
            inputs, labels, *weights = data
            options |= {"y": labels, "sample_weight": weights[0] if weights else None}
            data = inputs
        results = self.model.evaluate(data, return_dict=True, **options)
        return {key: float(value) for key, value in results.items()}


def _label(metric: Metric) -> str:
    if isinstance(metric, str):
        return metric
    return getattr(metric, "__name__", type(metric).__name__)


def _metric_of_each(
    metric: Metric | Mapping[str, Metric], data: Mapping[str, Any]
) -> dict[str, Metric]:
    """Returns the metric of each task, after checks."""
    if not isinstance(metric, Mapping):
        metric = dict.fromkeys(data, metric)
    for name in metric:
        if name not in data:
            raise ConfigError(
                f"metric has an unknown task {name!r}{nearest_task(name, data, listing='')}"
            )
    for name in data:
        if name not in metric:
            raise ConfigError(
                f"metric has no entry for task {name!r}. Give {{task: metric}} for each of "
                f"{', '.join(data)}, or one metric for all"
            )
    for name, found in metric.items():
        if not isinstance(found, str) and not callable(found):
            raise ConfigError(
                f"metric of task {name!r} is {found!r}: give the name of a metric of "
                "model.evaluate, or a function of the model and the data of the task"
            )
    return {name: metric[name] for name in data}


def _direction(metrics: Mapping[str, Metric]) -> bool:
    """Whether higher is better, according to the names of the metrics.

    Raises:
        ConfigError: the tasks differ, but a schedule compares all scores in one direction.
    """
    higher = {
        task: not (isinstance(metric, str) and metric.split("_")[-1] in _LOWER_IS_BETTER)
        for task, metric in metrics.items()
    }
    if len(set(higher.values())) > 1:
        up, down = (next(t for t, value in higher.items() if value == v) for v in (True, False))
        raise ConfigError(
            f"higher is better for the metric {_label(metrics[up])!r} of task {up!r}, but lower is "
            f"better for {_label(metrics[down])!r} of task {down!r}. Give metrics with the same "
            "direction, or functions and higher_is_better"
        )
    return next(iter(higher.values()))
