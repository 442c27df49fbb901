"""Tasks whose scores become worse: when their probability falls to the floor."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mtl.schedules import AdaptiveState, LimitedSchedule, Limits, ScoreBook, TaskInfo, create

SIZES = {"t0": 96, "t1": 24, "t2": 9}


def tasks():
    return [TaskInfo(name, size, baseline=0.5) for name, size in SIZES.items()]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=15), st.integers(1, 3), st.booleans())
def test_a_task_whose_scores_become_worse_falls_to_the_floor(scores, patience, higher):
    inner = create("uniform", tasks(), floor=0.1)
    limits = Limits([0] * 3, [None] * 3, [None] * 3, overfit_patience=patience)
    schedule = LimitedSchedule(inner, limits)
    state, book = schedule.init(), ScoreBook(tasks(), higher)
    streak, stopped = 0, False
    for step, value in enumerate(scores):
        book.set(1, step, float(value))
        state = schedule.update(state, step, book)
        if step:
            change = value - scores[step - 1]
            streak = streak + 1 if (change < 0 if higher else change > 0) else 0
        stopped |= streak >= patience
        probabilities = schedule.probabilities(step, state)
        if stopped:
            np.testing.assert_allclose(probabilities, [0.45, 0.1, 0.45])
            assert schedule.notes(step, state) == [
                f"task 't1' overfits: its scores became worse in {patience} validations in a row. "
                "Its probability is at most the floor, 0.1"
            ]
        else:
            np.testing.assert_allclose(probabilities, 1 / 3)
            assert not schedule.notes(step, state)
        # A restart, also with another order of the tasks, knows what was counted.
        state = schedule.remap(state, np.arange(3))


def late_task(kind):
    """A schedule that draws t1 from batch 20 on, and stops it when three scores became worse."""
    start = [0, 20, 0] if kind == "introduced" else [0] * 3
    limits = Limits(start, [None] * 3, [None] * 3, overfit_patience=3)
    if kind == "introduced":
        return LimitedSchedule(create("uniform", tasks()), limits)
    constant = {"name": "constant", "parameters": {"weights": [1, 0, 1]}, "steps": 20}
    stages = [constant, {"name": "round_robin"}]
    return LimitedSchedule(create("piecewise", tasks(), stages=stages), limits)


@pytest.mark.parametrize("losses", [True, False])
@pytest.mark.parametrize("kind", ["introduced", "weight 0"])
def test_scores_of_a_task_that_was_not_trained_do_not_count(kind, losses):
    """Its loss rises while only others train; later it is stopped as usual, also after a restart.

    `model.fit` records no losses.
    """
    adaptive = AdaptiveState(late_task(kind), "neg_log_perplexity", higher_is_better=False)
    worse = [7.0, 7.1, 7.2, 7.3, 7.4, 6.0, 6.1, 6.2, 6.3]
    for step, score in zip(range(4, 40, 4), worse, strict=True):
        if losses:
            trained = np.array([2.0, 2.0 if step > 20 else 0.0, 0.1])
            adaptive.observe_losses(step, np.ones(3), np.full(3, 1 / 3), trained)
        adaptive.enter_scores(step, {"t0": 3.0 - step / 100, "t1": score})
        adaptive.update(step)
        assert bool(adaptive.notes(step)) == (score == 6.3), step
        again = AdaptiveState(late_task(kind), "neg_log_perplexity", higher_is_better=False)
        saved = adaptive.schedule_state() | adaptive.score_state()
        again.load_schedule(saved, np.arange(3))
        again.load_scores(saved, np.arange(3))
        adaptive = again


def test_a_score_that_takes_effect_late_is_of_weights_from_before():
    limits = Limits([0, 8, 0], [None] * 3, [None] * 3, overfit_patience=1, batches_per_step=2)
    schedule = LimitedSchedule(create("uniform", tasks()), limits)
    adaptive = AdaptiveState(schedule, "neg_log_perplexity", higher_is_better=False)
    # The task is introduced at batch 8, which is step 4; scores take effect a step later.
    for step, score, batches in ((2, 7.0, 0), (4, 7.1, 2), (6, 7.2, 4)):
        trained = np.array([4.0, batches, 0.0])
        adaptive.observe_losses(step + 1, np.ones(3), np.full(3, 1 / 3), trained)
        adaptive.enter_scores(step, {"t1": score})
        adaptive.update(2 * (step + 1))
        assert bool(adaptive.notes(2 * (step + 1))) == (step == 6)


@pytest.mark.parametrize("ended_by", ["max_epochs", "stage"])
def test_a_task_that_was_ended_since_its_last_score_was_trained(ended_by):
    """In `model.fit`, which records no losses."""
    limits = Limits([0] * 3, [None] * 3, [None, 2.0, None], overfit_patience=1)
    inner = create("uniform", tasks())
    if ended_by == "stage":
        limits = Limits([0] * 3, [None] * 3, [None] * 3, overfit_patience=1)
        stages = [{"task": "t1", "until": {"task": "t1", "epochs": 2}}, {"task": "t0"}]
        inner = create("sequential", tasks(), stages=stages)
    adaptive = AdaptiveState(
        LimitedSchedule(inner, limits), "neg_log_perplexity", higher_is_better=False
    )
    adaptive.enter_scores(10, {"t1": 1.0})
    adaptive.update(10)
    for step in range(10, 30):
        passes = np.array([0.1, (step - 10) / 9, 0.1])
        adaptive.advance(step, passes, passes + 0.01)
    assert adaptive.probabilities(29)[1] < 1e-9
    adaptive.enter_scores(30, {"t1": 1.5})
    adaptive.update(30)
    assert "overfits" in " ".join(adaptive.notes(30))
    # It is not trained any more, so nothing else counts.
    fresh = adaptive.schedule_state()["schedule/limits/worse_in_a_row"][1]
    adaptive.enter_scores(40, {"t1": 1.6})
    adaptive.update(40)
    assert adaptive.schedule_state()["schedule/limits/worse_in_a_row"][1] == fresh


def test_a_score_that_does_not_count_leaves_the_number_in_a_row():
    limits = Limits([0] * 3, [None] * 3, [None] * 3, overfit_patience=3)
    schedule = LimitedSchedule(create("uniform", tasks()), limits)
    adaptive = AdaptiveState(schedule, "neg_log_perplexity", higher_is_better=False)
    # By chance, the task is drawn before every other validation only.
    for step, score in enumerate((1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6), start=1):
        drawn = np.array([1.0, step % 2, 1.0])
        adaptive.observe_losses(step, np.ones(3), np.full(3, 1 / 3), drawn)
        adaptive.enter_scores(step, {"t1": score})
        adaptive.update(step)
        assert bool(adaptive.notes(step)) == (step == 7)


@pytest.mark.parametrize("introduce_at", [5_000, 99_999, 100_000])
def test_a_long_interval_is_not_looked_through_step_by_step(introduce_at, monkeypatch):
    limits = Limits([0, introduce_at, 0], [None] * 3, [None] * 3, overfit_patience=1)
    schedule = LimitedSchedule(create("uniform", tasks()), limits)
    state, book = schedule.init(), ScoreBook(tasks(), False)
    looked = []
    of_step = schedule.probabilities
    monkeypatch.setattr(
        schedule, "probabilities", lambda step, state: looked.append(step) or of_step(step, state)
    )
    for step, score in ((10, 3.0), (100_000, 4.0)):
        book.set(1, step, score)
        state = schedule.update(state, step, book)
    assert bool(state["limits/overfitted"][1]) == (introduce_at < 100_000)
    assert len(looked) < 3_000


def test_a_checkpoint_without_trained_batches_counts_on():
    """Older versions counted every score, and did not save how far the tasks were trained."""
    limits = Limits([0] * 3, [None] * 3, [None] * 3, overfit_patience=2)
    schedule = LimitedSchedule(create("uniform", tasks()), limits)
    state, book = schedule.init(), ScoreBook(tasks(), False)
    for step, score in enumerate((3.0, 4.0, 5.0)):
        book.observe(1, step, 1.0, 1 / 3)
        book.set(1, step, score)
        state = schedule.update(state, step, book)
        new = ("limits/trained", "limits/batches", "limits/last_step", "limits/drawable")
        old = {key: value for key, value in state.items() if key not in new}
        state = schedule.remap(old, np.arange(3))
    assert schedule.notes(2, state)


def test_scores_of_another_metric_are_not_compared():
    limits = Limits([0] * 3, [None] * 3, [None] * 3, overfit_patience=1)
    adaptive = AdaptiveState(LimitedSchedule(create("uniform", tasks()), limits), "chrf")
    for metric, value in (("chrf", 60.0), ("bleu", 30.0), ("bleu", 29.0)):
        adaptive.set_metric(metric)
        adaptive.enter_scores(1, dict.fromkeys(SIZES, value))
        adaptive.update(1)
        assert bool(adaptive.notes(1)) == (value == 29.0)
