"""Schedules that mix by losses and scaling laws: closed forms, and laws that are recovered."""

import numpy as np
import pytest

from keras_mtl.errors import ConfigError
from keras_mtl.schedules import (
    AdaptiveState,
    ScoreBook,
    TaskInfo,
    create,
)
from keras_mtl.schedules.dro_mt import best_response
from keras_mtl.schedules.loss_curves import POINTS, LossCurves
from keras_mtl.schedules.power_law import fit_power_laws

TWO = [TaskInfo("a", 30), TaskInfo("b", 10)]


def test_dynamic_temperature_rises_for_some_epochs_and_stays():
    tasks = [TaskInfo("a", 40_000_000), TaskInfo("b", 1_000_000)]
    schedule = create("dynamic_temperature", tasks, steps_per_epoch=10)
    # min(T_m, (k - 1)(T_m - T_0)/5 + T_0) in epoch k
    steps = {0: 1.0, 9: 1.0, 10: 1.8, 35: 3.4, 50: 5.0, 10**6: 5.0}
    assert {step: round(schedule.temperature(step), 9) for step in steps} == steps
    assert schedule.probabilities(0, {})[0].round(4) == 0.9756
    assert schedule.probabilities(50, {})[0].round(4) == 0.6765
    falling = create("dynamic_temperature", tasks, steps_per_epoch=1, initial=5, final=1, epochs=2)
    assert [falling.temperature(step) for step in range(4)] == [5, 3, 1, 1]


# --- DRO-MT ---------------------------------------------------------------------------------------


def test_best_response_of_two_tasks_is_on_the_edge_of_the_ball():
    # ½ [(p - p0)²/p0 + (p - p0)²/(1 - p0)] = rho: p = p0 + √(2 rho p0 (1 - p0)).
    found = best_response(np.array([1.0, 3.0]), np.array([0.75, 0.25]), 0.05, 0.0)
    assert found[1] == pytest.approx(0.25 + np.sqrt(0.1 * 0.75 * 0.25), rel=1e-9)


def test_best_response_is_the_best_of_the_ball():
    rng = np.random.default_rng(0)
    center = np.array([0.5, 0.3, 0.15, 0.05])
    losses = np.array([1.0, 2.0, 4.0, 3.0])
    rho = 0.1
    found = best_response(losses, center, rho, 0.0)
    distance = 0.5 * ((found / center - 1) ** 2 * center).sum()
    assert distance == pytest.approx(rho, rel=1e-6)
    directions = rng.normal(size=(20_000, 4)) * center
    directions -= directions.mean(axis=1, keepdims=True)
    directions *= np.sqrt(2 * rho / (directions**2 / center).sum(axis=1, keepdims=True))
    inside = (center + directions)[(center + directions).min(axis=1) >= 0]
    assert (inside @ losses).max() <= found @ losses + 1e-9
    assert (inside @ losses).max() > found @ losses - 0.01
    # A large ball reaches the worst task; the least ratio keeps the others.
    worst = best_response(losses, center, 100.0, 0.0)
    np.testing.assert_allclose(worst, [0, 0, 1, 0], atol=1e-9)
    kept = best_response(losses, center, 100.0, 0.2)
    others = np.array([0.1, 0.06, 0.01])
    np.testing.assert_allclose(kept[[0, 1, 3]], others / (1 + others.sum()), rtol=1e-9)
    np.testing.assert_array_equal(best_response(np.full(4, 2.0), center, rho, 0.2), center)


def test_dro_mt_subtracts_reference_losses_and_keeps_those_of_tasks_that_were_not_drawn():
    schedule = create("dro_mt", TWO, rho=0.05, least_ratio=0.0, reference_losses=[0.0, 2.0])
    state, book = schedule.init(), ScoreBook(TWO)
    np.testing.assert_allclose(schedule.probabilities(0, state), [0.75, 0.25])
    book.observe(0, 1, 1.0, 0.75)
    book.observe(1, 1, 2.5, 0.25)  # 0.5 above its reference: less than task a
    state = schedule.update(state, 1, book)
    expected = 0.75 + np.sqrt(0.1 * 0.75 * 0.25)
    assert schedule.probabilities(1, state)[0] == pytest.approx(expected)
    book.observe(1, 2, 4.5, 0.25)
    state = schedule.update(state, 2, book)
    np.testing.assert_allclose(state["losses"], [1.0, 4.5])
    assert schedule.probabilities(2, state)[0] == pytest.approx(1.5 - expected)
    # Below every reference, the losses themselves count.
    low = create("dro_mt", TWO, rho=0.05, least_ratio=0.0, reference_losses=[9.0, 9.0])
    assert low.probabilities(1, low.update(low.init(), 1, book))[0] < 0.75


# --- ADO ------------------------------------------------------------------------------------------


def test_power_laws_are_recovered():
    rng = np.random.default_rng(1)
    n = np.linspace(1_000, 50_000, 50)
    limit, scale, exponent = (
        rng.uniform(low, high, (30, 1)) for low, high in ((0.5, 2.5), (0.2, 3.0), (0.1, 0.75))
    )
    losses = limit + scale * (n / n[-1]) ** -exponent
    found = fit_power_laws(n, losses, np.ones_like(losses), n[-1])
    true = (scale * exponent)[:, 0]
    np.testing.assert_allclose(found.scale * found.exponent, true, rtol=0.02)
    noisy = losses * np.exp(0.01 * rng.normal(size=losses.shape))
    noisy[:, 7] *= 3  # Huber losses hardly see an outlier.
    found = fit_power_laws(n, noisy, np.ones_like(losses), n[-1])
    assert np.median(np.abs(found.scale * found.exponent / true - 1)) < 0.05


def test_power_laws_of_strange_curves_are_finite():
    n = np.arange(1.0, 21.0)
    losses = np.stack([np.full(20, 2.0), n, np.full(20, 1e-12), 1 / n**3])
    weights = np.ones_like(losses)
    weights[3, 4:] = 0
    found = fit_power_laws(n, losses, weights, 20.0)
    assert found.fitted.tolist() == [True, True, True, False]
    assert all(np.isfinite(values).all() and values.min() >= 0 for values in found)
    np.testing.assert_allclose(found.scale[:2], 0, atol=1e-9)  # They do not fall.


def test_curves_merge_points_when_they_are_full():
    curves = LossCurves("curve")
    state = curves.init(1)
    for position in range(1000):
        state = curves.add(state, position, np.array([float(position)]), np.ones(1))
    positions, losses, known = curves.points(state)
    assert state["curve_width"] == 16
    used = int(np.ceil(1000 / 16))
    np.testing.assert_array_equal(known[0], np.arange(POINTS) < used)
    # Means of whole numbers from 16 k to 16 k + 15.
    np.testing.assert_allclose(losses[0, : used - 1], positions[: used - 1] - 0.5)


def ado(tasks, exponents, scales, steps, **parameters):
    """Returns ADO and its states on loss curves 1 + scale · (n/1000)^(−exponent)."""
    parameters = {"start": 1000, "refit": 1000, "interval": 100, "prior": "none", **parameters}
    schedule = create("ado", tasks, **parameters)
    state, book = schedule.init(), ScoreBook(tasks)
    history = []
    for step in range(100, steps + 1, 100):
        p = schedule.probabilities(step, state)
        for task, (exponent, scale) in enumerate(zip(exponents, scales, strict=True)):
            loss = 1 + scale * ((step - 50) / 1000) ** -exponent
            book.observe(task, step, loss, p[task], weight=100 * p[task])
        state = schedule.update(state, step, book)
        history.append(state)
    return schedule, history


def test_ado_follows_slope_credit_and_running_mean():
    exponents, scales = np.array([0.2, 0.6]), np.array([1.0, 1.0])
    _, history = ado(TWO, exponents, scales, 4000, floor=0.1)
    credit, mean, p = np.full(2, 0.5), np.full(2, 0.5), np.full(2, 0.5)
    for number, state in enumerate(history, 1):
        step = 100 * number
        credit = 0.9 * credit + 0.1 * p
        if step >= 2000:  # The first fit; until then the prior.
            fitted = step // 1000 * 1000
            assert state["fit"] == fitted
            falling = state["scale"] * (step / fitted) ** -state["exponent"]
            new = np.maximum(state["exponent"], 0.05) * falling * np.sqrt(credit)
            new = np.maximum(new / new.sum(), 0.1)
            p = 0.9 * mean + 0.1 * new / new.sum()
            mean = mean + 100 / (step + 1) * (new / new.sum() - mean)
        np.testing.assert_allclose(state["probabilities"], p, rtol=1e-12)
        np.testing.assert_allclose(state["credit"], credit, rtol=1e-12)
    found = history[-1]["exponent"] * history[-1]["scale"]
    np.testing.assert_allclose(found, exponents * 4.0**-exponents, rtol=0.15)
    assert history[-1]["probabilities"][1] > 0.53  # It has more to gain.


def test_batches_stay_valid_while_ado_only_extends_its_curves():
    adaptive = AdaptiveState(create("ado", TWO, start=1, refit=500))
    redrawn = []
    for step in range(100, 801, 100):
        losses = 1 + (step / 1000) ** -np.array([0.2, 0.6])
        adaptive.observe_losses(step, losses, adaptive.probabilities(step - 1), np.full(2, 50.0))
        redrawn.append(adaptive.update(step))
        assert adaptive.schedule_state()["schedule/last"] == step
    assert redrawn == [False] * 5 + [True] * 3  # The first fit is at 600.


def test_ado_gives_a_task_without_a_fit_the_mean_slope():
    tasks = [*TWO, TaskInfo("c", 5)]
    schedule, history = ado(tasks, [0.3, 0.3, 0.3], [1.0, 1.0, 1.0], 2500)
    moved = schedule.remap(history[-1], np.array([0, 1, -1]))
    book = ScoreBook(tasks)
    book.observe(0, 2600, 1.8, 0.3, weight=40)
    book.observe(1, 2600, 1.8, 0.3, weight=40)
    again = schedule.update(moved, 2600, book)
    assert schedule.probabilities(2600, again).min() > 0.25
    assert again["exponent"][2] == 0


def test_ado_keeps_a_floor_that_many_tasks_can_have():
    few, many = (
        create("ado", [TaskInfo(f"t{i}", 1 + i**4) for i in range(count)]) for count in (5, 100)
    )
    assert few.floor == 0.01
    assert many.floor == 0.0025
    assert many.interval == 100


def test_loss_schedules_may_update_between_validations():
    assert create("bandit", TWO).interval == 0
    stages = [
        {"name": "bandit", "parameters": {"interval": 40}, "steps": 100},
        {"name": "ado", "parameters": {"interval": 60}, "steps": 100},
        {"name": "uniform"},
    ]
    assert create("piecewise", TWO, stages=stages).interval == 20
    with pytest.raises(ConfigError, match=r"interval = -1 must be .*training steps between"):
        create("bandit", TWO, interval=-1)
