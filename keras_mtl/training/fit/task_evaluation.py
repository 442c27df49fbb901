"""Scores of every task inside `model.fit`, each on its own data."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_mtl.errors import ConfigError, nearest, nearest_task

Metric = str | Callable[[keras.Model, Any], float]

# Last words of the names that Keras gives to metrics of which lower is better.
_LOWER_IS_BETTER = frozenset(
    ("loss", "error", "mae", "mse", "mape", "msle", "rmse", "crossentropy", "perplexity")
)


class TaskEvaluation(keras.callbacks.Callback):
    """Evaluates a model on the validation data of each task at the end of an epoch.

    Among the callbacks of `fit` it writes to the `logs` of the epoch, which `History`,
    `CSVLogger`, `TensorBoard` and `ModelCheckpoint(monitor="digits/accuracy")` read. Given to
    `TaskScheduling` in place of a function it also gives its schedule the scores; then it is not
    listed among the callbacks.

    Args:
        data: for each task what `model.evaluate` takes: a `tf.data.Dataset` of batches or a tuple
            (inputs, labels) or (inputs, labels, weights).
        metric: the score: a name that `model.evaluate` gives, such as `accuracy`, or a function
            of the model and a task's data that returns a number; or {task: name or function}, as
            for a model with a head for each task.
        higher_is_better: direction of the scores. None takes it from the names: lower is better if
            the last word is loss, error, mae, mse, rmse or the like, as in `digits_loss`. Of a
            function higher is better.
        interval: epochs between evaluations, >= 1; ignored by `TaskScheduling`, which has its own.
        batch_size: rows of a batch if the data are arrays.

    Attributes:
        scores: the latest scores, {task: score}; empty before the first evaluation.

    The `logs` get `<task>/<metric>` for every metric of `model.evaluate`, or for the
    function's name.

    Raises:
        ConfigError: there are no tasks, `metric` does not fit the tasks, or the model has no such
            metric.

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
            raise ConfigError("data has no tasks; give each task its validation data")
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
        """Name of the metric; of all, with their tasks, if tasks have different ones."""
        labels = {task: _label(metric) for task, metric in self._metrics.items()}
        different = sorted(set(labels.values()))
        if len(different) == 1:
            return different[0]
        return ", ".join(f"{task}: {label}" for task, label in sorted(labels.items()))

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks that have data."""
        return tuple(self._data)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if (epoch + 1) % self._interval == 0:
            self.evaluate({} if logs is None else logs)

    def evaluate(self, logs: dict[str, Any]) -> dict[str, float]:
        """Evaluates every task now, writes to `logs` and returns {task: score}."""
        for name, data in self._data.items():
            metric, label = self._metrics[name], _label(self._metrics[name])
            if callable(metric):
                results = {label: float(metric(self.model, data))}
            else:
                results = self._keras_metrics(data)
            if label not in results:
                raise ConfigError(
                    f"metric of task {name!r} is {label!r}, and model.evaluate gives "
                    f"{', '.join(results)}{nearest(label, results)}; compile the model with "
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
    """The metric of each task, checked."""
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
                f"metric has nothing for task {name!r}; give {{task: metric}} for each of "
                f"{', '.join(data)}, or one metric for all"
            )
    for name, found in metric.items():
        if not isinstance(found, str) and not callable(found):
            raise ConfigError(
                f"metric of task {name!r} is {found!r}; give a name that model.evaluate gives, or "
                "a function of the model and the task's data"
            )
    return {name: metric[name] for name in data}


def _direction(metrics: Mapping[str, Metric]) -> bool:
    """Whether higher is better, by the names of the metrics.

    Raises:
        ConfigError: tasks disagree, and a schedule compares them by one direction.
    """
    higher = {
        task: not (isinstance(metric, str) and metric.split("_")[-1] in _LOWER_IS_BETTER)
        for task, metric in metrics.items()
    }
    if len(set(higher.values())) > 1:
        up, down = (next(t for t, value in higher.items() if value == v) for v in (True, False))
        raise ConfigError(
            f"of the metric {_label(metrics[up])!r} of task {up!r} higher is better, and of "
            f"{_label(metrics[down])!r} of task {down!r} lower; all scores need one direction. "
            "Give metrics of one direction, or functions and higher_is_better"
        )
    return next(iter(higher.values()))
