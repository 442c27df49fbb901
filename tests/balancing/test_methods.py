"""Each method against the closed form of its paper, on two quadratics with known gradients."""

import math

import numpy as np
import pytest
import tensorflow as tf
from quadratic import Quadratic, direction

from keras_mtl.balancing import Balancing, create
from keras_mtl.balancing.pcgrad import sorted_places
from keras_mtl.balancing.simplex import min_norm, worst_case

CONFLICT = [[1.0, 0.0], [-1.0, 1.0]]
AGREE = [[1.0, 0.0], [1.0, 1.0]]


def close(found, expected, tolerance=1e-5):
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def run(problem, balancing, steps, rate, shares=None):
    """Gradient descent, with FAMO's second look at the losses."""
    for _ in range(steps):
        with tf.GradientTape(persistent=True) as tape:
            losses = problem.losses()
        gradients, seen = balancing.gradients(tape, losses, [problem.theta], shares=shares)
        problem.theta.assign_sub(rate * gradients[0])
        if balancing.balancer.looks_back:
            balancing.look_back(seen, problem.losses())


# --- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "factor"), [("regression", 0.5), ("classification", 1.0)])
def test_uncertainty(form, factor):
    # The fixed point of u under constant losses: 2 · factor · e^-u L = 1, so w = 1 / (2 L).
    losses = np.array([0.2, 3.0], np.float32)
    problem = Quadratic.with_gradients(CONFLICT, losses - 0.5 * np.array([1.0, 2.0]))
    balancing = Balancing("uncertainty", 2, {"form": form, "learning_rate": 0.05})
    close(problem.step(balancing), factor * np.sum(CONFLICT, axis=0))
    # Adam's first step is the learning rate against the sign of ½ - factor·L.
    expected = -0.05 * np.sign(0.5 - factor * losses)
    close(balancing.state_dict()["log_variance"], expected)
    close(problem.steps(balancing, 120)[-1], np.sum(CONFLICT / (2 * losses[:, None]), axis=0), 0.02)


def test_dwa():
    balancing = Balancing("dwa", 2, {"temperature": 2.0, "interval": 2})
    losses = [[4.0, 4.0], [2.0, 4.0], [1.0, 3.0], [2.0, 3.0], [1.0, 1.0]]
    found = []
    for pair in losses:
        seen = balancing.seen(tf.ones([2]), tf.constant(pair))
        found.append(balancing.weights_of(seen).numpy())
        balancing.learn(seen)
    close(found[:4], np.ones((4, 2)))
    # Means 3, 4, then 1.5, 3.
    powers = np.exp(np.array([1.5 / 3, 3 / 4]) / 2)
    close(found[4], 2 * powers / powers.sum())


def test_dwa_keeps_the_mean_of_a_task_that_an_interval_has_not_seen():
    balancing = Balancing("dwa", 2, {"interval": 1})
    for shares, pair in (((1.0, 1.0), (4.0, 4.0)), ((1.0, 1.0), (2.0, 2.0)), ((1.0, 0.0), (1, 9))):
        seen = balancing.seen(tf.constant(shares), tf.constant(pair, tf.float32))
        balancing.learn(seen)
    state = balancing.state_dict()
    close(state["last"], [1.0, 2.0])
    close(state["before_last"], [2.0, 2.0])


def test_random_weights():
    balancing = Balancing("random", 2, seed=3)
    draws = []
    for _ in range(200):
        seen = balancing.seen(tf.ones([2]), tf.ones([2]))
        draws.append(balancing.weights_of(seen).numpy())
        balancing.learn(seen)
    draws = np.array(draws)
    close(draws.sum(axis=1), np.full(200, 2.0))
    # softmax(z) of two normals is the logistic function of N(0, 2): compare with its quartiles.
    counts, _ = np.histogram(
        draws[:, 0] / 2, [0, *(1 / (1 + math.exp(x)) for x in (0.9539, 0, -0.9539)), 1]
    )
    chi_square = np.sum((counts - 50) ** 2 / 50)
    assert chi_square < 16.3  # 0.1 % of three degrees of freedom.


def test_famo_descends_the_logarithms_and_makes_them_fall_alike():
    losses = np.array([2.0, 0.5])
    found = direction("famo", CONFLICT, losses=losses)
    weights = (1 / losses) / np.sum(1 / losses)  # z is even; Σ q w = Σ q = 2
    close(found, np.sum(2 * weights[:, None] * np.array(CONFLICT), axis=0))

    # One step by hand: ξ moves against the sign of Jᵀδ, Adam's first step is the learning rate.
    balancing = Balancing("famo", 2, {"decay": 0.0})
    seen = balancing.seen(tf.ones([2]), tf.constant([2.0, 0.5]))
    balancing.look_back(seen, tf.constant([1.0, 0.4]))
    close(balancing.state_dict()["logits"], [-0.025, 0.025], 1e-4)

    # L_2 cannot fall below 3, so its logarithm hardly falls: it gains the weight.
    problem = Quadratic([[0.0, 0.0], [0.0, 0.0]], offsets=[0.0, 3.0])
    balancing = Balancing("famo", 2, {"learning_rate": 0.1})
    run(problem, balancing, 30, 0.02)
    first, second = balancing.state_dict()["logits"]
    assert second > 1.0 > -1.0 > first


def test_gradnorm():
    gradients = np.array([[2.0, 0.0], [0.0, 1.0]])
    balancing = Balancing("gradnorm", 2, {"learning_rate": 0.01, "a": 1.0})
    problem = Quadratic.with_gradients(gradients)
    close(problem.step(balancing), [2.0, 1.0])  # weights of 1 at first
    # The first sees G = (2, 1), both rates 1, target 1.5: one weight falls, the other rises.
    close(balancing.state_dict()["weights"], [0.99, 1.01])
    problem.steps(balancing, 80)  # θ stands still: the norms become equal
    weights = balancing.state_dict()["weights"]
    close(weights, [2 / 3, 4 / 3], 0.03)
    close(weights.sum(), 2.0)
    # At a = 1 and losses at 3/4 and 1/4 of the initial ones: rates 1.5 and 0.5, G_1 = 3 G_2.
    initial = problem.losses().numpy()
    problem.offsets = initial * [0.75, 0.25] - initial
    problem.steps(balancing, 120)
    norms = balancing.state_dict()["weights"] * [2.0, 1.0]
    assert abs(norms[0] / norms[1] - 3) < 0.2


# --- gradients ------------------------------------------------------------------------------------


def test_pcgrad():
    one, two = np.array(CONFLICT)
    dot = one @ two
    expected = one - dot / (two @ two) * two + two - dot / (one @ one) * one
    close(direction("pcgrad", CONFLICT), expected)
    close(expected, [0.5, 1.5])
    close(direction("pcgrad", AGREE), [2.0, 1.0])  # no conflict: the plain sum


def test_random_orders_are_a_stable_sort():
    keys = tf.constant(np.random.default_rng(1).integers(0, 6, (4, 9)) / 8, tf.float32)
    np.testing.assert_array_equal(
        sorted_places(keys), np.argsort(keys.numpy(), axis=1, kind="stable")
    )


def test_pcgrad_of_three_tasks_is_one_of_the_orders():
    gradients = np.array([[1.0, 0.2], [-1.0, 0.5], [0.3, -1.0]])

    def projected(i, order):
        g = gradients[i].copy()
        for j in order:
            if g @ gradients[j] < 0:
                g -= g @ gradients[j] / (gradients[j] @ gradients[j]) * gradients[j]
        return g

    possible = []
    for bits in range(8):
        total = np.zeros(2)
        for i in range(3):
            order = [j for j in range(3) if j != i]
            total += projected(i, order[::-1] if bits >> i & 1 else order)
        possible.append(total)
    found = set()
    problem, balancing = Quadratic.with_gradients(gradients), Balancing("pcgrad", 3, seed=1)
    for step in problem.steps(balancing, 40):
        distances = np.abs(np.array(possible) - step).max(axis=1)
        assert distances.min() < 1e-5
        found.add(int(distances.argmin()))
    assert len(found) >= 3  # several orders come up


def test_gradvac_turns_gradients_to_the_expected_cosine():
    one, two = np.array(CONFLICT)
    close(direction("gradvac", CONFLICT), direction("pcgrad", CONFLICT))  # expectation 0 at first
    balancing = Balancing("gradvac", 2, {"beta": 0.5})
    problem = Quadratic.with_gradients(CONFLICT)
    problem.step(balancing)
    cosine = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
    close(balancing.state_dict()["cosines"], [[0, cosine / 2], [cosine / 2, 0]])

    # Expected 0.6: each turned gradient makes that angle with the other's original.
    aim = 0.6
    balancing.load_state_dict({"cosines": np.full((2, 2), aim, np.float32)})

    def turned(g, h):
        phi, root = cosine, math.sqrt(1 - aim**2)
        amount = np.linalg.norm(g) * (aim * math.sqrt(1 - phi**2) - phi * root)
        return g + amount / (np.linalg.norm(h) * root) * h

    for g, h in ((one, two), (two, one)):
        new = turned(g, h)
        close(new @ h / np.linalg.norm(new) / np.linalg.norm(h), aim)
    close(problem.step(balancing), turned(one, two) + turned(two, one), 1e-4)


@pytest.mark.parametrize(
    ("gradients", "alpha"),
    [
        (CONFLICT, 3 / 5),  # (g_2 - g_1)·g_2 / |g_1 - g_2|² = 3/5
        ([[1.0, 0.0], [0.0, 2.0]], 4 / 5),
        ([[1.0, 0.0], [3.0, 1.0]], 1.0),  # the shorter one lies between
    ],
)
def test_mgda_of_two_tasks(gradients, alpha):
    one, two = np.array(gradients)
    expected = alpha * one + (1 - alpha) * two
    # The common descent direction: no task gets worse, and inside both improve at the same rate.
    assert min(expected @ one, expected @ two) >= expected @ expected - 1e-9
    close(direction("mgda", gradients), 2 * expected)
    close(direction("mgda", gradients, shares=[0.2, 0.8]), expected)  # Σ q = 1, as in the paper


def test_mgda_of_many_tasks():
    # Orthogonal gradients: α ∝ 1/|g|².
    squares = np.array([1.0, 4.0, 0.25, 9.0, 2.0], np.float32)
    present = np.array([True, True, True, True, False])
    alpha = min_norm(tf.linalg.diag(tf.constant(squares)), tf.constant(present), 100).numpy()
    expected = np.where(present, 1 / squares, 0)
    close(alpha, expected / expected.sum(), 1e-3)


@pytest.mark.parametrize("count", [3, 8])
def test_solvers_reach_the_conditions_of_optimality(count):
    rng = np.random.default_rng(count)
    gradients = rng.normal(size=(count, 50)) * np.exp(rng.normal(size=(count, 1)))
    gram = gradients @ gradients.T
    present, shares = np.ones(count, bool), np.full(count, 1 / count)
    tensors = tf.constant(gram, tf.float32), tf.constant(present)

    alpha = min_norm(*tensors, 100).numpy().astype(float)
    square = alpha @ gram @ alpha
    # No vertex is less far along the solution than the solution itself.
    assert (gram @ alpha).min() > square * (1 - 1e-3)

    radius = 0.5
    weights = worst_case(
        tensors[0], tf.constant(shares, tf.float32), radius, tensors[1], 100
    ).numpy()
    length = math.sqrt(weights @ gram @ weights)
    slopes = gram @ shares / math.sqrt(shares @ gram @ shares) + radius * gram @ weights / length
    assert slopes.min() > weights @ slopes - 1e-3 * length
    for simplex in (alpha, weights):
        assert abs(simplex.sum() - 1) < 1e-5
        assert simplex.min() >= 0


def test_mgda_normalized_by_length_takes_the_bisector():
    one, two = np.array([[4.0, 0.0], [-1.0, 1.0]])
    lengths = np.linalg.norm(one), np.linalg.norm(two)
    # α = ½ for unit vectors, applied to the gradients as they are.
    close(direction("mgda", [one, two], normalize="l2"), one + two)
    close(direction("mgda", [one, two], normalize="loss", losses=lengths), one + two)
    close(direction("mgda", [one, two], normalize="loss+", losses=[2.0, 2.0]), one + two)


@pytest.mark.parametrize("c", [0.0, 0.3, 0.5, 0.9])
def test_cagrad(c):
    one, two = np.array([[1.0, 0.0], [-2.0, 1.5]])
    middle = (one + two) / 2
    # The dual on a fine grid of the simplex of two tasks.
    x = np.linspace(0, 1, 20001)[:, None]
    candidates = x * one + (1 - x) * two
    radius = c * np.linalg.norm(middle)
    values = candidates @ middle + radius * np.linalg.norm(candidates, axis=1)
    best = candidates[values.argmin()]
    expected = middle + radius * best / np.linalg.norm(best)
    close(direction("cagrad", [one, two], shares=[0.5, 0.5], c=c), expected, 1e-3)
    # A plain sum is twice the mean, and so is the step.
    close(direction("cagrad", [one, two], c=c), 2 * expected, 2e-3)


def test_cagrad_has_the_closed_form_of_two_orthogonal_unit_gradients():
    # By symmetry w = (½, ½): d = (1 + c) g_0.
    close(direction("cagrad", [[1.0, 0.0], [0.0, 1.0]], c=0.4), [1.4, 1.4])


def test_graddrop():
    gradients = np.array([[3.0, 1.0], [-1.0, 1.0]])
    problem, balancing = Quadratic.with_gradients(gradients), Balancing("graddrop", 2, seed=2)
    steps = problem.steps(balancing, 400)
    # First coordinate: purity ½(1 + 2/4) = ¾, so 3 or -1; second: no conflict.
    close(steps[:, 1], np.full(400, 2.0))
    assert set(np.round(steps[:, 0], 5)) == {3.0, -1.0}
    positive = int((steps[:, 0] > 0).sum())
    assert (positive - 300) ** 2 / 300 + (positive - 300) ** 2 / 100 < 10.8  # χ², 0.1 %
    close(direction("graddrop", gradients, leak=1.0), [2.0, 2.0])


def test_graddrop_draws_other_numbers_for_each_variable_and_step():
    balancer = create("graddrop", 2, 7)
    draws = {balancer.uniform(tf.constant(s), [], n).numpy() for s in range(5) for n in range(5)}
    assert len(draws) == 25
    again = create("graddrop", 2, 7).uniform(tf.constant(3), [4], 2)
    np.testing.assert_array_equal(again, balancer.uniform(tf.constant(3), [4], 2))
