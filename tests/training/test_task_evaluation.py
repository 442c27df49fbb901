"""Scores of each task inside `fit`: which metric, in which direction, and what the logs get."""

import fit_case
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.errors import ConfigError
from keras_mtl.training.fit.callbacks import TaskEvaluation, TaskScheduling


def test_task_evaluation_logs_every_metric_of_every_task():
    model = fit_case.make_model("gradient", metrics=["mae"])
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 2)
    y = model.predict(x, verbose=0)
    data = {"exact": (x, y), "off by 2": tf.data.Dataset.from_tensor_slices((x, y + 2)).batch(3)}
    weighted = {"weighted": (x, y + np.arange(1, 5)[:, None], np.eye(4)[1])}
    logs = {}
    evaluation = TaskEvaluation({**data, **weighted}, "loss")
    evaluation.set_model(model)
    evaluation.on_epoch_end(0, logs)
    assert logs["off by 2/loss"] == pytest.approx(4)
    assert logs["off by 2/mae"] == pytest.approx(2)
    assert logs["weighted/loss"] == pytest.approx(4 / 4)  # Keras divides by the number of rows.
    assert logs["exact/loss"] == evaluation.scores["exact"] == pytest.approx(0, abs=1e-10)
    assert not evaluation.higher_is_better
    assert TaskEvaluation(data, "accuracy").higher_is_better
    every_other = TaskEvaluation(data, lambda model, data: 7.0, interval=2)
    every_other.on_epoch_end(0, logs)
    assert every_other.scores == {}
    every_other.on_epoch_end(1, logs)
    assert every_other.scores == {"exact": 7.0, "off by 2": 7.0}
    unknown = TaskEvaluation(data, "accurate")
    unknown.set_model(model)
    message = r"metric of task 'exact' is 'accurate'.*returns loss, mae.*weighted_metrics"
    with pytest.raises(ConfigError, match=message):
        unknown.on_epoch_end(0, {})
    with pytest.raises(ConfigError, match="data has no tasks"):
        TaskEvaluation({})
    with pytest.raises(ConfigError, match="interval must be at least 1"):
        TaskEvaluation(data, interval=0)


def test_task_evaluation_takes_a_metric_of_each_task():
    """As a model with a head for each task needs it."""
    model = fit_case.make_model("gradient", metrics=["mae", "mse"])
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 2)
    y = model.predict(x, verbose=0)
    data = {"off by 3": (x, y + 3), "off by 2": (x, y + 2)}
    evaluation = TaskEvaluation(data, {"off by 2": "mse", "off by 3": "mae"})
    assert not evaluation.higher_is_better
    assert evaluation.label == "off by 2: mse, off by 3: mae"
    evaluation.set_model(model)
    assert evaluation.evaluate({}) == pytest.approx({"off by 3": 3, "off by 2": 4})

    def negated(model, data):
        return -1.0

    names = {"off by 2": "accuracy", "off by 3": negated}
    assert TaskEvaluation(data, names).higher_is_better
    for metric, higher in (
        ("digits_loss", False),
        ("mean_absolute_error", False),
        ("val_mae", False),
        ("root_mean_squared_error", False),
        ("binary_accuracy", True),
        ("auc", True),
    ):
        assert TaskEvaluation(data, metric).higher_is_better == higher, metric
        assert TaskEvaluation(data, metric, not higher).higher_is_better != higher
    for metric, message in (
        ({"off by 2": "mae"}, "no entry for task 'off by 3'"),
        ({"off by 2": "mae", "off by 4": "mae"}, "unknown task 'off by 4'; did you mean"),
        ({"off by 2": "mae", "off by 3": 7}, "metric of task 'off by 3' is 7"),
        ({"off by 2": "mae", "off by 3": "accuracy"}, "metrics with the same direction"),
    ):
        with pytest.raises(ConfigError, match=message):
            TaskEvaluation(data, metric)


def test_task_evaluation_drives_a_schedule_by_losses():
    mixture, model = fit_case.make_mixture(None, "inverse_ratio"), fit_case.make_model("gradient")
    data = {source: (x, y) for source, (x, y) in fit_case.examples().items()}
    scheduling = TaskScheduling(mixture, TaskEvaluation(data), {"large": 0.01, "small": 1.0})
    history = model.fit(
        mixture.dataset(steps=10, map_fn=fit_case.element),
        epochs=2,
        verbose=0,
        callbacks=[scheduling],
    ).history
    # The loss of both is above 1 so far, and `large` is to come down to a hundredth of it.
    assert history["large/loss"][-1] == scheduling.book.scores[0] > 0.1
    assert history["probability/large"][-1] > 0.6


def test_scores_of_another_metric_are_forgotten(tmp_path):
    path = tmp_path / "tasks.npz"
    data = {source: (x, y) for source, (x, y) in fit_case.examples().items()}

    def fit(evaluation, model, **options):
        mixture = fit_case.make_mixture(None, "inverse_ratio")
        scheduling = TaskScheduling(
            mixture, evaluation, {"large": 1.0, "small": 1.0}, state_path=path, **options
        )
        model.fit(
            mixture.dataset(steps=5, map_fn=fit_case.element),
            epochs=1,
            verbose=0,
            callbacks=[scheduling],
        )
        return scheduling.book

    model = fit_case.make_model("gradient", metrics=["mae"])
    assert fit(TaskEvaluation(data, "mae", False), model).counts.tolist() == [1, 1]
    assert fit(TaskEvaluation(data, "mae", False), model).counts.tolist() == [2, 2]
    with pytest.warns(UserWarning, match=r"metric is 'loss' .* but the saved scores are of 'mae'"):
        assert fit(TaskEvaluation(data, "loss"), model).counts.tolist() == [1, 1]
    with pytest.warns(UserWarning, match="higher_is_better=False; they are dropped"):
        book = fit(TaskEvaluation(data, "loss"), model, higher_is_better=True)
    assert book.counts.tolist() == [1, 1]
    assert book.higher_is_better
