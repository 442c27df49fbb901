"""Tasks with metrics of their own under one schedule."""

import pytest

from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.schema import CorpusConfig, ExperimentConfig, PairConfig
from keras_mtl.errors import ConfigError
from keras_mtl.evaluation.task_metrics import TaskMetrics
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


def test_one_schedule_needs_one_direction_and_baselines():
    plan_training(Draft(make()))
    with pytest.raises(ConfigError, match=r"pairs\[1\].metric = 'ter' is better if lower.*'chrf'"):
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
