"""Schedules that learn from measurements, against their formulas written out."""

import numpy as np
import pytest

from keras_mtl.schedules import AdaptiveState, TaskInfo, create

TASKS = [TaskInfo("a", 60), TaskInfo("b", 30), TaskInfo("c", 10)]


def learned(schedule, *measurements):
    """Returns the probabilities after each of some measurements."""
    adaptive = AdaptiveState(schedule)
    found = [adaptive.probabilities(0).copy()]
    for number, values in enumerate(measurements, 1):
        adaptive.book.measure(values, number)
        adaptive.update(number)
        found.append(adaptive.probabilities(number).copy())
    return found


def test_pike_is_algorithm_1_of_its_paper():
    squares = [np.array([4.0, 1.0, 0.2]), np.array([3.0, 2.0, 0.1])]
    # σ² of one example, and the b = 100 examples of a training batch.
    variances = [np.array([50.0, 900.0, 20.0]), np.array([40.0, 10.0, 700.0])]
    zeta1, zeta2, b = 0.05, 0.08, 100
    w = np.array([0.6, 0.3, 0.1])
    expected = [w]
    for square, variance in zip(squares, variances, strict=True):
        w = w * np.exp(zeta1 * square - zeta2 / (2 * b) * variance)
        w = w / w.sum()
        expected.append(w)
    # What training measures is the variance of a batch of 32, and zeta2 is in its unit.
    pairs = 32
    schedule = create(
        "pike", TASKS, zeta1=zeta1, zeta2=zeta2 * pairs / b, pairs=pairs, prior="proportional"
    )
    given = [
        {"gradient_square": square, "gradient_variance": variance / pairs}
        for square, variance in zip(squares, variances, strict=True)
    ]
    np.testing.assert_allclose(learned(schedule, *given), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "quantity"), [("multi_uat", "entropy"), ("multi_dds_s", "alignment")]
)
def test_actors_take_steps_of_adam_on_the_policy_gradient(name, quantity):
    rewards = [np.array([0.1, 0.5, 0.3]), np.array([0.4, -0.2, 0.3])]
    logits = np.log([0.6, 0.3, 0.1])
    first, second, step = np.zeros(3), np.zeros(3), 0
    expected = [np.exp(logits)]
    for reward in rewards:
        for _ in range(20):
            step += 1
            p = np.exp(logits) / np.exp(logits).sum()
            # Of −Σ R_i log p_i: the derivative of log p_i by ψ_j is δ_ij − p_j.
            gradient = -((np.eye(3) - p).T @ reward)
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            mean, spread = first / (1 - 0.9**step), second / (1 - 0.999**step)
            logits = logits - 0.01 * mean / (np.sqrt(spread) + 1e-8)
        expected.append(np.exp(logits) / np.exp(logits).sum())
    schedule = create(name, TASKS, actor_steps=20, learning_rate=0.01)
    found = learned(schedule, *({quantity: reward} for reward in rewards))
    np.testing.assert_allclose(found, expected, rtol=1e-10)
