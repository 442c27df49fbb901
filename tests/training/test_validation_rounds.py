"""Which tasks a validation scores if it scores only some, and on which worker."""

import math

import numpy as np
import pytest

from keras_mtl.training.run.event_log import Scores
from keras_mtl.training.run.validation_rounds import ValidationRounds, share_of_worker

NAMES = tuple("abcdefgh")


def scored(**scores):
    return {name: Scores({"chrf": value}, 1.0) for name, value in scores.items()}


def rounds(max_tasks=4, names=NAMES, validated=None):
    return ValidationRounds(names, validated or names, dict.fromkeys(names, "chrf"), max_tasks)


def after_first():
    found = rounds()
    found.enter(10, scored(**dict.fromkeys(NAMES, 10.0)))
    return found


def test_the_first_and_the_last_validation_score_all_tasks():
    found = rounds()
    assert found.choose(10) == NAMES
    found.enter(10, scored(**dict.fromkeys(NAMES, 10.0)))
    assert len(found.choose(20)) == 4
    assert found.choose(20, everything=True) == NAMES


@pytest.mark.parametrize("max_tasks", [0, 8, 9])
def test_without_a_limit_all_tasks_are_scored(max_tasks):
    found = rounds(max_tasks)
    found.enter(10, scored(**dict.fromkeys(NAMES, 10.0)))
    assert found.choose(20) == NAMES
    assert found.collect() == {}


def test_half_are_the_oldest_and_half_have_probably_changed_most():
    found = after_first()
    found.enter(20, scored(a=11.0, b=11.0, c=30.0, d=10.0))
    # e and f are the oldest; of g and h, only one score is known.
    assert found.choose(30) == ("e", "f", "g", "h")
    found.enter(30, scored(e=10.1, f=10.2, g=20.0, h=10.3))
    # a and b are the oldest. c has changed by 2/30 of its score per step, in 20 steps since;
    # g by 1/20 * 10/20 per step, in 10 steps since.
    assert found.choose(40) == ("a", "b", "c", "g")


def test_no_score_gets_older_than_a_number_of_rounds():
    found, ages = after_first(), []
    chance = np.random.default_rng(1)
    latest = dict.fromkeys(NAMES, 10)
    for step in range(20, 300, 10):
        chosen = found.choose(step)
        assert len(chosen) == 4
        # The scores of two tasks change so much that they are always uncertain.
        change = {"a": 50.0, "b": 30.0}
        found.enter(step, scored(**{n: 50 + change.get(n, 1.0) * chance.random() for n in chosen}))
        latest |= dict.fromkeys(chosen, step)
        ages.append(max(step - each for each in latest.values()))
    assert max(ages) <= 40


def test_a_task_without_a_score_comes_first():
    found = rounds()
    found.enter(10, scored(**dict.fromkeys("abcdefg", 10.0)))
    assert found.choose(20) == ("a", "b", "c", "h")


def test_a_score_that_is_not_finite_is_uncertain():
    found = after_first()
    found.enter(20, scored(e=10.0, f=-math.inf, g=10.0, h=10.0))
    found.enter(30, scored(a=10.0, b=10.0, c=10.0, d=10.0))
    assert "f" in found.choose(40)


def test_averages_use_the_latest_scores_of_other_tasks():
    found = rounds(names=("a", "b"), max_tasks=1)
    found.enter(10, {"a": Scores({"chrf": 10.0, "bleu": 1.0}, 1.0), **scored(b=20.0)})
    assert found.averages(scored(a=40.0)) == {"chrf": 30.0}
    assert not found.is_complete(scored(a=40.0))
    assert found.is_complete(scored(a=40.0, b=1.0))


def test_the_choice_is_part_of_a_checkpoint():
    found = after_first()
    found.enter(20, scored(a=11.0, b=11.0, c=30.0, d=10.0))
    found.enter(30, scored(e=10.1, f=10.2, g=20.0, h=10.3))
    state = found.collect()
    same = rounds()
    same.restore(state, np.arange(8), True)
    assert same.choose(40) == found.choose(40)
    assert same.averages({}) == found.averages({})
    # Tasks have another order, one is new, and one is no longer there.
    names = ("x", *reversed(NAMES[1:]))
    other = rounds(names=names, max_tasks=3)
    other.restore(state, np.array([-1, *range(7, 0, -1)]), True)
    assert other.choose(40) == ("x", "d", "c")
    for missing in ({}, state):
        other.restore(missing, np.array([-1, *range(7, 0, -1)]), False)
        assert other.choose(40) == names


def test_workers_share_the_tasks_by_pairs():
    sizes = {"a": 10, "b": 200, "c": 90, "d": 100, "e": 5}
    shares = [share_of_worker(sizes, 2, index) for index in range(2)]
    assert shares == [("b", "e"), ("a", "c", "d")]
    assert share_of_worker(sizes, 1, 0) == tuple(sizes)
    shares = [share_of_worker({"a": 3}, 3, index) for index in range(3)]
    assert shares == [("a",), (), ()]
