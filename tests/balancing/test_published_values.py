"""Combinations of gradients against published values and the equations of the papers."""

import numpy as np
import pytest
import tensorflow as tf
from quadratic import direction

from keras_mtl.balancing import Balancing
from keras_mtl.balancing.spectral import definite_cosines
from keras_mtl.balancing.upgrad import projections

# TorchJD, tests/unit/aggregation/test_values.py. `shares` converts its conventions: 1 for a sum
# over the tasks, ½ for a mean.
PUBLISHED = np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])


@pytest.mark.parametrize(
    ("method", "shares", "expected", "tolerance"),
    [
        # TorchJD adds 1e-4 to the diagonal; exactly it is (.2924, 1.9006, 1.9006).
        ("upgrad", 0.5, (0.2929, 1.9004, 1.9004), 6e-4),
        ("fairgrad", 1.0, (0.0766, 0.9985, 0.9985), 1e-4),
        ("nash_mtl", 1.0, (0.0542, 0.7061, 0.7061), 1e-4),
        ("imtl_g", 0.5, (0.0767, 1.0, 1.0), 1e-4),
        ("aligned_mtl", 0.5, (0.2133, 0.9673, 0.9673), 1e-4),
        ("config", 1.0, (0.1588, 2.0706, 2.0706), 1e-4),
        ("pcgrad", 1.0, (0.5848, 3.8012, 3.8012), 1e-4),
        ("mgda", 0.5, (0.0, 1.0, 1.0), 1e-4),
        ("cagrad", 0.5, (0.1835, 1.2041, 1.2041), 1e-4),
    ],
)
def test_published(method, shares, expected, tolerance):
    weights = weights_of(method, PUBLISHED, [shares, shares])
    np.testing.assert_allclose(shares * weights @ PUBLISHED, expected, rtol=0, atol=tolerance)


def weights_of(method, gradients, shares, **parameters):
    """Weights of one step from the Gram matrix, float64[N]."""
    balancing = Balancing(method, len(gradients), parameters)
    gram = tf.constant(gradients @ gradients.T, tf.float32)
    losses = tf.ones([len(gradients)])
    seen = balancing.seen(tf.constant(shares, tf.float32), losses, gram)
    return balancing.weights_of(seen).numpy().astype(np.float64)


def random_gradients(count, size, seed):
    """Gradients of very different lengths, float64[count, size], and shares, float64[count]."""
    rng = np.random.default_rng(seed)
    gradients = rng.normal(size=(count, size)) * np.exp(rng.normal(size=(count, 1)))
    return gradients, rng.dirichlet(np.ones(count))


# In 4 dimensions, 8 gradients are dependent.
@pytest.mark.parametrize(("count", "size"), [(3, 20), (8, 20), (8, 4)])
def test_upgrad_projects_on_the_dual_cone(count, size):
    gradients, shares = random_gradients(count, size, seed=count + size)
    unit = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    cosines = definite_cosines(tf.constant(gradients @ gradients.T, tf.float32))
    rows = projections(cosines, 100).numpy().astype(np.float64)
    for i, row in enumerate(rows):
        projected = row @ unit
        removed = row - np.eye(count)[i]
        # The conditions of Karush, Kuhn and Tucker of the projection of unit[i].
        assert (unit @ projected).min() > -1e-4
        assert removed.min() > -1e-5
        assert np.abs(removed * (unit @ projected)).max() < 1e-4
    step = shares * weights_of("upgrad", gradients, shares) @ gradients
    lengths = shares * np.linalg.norm(gradients, axis=1)
    np.testing.assert_allclose(step, lengths @ rows @ unit, rtol=1e-3, atol=1e-4)


def test_upgrad_of_two_tasks_is_pcgrad():
    gradients = [[1.0, 0.0], [-1.0, 1.0]]
    step = direction("upgrad", gradients, shares=[0.3, 0.7])
    np.testing.assert_allclose(step, direction("pcgrad", gradients, shares=[0.3, 0.7]), rtol=1e-4)
    np.testing.assert_allclose(direction("upgrad", [[1.0, 0.0], [1.0, 1.0]]), [2, 1], rtol=1e-6)


@pytest.mark.parametrize("a", [0.5, 1.0, 4.0])
def test_fairgrad_solves_its_equation(a):
    for count, size, tolerance in ((3, 20, 1e-4), (16, 40, 1e-4), (8, 4, 1e-2)):
        gradients, shares = random_gradients(count, size, seed=count)
        weights = weights_of("fairgrad", gradients, shares, a=a)
        step = shares * weights @ gradients
        np.testing.assert_allclose(weights, (gradients @ step) ** -a, rtol=tolerance)
    even = weights_of("fairgrad", gradients, np.ones(8), a=a)
    gram = gradients @ gradients.T
    np.testing.assert_allclose(gram @ even, even ** (-1 / a), rtol=1e-2)  # The form of the paper.


def test_nash_mtl_has_the_length_of_the_bargaining_solution():
    gradients, shares = random_gradients(5, 20, seed=3)
    free = shares * weights_of("nash_mtl", gradients, shares, max_norm=100.0) @ gradients
    assert np.linalg.norm(free) == pytest.approx(1.0, rel=1e-4)  # √Σq
    short = shares * weights_of("nash_mtl", gradients, shares, max_norm=0.25) @ gradients
    np.testing.assert_allclose(short, 0.25 * free, rtol=1e-4)
    other = 7 * weights_of("nash_mtl", 7 * gradients, shares)  # The unit of the loss cancels.
    np.testing.assert_allclose(other, weights_of("nash_mtl", gradients, shares), rtol=1e-4)


def test_imtl_g_and_config_have_equal_cosines():
    gradients, shares = random_gradients(5, 20, seed=4)
    unit = gradients / np.linalg.norm(gradients, axis=1, keepdims=True)
    fair = shares * weights_of("imtl_g", gradients, shares)
    assert fair.sum() == pytest.approx(1.0, abs=1e-4)
    conflict_free = shares * weights_of("config", gradients, shares)
    for step in (fair @ gradients, conflict_free @ gradients):
        cosines = unit @ step / np.linalg.norm(step)
        np.testing.assert_allclose(cosines, cosines.mean(), rtol=1e-3)
        assert cosines.mean() > 0
    plain, step = shares @ gradients, conflict_free @ gradients
    assert step @ step == pytest.approx(plain @ step, rel=1e-3)  # ‖d‖ = plain · d / ‖d‖


def test_imtl_g_never_ascends():
    # A short gradient between two long ones: the coefficients of equal projections sum to below 0.
    gradients = np.array([[1.0, 0.0], [0.0, 1.0], [0.08, 0.06]])
    gradients = np.concatenate([gradients, [[0.0], [0.0], [0.01]]], axis=1)
    step = weights_of("imtl_g", gradients, np.ones(3)) @ gradients
    assert (gradients @ step).min() > 0


@pytest.mark.parametrize("scale", ["min", "rmse"])
def test_aligned_mtl_makes_components_equally_long(scale):
    gradients, shares = random_gradients(4, 20, seed=5)
    alpha = shares * weights_of("aligned_mtl", gradients, shares, scale=scale)
    left, lengths, right = np.linalg.svd(gradients, full_matrices=False)
    length = lengths.min() if scale == "min" else np.sqrt(np.mean(lengths**2))
    np.testing.assert_allclose(alpha @ gradients, length * shares @ left @ right, rtol=1e-3)


def test_gls_descends_the_geometric_mean():
    losses, gradients = np.array([4.0, 1.0]), np.array([[1.0, 0.0], [0.0, 1.0]])
    found = direction("gls", gradients, losses=losses)
    np.testing.assert_allclose(found, [0.5, 2.0], rtol=1e-5)  # Q M / (2 L_i), with M = 2
    found = direction("gls", gradients, losses=losses, shares=[0.75, 0.25])
    np.testing.assert_allclose(found, 4**0.75 * np.array([0.75 / 4, 0.25]), rtol=1e-5)


def test_imtl_l_scales_every_loss_to_one():
    balancing = Balancing("imtl_l", 2, {"learning_rate": 0.05})
    losses = np.array([0.2, 3.0], np.float32)
    seen = balancing.seen(tf.ones([2]), tf.constant(losses))
    np.testing.assert_allclose(balancing.weights_of(seen), [1.0, 1.0])
    balancing.learn(seen)
    state = balancing.state_dict()["log_scale"]
    np.testing.assert_allclose(state, [0.05, -0.05], rtol=1e-4)  # Adam's first step
    learn = tf.function(lambda: balancing.learn(seen))
    for _ in range(150):
        learn()
    np.testing.assert_allclose(balancing.weights_of(seen) * losses, [1.0, 1.0], rtol=0.03)


def test_stch_descends_the_smooth_maximum():
    losses, gradients = np.array([2.0, 1.0]), np.array([[1.0, 0.0], [0.0, 1.0]])
    shares = np.array([0.25, 0.75])
    powers = shares * np.exp(losses / 0.5)
    found = direction("stch", gradients, losses=losses, shares=shares, mu=0.5)
    np.testing.assert_allclose(found, powers / powers.sum(), rtol=1e-5)
    largest = direction("stch", gradients, losses=losses, mu=1e-3)
    np.testing.assert_allclose(largest, [2.0, 0.0], atol=1e-6)
    plain = direction("stch", gradients, losses=losses, mu=1e6)
    np.testing.assert_allclose(plain, [1.0, 1.0], rtol=1e-5)


def test_stch_of_logarithms_compares_with_the_first_losses():
    balancing = Balancing("stch", 2, {"form": "log", "warmup": 2, "mu": 0.5})
    found = []
    for losses in ([4.0, 1.0], [2.0, 3.0], [1.5, 1.5]):
        seen = balancing.seen(tf.ones([2]), tf.constant(losses))
        found.append(balancing.weights_of(seen).numpy() * losses)
        balancing.learn(seen)
    np.testing.assert_allclose(found[:2], np.ones((2, 2)), rtol=1e-6)  # Σ log L during warm-up
    powers = np.array([1.5 / 3, 1.5 / 2]) ** 2  # means 3 and 2
    np.testing.assert_allclose(found[2], 2 * powers / powers.sum(), rtol=1e-5)
    again = balancing.state_dict()
    np.testing.assert_array_equal(again["count"], [2, 2])
