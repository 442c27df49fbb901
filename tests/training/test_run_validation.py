"""What validation knows of a run, over its restarts."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from keras_mtl.configuration.schema import ExperimentConfig, PairConfig
from keras_mtl.errors import DataError
from keras_mtl.schedules.base import TaskInfo
from keras_mtl.training.run.validation import RunValidation


def validation(tmp_path, metric, validated=()):
    config = ExperimentConfig()
    config.task.pairs = [PairConfig(name="a", source="en", target="fr")]
    config.task.pairs += [PairConfig(name="b", source="en", target="de")]
    config.trainer.evaluation.metric = metric
    config.trainer.evaluation.tasks = list(validated)
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
    with pytest.raises(DataError, match=r"task 'b' has no dev pair .* trainer\.evaluation\.tasks"):
        run.check_pairs([].append)
    chosen = validation(tmp_path, "chrf", ["a"])
    chosen._prepared = run._prepared
    lines = []
    chosen.check_pairs(lines.append)  # The task that is not validated needs no pairs.
    assert len(lines) == 1
    assert "a (3)" in lines[0]
    tasks[0].dev_size = 100
    chosen.check_pairs(lines.append)
    assert len(lines) == 1


def test_the_best_average_is_of_the_validated_tasks(tmp_path):
    run = validation(tmp_path, "chrf", ["a"])
    run.best_score, run.best_step = 55.0, 100
    state, lines = run.collect(), []
    again = validation(tmp_path, "chrf", ["a"])
    again.restore(state, np.array([0, 1]), 100, lines.append)
    assert again.best_score == 55.0
    again = validation(tmp_path, "chrf")
    again.restore(state, np.array([0, 1]), 100, lines.append)
    assert math.isnan(again.best_score)
    assert len(lines) == 1
