"""What validation knows of a run, over its restarts."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from keras_mtl.configuration.schema import ExperimentConfig, PairConfig
from keras_mtl.errors import DataError
from keras_mtl.training.run.periodic_validation import PeriodicValidation
from keras_mtl.training.run.planning import TrainingPlan, validated_tasks
from keras_mtl.training.step.workers import Workers


def validation(tmp_path, metric, validated=(), baselines=None, metric_of_b=""):
    config = ExperimentConfig()
    config.task.pairs = [PairConfig(name="a", source="en", target="fr")]
    config.task.pairs += [PairConfig(name="b", source="en", target="de", metric=metric_of_b)]
    config.trainer.stopping.score, config.trainer.stopping.patience = "worst", 3
    config.trainer.best.worst = 1
    config.trainer.evaluation.metric = metric
    config.trainer.evaluation.tasks = list(validated)
    directory = SimpleNamespace(pending=tmp_path / "pending", best=tmp_path / "best")
    mixture = SimpleNamespace(task_names=("a", "b"))
    schedule = SimpleNamespace(baselines=baselines)
    plan = TrainingPlan(config, "train_and_eval", validated_tasks(config), schedule, None)
    return PeriodicValidation(plan, None, None, None, mixture, directory, None, Workers(None))


def test_the_best_average_is_of_the_same_metric(tmp_path):
    run = validation(tmp_path, "bleu")
    run.best.restore({"best": np.array([12.0, 100])}, ["a", "b"], np.arange(2))
    state, lines = run.collect(), []
    for same in (True, False):
        again = validation(tmp_path, "bleu")
        again.restore(state, np.array([0, 1]), 100, same, lines.append)
        assert math.isnan(again.best.score) != same
        assert again.best.step == (100 if same else -1)
        assert again.evaluated_step == 100
    assert lines == []


def test_the_best_average_is_of_the_same_tasks(tmp_path):
    run = validation(tmp_path, "chrf")
    run.best.restore({"best": np.array([55.0, 100])}, ["a", "b"], np.arange(2))
    state, lines = run.collect(), []
    again = validation(tmp_path, "chrf")
    again.restore(state, np.array([1, 0]), 100, True, lines.append)  # In another order.
    assert again.best.score == 55.0
    assert lines == []
    for moved in ([0, -1], [-1, -1]):
        again.restore(state, np.array(moved), 100, True, lines.append)
        assert math.isnan(again.best.score)
        assert again.best.step == -1
    assert (
        lines == ["the tasks have changed since the checkpoint, so its best score is forgotten"] * 2
    )


@pytest.mark.parametrize(
    ("before", "after", "metric_of_b", "forgotten"),
    [
        (None, None, "", ()),
        ({"a": 60.0, "b": 50.0}, {"a": 60.0, "b": 50.0}, "", ()),
        (None, {"a": 60.0, "b": None}, "", ()),  # Without one of b, no ratios are compared.
        (None, {"a": 60.0, "b": 50.0}, "", ("worst",)),
        ({"a": 60.0, "b": 50.0}, None, "", ("worst",)),
        ({"a": 60.0, "b": 50.0}, {"a": 60.0, "b": 40.0}, "", ("worst",)),
        # The mean of scores of different metrics is one of ratios.
        ({"a": 60.0, "b": 50.0}, {"a": 60.0, "b": 40.0}, "bleu", ("macro", "worst")),
    ],
)
def test_scores_against_other_baselines_are_forgotten(
    tmp_path, before, after, metric_of_b, forgotten
):
    run = validation(tmp_path, "chrf", (), before, metric_of_b)
    saved = {"best": np.array([55.0, 100]), "best_lists/worst": np.array([[0.5, 100]])}
    run.best.restore(saved, ["a", "b"], np.arange(2))
    run.stopping.observe(100, {"a": 30.0, "b": 20.0})
    lines = []
    again = validation(tmp_path, "chrf", (), after, metric_of_b)
    again.restore(run.collect(), np.array([0, 1]), 100, True, lines.append)
    assert (again.best.step == 100) == ("macro" not in forgotten)
    assert len(again.best.collect(["a", "b"])["best_lists/worst"]) == ("worst" not in forgotten)
    assert (again.stopping.step == 100) == ("worst" not in forgotten)
    which = "" if "macro" in forgotten else " of the worst task"
    expected = (
        f"the baselines have changed since the checkpoint, so its best score{which} is forgotten"
    )
    assert lines == ([expected] if forgotten else [])


def test_a_checkpoint_of_an_older_version_validated_every_task(tmp_path):
    state, lines = {"best": np.array([55.0, 100]), "book/steps": np.array([100, 100])}, []
    for validated, kept in (((), True), (("a",), False)):
        again = validation(tmp_path, "chrf", validated)
        again.restore(state, np.array([0, 1]), 100, True, lines.append)
        assert (again.best.step == 100) == kept
    assert len(lines) == 1


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
    run.best.restore({"best": np.array([55.0, 100])}, ["a", "b"], np.arange(2))
    state, lines = run.collect(), []
    again = validation(tmp_path, "chrf", ["a"])
    again.restore(state, np.array([0, 1]), 100, True, lines.append)
    assert again.best.score == 55.0
    again = validation(tmp_path, "chrf")
    again.restore(state, np.array([0, 1]), 100, True, lines.append)
    assert math.isnan(again.best.score)
    assert len(lines) == 1
