"""Loops that are left and entered again: how many steps at once, and what a checkpoint keeps."""

import numpy as np

from keras_mtl.training.run.step_loop import OpenLoop, Pace


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def steps_at_once(seconds_per_step, loop=100):
    clock = Clock()
    pace, left, found = Pace(clock), loop, []
    while left:
        steps = pace.start(left)
        clock.now += steps * seconds_per_step
        assert pace.stop(steps) == steps * seconds_per_step
        left -= steps
        found.append(steps)
    return found


def test_long_steps_run_one_at_a_time():
    assert steps_at_once(16.0, loop=5) == [1] * 5


def test_short_steps_run_many_at_a_time_and_never_much_longer_than_two_seconds():
    assert steps_at_once(1 / 1024) == [1, 4, 16, 64, 15]
    assert steps_at_once(0.125, loop=60) == [1, 4, 16, 16, 16, 7]


def test_the_first_steps_of_a_process_are_told_from_later_ones():
    pace = Pace(Clock())
    assert not pace.measured
    pace.stop(pace.start(10))
    assert pace.measured


def probabilities(batch):
    return np.array([0.1 * batch, 1 - 0.1 * batch])


def open_loop():
    loop = OpenLoop(2, np.array([5, 6]), np.array([0.5, 1.5]), 4, np.zeros(2))
    loop.sums = {"tokens": np.array([3.0, 4.0], np.float32), "skipped": np.float32(1)}
    return loop


def test_a_loop_that_was_interrupted_sums_the_same_probabilities():
    whole, interrupted = open_loop(), open_loop()
    whole.count(probabilities, 9)
    interrupted.count(probabilities, 5)
    again = OpenLoop.from_arrays({**interrupted.collect(), "other": np.zeros(1)}, np.arange(2))
    again.count(probabilities, 9)
    np.testing.assert_array_equal(again.given, whole.given)
    np.testing.assert_array_equal(whole.given, np.sum([probabilities(b) for b in range(4, 9)], 0))
    assert again.start == 2
    assert again.sums.keys() == {"tokens", "skipped"}
    np.testing.assert_array_equal(again.sums["tokens"], [3.0, 4.0])
    assert again.sums["skipped"] == 1


def test_a_loop_follows_its_tasks_when_they_change():
    again = OpenLoop.from_arrays(open_loop().collect(), np.array([1, -1]))
    np.testing.assert_array_equal(again.consumed, [6, 0])
    np.testing.assert_array_equal(again.scales, [1.5, 1.0])
    np.testing.assert_array_equal(again.sums["tokens"], [4.0, 0.0])


def test_sums_of_an_older_checkpoint_have_their_present_names():
    arrays = open_loop().collect()
    arrays["loop/sums/weighed"] = np.array([2.0, 1.0], np.float32)
    again = OpenLoop.from_arrays(arrays, np.arange(2))
    assert again.sums["weighted_steps"].tolist() == [2, 1]


def test_a_checkpoint_from_between_two_loops_has_none():
    assert OpenLoop.from_arrays({"counters": np.zeros(2)}, np.arange(2)) is None
