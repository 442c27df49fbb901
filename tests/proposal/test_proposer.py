"""Proposals from synthetic laws: the known best weights, the limits, and what is refused."""

import numpy as np
import pytest

from keras_mtl.errors import InputError
from keras_mtl.proposal import (
    DoublePowerLaw,
    LogLinearLaw,
    Measurements,
    Objective,
    Space,
    importance_of,
    propose,
    writing,
)
from keras_mtl.proposal.laws import Laws
from keras_mtl.proposal.objective import Search
from keras_mtl.proposal.swarm_design import mixture, mixture_with_added

TASKS = ("large", "middle", "small")
EQUAL = np.full(3, 1 / 3)
SIZES = np.array([6000.0, 3000.0, 200.0])
# Each task helps itself most, and a little the others.
TRUE = Laws.of(
    [
        LogLinearLaw(1.0, np.array([-3.0, -0.4, 0.2])),
        LogLinearLaw(1.2, np.array([-0.5, -4.0, 0.1])),
        LogLinearLaw(1.5, np.array([0.3, -0.6, -9.0])),
    ]
)
POWERS = Laws.of(
    [
        DoublePowerLaw(0.8, 0.3, 0.6, 1.2, 1.5),
        DoublePowerLaw(1.2, 0.25, 0.0, 1.0, 1.2),
        DoublePowerLaw(0.5, 0.4, 0.3, 0.7, 1.0),
    ]
)


def space(max_passes=1e6):
    return Space(SIZES, 9200 / SIZES, max_passes)


def swarm(allowed, runs=12, laws=TRUE, noise=0.0):
    bounds = allowed.natural, allowed.low, allowed.high
    weights = np.array([mixture(3, i, *bounds) for i in range(runs)])
    losses = laws.loss(weights) + np.random.default_rng(5).normal(0, noise, (runs, 3))
    return Measurements(tuple(f"{i:04d}" for i in range(runs)), TASKS, (), weights, losses)


def grid():
    """All weights in steps of a 400th."""
    shares = np.arange(1, 400) / 400
    first, second = (side.ravel() for side in np.meshgrid(shares, shares))
    points = np.stack([first, second, 1 - first - second], axis=1)
    return points[points[:, 2] > 0.002]


GRID = grid()


def search(objective, laws, high=(1.0, 1.0, 1.0)):
    found = Search(objective, np.array([0.6, 0.3, 0.1]), np.full(3, 0.002), np.array(high))
    return found.best(laws, found.starts())


@pytest.mark.parametrize("laws", [TRUE, POWERS])
@pytest.mark.parametrize("kind", ["mean", "worst"])
@pytest.mark.parametrize("importance", [(1, 1, 1), (5, 1, 0.2), (1, 1, 0)])
def test_weights_are_the_best_of_a_grid(laws, kind, importance):
    given = np.array(importance) / sum(importance)
    objective = Objective(kind, given, baselines=np.array([1.8, 1.5, 2.0]))
    found = search(objective, laws)
    best = objective.value(laws.loss(GRID)).min()
    assert best - 0.01 < objective.value(laws.loss(found)) <= best + 1e-4
    assert found.sum() == pytest.approx(1)


def test_limits_of_ratios_and_weights_hold_at_the_best_weights():
    baselines = np.array([1.05, 1.3, 1.9])
    objective = Objective("mean", EQUAL, baselines, least_ratio=0.88)
    high = np.array([1.0, 0.3, 0.22])
    found = search(objective, TRUE, high)
    assert (found <= high + 1e-9).all()
    assert (baselines / TRUE.loss(found)).min() >= 0.88 * (1 - 1e-4)
    allowed = (baselines / TRUE.loss(GRID) >= 0.88).all(axis=1) & (high >= GRID).all(axis=1)
    best = objective.value(TRUE.loss(GRID[allowed])).min()
    assert objective.value(TRUE.loss(found)) == pytest.approx(best, abs=5e-3)
    # The ratio costs something.
    assert objective.value(TRUE.loss(search(Objective("mean", EQUAL), TRUE, high))) < best - 5e-3


def test_a_ratio_that_no_weights_reach_is_refused_with_the_best_one():
    baselines = np.array([1.1, 1.25, 1.55])
    best = (baselines / TRUE.loss(GRID)).min(axis=1).max()
    with pytest.raises(InputError, match="no weights keep every task") as error:
        search(Objective("worst", EQUAL, baselines, least_ratio=0.99), TRUE)
    assert f"the best ones keep {best:.2f}" in str(error.value)


def test_few_runs_for_the_log_linear_law_are_a_warning():
    # 4 coefficients.
    objective = Objective("mean", EQUAL)
    for law, runs, words in (
        (
            "log_linear",
            7,
            "7 proxy runs are few for the 4 coefficients of the log-linear law (large",
        ),
        ("log_linear", 8, ""),
        ("double_power", 7, ""),
    ):
        lines = writing.notes(propose(swarm(space(), runs), space(), objective, law, samples=0))
        few = [line for line in lines if "are few" in line]
        assert len(few) == bool(words)
        assert words in "".join(few)
        assert not few or "Give --proxies 12, or --law double_power" in few[0]


def test_pull_moves_weights_to_the_natural_distribution():
    natural = np.array([0.6, 0.3, 0.1])
    free, pulled, strong = (
        search(Objective("mean", EQUAL, pull=pull), TRUE) for pull in (0, 0.1, 100)
    )
    assert np.abs(free - natural).sum() > np.abs(pulled - natural).sum() > 0.01
    np.testing.assert_allclose(strong, natural, atol=0.01)


@pytest.mark.parametrize("law", ["best", "log_linear"])
def test_the_known_best_weights_are_proposed(law):
    allowed = space()
    proposal = propose(swarm(allowed), allowed, Objective("mean", EQUAL), law, samples=0)
    values = TRUE.loss(GRID).mean(axis=1)
    assert TRUE.loss(proposal.weights).mean() <= values.min() + 2e-3
    np.testing.assert_allclose(proposal.weights, GRID[values.argmin()], atol=0.02)
    assert all(fit.chosen.kind == "log_linear" for fit in proposal.fits)
    assert min(fit.explained for fit in proposal.fits) > 0.99


def test_a_task_that_overfits_gets_a_double_power_law():
    allowed = space()
    proposal = propose(swarm(allowed, laws=POWERS), allowed, Objective("mean", EQUAL), samples=0)
    assert [fit.chosen.kind for fit in proposal.fits] == ["double_power"] * 3
    assert POWERS.loss(proposal.weights).mean() <= POWERS.loss(GRID).mean(axis=1).min() + 5e-3


def test_no_task_is_read_more_often_than_allowed():
    allowed = space(max_passes=4.0)
    proposal = propose(swarm(allowed), allowed, Objective("mean", EQUAL), samples=0)
    assert proposal.passes.max() == pytest.approx(4.0, rel=1e-4)
    assert "at the limit of 4 passes: small" in writing.notes(proposal)
    with pytest.raises(InputError, match=r"read the data 1\.0 times on average, more than max_p"):
        space(max_passes=0.5).check()


def test_uncertainty_grows_with_noise_and_equal_arguments_give_equal_proposals():
    allowed = space()
    first, again, noisy = (
        propose(swarm(allowed, noise=noise), allowed, Objective("mean", EQUAL), "log_linear", 10)
        for noise in (0.003, 0.003, 0.05)
    )
    assert writing.as_data(first) == writing.as_data(again)
    widths = [np.diff(found.interval(), axis=0).mean() for found in (first, noisy)]
    assert widths[1] > 2 * widths[0] > 0
    assert (first.gains() > 0).all()
    assert "the proposal is better in 100% of 10 samples" in writing.notes(first)[0]


def test_losses_without_a_law_are_no_proposal():
    allowed = space()
    found = swarm(allowed)
    noise = np.random.default_rng(4).normal(3.0, 0.1, found.losses.shape[0])
    losses = found.losses.copy()
    losses[:, 1] = noise
    broken = Measurements(found.runs, TASKS, (), found.weights, losses)
    proposal = propose(broken, allowed, Objective("mean", EQUAL), samples=0)
    assert [fit.task for fit in proposal.poor()] == ["middle"]
    assert "no law predicts the loss of middle" in writing.notes(proposal)[-1]
    # A task that does not count may have any loss.
    others = Objective("mean", np.array([0.5, 0.0, 0.5]))
    assert not propose(broken, allowed, others, samples=0).poor()


def test_too_few_runs_are_refused():
    allowed = space()
    with pytest.raises(InputError, match="task 'large': 4 runs with different weights"):
        propose(swarm(allowed, runs=4), allowed, Objective("mean", EQUAL))


def test_runs_of_earlier_tasks_count():
    """Runs with a task that was removed, or without one that was added, are in the fit."""
    slopes = np.c_[TRUE.slopes, [0.1, 0.0, -0.2]]
    natural = np.array([0.6, 0.3, 0.02, 0.08])
    low, high = np.full(4, 0.002), np.ones(4)
    weights = np.array([mixture(3, i, natural, low, high) for i in range(10)])
    # The third task is added to the last six runs, and the fourth is removed after all.
    weights[:, 2] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    new = [mixture_with_added(3, 10 + i, i, natural, low, high, [2]) for i in range(6)]
    weights = np.concatenate([weights, new])
    losses = TRUE.limit + np.exp(weights @ slopes.T)
    losses[:10, 2] = np.nan
    runs = tuple(map(str, range(16)))
    found = Measurements(runs, TASKS, ("removed",), weights, losses)
    proposal = propose(found, space(), Objective("mean", EQUAL), "log_linear", samples=2)
    values = TRUE.loss(GRID).mean(axis=1)
    assert TRUE.loss(proposal.weights).mean() <= values.min() + 0.01
    data = writing.as_data(proposal)
    assert data["former_tasks"] == ["removed"]
    assert set(data["runs"][0]["losses"]) == {"large", "middle"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"smal": 1.0}, "unknown task 'smal'.*small"),
        ({"small": -1.0}, "small = -1.0; give a number >= 0"),
        ({"small": 0.0}, "every weight is 0"),
    ],
)
def test_wrong_importance(given, message):
    with pytest.raises(InputError, match=message):
        importance_of(TASKS, given)


def test_named_tasks_only():
    np.testing.assert_allclose(importance_of(TASKS, {"small": 3, "large": 1}), [0.25, 0, 0.75])
    np.testing.assert_allclose(importance_of(TASKS, {}), EQUAL)


def test_baselines_are_required_if_losses_are_compared_with_them():
    with pytest.raises(InputError, match="baselines, which are not given"):
        Objective("worst", EQUAL)
    with pytest.raises(InputError, match="did you mean 'mean'"):
        Objective("meen", EQUAL)


def test_the_picture_has_a_panel_for_each_law():
    from keras_mtl.figures.proposal import draw_proposal

    allowed = space(max_passes=4.0)
    objective = Objective("worst", EQUAL, np.array([1.3, 1.45, 1.9]))
    found = swarm(allowed, runs=8)
    figure = draw_proposal(propose(found, allowed, objective, "log_linear", samples=2))
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
    assert titles[:2] == ["weights", "predictions (objective: worst)"]
    assert [text.split(":")[0] for text in titles[2:]] == list(TASKS)
    weights, _, law, *_ = figure.axes
    assert [text.get_text() for text in weights.get_legend().get_texts()][-1] == "4 passes"
    # The runs, and the law with its band and the lines of the two weights and the baseline.
    assert len(law.lines) == 5
    assert len(law.collections) == 1
