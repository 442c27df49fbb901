"""Adam equals Keras' own where they overlap; NaN gradients leave everything untouched."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.errors import ConfigError
from keras_mtl.training.step.learning_rate import WarmupSchedule, decay_of, last_rate
from keras_mtl.training.step.optimizers import PLANNED_UPDATES, Adam
from keras_mtl.training.step.scaling import DRIFT, IDEAL_DRIFT, pairing_warning


def variable(*values):
    return keras.Variable(np.array(values, np.float32))


def test_equals_keras_adam():
    rng = np.random.default_rng(0)
    ours, theirs = variable(1.0, -2.0, 3.0), variable(1.0, -2.0, 3.0)
    first = Adam(0.1, beta_1=0.9, beta_2=0.98, epsilon=1e-9)
    second = keras.optimizers.Adam(0.1, beta_1=0.9, beta_2=0.98, epsilon=1e-9)
    for _ in range(20):
        gradient = tf.constant(rng.normal(size=3), tf.float32)
        first.apply([gradient], [ours])
        second.apply([gradient], [theirs])
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=2e-6)


def test_nan_gradient_changes_nothing_and_counts_as_an_update():
    weights = variable(1.0, 2.0)
    optimizer = Adam(0.1, average_momentum=0.5)
    optimizer.apply([tf.constant([0.5, 0.5])], [weights])
    before = [v.numpy() for v in [weights, *optimizer.variables[2:]]]
    optimizer.apply([tf.constant([np.nan, np.nan])], [weights])
    after = [v.numpy() for v in [weights, *optimizer.variables[2:]]]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    assert int(optimizer.iterations.numpy()) == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_bad_element_leaves_its_whole_variable_alone(bad):
    spoilt, other = variable(1.0, 2.0), variable(1.0, 2.0)
    Adam(0.1).apply([tf.constant([bad, 1.0]), tf.constant([1.0, 1.0])], [spoilt, other])
    np.testing.assert_array_equal(spoilt.numpy(), [1.0, 2.0])
    assert np.all(other.numpy() < [1.0, 2.0])


def test_average_follows_the_weights_even_when_the_first_update_is_skipped():
    weights = variable(4.0)
    optimizer = Adam(0.1, average_momentum=0.9)
    optimizer.apply([tf.constant([np.nan])], [weights])
    np.testing.assert_array_equal(optimizer.averages[0].numpy(), [4.0])
    for _ in range(200):
        optimizer.apply([tf.constant([1.0])], [weights])
    # Weights fall by 0.1 a step, so an average with momentum 0.9 lags by 0.9 / 0.1 steps.
    lag = optimizer.averages[0].numpy()[0] - weights.numpy()[0]
    assert lag == pytest.approx(0.9, abs=0.02)


def test_weight_decay_leaves_vectors_alone():
    matrix, vector = keras.Variable(np.ones((2, 2), np.float32)), variable(1.0, 1.0)
    optimizer = Adam(0.1, decoupled_weight_decay=0.5)
    optimizer.apply([tf.zeros([2, 2]), tf.zeros([2])], [matrix, vector])
    np.testing.assert_allclose(matrix.numpy(), 0.95, rtol=1e-6)
    np.testing.assert_array_equal(vector.numpy(), 1.0)


def test_refuses_clipping_before_the_sum():
    with pytest.raises(ValueError, match="global_clipnorm"):
        Adam(global_clipnorm=1.0)


def test_config_round_trip():
    optimizer = Adam(
        WarmupSchedule("transformer", 2.0, 400, 64),
        decoupled_weight_decay=0.1,
        average_momentum=0.9,
        num_tasks=3,
        moments="per_task",
    )
    copy = Adam.from_config(optimizer.get_config())
    assert copy.get_config() == optimizer.get_config()


def test_transformer_schedule_is_equation_3():
    schedule = WarmupSchedule("transformer", 1.0, 4000, 512)
    for step in (1, 100, 4000, 4001, 100_000):
        expected = 512**-0.5 * min(step**-0.5, step * 4000**-1.5)
        assert float(schedule(step - 1)) == pytest.approx(expected, rel=1e-5)


def test_linear_schedule_warms_up_and_ends_at_zero():
    schedule = WarmupSchedule("linear", 0.5, 10, total_steps=110)
    assert float(schedule(9)) == pytest.approx(0.5)
    assert float(schedule(60)) == pytest.approx(0.25)
    assert float(schedule(110)) == 0.0
    assert float(schedule(200)) == 0.0


def test_the_decay_of_any_optimizer_is_found_and_used():
    from keras_mtl.training.step.keras_optimizers import create_keras_optimizer

    for make in (
        lambda schedule: Adam(schedule),
        lambda schedule: create_keras_optimizer("sgd", {}, schedule, 0.0, []),
    ):
        decay = tf.Variable(1.0)
        optimizer = make(WarmupSchedule("constant", 0.5, 1, decay=decay))
        assert decay_of(optimizer) is decay
        decay.assign(0.5)
        assert float(optimizer.learning_rate) == 0.25
    assert decay_of(Adam(0.1)) is None
    assert decay_of(None) is None


def test_the_logged_learning_rate_is_that_of_the_last_update():
    variable = keras.Variable(1.0)
    optimizer = Adam(WarmupSchedule("linear", 1.0, 2, total_steps=4))
    optimizer.build([variable])
    assert last_rate(optimizer) == 0.5
    rates = []
    for _ in range(4):
        expected = float(optimizer.learning_rate)
        optimizer.apply([tf.constant(1.0)], [variable])
        rates.append(last_rate(optimizer))
        assert rates[-1] == expected
    assert rates == [0.5, 1.0, 1.0, 0.5]
    assert last_rate(Adam(0.1)) == pytest.approx(0.1)


SHAPED = {
    "inverse_sqrt": ({}, lambda t, p: (10 / t) ** 0.5),
    "cosine": ({"final": 0.2}, lambda t, p: 0.2 + 0.8 * (1 + np.cos(np.pi * p)) / 2),
    "polynomial": ({"power": 2.0, "final": 0.1}, lambda t, p: 0.1 + 0.9 * (1 - p) ** 2),
    "piecewise": (
        {"steps": [30, 60], "factors": [0.5, 0.1]},
        lambda t, p: 1 if t <= 30 else 0.5 if t <= 60 else 0.1,
    ),
    "constant": ({}, lambda t, p: 1),
}


@pytest.mark.parametrize("shape", SHAPED)
def test_shapes_after_the_warm_up(shape):
    parameters, factor = SHAPED[shape]
    decay = tf.Variable(1.0)
    schedule = WarmupSchedule(shape, 0.5, 10, 64, 110, parameters, decay)
    for update in (0, 4, 9):
        share = min(1.0, (update + 1) / 10)
        assert float(schedule(update)) == pytest.approx(0.5 * share, rel=1e-5)
    for update in (10, 29, 30, 59, 60, 109, 110, 500):
        place = min(1.0, (update - 10) / 100)
        expected = 0.5 * factor(update + 1, place)
        assert float(schedule(update)) == pytest.approx(expected, rel=1e-5)
    decay.assign(0.25)
    assert float(schedule(10)) == pytest.approx(0.125 * factor(11, 0), rel=1e-5)
    copy = WarmupSchedule.from_config(schedule.get_config())
    assert copy.get_config() == schedule.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cosine", 1.0, 10, 1, 10), "train_steps"),
        (("cosine", 1.0, 10, 1, 99, {"final": 2}), "at most 1"),
        (("cosine", 1.0, 10, 1, 99, {"power": 2}), "'power', which is not a parameter of 'cosine'"),
        (("constant", 1.0, 10, 1, 99, {"final": 1}), "which has none"),
        (("piecewise", 1.0, 10, 1, 99, {"steps": [3], "factors": []}), "two lists"),
        (("piecewise", 1.0, 10, 1, 99, {"steps": [3, 3], "factors": [1, 1]}), "increasing"),
        (("piecewise", 1.0, 10, 1, 99, {"steps": [3], "factors": [0]}), "numbers > 0"),
        (("lineer", 1.0, 10), "linear"),
        (("constant", 0.0, 10), "learning_rate"),
        (("constant", 1.0, 0), "warmup_steps"),
        (("linear", 1.0, 10, 1, 10), "train_steps"),
    ],
)
def test_schedule_errors_name_the_field(arguments, message):
    with pytest.raises(ConfigError, match=message):
        WarmupSchedule(*arguments)


def adams_on_common_weights(gradients, tasks, factors, num_tasks=3):
    """Reference in float64: an Adam for each task, all of which move the same weights."""
    weights = np.ones(gradients.shape[1])
    first, second = np.zeros((2, num_tasks, *weights.shape))
    updates = np.zeros(num_tasks)
    for task, gradient in zip(tasks, gradients.astype(np.float64), strict=True):
        updates[task] += 1
        first[task] += 0.1 * (gradient - first[task])
        second[task] += 0.02 * (gradient**2 - second[task])
        correction = np.sqrt(1 - 0.98 ** updates[task]) / (1 - 0.9 ** updates[task])
        rate = 0.1 * factors[task] * correction
        weights = weights - rate * first[task] / (np.sqrt(second[task]) + 1e-9)
    return weights, first, updates


def step_function(optimizer, weights, compiled):
    @tf.function(jit_compile=compiled)
    def step(task, gradient):
        if task >= 0:
            optimizer.set_task(task)
        optimizer.apply([gradient], [weights])

    return step


def test_moments_per_task_are_an_adam_for_each_task():
    rng = np.random.default_rng(0)
    tasks = rng.integers(0, 3, 30)
    gradients = rng.normal(size=(30, 4)).astype(np.float32)
    factors = [1.5, 0.9, 0.6]
    expected, first, updates = adams_on_common_weights(gradients, tasks, factors)
    for compiled in (False, True):
        weights = variable(1, 1, 1, 1)
        optimizer = Adam(0.1, num_tasks=3, moments="per_task")
        optimizer.build([weights])
        optimizer.set_factors(factors)

        step = step_function(optimizer, weights, compiled)
        for task, gradient in zip(tasks[:20], gradients[:20], strict=True):
            step(tf.constant(task), tf.constant(gradient))
        # The others are planned: the step does not say whose gradient it is.
        optimizer.plan_tasks(tasks[20:])
        for gradient in gradients[20:]:
            step(tf.constant(-1, tf.int64), tf.constant(gradient))
        np.testing.assert_allclose(weights.numpy(), expected, atol=2e-6)
        np.testing.assert_allclose(optimizer.momentums[0].numpy(), first, atol=1e-6)
        assert optimizer.task_updates.numpy().tolist() == updates.tolist()


def test_scaled_moments_weigh_gradients_in_the_first_alone():
    rng = np.random.default_rng(0)
    tasks = rng.integers(0, 3, 30)
    gradients = rng.normal(size=(30, 4)).astype(np.float32)
    factors = np.array([1.5, 0.0, 0.6])
    expected, first, second = np.ones(4), np.zeros(4), np.zeros(4)
    for update, (task, gradient) in enumerate(zip(tasks, gradients.astype(float), strict=True), 1):
        first = 0.9 * first + 0.1 * factors[task] * gradient
        second = 0.98 * second + 0.02 * gradient**2
        root = np.sqrt(second / (1 - 0.98**update)) + 1e-9
        expected = expected - 0.1 * first / (1 - 0.9**update) / root
    for compiled in (False, True):
        weights = variable(1, 1, 1, 1)
        optimizer = Adam(0.1, num_tasks=3, moments="scaled")
        optimizer.build([weights])
        optimizer.set_factors(factors)
        step = step_function(optimizer, weights, compiled)
        for task, gradient in zip(tasks, gradients, strict=True):
            step(tf.constant(task), tf.constant(gradient))
        np.testing.assert_allclose(weights.numpy(), expected, atol=2e-6)
        np.testing.assert_allclose(optimizer.momentums[0].numpy(), first, atol=1e-6)


def test_scaled_moments_without_factors_are_adam():
    gradients = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)
    weights = []
    for options in ({}, {"num_tasks": 2, "moments": "scaled"}):
        weights.append(variable(1, 1, 1, 1))
        optimizer = Adam(0.1, **options)
        for gradient in gradients:
            optimizer.apply([tf.constant(gradient)], [weights[-1]])
    np.testing.assert_allclose(weights[0].numpy(), weights[1].numpy(), atol=2e-6)


@pytest.mark.parametrize("moments", ["scaled", "per_task"])
def test_an_invalid_gradient_leaves_a_tasks_moments_alone(moments):
    weights = variable(1.0, 2.0)
    optimizer = Adam(0.1, num_tasks=2, moments=moments)
    optimizer.build([weights])
    for value, task in ((1.0, 0), (1.0, 1), (np.nan, 1)):
        optimizer.set_task(task)
        optimizer.apply([tf.constant([0.5, value], tf.float32)], [weights])
    expected = [0.095, 0.19] if moments == "scaled" else [[0.05, 0.1], [0.05, 0.1]]
    np.testing.assert_allclose(optimizer.momentums[0].numpy(), expected, rtol=1e-6)


def drift(application, moments, steps=6000, copies=500):
    """Mean change a step, in learning rates, of one parameter that two tasks pull apart.

    Gradients +1 and -1 with noise of variance 1, factors 1.5 and .5, each task half of the steps
    in random order; the copies see different noise.
    """
    rng = np.random.default_rng(7)
    warm_up = 1000
    tasks = np.concatenate([rng.permutation(np.arange(n) % 2) for n in (warm_up, steps)]).astype(
        np.int32
    )
    factors = tf.constant([1.5, 0.5])
    weights = keras.Variable(np.zeros(copies, np.float32))
    rate = 1e-3
    if moments is None:
        # The gradients' root mean square is what Adam divides by.
        optimizer = keras.optimizers.SGD(rate / 2**0.5)
    else:
        optimizer = Adam(rate, 0.9, 0.999, num_tasks=2, moments=moments)
    optimizer.build([weights])
    if application == "learning_rate":
        optimizer.set_factors(factors)

    @tf.function
    def run(tasks):
        for task in tasks:
            seed = tf.stack([3, tf.cast(optimizer.iterations, tf.int32)])
            gradient = tf.random.stateless_normal([copies], seed) + tf.where(task == 0, 1.0, -1.0)
            if application == "gradient":
                gradient *= tf.gather(factors, task)
            if moments is not None:
                optimizer.set_task(task)
            optimizer.apply([gradient], [weights])

    run(tf.constant(tasks[:warm_up]))
    before = weights.numpy()
    run(tf.constant(tasks[warm_up:]))
    return float((weights.numpy() - before).mean() / steps / rate)


@pytest.mark.parametrize(("application", "moments"), list(DRIFT))
def test_drift_table(application, moments):
    assert drift(application, moments) == pytest.approx(DRIFT[application, moments], abs=0.003)


def test_drift_of_sgd_is_what_factors_mean():
    assert drift("gradient", None) == pytest.approx(IDEAL_DRIFT, abs=0.003)


def test_a_pairing_without_effect_warns_and_quotes_the_table():
    for application, moments in DRIFT:
        warning = pairing_warning(application, moments)
        right = abs(DRIFT[application, moments] - IDEAL_DRIFT) < 0.05
        assert (warning is None) == right
    assert "learning_rate with shared -0.035" in warning
    assert "gradient with per_task 0.000" in warning
    with pytest.raises(ConfigError, match="application is 'gradients'; did you mean 'gradient'"):
        pairing_warning("gradients", "shared")
    with pytest.raises(ConfigError, match="moments is 'per_tasks'"):
        pairing_warning("gradient", "per_tasks")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"moments": "per_task"}, "number of tasks"),
        ({"moments": "scaled"}, "number of tasks"),
        ({"moments": "pertask", "num_tasks": 2}, "per_task"),
        ({"num_tasks": 2, "gradient_accumulation_steps": 2}, "would have several tasks"),
    ],
)
def test_options_for_tasks_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        Adam(**arguments)


def test_a_plan_has_a_length():
    optimizer = Adam(num_tasks=2)
    optimizer.build([variable(1.0)])
    for length in (0, PLANNED_UPDATES + 1):
        with pytest.raises(ValueError, match=f"tasks has {length} entries"):
            optimizer.plan_tasks([1] * length)
