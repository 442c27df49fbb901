"""`AdaptiveState`: what a schedule learned holds from its step on and survives saving."""

import math

import numpy as np
import pytest

from keras_mtl.errors import ConfigError, InputError
from keras_mtl.schedules import AdaptiveState, TaskInfo, create, task_index_map

NAMES = ("a", "b", "c")


def make(names=NAMES, schedule="inverse_ratio", **options):
    tasks = [TaskInfo(name, 10 * (1 + NAMES.index(name)), baseline=0.5) for name in names]
    return AdaptiveState(create(schedule, tasks), **options)


def saved(adaptive, step=None):
    return {**adaptive.schedule_state(step), **adaptive.score_state()}


def test_an_update_holds_from_its_step_on():
    adaptive = make()
    before = adaptive.probabilities(0)
    adaptive.enter_scores(9, {"a": 0.5, "b": 0.5, "c": 0.1})
    assert adaptive.update(10) is True
    after = adaptive.probabilities(10)
    assert after[2] > 0.6
    assert adaptive.update(15) is False  # Nothing new.
    adaptive.enter_scores(19, {"c": 0.5})
    assert adaptive.update(20) is True
    for step, expected in ((0, before), (9, before), (10, after), (19, after)):
        np.testing.assert_array_equal(adaptive.probabilities(step), expected)
    assert adaptive.probabilities(20)[2] == pytest.approx(1 / 3)
    # From an earlier step on the schedule learns again; what came later is dropped.
    adaptive.enter_scores(12, {"c": 0.01})
    assert adaptive.update(12) is True
    np.testing.assert_array_equal(adaptive.probabilities(11), after)
    np.testing.assert_array_equal(adaptive.probabilities(30), adaptive.probabilities(12))
    assert adaptive.probabilities(30)[2] > 0.8


def test_old_states_are_dropped_and_the_present_one_is_kept():
    adaptive = make()
    for step in (10, 20, 30):
        adaptive.enter_scores(step, {"a": 0.5, "b": 0.5, "c": 1 / step})
        adaptive.update(step)
    expected = [adaptive.probabilities(step) for step in (20, 29, 30)]
    adaptive.forget_before(25)
    for step, probabilities in zip((20, 29, 30), expected, strict=True):
        np.testing.assert_array_equal(adaptive.probabilities(step), probabilities)
    # Before the first state that is known, that one is taken.
    np.testing.assert_array_equal(adaptive.probabilities(5), expected[0])


def test_factors_follow_the_state():
    adaptive = make(schedule="implicit")
    adaptive.enter_scores(10, {"a": 0.5, "b": 0.5, "c": 0.1})
    adaptive.update(10)
    assert adaptive.scales(9).tolist() == [1, 1, 1]
    assert adaptive.scales(10)[2] > 1.2


@pytest.mark.parametrize("schedule", ["inverse_ratio", "bandit", "uniform"])
def test_a_loaded_state_learns_the_same(schedule):
    def learn(adaptive, step):
        adaptive.enter_scores(step, {"a": 0.4, "b": 0.3, "c": 1 / step})
        losses = np.array([1.0, 2.0, step])
        adaptive.observe_losses(step, losses, adaptive.probabilities(step - 1), np.ones(3))
        adaptive.update(step)

    whole = make(schedule=schedule)
    for step in (10, 20, 30):
        learn(whole, step)
    first = make(schedule=schedule)
    for step in (10, 20):
        learn(first, step)
    again = make(schedule=schedule)
    again.load_schedule(saved(first), np.arange(3))
    assert again.load_scores(saved(first), np.arange(3)) is None
    learn(again, 30)
    for key, value in saved(whole).items():
        np.testing.assert_array_equal(saved(again)[key], value, err_msg=key)


def test_saved_arrays_are_copies():
    adaptive = make()
    state = saved(adaptive)
    adaptive.enter_scores(10, {"a": 0.1})
    adaptive.update(10)
    assert math.isnan(state["book/scores"][0])
    for value in saved(adaptive).values():
        if value.dtype.kind in "fi":
            value[...] = 7
    assert adaptive.book.scores[0] == 0.1
    assert adaptive.probabilities(10).sum() == pytest.approx(1)


def test_tasks_come_and_go_by_name():
    adaptive = make()
    adaptive.enter_scores(10, {"a": 0.4, "b": 0.3, "c": 0.1})
    adaptive.update(10)
    index_map = task_index_map(("b", "c"), ("c", "a", "b"))
    state = make(("b", "c"))
    state.enter_scores(10, {"b": 0.3, "c": 0.1})
    state.update(10)
    changed = make(("c", "a", "b"))
    changed.load_schedule(saved(state), index_map)
    assert changed.load_scores(saved(state), index_map) is None
    assert changed.book.scores[[0, 2]].tolist() == [0.1, 0.3]
    assert math.isnan(changed.book.scores[1])
    shares, old = changed.probabilities(10), state.probabilities(10)
    assert shares[0] / shares[2] == pytest.approx(old[1] / old[0])


def test_scores_of_another_metric_are_forgotten():
    before = make(metric="accuracy")
    before.enter_scores(10, {"a": 0.4, "b": 0.3, "c": 0.1})
    state = saved(before)
    same = make(metric="accuracy")
    assert same.load_scores(state, np.arange(3)) is None
    assert same.ratios() == {"a": 0.8, "b": 0.6, "c": 0.2}
    for other in (make(metric="f1"), make(metric="accuracy", higher_is_better=False)):
        message = other.load_scores(state, np.arange(3))
        assert "saved scores are of 'accuracy' with higher_is_better=True; they are" in message
        assert np.isnan(other.book.scores).all()
        assert other.score_state()["metric"] == other.metric
    # Older versions saved only the direction.
    del state["metric"]
    assert make(metric="f1").load_scores(state, np.arange(3)) is None
    assert make(metric="loss", higher_is_better=False).load_scores(state, np.arange(3))


def test_the_metric_may_be_set_later():
    adaptive = make()
    adaptive.enter_scores(10, {"a": 0.4})
    adaptive.set_metric("score", True, {"a": 0.8})
    assert adaptive.ratios()["a"] == 0.5
    adaptive.set_metric("score")
    assert adaptive.ratios()["a"] == 0.8
    adaptive.set_metric("loss", higher_is_better=False)
    assert np.isnan(adaptive.book.scores).all()
    assert not adaptive.book.higher_is_better
    assert adaptive.book.baselines.tolist() == [0.5] * 3


def test_losses_that_say_nothing_are_left_out():
    adaptive = make(schedule="bandit")
    losses = np.array([2.0, math.nan, 3.0])
    adaptive.observe_losses(4, losses, np.array([0.5, 0.25, 0.25]), np.array([2.0, 1.0, 0.0]))
    adaptive.observe_losses(8, np.ones(3), np.array([0.5, 0.5, 0.0]), np.array([0.0, 1.5, 1.0]))
    assert adaptive.book.loss_weight.tolist() == [2.0, 1.5, 0.0]
    assert adaptive.book.loss_sum.tolist() == [4.0, 1.5, 0.0]
    assert adaptive.book.loss_over_probability.tolist() == [8.0, 3.0, 0.0]


def test_what_is_wrong_is_named():
    adaptive = make()
    with pytest.raises(InputError, match="unknown task 'd'"):
        adaptive.enter_scores(1, {"a": 0.5, "d": 0.5})
    assert adaptive.book.counts.tolist() == [0, 0, 0]
    with pytest.raises(InputError, match="task 'b': score = nan"):
        adaptive.enter_scores(1, {"b": math.nan})
    with pytest.raises(ConfigError, match="baselines names an unknown task 'd'"):
        make(baselines={"d": 1.0})
    with pytest.raises(ConfigError, match="task 'a': baseline = -1"):
        adaptive.set_metric("score", baselines={"a": -1.0})
    unknown = AdaptiveState(create("uniform", [TaskInfo("a", 1), TaskInfo("b", 1, 0.5)]))
    assert unknown.ratios() is None
