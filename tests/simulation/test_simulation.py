"""Simulations: counts that are right, curves that mean something, and fast enough to try things."""

import dataclasses
import time

import numpy as np
import pytest

from keras_mtl.errors import ConfigError, DataError
from keras_mtl.schedules import TaskInfo, blend, create
from keras_mtl.simulation import (
    CurveSettings,
    PlaySettings,
    PowerLawCurves,
    RecordedCurves,
    mean_probabilities,
    simulate,
)

SIZES = {"fr": 12_000, "de": 6000, "es": 2500, "it": 1000, "ca": 350, "gl": 120}
# Best dev chrF of the single-task models of configs/demo.yaml, with a learning rate of 2.0.
BASELINES = {"fr": 79.4, "de": 77.5, "es": 73.1, "it": 44.1, "ca": 36.3, "gl": 20.8}
TASKS = [TaskInfo(name, size, BASELINES[name]) for name, size in SIZES.items()]
ROWS = np.full(6, 100.0)
FEW = [TaskInfo(name, 1000 * (4 - i)) for i, name in enumerate("abc")]
# The schedules whose probabilities change from step to step.
MOVING = {
    "round_robin": {},
    "exponential": {"alpha": 3e-3, "p0": [1, 1, 1], "p1": [1, 0, 0]},
    "sigmoid": {"alpha": 3e-3, "p0": [1, 1, 1], "p1": [1, 0, 0]},
    "annealed": {"steps_per_epoch": 333, "epochs": 5},
    "cooldown": {"switch_step": 1234},
    "sequential": {
        "stages": [{"task": "a", "steps": 700}, {"task": "c", "steps": 41}, {"task": "b"}]
    },
    "piecewise": {
        "stages": [
            {"name": "round_robin", "steps": 501},
            {"name": "sequential", "parameters": {"stages": [{"task": "a", "steps": 1000},
             {"task": "b", "steps": 3}, {"task": "c"}]}, "steps": 1200},
            {"name": "proportional"},
        ]
    },
}  # fmt: skip


def curves(tasks=TASKS, alone=600, **settings):
    return PowerLawCurves(tasks, np.full(len(tasks), 100.0), alone, CurveSettings(**settings))


def play(name, how=None, settings=None, **parameters):
    how = how or curves()
    made = create(name, how.tasks, **parameters)
    return simulate(made, how, np.full(len(how.tasks), 100.0), settings or PlaySettings(1000, 250))


@pytest.mark.parametrize("name", MOVING)
def test_mean_probabilities_are_those_of_the_steps(name):
    schedule = create(name, FEW, **MOVING[name])
    state = schedule.init()
    for start, stop in ((0, 2000), (100, 117), (3, 1999), (690, 745), (17, 18)):
        exact = np.mean([schedule.probabilities(t, state) for t in range(start, stop)], axis=0)
        found = mean_probabilities(schedule, start, stop, state)
        np.testing.assert_allclose(found, exact, atol=1e-5)
        assert found.sum() == pytest.approx(1)


@pytest.mark.parametrize("draws", ["expected", "random", "blend"])
def test_every_batch_is_somebodys(draws):
    settings = PlaySettings(5000, 500, draws)
    for name, parameters in (*MOVING.items(), ("bandit", {}), ("implicit", {})):
        played = play(name, curves(FEW), settings, **parameters)
        assert played.steps[0] == 0
        assert played.steps[-1] == 5000
        np.testing.assert_allclose(played.batches.sum(1), played.steps, atol=1e-6)
        assert np.isfinite(played.ratios).all()
        assert (np.diff(played.batches, axis=0) >= 0).all()
        if draws != "expected":
            assert (played.batches == np.round(played.batches)).all()


def test_blended_counts_are_within_a_batch_of_the_rule_itself():
    schedule = create("exponential", FEW, **MOVING["exponential"])
    played = play(
        "exponential", curves(FEW), PlaySettings(900, 100, "blend"), **MOVING["exponential"]
    )
    credit, counts = np.zeros(3), np.zeros(3)
    for step in range(900):
        task, credit = blend(credit, schedule.probabilities(step, {}))
        counts[task] += 1
        at = np.searchsorted(played.steps, step + 1)
        if played.steps[at] == step + 1:
            assert np.abs(played.batches[at] - counts).max() <= 1.001


def test_random_counts_differ_by_seed_alone():
    one, two = (play("uniform", settings=PlaySettings(1000, 250, "random", s)) for s in (1, 2))
    again = play("uniform", settings=PlaySettings(1000, 250, "random", 1))
    assert (one.batches == again.batches).all()
    assert (one.batches[-1] != two.batches[-1]).any()
    assert np.abs(one.batches[-1] - 1000 / 6).max() < 60  # 5 sigma


def test_a_task_alone_reaches_its_baseline():
    for task in TASKS:
        alone = PowerLawCurves([task], np.array([100.0]), 600)
        for name in ("uniform", "inverse_ratio"):
            played = simulate(
                create(name, alone.tasks), alone, np.array([100.0]), PlaySettings(600, 100)
            )
            assert played.scores[-1] == pytest.approx(BASELINES[task.name])
            assert played.ratios[-1] == pytest.approx(1)
    lower = PowerLawCurves([TaskInfo("a", 50_000, 2.5)], np.array([100.0]), 600, None, False)
    played = simulate(
        create("uniform", lower.tasks), lower, np.array([100.0]), PlaySettings(600, 100)
    )
    assert played.scores[-1] == pytest.approx(2.5)
    assert played.scores[0] > 7


def test_the_defaults_repeat_what_was_measured_for_the_demo():
    """Baselines, and which of three schedules has the better mean chrF: 49.4, 59.7 and 61.0."""
    modeled = curves([TaskInfo(task.name, task.size) for task in TASKS])
    for task, measured in zip(modeled.tasks, BASELINES.values(), strict=True):
        assert task.baseline == pytest.approx(measured, rel=0.3)
    mean = {
        name: play(name).scores[-1].mean() for name in ("proportional", "uniform", "inverse_ratio")
    }
    assert mean["proportional"] + 2 < mean["uniform"] < mean["inverse_ratio"]
    for name, measured in (("proportional", 49.4), ("uniform", 59.7), ("inverse_ratio", 61.0)):
        assert mean[name] == pytest.approx(measured, rel=0.15)


def test_parts_of_the_model_act_as_they_are_described():
    # A repeat is worth less and less; never more than `repeats` passes more.
    settings = CurveSettings(repeats=15)
    seen = np.array([50.0, 100.0, 200.0, 1600.0, 1e9])
    worth = settings.useful(seen, np.full(5, 100.0))
    assert worth[:2].tolist() == [50, 100]
    assert 190 < worth[2] < 200
    assert worth[3] == pytest.approx(100 * (1 + 15 * (1 - np.exp(-1))))
    assert worth[4] == pytest.approx(1600)
    # What is not drawn any more is forgotten.
    stages = [{"task": "fr", "steps": 500}, {"task": "de"}]
    played = play("sequential", stages=stages)
    middle = np.searchsorted(played.steps, 500)
    assert played.scores[-1, 0] < 0.5 * played.scores[middle, 0]
    # Without any of it, others' examples are worth nothing and nothing is forgotten.
    plain = curves(transfer=0, interference=0, forgetting=0)
    apart = play("sequential", plain, stages=stages)
    assert apart.scores[-1, 0] == pytest.approx(apart.scores[middle, 0])
    assert apart.scores[-1, 2] == 0
    # An implicit factor acts like more examples, and leaves the counts alone.
    scaled, flat = (play("implicit", gamma=gamma) for gamma in (0.9, 0.0))
    np.testing.assert_allclose(scaled.batches, flat.batches)
    assert (scaled.scores[-1] != flat.scores[-1]).any()
    assert np.allclose(flat.scales, 1)
    np.testing.assert_allclose(scaled.scales.mean(1), 1)


def test_noise_reaches_the_schedule_and_not_the_result():
    quiet, noisy = (
        play("inverse_ratio", settings=PlaySettings(1000, 100, noise=x)) for x in (0, 0.1)
    )
    assert (quiet.probabilities[-1] != noisy.probabilities[-1]).any()
    smooth = np.abs(np.diff(noisy.scores, axis=0)).max()
    assert smooth < 0.2 * noisy.scores.max()


def events_of(played, names, every=50):
    """What a run would have logged that drew and scored as this simulation did."""
    events = []
    for place, step in enumerate(played.steps.tolist()):
        if step % every or not step:
            continue
        batches = dict(
            zip(names, np.round(played.batches[place]).astype(int).tolist(), strict=True)
        )
        losses = dict.fromkeys(names, 8.0 - 5 * step / 1000)
        events.append({"event": "train", "step": step, "batches": batches, "loss": losses})
        scores = dict(zip(names, played.scores[place].tolist(), strict=True))
        events.append(
            {"event": "evaluation", "step": step, "metric": "chrf", "scores": {"chrf": scores}}
        )
    return events


def test_a_recorded_run_is_played_back():
    names = list(SIZES)
    original = play("uniform", settings=PlaySettings(1000, 50))
    recorded = RecordedCurves(TASKS, events_of(original, names), ROWS)
    again = simulate(create("uniform", recorded.tasks), recorded, ROWS, PlaySettings(1000, 50))
    late = again.steps >= 100
    np.testing.assert_allclose(again.scores[late], original.scores[late], rtol=0.03)
    assert not again.held.any()
    longer = simulate(
        create("proportional", recorded.tasks), recorded, ROWS, PlaySettings(1000, 50)
    )
    assert longer.held.tolist() == [True, True, False, False, False, False]
    # The smallest is drawn less than in the recorded run, and is worse.
    assert longer.scores[-1, 5] < original.scores[-1, 5]
    assert longer.scores[-1, 0] >= original.scores[-1, 0] * 0.99
    without = [dataclasses.replace(task, baseline=None) for task in TASKS]
    best = RecordedCurves(without, events_of(original, names), ROWS)
    assert best.tasks[0].baseline == pytest.approx(original.scores[-1, 0])
    # Such a baseline is not one that was given.
    assert set(best.baseline_sources) == {"recorded"}
    assert set(recorded.baseline_sources) == {"given"}
    given = [TASKS[0], *without[1:]]
    assert PowerLawCurves(given, ROWS, 10).baseline_sources[:2] == ("given", "modeled")


def test_a_recorded_run_may_have_changed_its_metric_and_its_tasks():
    names = list(SIZES)
    events = events_of(play("uniform", settings=PlaySettings(1000, 50)), names)
    first, second = [event for event in events if event["event"] == "evaluation"][:2]
    first["scores"] = {"bleu": first["scores"]["chrf"]}
    del second["scores"]["chrf"]["gl"]
    recorded = RecordedCurves(TASKS, events, ROWS)
    without = [event for event in events if event is not first]
    again = RecordedCurves(TASKS, without, ROWS)
    learned = np.full(6, 1e6)
    np.testing.assert_array_equal(
        recorded.scores(learned, np.ones(6) / 6), again.scores(learned, np.ones(6) / 6)
    )


def test_a_recorded_run_has_the_scores_of_each_task_in_its_own_metric():
    events = events_of(play("uniform", settings=PlaySettings(1000, 50)), list(SIZES))
    recorded = RecordedCurves(TASKS, events, ROWS)
    for event in events:
        if event["event"] == "evaluation":
            scores = event["scores"]["chrf"]
            event["scores"]["bleu"] = {"gl": scores["gl"]}
            scores["gl"] += 30.0
    again = RecordedCurves(TASKS, events, ROWS, metrics={"gl": "bleu"})
    learned = np.full(6, 1e6)
    np.testing.assert_array_equal(
        recorded.scores(learned, np.ones(6) / 6), again.scores(learned, np.ones(6) / 6)
    )
    with pytest.raises(ConfigError, match=r"task 'gl' \(ter\) .* cannot be played together"):
        RecordedCurves(TASKS, events, ROWS, metrics={"gl": "ter"})


def test_what_cannot_be_played_is_named():
    with pytest.raises(ConfigError, match=r"transfer = 2.* <= 1"):
        CurveSettings(transfer=2)
    with pytest.raises(ConfigError, match="draws = 'blended' is unknown; did you mean 'blend'"):
        PlaySettings(10, draws="blended")
    with pytest.raises(ConfigError, match="noise = -1"):
        PlaySettings(10, noise=-1)
    with pytest.raises(ConfigError, match="'a' has no examples"):
        PowerLawCurves([TaskInfo("a", 0)], np.ones(1), 10)
    with pytest.raises(ConfigError, match=r"make it for curves\.tasks"):
        simulate(create("uniform", FEW), curves(FEW), np.ones(3), PlaySettings(10))
    with pytest.raises(DataError, match="no validation scores"):
        RecordedCurves(TASKS, [], ROWS)
    events = events_of(play("uniform"), list(SIZES))
    with pytest.raises(DataError, match="no score of task 'f'; did you mean 'fr'"):
        RecordedCurves([TaskInfo("f", 10)], events, np.ones(1))


def test_a_thousand_tasks_and_a_million_steps_take_seconds():
    tasks = [TaskInfo(f"t{i}", 10_000_000 // (i + 1)) for i in range(1000)]
    how = curves(tasks, 100_000)
    begin = time.process_time()
    for name in ("temperature", "inverse_ratio"):
        simulate(create(name, how.tasks), how, np.full(1000, 100.0), PlaySettings(10**6, 1000))
    assert time.process_time() - begin < 20  # 0.4 s; a quadratic search takes minutes
