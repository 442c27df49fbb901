"""Weights and sizes that are all zero are an error, not a silent uniform schedule."""

import math

import numpy as np
import pytest

from keras_mtl.errors import ConfigError
from keras_mtl.schedules import TaskInfo, create
from tests.schedules.test_schedule_values import p0, two


def test_empty_tasks():
    """An empty task among others is not drawn; tasks that are all empty are an error."""
    for name in ("proportional", "temperature"):
        np.testing.assert_array_equal(create(name, two(n0=0)).probabilities(0, {}), [0, 1])
    for name, parameters in (
        ("proportional", {}),
        ("temperature", {"cap": 5}),
        ("unimax", {"budget": 10}),
        ("annealed", {"steps_per_epoch": 2, "epochs": 2}),
        ("cooldown", {"switch_step": 3}),
        ("inverse_ratio", {"prior": "temperature"}),
        ("implicit", {"prior": "proportional"}),
        ("bandit", {"prior": "proportional"}),
        ("piecewise", {"stages": [{"name": "uniform", "steps": 2}, {"name": "proportional"}]}),
    ):
        with pytest.raises(ConfigError, match=rf"{name}.*size of every task is 0 \(a, b\); give"):
            create(name, two(n0=0, n1=0), **parameters)
    create("inverse_ratio", two(n0=0, n1=0))  # Without a prior sizes play no part.


def test_weights_that_are_all_zero_are_an_error():
    """They would give every task the same probability, which nobody asked for."""
    both = {"alpha": 0.1, "p0": [1, 0], "p1": [0, 1]}
    for name, parameters, field in (
        ("constant", {"weights": [0, 0]}, "weights"),
        ("constant", {"weights": {"a": 0.0, "b": 0}}, "weights"),
        ("constant", {"weights": [0, 0], "floor": 0.1}, "weights"),
        ("exponential", {**both, "p0": [0, 0]}, "p0"),
        ("exponential", {**both, "p1": {"a": 0, "b": 0}}, "p1"),
        ("sigmoid", {**both, "p0": [0, 0]}, "p0"),
        ("piecewise", {"stages": [{"name": "constant", "parameters": {"weights": [0, 0]}}]}, "w"),
    ):
        with pytest.raises(ConfigError, match=rf"{field}.* has no weight above 0.*'uniform'"):
            create(name, two(), **parameters)
    # A model of the others' reference losses may be perfect.
    create("excess_loss", two(), reference_losses=[0, 0])


@pytest.mark.parametrize("size", [-1, math.nan, math.inf])
def test_a_size_that_is_no_number_of_examples(size):
    with pytest.raises(ConfigError, match=rf"task 'a': size = {size} must be finite and >= 0"):
        TaskInfo("a", size)


def test_no_preference_is_uniform_or_the_prior():
    assert p0("simple_adaptive", (1, 1), two(), epsilon=0) == 0.5
    prior = {"epsilon": 0, "prior": "proportional"}
    assert p0("simple_adaptive", (1, 1), two(n0=30, n1=10), **prior) == 0.75
    # Only the empty task lags: the others keep the prior, and it is not drawn.
    assert p0("simple_adaptive", (0, 1), two(n0=0, n1=10), **prior) == 0
