"""Limits of tasks and stages that end with data, under every schedule and kind of batches."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mtl.data.batch_plan import Bucket
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.pools import _within
from keras_mtl.data.task_sources import ArraySource
from keras_mtl.errors import ConfigError
from keras_mtl.schedules import (
    LimitedSchedule,
    Limits,
    Schedule,
    TaskInfo,
    available,
    create,
)
from tests.contracts.test_schedules import EXAMPLES

SIZES = {"t0": 96, "t1": 24, "t2": 9}
NAMES = list(SIZES)
ROWS = 4
STEPS = 60
SCHEDULES = [name for name in available() if not name.startswith("test")]
# Refuses limits, because it measures the effect of its own probabilities.
UNLIMITED = {"aioli"}


def tasks():
    return [TaskInfo(name, size, baseline=0.5) for name, size in SIZES.items()]


def make_schedule(name, **limits) -> Schedule:
    parameters = EXAMPLES.get(name, lambda names: {})(NAMES)
    schedule = create(name, tasks(), **parameters)
    none: dict = {
        "introduce_at": [0] * 3,
        "stop_at": [None] * 3,
        "max_epochs": [None] * 3,
    }
    return LimitedSchedule(schedule, Limits(**{**none, **limits})) if limits else schedule


def make_mixture(schedule, granularity, draw="random"):
    sources = [
        ArraySource(name, {"x": np.arange(size, dtype=np.int32) + 100 * place})
        for place, (name, size) in enumerate(SIZES.items())
    ]
    return Mixture(
        sources,
        schedule,
        [Bucket(length=1, rows=ROWS)],
        seed=5,
        granularity=granularity,
        draw=draw,
        pool_examples=16,
    )


def read(mixture, start, count):
    """Rows of each batch: the examples, which name their task by their hundreds."""
    batches = itertools.islice(mixture.batches(start), count)
    return [batch.arrays["x"].tolist() for batch in batches]


def counts_of(batches):
    """Number of times that each example of each task was read; empty rows are not."""
    flat = [value for batch in batches for value in batch]
    return [
        [flat.count(value + 100 * place) for value in range(size)]
        for place, size in enumerate(SIZES.values())
    ]


def learn(mixture, step):
    """Scores that favor another task each time, and losses."""
    scores = {name: 0.1 + 0.4 * ((step + place) % 3) / 3 for place, name in enumerate(NAMES)}
    mixture.adaptive.enter_scores(step, scores)
    even = np.full(3, 1 / 3)
    mixture.adaptive.observe_losses(step, np.array([1.0, 2.0, 0.5]), even, np.ones(3))
    mixture.update(step)


@pytest.mark.parametrize("granularity", ["batch", "example"])
@pytest.mark.parametrize("name", sorted({*SCHEDULES} - UNLIMITED))
def test_limits_hold_under_every_schedule(name, granularity):
    """Also after a restart in the middle, which repeats every batch."""
    limits = {
        "introduce_at": [0, 10, 0],
        "stop_at": [None, None, 40],
        "max_epochs": [None, 1.0, 2.0],
    }
    mixture = make_mixture(make_schedule(name, **limits), granularity)
    batches, state = [], {}
    for step in range(0, STEPS, 20):
        batches += read(mixture, step, 20)
        learn(mixture, step + 20)
        state[step + 20] = mixture.state(step + 20)
    found = np.array([mixture.probabilities(step) for step in range(41, STEPS)])
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found[:, 2] == 0).all()
    counts = counts_of(batches)
    assert max(counts[1]) <= 1
    assert max(counts[2]) <= 2
    first = {
        place: next((i for i, b in enumerate(batches) if any(v // 100 == place for v in b)), STEPS)
        for place in (1,)
    }
    assert first[1] >= 10
    late = [value for batch in batches[40 if granularity == "batch" else 46 :] for value in batch]
    assert not [value for value in late if value // 100 == 2 and value > 200]
    again = make_mixture(make_schedule(name, **limits), granularity)
    again.restore(state[20])
    repeated = read(again, 20, 7)
    assert repeated == batches[20:27]
    middle = again.state(27)
    third = make_mixture(make_schedule(name, **limits), granularity)
    third.restore(middle)
    assert read(third, 27, 13) == batches[27:40]


@pytest.mark.parametrize("granularity", ["batch", "example"])
def test_a_task_is_read_up_to_its_limit_and_no_further(granularity):
    mixture = make_mixture(make_schedule("uniform", max_epochs=[None, 2.0, 3.0]), granularity)
    counts = counts_of(read(mixture, 0, 80))
    assert set(counts[1]) == {2}
    assert set(counts[2]) == {3}
    passes = mixture.passes(80)
    assert passes[1] == 2
    # Nothing is left of any task: the run continues.
    capped = make_mixture(make_schedule("uniform", max_epochs=[1.0] * 3), granularity)
    assert sum(map(len, counts_of(read(capped, 0, 80)))) == sum(SIZES.values())
    np.testing.assert_allclose(capped.probabilities(80), 1 / 3)
    notes = capped.adaptive.notes(80)
    assert notes[1] == "task 't1' has reached its limit of 1 epochs"
    assert "all tasks that may be drawn have reached their limits" in notes[3]
    assert len(mixture.adaptive.notes(80)) == 2


def test_a_limit_below_one_batch_is_an_error():
    with pytest.raises(ConfigError, match=r"task 't2': max_epochs = 0\.2, but a single batch may"):
        make_mixture(make_schedule("uniform", max_epochs=[None, None, 0.2]), "batch")


def test_the_rest_of_a_probability_goes_to_the_others_in_proportion():
    limited = make_schedule("proportional", introduce_at=[0, 5, 0])
    before, after = (limited.probabilities(step, limited.init()) for step in (4, 5))
    np.testing.assert_allclose(before, [96 / 105, 0, 9 / 105])
    np.testing.assert_allclose(after, np.array([96, 24, 9]) / 129)
    with pytest.raises(ConfigError, match="no task is drawn at step 7"):
        Limits([0, 9], [7, None], [None, None]).check(["a", "b"], 20)
    Limits([0, 9], [9, None], [None, None]).check(["a", "b"], 20)
    Limits([0, 0], [7, 7], [None, None]).check(["a", "b"], 7)


@pytest.mark.parametrize("granularity", ["batch", "example"])
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("constant", {"weights": [0, 0, 1]}),
        ("exponential", {"alpha": 0.1, "p0": [0, 0, 1], "p1": [0, 0, 2]}),
        ("sigmoid", {"alpha": 0, "p0": [0, 0, 1], "p1": [0, 1, 1]}),
        ("sequential", {"stages": [{"task": "t2"}]}),
        (
            "piecewise",
            {
                "stages": [
                    {"name": "constant", "parameters": {"weights": [0, 0, 1]}, "steps": 9},
                    {"name": "sequential", "parameters": {"stages": [{"task": "t2"}]}},
                ]
            },
        ),
    ],
)
def test_tasks_that_the_schedule_never_draws_do_not_replace_others(name, parameters, granularity):
    limits = Limits([0] * 3, [None, None, 50], [None, None, 2.0])
    inner = create(name, tasks(), **parameters)
    assert inner.never_drawn().tolist() == [True, True, False]
    mixture = make_mixture(LimitedSchedule(inner, limits), granularity)
    counts = counts_of(read(mixture, 0, 40))
    # Empty rows look like the first example of t0.
    assert (sum(counts[0][1:]), sum(counts[1])) == (0, 0)
    assert min(counts[2]) > 2
    assert "all tasks that may be drawn have reached their limits" in mixture.adaptive.notes(40)[1]
    floored = create(name, tasks(), **parameters, floor=0.01)
    assert not floored.never_drawn().any()


def test_a_task_whose_weight_is_0_only_in_a_stage_replaces_others():
    stages = [
        {"name": "constant", "parameters": {"weights": [0, 0, 1]}, "steps": 30},
        {"name": "constant", "parameters": {"weights": [0, 1, 0]}},
    ]
    inner = create("piecewise", tasks(), stages=stages)
    limits = Limits([0] * 3, [None] * 3, [None, None, 2.0])
    mixture = make_mixture(LimitedSchedule(inner, limits), "batch")
    counts = counts_of(read(mixture, 0, 20))
    assert sum(counts[0][1:]) == 0  # No stage draws it. Empty rows look like its first example.
    assert sum(counts[1]) > 0
    assert set(counts[2]) == {2}


UNTIL = {"task": "t1", "epochs": 2}


def staged(name, until=UNTIL):
    if name == "sequential":
        stages = [{"task": "t1", "until": until}, {"task": "t0", "steps": 3}, {"task": "t2"}]
        return create("sequential", tasks(), stages=stages)
    fade = {"alpha": 0.5, "p0": {"t0": 1, "t1": 0, "t2": 0}, "p1": {"t0": 0, "t1": 0, "t2": 1}}
    stages = [
        {"name": "uniform", "until": until},
        {"name": "exponential", "parameters": fade, "steps": 6},
        {"name": "constant", "parameters": {"weights": {"t0": 1, "t1": 1, "t2": 0}}},
    ]
    return create("piecewise", tasks(), stages=stages)


@pytest.mark.parametrize("granularity", ["batch", "example"])
@pytest.mark.parametrize("name", ["sequential", "piecewise"])
def test_a_stage_ends_when_the_data_of_a_task_was_passed_over(name, granularity):
    mixture = make_mixture(staged(name), granularity)
    batches = read(mixture, 0, STEPS)
    passes = np.array([mixture.passes(step)[1] for step in range(STEPS + 1)])
    switch = int(np.argmax(passes >= 2))
    assert 0 < switch < STEPS - 10
    probabilities = np.array([mixture.probabilities(step) for step in range(STEPS)])
    if name == "sequential":
        np.testing.assert_array_equal(probabilities[:switch, 1], 1)
        np.testing.assert_array_equal(probabilities[switch : switch + 3, 0], 1)
        np.testing.assert_array_equal(probabilities[switch + 3 :, 2], 1)
    else:
        np.testing.assert_allclose(probabilities[:switch], 1 / 3)
        # The schedule of the stage counts its steps from the start of the stage.
        np.testing.assert_allclose(
            probabilities[switch : switch + 6, 0], np.exp(-0.5 * np.arange(6))
        )
        np.testing.assert_allclose(probabilities[switch + 6 :, 0], 0.5)
    if granularity == "batch":
        assert set(counts_of(batches[:switch])[1]) == {2}
    for stop in (switch - 1, switch, switch + 2, switch + 7):
        again = make_mixture(staged(name), granularity)
        again.restore(mixture.state(stop))
        assert read(again, stop, STEPS - stop) == batches[stop:]


@pytest.mark.parametrize("granularity", ["batch", "example"])
@pytest.mark.parametrize("name", ["sequential", "piecewise"])
@pytest.mark.parametrize(
    "limits",
    # A batch or an example more would exceed 2.1 passes, so t1 never has them.
    [{"max_epochs": [None, 2.1, None]}, {"stop_at": [None, 9, None]}],
)
def test_a_stage_ends_when_a_limit_ends_its_task(name, limits, granularity):
    def limited():
        given: dict = {"stop_at": [None] * 3, "max_epochs": [None] * 3, **limits}
        inner = staged(name, {"task": "t1", "epochs": 2.1})
        return make_mixture(LimitedSchedule(inner, Limits([0] * 3, **given)), granularity)

    mixture = limited()
    batches = read(mixture, 0, STEPS)
    stages = [int(mixture.state(step)["schedule/stage"]) for step in range(STEPS + 1)]
    end = stages.index(1)
    if "stop_at" in limits:
        assert end == 9
    else:
        assert 2 <= mixture.passes(end)[1] < 2.1
    assert 0 < end < STEPS - 10
    assert mixture.probabilities(end)[1] == 0
    for stop in (end - 1, end, end + 3):
        again = limited()
        again.restore(mixture.state(stop))
        assert read(again, stop, STEPS - stop) == batches[stop:]


@pytest.mark.parametrize("nested", [False, True])
def test_limits_may_not_keep_a_stage_from_ending(nested):
    def schedule():
        stages = [{"task": "t0", "steps": 5}, {"task": "t1", "until": UNTIL}, {"task": "t2"}]
        if not nested:
            return create("sequential", tasks(), stages=stages)
        inner = {"name": "sequential", "parameters": {"stages": stages}}
        outer = [{"name": "uniform", "steps": 5}, inner]
        return create("piecewise", tasks(), stages=outer)

    first = 10 if nested else 5
    LimitedSchedule(schedule(), Limits([0] * 3, [None, first + 1, None], [None, 2.0, None]))
    with pytest.raises(
        ConfigError, match=r"stages\[1\].until.epochs = 2 is above max_epochs = 1.9"
    ):
        LimitedSchedule(schedule(), Limits([0] * 3, [None] * 3, [None, 1.9, None]))
    with pytest.raises(ConfigError, match=f"after {first} batches, and the stage begins after"):
        LimitedSchedule(schedule(), Limits([0] * 3, [None, first, None], [None] * 3))


def test_an_update_at_the_end_of_a_stage_does_not_depend_on_what_was_produced_ahead():
    until = {"task": "t1", "epochs": 1}
    stages = [{"name": "inverse_ratio", "until": until}, {"name": "simple_adaptive"}]
    states = []
    for ahead in (0, 5):
        mixture = make_mixture(create("piecewise", tasks(), stages=stages), "batch")
        end = next(step for step in range(STEPS) if mixture.passes(step)[1] >= 1)
        mixture = make_mixture(create("piecewise", tasks(), stages=stages), "batch")
        read(mixture, 0, end + ahead)
        learn(mixture, end)
        states.append(mixture.state(end))
    assert int(states[0]["schedule/stage"]) == 1
    for key, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][key], err_msg=key)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"task": "t0", "steps": 3, "until": UNTIL}, "has both steps and until"),
        ({"task": "t0", "until": {"task": "t9", "epochs": 1}}, "until.task = 't9' is not a task"),
        ({"task": "t0", "until": {"task": "t1", "epochs": 0}}, "until.epochs = 0.0 must be > 0"),
        ({"task": "t0", "until": {"task": "t1"}}, "must have the form"),
        ({"task": "t0", "until": 3}, "must have the form"),
        ({"task": "t0"}, "has no steps; only the last stage may omit them"),
    ],
)
def test_what_a_stage_may_not_be(stage, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        create("sequential", tasks(), stages=[stage, {"task": "t1"}])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 3), max_size=40),
    st.lists(st.integers(0, 30), min_size=4, max_size=4),
)
def test_a_pool_has_no_more_of_a_task_than_is_left(drawn, left):
    drawn, left = np.array(drawn, np.int64), np.array(left)
    probabilities = np.array([0.4, 0.3, 0.3, 0.0])
    result = _within(drawn, probabilities, left, seed=3, index=1)
    assert len(result) == len(drawn)
    counts, before = (np.bincount(x, minlength=4) for x in (result, drawn))
    able = left[:3].sum()
    if able >= len(drawn):
        # No new batch is drawn of a task whose probability is 0.
        assert (counts <= np.maximum(left, 0))[:3].all() or before[3] > left[3]
        assert counts[3] <= before[3]
    kept = (before <= left)[result] | (result == drawn)
    assert kept.any() or not len(drawn)
