"""Tasks with metrics of their own under one schedule."""

import math

import numpy as np
import pytest

from keras_mtl import metrics, schedules
from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.schema import CorpusConfig, ExperimentConfig, PairConfig
from keras_mtl.errors import ConfigError
from keras_mtl.evaluation.task_metrics import TaskMetrics
from keras_mtl.schedules import TaskInfo
from keras_mtl.training.run.baselines import single_task_config
from keras_mtl.training.run.planning import plan_training


def make(second="bleu_zh", baselines=(50.0, 20.0), metric="chrf"):
    config = ExperimentConfig()
    config.task.data.corpora = [CorpusConfig("cldr", {"pairs": 300})]
    config.task.pairs = [
        PairConfig("en-fr", "en", "fr", baseline=baselines[0]),
        PairConfig("en-zh", "en", "zh", baseline=baselines[1], metric=second),
    ]
    config.trainer.evaluation.metric = metric
    return config


def test_scores_in_different_units_are_averaged_as_ratios():
    found = TaskMetrics.of(make())
    assert found.differ
    assert found.names == ["chrf", "bleu_zh"]
    scores, baselines = {"en-fr": 40.0, "en-zh": 18.0}, {"en-fr": 50.0, "en-zh": 20.0}
    assert found.average(scores, baselines) == pytest.approx((0.8 + 0.9) / 2)
    assert found.average_higher_is_better
    same = TaskMetrics.of(make(second=""))
    assert same.average(scores, baselines) == 29.0
    assert same.label == "chrf"
    # With errors, fewer are better, and the average of ratios is still better if higher.
    errors = TaskMetrics.of(make("ter", metric="neg_log_perplexity"))
    average = errors.average({"en-fr": -2.0, "en-zh": 80.0}, {"en-fr": 1.0, "en-zh": 40.0})
    assert average == pytest.approx(0.5)
    assert errors.average_higher_is_better
    assert not TaskMetrics.of(make("ter", metric="ter")).average_higher_is_better


def test_different_metrics_need_baselines():
    plan_training(Draft(make()))
    plan_training(Draft(make("ter")))
    with pytest.raises(ConfigError, match=r"pairs\[0\].baseline is missing.*different metrics"):
        plan_training(Draft(make(baselines=(None, 20.0))))
    plan_training(Draft(make("", baselines=(None, None))))
    plan_training(Draft(make("ter", baselines=(None, None), metric="ter")))
    with pytest.raises(ConfigError, match=r"pairs\[1\].metric = 'blue' is unknown.*'bleu'"):
        plan_training(Draft(make("blue")))


def test_a_baseline_is_measured_in_the_metric_of_its_task():
    config = make()
    config.trainer.freeze = ["decoder_fr/.*"]
    config.task.pairs[1].train_only = ["decoder_zh/.*"]
    single = single_task_config(config, config.task.pairs[1])
    assert TaskMetrics.of(single).names == ["bleu_zh"]
    assert not single.trainer.freeze
    assert not single.task.pairs[0].train_only
    assert config.trainer.freeze


def test_metrics_of_different_directions_are_compared_with_their_baselines():
    found = TaskMetrics.of(make("ter"))
    assert found.schedule_higher_is_better == (True, False)
    average = found.average({"en-fr": 40.0, "en-zh": 80.0}, {"en-fr": 50.0, "en-zh": 20.0})
    assert average == pytest.approx((0.8 + 0.25) / 2)
    tasks = [TaskInfo("en-fr", 9, baseline=50.0), TaskInfo("en-zh", 9, baseline=20.0)]
    schedule = schedules.create("inverse_ratio", tasks)
    adaptive = schedules.AdaptiveState(schedule, found.label, found.schedule_higher_is_better)
    adaptive.enter_scores(1, {"en-fr": 40.0, "en-zh": 80.0})
    assert adaptive.ratios() == pytest.approx({"en-fr": 0.8, "en-zh": 0.25})
    again = schedules.AdaptiveState(schedule, found.label, found.schedule_higher_is_better)
    assert again.load_scores(adaptive.score_state(), np.arange(2)) is None
    assert again.ratios() == adaptive.ratios()
    # Saved by a run whose metrics had other directions.
    other = schedules.AdaptiveState(schedule, found.label, (False, True))
    assert "they are dropped" in other.load_scores(adaptive.score_state(), np.arange(2))
    assert other.book.directions.tolist() == [False, True]


def test_tasks_that_do_not_translate_are_scored_by_their_loss():
    config = make("")
    config.task.pairs[1].kind = "language_model"
    found = TaskMetrics.of(config)
    assert found.names == ["chrf", "perplexity"]
    plan_training(Draft(config))
    assert TaskMetrics.of(make(metric="bits")).names == ["bits", "bleu_zh"]
    config.trainer.evaluation.metric = "neg_log_perplexity"
    assert TaskMetrics.of(config).names == ["neg_log_perplexity"]
    config.task.pairs[1].metric = "chrf"
    with pytest.raises(ConfigError, match=r"pairs\[1\].metric = 'chrf' compares translations, but"):
        plan_training(Draft(config))


def test_perplexity_is_that_of_a_uniform_choice():
    assert metrics.loss_score("perplexity", 10 * math.log(8), 10).value == pytest.approx(8)
    assert metrics.loss_score("perplexity", 1e9, 1).value < math.inf
    assert not metrics.higher_is_better("perplexity")
