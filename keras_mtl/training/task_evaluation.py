"""Scores of every task inside ``model.fit``, each on data of its own."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_mtl.errors import ConfigError, nearest


class TaskEvaluation(keras.callbacks.Callback):
    """Evaluates a model on the validation data of each task at the end of an epoch.

    Alone it writes to the ``logs`` of the epoch, which ``History``, ``CSVLogger``, ``TensorBoard``
    and ``ModelCheckpoint(monitor="digits/accuracy")`` read. Given to `TaskScheduling` in place of a
    function it gives its schedule the scores too; then it is not listed among the callbacks.

    Args:
        data: for each task what ``model.evaluate`` takes: a ``tf.data.Dataset`` of batches or a
            tuple (inputs, labels) or (inputs, labels, weights).
        metric: the score: a name that ``model.evaluate`` gives, such as ``accuracy``, or a function
            of the model and a task's data that returns a number.
        higher_is_better: direction of the score; None takes False for ``loss``, else True.
        interval: epochs between evaluations, >= 1; ignored by `TaskScheduling`, which has its own.
        batch_size: rows of a batch where the data are arrays.

    Attributes:
        scores: the latest scores, {task: score}; empty before the first evaluation.

    The ``logs`` get ``<task>/<metric>`` for every metric of ``model.evaluate``, or for the
    function's name.

    Raises:
        ConfigError: there are no tasks, or the model has no such metric.
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        metric: str | Callable[[keras.Model, Any], float] = "loss",
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
        self._metric = metric
        self._interval = interval
        self._batch_size = batch_size
        self.higher_is_better = metric != "loss" if higher_is_better is None else higher_is_better
        self.scores: dict[str, float] = {}

    @property
    def label(self) -> str:
        """Name of the metric."""
        if isinstance(self._metric, str):
            return self._metric
        return getattr(self._metric, "__name__", type(self._metric).__name__)

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks that have data."""
        return tuple(self._data)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if (epoch + 1) % self._interval == 0:
            self.evaluate({} if logs is None else logs)

    def evaluate(self, logs: dict[str, Any]) -> dict[str, float]:
        """Evaluates every task now, writes to ``logs`` and returns {task: score}."""
        for name, data in self._data.items():
            label = self.label
            if callable(self._metric):
                results = {label: float(self._metric(self.model, data))}
            else:
                results = self._keras_metrics(data)
            if label not in results:
                raise ConfigError(
                    f"metric is {label!r}, and model.evaluate gives {', '.join(results)}"
                    f"{nearest(label, results)}; compile the model with metrics=[...]"
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
