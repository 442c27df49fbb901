"""What validation knows of a run, over its restarts."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from keras_mtl.config import ExperimentConfig
from keras_mtl.errors import DataError
from keras_mtl.schedules.base import TaskInfo
from keras_mtl.training.run_validation import RunValidation


def validation(tmp_path, metric):
    config = ExperimentConfig()
    config.override({"trainer": {"evaluation": {"metric": metric}}})
    tasks = [TaskInfo("a", 10, baseline=20.0), TaskInfo("b", 20, baseline=30.0)]
    directory = SimpleNamespace(pending=tmp_path / "pending", best=tmp_path / "best")
    return RunValidation(config, None, tasks, None, None, None, directory, None)


@pytest.mark.parametrize("after", ["bleu", "chrf", "neg_log_perplexity"])
def test_scores_of_another_metric_are_forgotten(tmp_path, after):
    run = validation(tmp_path, "bleu")
    run.book.set(0, 100, 12.0)
    run.best_score, run.best_step = 12.0, 100
    state, lines = run.collect(), []
    again = validation(tmp_path, after)
    again.restore(state, np.array([0, 1]), 100, lines.append)
    if after == "bleu":
        assert again.collect().keys() == state.keys()
        np.testing.assert_array_equal(again.book.ratios(), run.book.ratios())
        assert (again.best_score, again.best_step) == (12.0, 100)
        assert lines == []
    else:
        assert not np.array_equal(again.book.ratios(), run.book.ratios())
        assert math.isnan(again.best_score)
        assert again.best_step == -1
        assert lines == ["the metric changed since the checkpoint; its scores are forgotten"]
    assert again.evaluated_step == 100
    # A checkpoint of before metrics were named there is taken at its word.
    del state["metric"]
    lines.clear()
    again.restore(state, np.array([0, 1]), 100, lines.append)
    assert (lines == []) == (after != "neg_log_perplexity")


def test_the_best_average_is_of_the_same_tasks(tmp_path):
    run = validation(tmp_path, "chrf")
    run.best_score, run.best_step = 55.0, 100
    state, lines = run.collect(), []
    again = validation(tmp_path, "chrf")
    again.restore(state, np.array([1, 0]), 100, lines.append)  # In another order.
    assert again.best_score == 55.0
    assert lines == []
    for moved in ([0, -1], [-1, -1]):
        again.restore(state, np.array(moved), 100, lines.append)
        assert math.isnan(again.best_score)
        assert again.best_step == -1
    assert lines == ["the tasks changed since the checkpoint; its best average is forgotten"] * 2


def test_a_task_without_dev_pairs_is_named_before_training(tmp_path):
    tasks = [SimpleNamespace(name="a", dev_size=3), SimpleNamespace(name="b", dev_size=0)]
    run = validation(tmp_path, "chrf")
    run._prepared = SimpleNamespace(tasks=tasks)
    with pytest.raises(DataError, match="task 'b' has no dev pair to score; raise"):
        run.check_pairs()
