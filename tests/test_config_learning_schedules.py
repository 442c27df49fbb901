"""What a configuration says of schedules that learn between validations."""

import functools

import numpy as np
import pytest

from keras_mtl import errors
from keras_mtl.cli.inspect_trainer import trainer_lines
from keras_mtl.schedules import AdaptiveState, TaskInfo, create
from keras_mtl.simulation import PlaySettings, PowerLawCurves, simulate
from keras_mtl.training.run.planning import plan_training
from tests.config_case import load

PAIRS = "task.pairs=[{source: en, target: fr}, {source: en, target: de}]"


def plan(schedule, *params, mode="train"):
    check = functools.partial(plan_training, mode=mode)
    return load(PAIRS, f"trainer.schedule={schedule}", *params, check=check)


def problem(*args, **options):
    with pytest.raises(errors.ConfigError) as error:
        plan(*args, **options)
    return str(error.value)


def test_training_without_validation_needs_an_interval():
    found = problem("{name: bandit}")
    assert "'bandit' learns at each validation. Use --mode train_and_eval, or set" in found
    plan("{name: bandit}", mode="train_and_eval")
    plan("{name: bandit, parameters: {interval: 100}}")
    plan("{name: ado}")
    assert "learns at each validation" in problem("{name: ado, parameters: {interval: 0}}")


def test_measurements_need_dev_pairs_and_no_tpu():
    plan("{name: multi_uat}")
    found = problem("{name: multi_uat}", "task.data.dev_fraction=0")
    assert "measures the model on dev pairs, but task.data.dev_fraction is 0 and en-fr" in found
    assert "dev_fraction is 0" in problem("{name: aioli}", "task.data.dev_fraction=0")
    plan("{name: pike, parameters: {zeta1: 0.1, zeta2: 0.1}}", "task.data.dev_fraction=0")
    found = problem("{name: multi_dds_s}", "runtime.distribution_strategy=tpu")
    assert "measures the model between steps, which does not work on a TPU" in found


def test_trials_and_limits_of_tasks_exclude_each_other():
    found = problem("{name: aioli, max_epochs: 3}")
    assert "needs its own probabilities to measure the effect of each task" in found
    plan("{name: pike, max_epochs: 3, parameters: {zeta1: 0.1, zeta2: 0.1}}")


def test_inspect_says_when_and_from_what_a_schedule_learns():
    def lines(schedule):
        return trainer_lines(load(PAIRS, f"trainer.schedule={schedule}"))

    assert "the schedule learns every 100 steps from training losses" in lines("{name: ado}")
    assert (
        "the schedule learns every 2,000 steps from the model's entropy on 32 pairs of each task, "
        "5 passes"
    ) in lines("{name: multi_uat}")
    assert (
        "the schedule learns every 250 steps from the model's dev loss on 32 pairs of each task, "
        "measured 9 times"
    ) in lines("{name: aioli}")
    assert not [line for line in lines("{name: bandit}") if "learns" in line]


def test_a_schedule_that_measures_the_model_is_refused_where_there_is_none():
    tasks = [TaskInfo("a", 30), TaskInfo("b", 10)]
    curves = PowerLawCurves(tasks, [10.0, 10.0], 100)
    schedule = create("multi_uat", curves.tasks)
    with pytest.raises(errors.ConfigError, match="measures the model, which a simulation does not"):
        simulate(schedule, curves, [10.0, 10.0], PlaySettings(100))
    stages = [{"name": "uniform", "steps": 5}, {"name": "multi_uat"}]
    with pytest.raises(errors.ConfigError, match=r"stages\[1\]: 'multi_uat' measures the model"):
        create("piecewise", tasks, stages=stages)


def test_another_metric_does_not_hide_the_next_measurement():
    tasks = [TaskInfo("a", 30), TaskInfo("b", 10)]

    def make(metric):
        return AdaptiveState(create("multi_uat", tasks, learning_rate=0.1, interval=5), metric)

    first = make("bleu")
    first.book.measure({"entropy": [1.0, 3.0]}, 5)
    assert first.update(5)
    again = make("chrf")
    again.load_schedule(first.schedule_state(), np.arange(2))
    assert "they are dropped" in again.load_scores(first.score_state(), np.arange(2))
    first.set_metric("chrf")
    for adaptive in (first, again):
        assert not adaptive.update(6)
        adaptive.book.measure({"entropy": [1.0, 2.0]}, 10)
        assert adaptive.update(10)
    assert first.probabilities(10).tolist() == again.probabilities(10).tolist()


def test_measurements_are_saved_with_the_scores():
    tasks = [TaskInfo("a", 30), TaskInfo("b", 10)]
    first = AdaptiveState(create("multi_uat", tasks, learning_rate=0.1, interval=5))
    first.book.measure({"entropy": [1.0, 3.0]}, 5)
    assert first.update(5)
    assert first.probabilities(5)[1] > 0.25
    assert not first.update(6)  # Nothing new.
    again = AdaptiveState(create("multi_uat", tasks, learning_rate=0.1, interval=5))
    again.load_schedule(first.schedule_state(), np.arange(2))
    again.load_scores(first.score_state(), np.arange(2))
    assert not again.update(6)
    for adaptive in (first, again):
        adaptive.book.measure({"entropy": [1.0, 2.0]}, 10)
        assert adaptive.update(10)
    assert first.probabilities(10).tolist() == again.probabilities(10).tolist()
