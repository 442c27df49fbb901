"""Blended draws: every task has its share at every step, and a restart goes on exactly."""

import numpy as np
import pytest

from keras_mtl import schedules
from keras_mtl.data.batch_plan import Bucket
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.task_sources import ArraySource
from keras_mtl.errors import ConfigError
from keras_mtl.schedules import TaskInfo, pick, systematic

NAMES = ("a", "b", "c", "d")
SIZES = (700, 150, 40, 5)
both = pytest.mark.parametrize("granularity", ["batch", "example"])


def infos(names=NAMES):
    return [TaskInfo(name, SIZES[NAMES.index(name)], baseline=0.5) for name in names]


def make(granularity, names=NAMES, schedule="temperature", draw="blend", seed=7):
    sources = [
        ArraySource(name, {"x": np.arange(SIZES[NAMES.index(name)], dtype=np.int32)})
        for name in names
    ]
    made = schedules.create(schedule, infos(names))
    return Mixture(sources, made, [Bucket(1, 8)], seed, granularity, draw=draw, pool_examples=64)


def take(mixture, count, start=None):
    batches = mixture.batches(start)
    return [next(batches) for _ in range(count)]


def prints(batches):
    return [batch.fingerprint() for batch in batches]


@both
def test_every_task_has_its_share_at_every_step(granularity):
    mixture = make(granularity)
    p = mixture.probabilities(0)
    counts, worst = np.zeros(4), 0.0
    for step, batch in enumerate(take(mixture, 600), 1):
        counts += np.bincount(batch.tasks, minlength=4) / len(batch.tasks)
        worst = max(worst, float(np.abs(counts - step * p).max()))
    # In batches; by chance alone it would be up to sqrt(600 / 4) = 12 in one, and in the other, of
    # 4,800 examples, 4. What a pool has not handed out yet is at most its 8 batches.
    assert worst < (1.5 if granularity == "batch" else 2.5)
    assert np.abs(counts - 600 * p).max() < 1.5


@both
def test_a_run_stopped_at_every_step_equals_one_that_was_not(granularity):
    def run(stop_after):
        mixture = make(granularity, schedule="inverse_ratio")
        iterator, result = mixture.batches(0), []
        for step in range(60):
            if step % 20 == 10:
                scores = [0.5 * ((step + 7 * task) % 11) / 11 for task in range(4)]
                mixture.adaptive.enter_scores(step, dict(zip(NAMES, scores, strict=True)))
                mixture.update(step)
                iterator = mixture.batches(step)
            result.append(next(iterator).fingerprint())
            if stop_after and step % stop_after == 0:
                next(iterator)  # read ahead
                state = {key: value.copy() for key, value in mixture.state(step + 1).items()}
                mixture = make(granularity, schedule="inverse_ratio")
                mixture.restore(state)
                iterator = mixture.batches()
        return result

    undisturbed = run(None)
    assert run(1) == undisturbed
    assert run(13) == undisturbed


@both
def test_the_draw_and_the_tasks_may_change_between_runs(granularity):
    random = make(granularity, draw="random")
    take(random, 21)
    state = random.state(21)
    blended = make(granularity)
    blended.restore(state)
    assert np.array_equal(blended.consumed(blended.state()), random.consumed(state))
    take(blended, 21)
    back = make(granularity, draw="random")
    back.restore(blended.state(42))
    assert len(prints(take(back, 5))) == 5

    mixture = make(granularity)
    take(mixture, 30)
    saved = mixture.state(30)
    changed = make(granularity, names=("d", "b"))
    changed.restore(saved)
    done = mixture.consumed(saved)
    assert changed.consumed(changed.state()).tolist() == [done[3], done[1]]
    if granularity == "batch":
        credit = changed.state()["credit"]
        assert credit.tolist() == saved["credit"][[3, 1]].tolist()


def test_systematic_numbers_give_each_task_its_number_to_within_one():
    p = np.random.default_rng(1).dirichlet(np.full(30, 0.3))
    total = np.zeros(30)
    for index in range(200):
        counts = np.bincount(pick(p, systematic(5, index, 997)), minlength=30)
        assert np.abs(counts - 997 * p).max() < 1
        total += counts
        # What is rounded off in one pool is made good in the next ones.
        assert np.abs(total - (index + 1) * 997 * p).max() < 3
    assert systematic(5, 3, 0).shape == (0,)
    assert (systematic(5, 3, 10) == systematic(5, 3, 10)).all()
    assert (systematic(5, 3, 10) != systematic(6, 3, 10)).all()
    first = np.array([systematic(seed, 4, 1)[0] for seed in range(2000)])
    assert np.abs(np.histogram(first, 10, (0, 1))[0] - 200).max() < 70  # 5 sigma


def test_an_unknown_draw_is_named():
    with pytest.raises(ConfigError, match="draw = 'blended' is unknown; did you mean 'blend'"):
        make("batch", draw="blended")
