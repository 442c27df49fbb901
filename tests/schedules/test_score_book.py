"""The score book: directions, refusals, round trip, tasks that come and go."""

import math

import numpy as np
import pytest

from keras_mtl.errors import CheckpointError, ConfigError, InputError
from keras_mtl.schedules import ScoreBook, TaskInfo, task_index_map


def tasks():
    return [TaskInfo("en-fr", 100, 0.4), TaskInfo("en-de", 10, 0.2), TaskInfo("en-gl", 1, 0.1)]


def test_ratios_in_both_directions():
    book = ScoreBook(tasks())
    np.testing.assert_array_equal(book.ratios(), 0)
    book.set(0, 10, 0.2)
    book.set(1, 10, 0.3)
    np.testing.assert_allclose(book.ratios(), [0.5, 1.5, 0])
    book.set(0, 20, -0.1)
    assert book.ratios()[0] == 0
    low = ScoreBook(tasks(), higher_is_better=False)
    low.set(0, 10, 0.8)
    low.set(1, 10, 0.0)
    low.set(2, 10, math.inf)
    np.testing.assert_allclose(low.ratios(), [0.5, 1e6, 0])
    np.testing.assert_array_equal(low.steps, [10, 10, 10])
    np.testing.assert_array_equal(book.steps, [20, 10, -1])


def test_refusals():
    book, low = ScoreBook(tasks()), ScoreBook(tasks(), higher_is_better=False)
    with pytest.raises(InputError, match="task 'en-de': score = nan at step 7"):
        book.set(1, 7, math.nan)
    with pytest.raises(InputError, match="score = inf"):
        book.set(1, 7, math.inf)
    with pytest.raises(InputError, match=r"score = -2\.0 at step 7 is negative"):
        low.set(1, 7, -2.0)
    with pytest.raises(InputError, match=r"index 3 must be in \[0, 3\)"):
        book.set(3, 7, 1.0)
    with pytest.raises(InputError, match="-1"):
        book.set(-1, 7, 1.0)
    for loss, probability, weight in [(math.nan, 1, 1), (1, 0, 1), (1, 1.5, 1), (1, 1, 0)]:
        with pytest.raises(InputError, match="'en-fr': loss"):
            book.observe(0, 7, loss, probability, weight)
    assert not book.counts.any()
    assert not book.loss_weight.any()
    with pytest.raises(ConfigError, match="task 'x' has no baseline; give it"):
        ScoreBook([TaskInfo("x", 1)]).ratios()
    with pytest.raises(ConfigError, match="empty name"):
        TaskInfo("", 1)
    with pytest.raises(ConfigError, match="size = -1"):
        TaskInfo("x", -1)


def filled():
    book = ScoreBook(tasks(), higher_is_better=False)
    book.set(0, 10, 0.25)
    book.set(2, 20, 0.5)
    book.observe(1, 20, 3.0, 0.25, weight=2)
    return book


def test_round_trip():
    book = filled()
    state = book.state_dict()
    again = ScoreBook.from_state(tasks(), state)
    assert not again.higher_is_better
    for key, value in again.state_dict().items():
        np.testing.assert_array_equal(value, state[key])
        assert value.dtype in (np.float64, np.int64)
    state["scores"][0] = 9  # a copy
    assert book.scores[0] == 0.25
    np.testing.assert_allclose(again.loss_over_probability, [0, 24, 0])


def test_tasks_come_and_go():
    book = filled()
    later = [TaskInfo("en-gl", 1), TaskInfo("en-it", 5, 0.3), TaskInfo("en-fr", 100, 0.8)]
    index_map = task_index_map(book.names, [task.name for task in later])
    again = ScoreBook.from_state(later, book.state_dict(), index_map)
    np.testing.assert_array_equal(again.scores, [0.5, np.nan, 0.25])
    np.testing.assert_array_equal(again.steps, [20, -1, 10])
    # The baseline that is configured wins over the saved one.
    np.testing.assert_array_equal(again.baselines, [0.1, 0.3, 0.8])


def test_damaged_state_is_refused():
    state = filled().state_dict()
    with pytest.raises(CheckpointError, match="'steps'"):
        ScoreBook.from_state(tasks(), {k: v for k, v in state.items() if k != "steps"})
    with pytest.raises(CheckpointError, match="damaged"):
        ScoreBook.from_state(tasks(), {**state, "scores": np.zeros(2)})
