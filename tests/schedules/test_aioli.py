"""Aioli: against a transcription of its paper, in a world whose effects are known, and restarts."""

import numpy as np
import pytest

from keras_mtl.errors import ConfigError
from keras_mtl.schedules import AdaptiveState, TaskInfo, create

TASKS = [TaskInfo("a", 800), TaskInfo("b", 100), TaskInfo("c", 30), TaskInfo("d", 10)]
SMALL = {"lp_rounds": 3, "lp_steps": 2, "one_hot_factor": 0.7, "interval": 40}


class World:
    """Dev losses that fall by effects · p in a training step, and a little at random.

    Args:
        effects: float64[N, N], of a batch of task j on the dev loss of task i.
        noise: standard deviation of the random part.
    """

    def __init__(self, effects, noise=0.0):
        self.effects, self.noise = effects, noise
        self.losses = np.full(len(effects), 9.0)
        self.random = np.random.default_rng(4)

    def train(self, p, steps):
        for _ in range(steps):
            random = self.noise * self.random.normal(size=len(p))
            self.losses = self.losses - self.effects @ p - random

    def measure(self):
        return self.losses.copy()


def effects_of(count, seed=0):
    return np.random.default_rng(seed).uniform(0.001, 0.01, (count, count))


def run(schedule, world, steps, adaptive=None, start=0):
    """Trains in the world as training does; returns the state and the steps of its updates."""
    adaptive = AdaptiveState(schedule) if adaptive is None else adaptive
    updates, step = [], start
    due = schedule.next_update(-1 if start == 0 else start)
    while True:
        world.train(adaptive.probabilities(step), min(due, steps) - step)
        step = min(due, steps)
        if step == due:
            adaptive.book.measure({"dev_loss": world.measure()}, step)
            adaptive.update(step)
            updates.append(step)
        if step == steps:
            return adaptive, updates
        due = schedule.next_update(step)


def transcription(world, orders, rounds, interval, *, lp_rounds, lp_steps, factor, eta, ema, p):
    """Algorithms 1 and 2 of arXiv 2411.05735 as they are printed, with the normalization and the
    moving average of the authors' code. `orders` holds the tasks of the trials of each round.
    Yields p after each round's trials."""
    count = len(p)
    first = p
    mean = None
    rows = [
        [factor if task == trained else (1 - factor) / (count - 1) for task in range(count)]
        for trained in range(count)
    ]
    mixtures = np.array(rows)
    for number in range(rounds):
        # LearnParams
        beta = np.zeros((count, count))
        before = world.measure()
        for trained in orders[number]:
            world.train(mixtures[trained], lp_steps)
            after = world.measure()
            for task in range(count):
                beta[task, trained] += before[task] - after[task]
            before = after
        a = np.stack([np.linalg.solve(mixtures, row / lp_rounds) for row in beta])
        # Normalization
        if a.min() < 0:
            a = a - a.min()
        a = a / a.sum()
        # Exponentiated gradient
        if ema is None:
            p = p * np.exp(eta * a.sum(axis=0))
        else:
            mean = a if mean is None else (1 - ema) * a + ema * mean
            p = first * np.exp(eta * mean.sum(axis=0))
        p = p / p.sum()
        yield p
        world.train(p, interval - lp_rounds * lp_steps * count)


@pytest.mark.parametrize("ema", [None, 0.3])
@pytest.mark.parametrize("prior", ["none", "temperature"])
def test_it_is_the_algorithm_of_the_paper(ema, prior):
    effects = effects_of(4) - 0.004 * np.eye(4)[[1, 0, 3, 2]]  # Some tasks harm others.
    schedule = create("aioli", TASKS, eta=3.0, ema=ema or 0.0, prior=prior, **SMALL)
    adaptive = AdaptiveState(schedule)
    first = adaptive.probabilities(0).copy()
    world, orders, found = World(effects, noise=0.002), [], []
    step = 0
    for _ in range(5):
        orders.append([])
        for _trial in range(3 * 4 + 1):
            assert schedule.next_update(step - 1) == step
            adaptive.book.measure({"dev_loss": world.measure()}, step)
            adaptive.update(step)
            p = adaptive.probabilities(step).copy()
            end = schedule.next_update(step)
            world.train(p, end - step)
            orders[-1].append(int(p.argmax()))
            step = end
        found.append(p)
        orders[-1].pop()  # The rest of the round.
    for order in orders:
        for sweep in np.reshape(order, (3, 4)):
            assert sorted(sweep) == [0, 1, 2, 3]
    assert len(set(map(tuple, orders))) > 1
    options = {"lp_rounds": 3, "lp_steps": 2, "factor": 0.7, "eta": 3.0, "ema": ema, "p": first}
    expected = list(transcription(World(effects, noise=0.002), orders, 5, 40, **options))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert np.abs(np.diff(found, axis=0)).max() > 0.01


def test_effects_that_are_known_are_found():
    effects = effects_of(4)
    schedule = create("aioli", TASKS, **SMALL)
    adaptive, updates = run(schedule, World(effects), 30)
    assert updates == list(range(0, 25, 2))
    state = adaptive.schedule_state()
    np.testing.assert_allclose(state["schedule/effects"], effects / effects.sum(), rtol=1e-6)
    gains = effects.sum(axis=0) / effects.sum()
    expected = np.exp(0.2 * gains) / np.exp(0.2 * gains).sum()
    np.testing.assert_allclose(adaptive.probabilities(30), expected, rtol=1e-9)


def test_steps_of_rounds_and_trials():
    schedule = create("aioli", TASKS[:2], lp_rounds=2, lp_steps=3, interval=20, start=7)
    steps, step = [], -1
    while len(steps) < 12:
        step = schedule.next_update(step)
        steps.append(step)
    assert steps == [7, 10, 13, 16, 19, 27, 30, 33, 36, 39, 47, 50]
    assert create("aioli", TASKS).interval == 250
    assert create("aioli", [TaskInfo(f"t{i}", 9) for i in range(20)]).interval == 640
    # One task needs no trials, and a task that the prior excludes has none.
    assert create("aioli", TASKS[:1]).next_update(0) == 250
    some = create("aioli", [*TASKS[:2], TaskInfo("e", 0)], prior="proportional", lp_steps=30)
    assert [some.next_update(step) for step in (0, 239, 240)] == [30, 240, 720]


@pytest.mark.parametrize("stop", [1, 2, 7, 24, 33, 40, 41, 66])
def test_a_run_that_resumes_anywhere_is_the_same(stop):
    schedule = create("aioli", TASKS, ema=0.2, max_change=0.05, **SMALL)
    effects = effects_of(4)
    whole, _ = run(schedule, World(effects), 100)
    world = World(effects)
    part, _ = run(schedule, world, stop)
    again = AdaptiveState(create("aioli", TASKS, ema=0.2, max_change=0.05, **SMALL))
    again.load_schedule(part.schedule_state(), np.arange(4))
    again.load_scores(part.score_state(), np.arange(4))
    resumed, _ = run(again.schedule, world, 100, again, start=stop)
    for saved in ("schedule_state", "score_state"):
        expected, found = getattr(whole, saved)(), getattr(resumed, saved)()
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            np.testing.assert_array_equal(value, found[key], err_msg=key)


def test_after_a_change_of_tasks_the_next_round_measures_again():
    schedule = create("aioli", TASKS, eta=5.0, **SMALL)
    adaptive, _ = run(schedule, World(effects_of(4)), 50)  # Within the trials of round 2.
    state = adaptive.schedule_state()
    assert state["schedule/trials"] == 5
    later = [TASKS[2], TASKS[0], TaskInfo("e", 5)]
    changed = create("aioli", later, eta=5.0, **SMALL)
    moved = AdaptiveState(changed)
    moved.load_schedule(state, np.array([2, 0, -1]))
    p = moved.probabilities(50).copy()
    mixture = state["schedule/mixture"]
    np.testing.assert_allclose(p[0] / p[1], mixture[2] / mixture[0])
    moved, updates = run(changed, World(effects_of(3)), 79, moved, start=50)
    assert updates
    np.testing.assert_array_equal(moved.probabilities(79), p)
    moved, _ = run(changed, World(effects_of(3)), 98, moved, start=79)
    assert np.abs(moved.probabilities(98) - p).max() > 0.01


def test_a_floor_and_a_limited_change_hold():
    bound = create("aioli", TASKS, eta=9.0, max_change=0.02, floor=0.12, **SMALL)
    adaptive, _ = run(bound, World(effects_of(4)), 1)
    trial = adaptive.probabilities(1)
    np.testing.assert_allclose(sorted(trial), [0.12, 0.12, 0.12, 0.64])
    first, _ = run(bound, World(effects_of(4)), 30)
    assert np.abs(first.probabilities(30) - 0.25).max() == pytest.approx(0.02)
    # The trials with the floor still find the effects.
    effects = effects_of(4)
    found = first.schedule_state()["schedule/effects"]
    np.testing.assert_allclose(found, effects / effects.sum(), rtol=1e-6)
    even = create("aioli", TASKS, floor=0.25, **SMALL)
    adaptive, _ = run(even, World(effects_of(4)), 100)
    np.testing.assert_allclose(adaptive.probabilities(100), 0.25)


def test_it_names_what_is_wrong():
    with pytest.raises(ConfigError, match="interval = 64 must be above 64, the steps of"):
        create("aioli", TASKS, interval=64)
    with pytest.raises(ConfigError, match=r"one_hot_factor = 0.25 must be above 1/4"):
        create("aioli", TASKS, one_hot_factor=0.25)
    with pytest.raises(ConfigError, match=r"eta = 0 must be finite and > 0"):
        create("aioli", TASKS, eta=0)
