"""What every registered balancing method must do."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parents[1] / "balancing"))
from quadratic import Quadratic

from keras_mtl.balancing import Balancing, available, create, parameters_of
from keras_mtl.balancing.base import GRADIENTS
from keras_mtl.errors import CheckpointError, ConfigError

METHODS = available()
# Draws of XLA are other ones than those of the plain graph.
DRAWS = {"random", "graddrop"}
# Opposite gradients of equal length: what each makes of them is nothing at all.
CANCELS = {"pcgrad", "gradvac", "mgda", "cagrad", "upgrad", "imtl_g", "config", "aligned_mtl"}
CANCELS |= {"nash_mtl", "fairgrad"}
# The factor of the gradient (1, -2) of the only task; 1 for the others. Two methods choose the
# length of the step: √Σq.
ONE_TASK = {"uncertainty": 0.5, "cagrad": 1.5, "fairgrad": 5**-0.5, "nash_mtl": 5**-0.5}
CONFLICT = [[1.0, 0.5], [-1.5, 1.0], [0.4, -1.0]]
# For several steps in a row: intervals that end, and few steps of a solver, which is slow in eager
# execution.
SEVERAL_STEPS = {
    "dwa": {"interval": 2},
    **{name: {"iterations": 9} for name in ("mgda", "cagrad")},
    **{name: {"iterations": 2} for name in ("fairgrad", "nash_mtl", "upgrad")},
}


# They have no state but the number of steps; their restarts are tested by those that have one.
STATELESS = ("upgrad", "nash_mtl", "fairgrad", "imtl_g", "aligned_mtl", "config")
WITH_STATE = [
    pytest.param(m, marks=[pytest.mark.nightly] if m in STATELESS else []) for m in METHODS
]


def play(balancing, problem, steps, rate=0.05):
    found = []
    for _ in range(steps):
        with tf.GradientTape(persistent=True) as tape:
            losses = problem.losses()
        gradients, seen = balancing.gradients(tape, losses, [problem.theta])
        problem.theta.assign_sub(rate * gradients[0])
        balancing.look_back(seen, problem.losses())
        found.append(gradients[0].numpy())
    return np.array(found)


def test_all_of_them_are_there():
    assert set(METHODS) >= {
        *("uncertainty", "dwa", "gradnorm", "famo", "random", "imtl_l", "gls", "stch"),
        *("pcgrad", "gradvac", "cagrad", "mgda", "graddrop"),
        *("upgrad", "nash_mtl", "fairgrad", "imtl_g", "aligned_mtl", "config"),
    }


@pytest.mark.parametrize("method", METHODS)
def test_documented(method):
    cls = type(create(method, 2))
    assert "Reference:" in cls.__doc__
    assert "arXiv" in cls.__doc__
    for name in parameters_of(method):
        assert f"      {name}: " in cls.__doc__, name


@pytest.mark.parametrize("method", METHODS)
def test_one_task_takes_its_own_gradient(method):
    problem = Quadratic.with_gradients([[1.0, -2.0]])
    step = problem.step(Balancing(method, 1))
    factor = ONE_TASK.get(method, 1.0)
    np.testing.assert_allclose(step, [factor, -2 * factor], rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_identical_gradients_keep_their_direction(method):
    step = Quadratic.with_gradients([[3.0, 4.0]] * 3).step(Balancing(method, 3))
    np.testing.assert_allclose(step / np.linalg.norm(step), [0.6, 0.8], rtol=1e-5)
    assert np.linalg.norm(step) > 1 - 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_zero_gradients_give_a_zero_step(method):
    problem = Quadratic.with_gradients([[0.0, 0.0]] * 2, offsets=[1.0, 2.0])
    balancing = Balancing(method, 2)
    for _ in range(2):
        np.testing.assert_array_equal(problem.step(balancing), [0.0, 0.0])
    for name, array in balancing.state_dict().items():
        assert np.isfinite(array).all(), name


@pytest.mark.parametrize("method", METHODS)
def test_one_zero_gradient_does_no_harm(method):
    step = Quadratic.with_gradients([[1.0, 0.0], [0.0, 0.0]], [1.0, 1.0]).step(Balancing(method, 2))
    assert np.isfinite(step).all()
    assert step[1] == 0
    assert step[0] >= 0


@pytest.mark.parametrize("method", METHODS)
def test_opposite_gradients(method):
    step = Quadratic.with_gradients([[1.0, -2.0], [-1.0, 2.0]]).step(Balancing(method, 2))
    assert np.isfinite(step).all()
    if method in CANCELS:
        np.testing.assert_allclose(step, [0.0, 0.0], atol=1e-5)
    # Whatever remains lies on their common line, but where each coordinate is drawn by itself.
    elif method != "graddrop":
        assert abs(2 * step[0] + step[1]) < 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_an_absent_task_has_no_say(method):
    # It stands in the middle, has the largest gradient, and a loss that is not a number.
    two, three = Balancing(method, 2), Balancing(method, 3)
    present = Quadratic.with_gradients([CONFLICT[0], CONFLICT[2]])
    everyone = Quadratic.with_gradients([CONFLICT[0], [50.0, 50.0], CONFLICT[2]])
    for _ in range(3):
        expected = present.step(two)
        found = everyone.step(three, shares=[1.0, 0.0, 1.0])
    gram = tf.constant([[1.0, np.nan, 0.0], [np.nan] * 3, [0.0, np.nan, 1.0]])
    shares, losses = tf.constant([1.0, 0.0, 1.0]), tf.constant([0.5, np.nan, 0.5])
    three.learn(three.seen(shares, losses, gram))
    if method in DRAWS or method == "dwa":  # drawn, or spread, over all the tasks that there are
        assert np.abs(found).max() < 5
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    for name, array in three.state_dict().items():
        assert np.isfinite(array).all(), name
        if array.ndim and name not in ("weights",):
            fresh = three.balancer.init()[name]
            np.testing.assert_array_equal(array[1], fresh[1], err_msg=name)


@pytest.mark.parametrize("method", METHODS)
def test_no_task_at_all_is_no_step(method):
    step = Quadratic.with_gradients(CONFLICT).step(Balancing(method, 3), shares=[0.0, 0.0, 0.0])
    np.testing.assert_array_equal(step, [0.0, 0.0])


# Those whose programs have a loop or draw, and one of gradients. The nightly level has all.
XLA = ("mgda", "graddrop", "pcgrad")


@pytest.mark.parametrize(
    "method",
    [pytest.param(m, marks=[] if m in XLA else pytest.mark.nightly) for m in METHODS],
)
def test_xla_takes_the_same_step(method):
    gradients = CONFLICT[:2]  # of two tasks there is one order
    plain, compiled = Balancing(method, 2), Balancing(method, 2)
    one, two = Quadratic.with_gradients(gradients), Quadratic.with_gradients(gradients)
    expected, found = one.step(plain), two.step(compiled, jit=True)
    if method in DRAWS:
        total = np.sum(gradients, axis=0)
        assert np.isfinite(found).all()
        if method == "graddrop":
            assert found[0] in (1.0, -1.5)
            assert found[1] == total[1]
        else:  # on the segment between twice either gradient
            part = np.linalg.solve(np.array(gradients).T, found)
            np.testing.assert_allclose(part.sum(), 2, rtol=1e-5)
            assert part.min() > 0
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for name, array in plain.state_dict().items():
        np.testing.assert_allclose(
            compiled.state_dict()[name], array, rtol=1e-5, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize("method", WITH_STATE)
def test_a_restart_goes_on_bit_for_bit(method, tmp_path):
    parameters = SEVERAL_STEPS.get(method, {})
    whole = play(Balancing(method, 3, parameters), Quadratic.with_gradients(CONFLICT), 6)
    first, problem = Balancing(method, 3, parameters), Quadratic.with_gradients(CONFLICT)
    play(first, problem, 3)
    tf.train.Checkpoint(balancing=first).write(str(tmp_path / "ckpt"))
    by_tensorflow, by_arrays = (Balancing(method, 3, parameters) for _ in range(2))
    tf.train.Checkpoint(balancing=by_tensorflow).read(str(tmp_path / "ckpt")).assert_consumed()
    by_arrays.load_state_dict(first.state_dict())
    theta = problem.theta.numpy()
    for restored in (by_tensorflow, by_arrays):
        problem.theta.assign(theta)
        np.testing.assert_array_equal(play(restored, problem, 3), whole[3:])


@pytest.mark.parametrize("method", WITH_STATE)
def test_tasks_that_come_and_go(method):
    balancing = Balancing(method, 3, SEVERAL_STEPS.get(method, {}))
    play(balancing, Quadratic.with_gradients(CONFLICT), 3)
    saved = balancing.state_dict()
    changed = Balancing(method, 2)
    changed.load_state_dict(saved, np.array([2, -1]))  # the third stays, one is new
    state, fresh = changed.state_dict(), changed.balancer.init()
    assert state["step"] == 3
    for name, start in fresh.items():
        np.testing.assert_array_equal(state[name].flat[0], saved[name].flat[-1], err_msg=name)
        np.testing.assert_array_equal(state[name].flat[-1], start.flat[-1], err_msg=name)
    if fresh:
        with pytest.raises(CheckpointError, match="at least 4 tasks"):
            changed.load_state_dict(saved, np.array([0, 3]))
    changed.load_state_dict({"step": 5, "of_another_method": np.ones(2)})
    assert changed.state_dict()["step"] == 5


@pytest.mark.parametrize("method", WITH_STATE)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_not_learned(method, bad):
    balancing = Balancing(method, 2)
    play(balancing, Quadratic.with_gradients(CONFLICT[:2]), 2)
    before = balancing.state_dict()
    gram = tf.eye(2) if balancing.balancer.uses == GRADIENTS else None
    seen = balancing.seen(tf.ones([2]), tf.constant([1.0, bad]), gram)
    balancing.learn(seen)
    balancing.look_back(seen, tf.ones([2]))
    balancing.learn(balancing.seen(tf.ones([2]), tf.ones([2]), gram), valid=tf.constant(False))
    for name, array in balancing.state_dict().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_from_its_configuration(method):
    made = Balancing(method, 4, seed=9)
    again = Balancing.from_config(made.get_config())
    assert (again.method, again.num_tasks, again.balancer.seed) == (method, 4, 9)


def test_names_and_parameters_are_checked():
    with pytest.raises(ConfigError, match="did you mean 'pcgrad'"):
        create("pcgard", 2)
    with pytest.raises(ConfigError, match="no parameter 'temprature'; did you mean 'temperature'"):
        create("dwa", 2, temprature=1)
    with pytest.raises(ConfigError, match="has no parameter 'c'; it takes no parameters"):
        create("pcgrad", 2, c=1)
    for field in ("seed", "num_tasks", "name"):  # What a user writes is never another argument.
        with pytest.raises(ConfigError, match=f"has no parameter '{field}'"):
            create("random", 2, **{field: 3})
    for method, parameters, message in (
        ("fairgrad", {"a": 0.1}, "a = 0.1 must be finite and >= 0.5"),
        ("aligned_mtl", {"scale": "mni"}, "did you mean 'min'"),
        ("stch", {"mu": 0}, "mu = 0 must be finite and > 0"),
        ("cagrad", {"c": 1.0}, "c = 1.0 must be finite and >= 0 and < 1"),
        ("dwa", {"temperature": 0}, "temperature = 0 must be finite and > 0"),
        ("dwa", {"interval": 1.5}, "must be a whole number"),
        ("graddrop", {"leak": 2}, "leak = 2 must be finite and >= 0 and <= 1"),
        ("gradvac", {"beta": "1e-2"}, "is not a number"),
        ("mgda", {"normalize": "l3"}, "did you mean 'l2'"),
        ("uncertainty", {"form": "regresion"}, "did you mean 'regression'"),
        ("famo", {"decay": -1}, "decay = -1 must be finite and >= 0"),
        ("gradnorm", {"a": True}, "a = True is not a number"),
    ):
        with pytest.raises(ConfigError, match=message):
            create(method, 2, **parameters)
    with pytest.raises(ConfigError, match="at least 1"):
        create("pcgrad", 0)
