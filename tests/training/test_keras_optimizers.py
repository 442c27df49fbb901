"""Optimizers of Keras, under the rules of the training step."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import trainer_case

from keras_mtl.configuration.schema import OptimizerConfig
from keras_mtl.errors import CheckpointError, ConfigError
from keras_mtl.training.step import keras_optimizers
from keras_mtl.training.step.keras_optimizers import check_optimizer, create_keras_optimizer
from keras_mtl.training.step.moments import moments_state, optimizer_state, restore_moments
from keras_mtl.training.step.optimizers import Adam
from keras_mtl.training.step.rate_factors import trained_by
from tests import processes

NAMES = sorted(keras_optimizers._classes())
SHAPES = {"model/embedding/embeddings": (5, 4), "model/a/kernel": (3, 4), "model/a/bias": (4,)}


def make_weights():
    rng = np.random.default_rng(1)
    weights = []
    for path, shape in SHAPES.items():
        weight = keras.Variable(rng.normal(size=shape).astype(np.float32), name=path.split("/")[-1])
        weight._path = path
        weights.append(weight)
    return weights


def gradients(step, bad=()):
    rng = np.random.default_rng(step)
    found = [rng.normal(size=shape).astype(np.float32) for shape in SHAPES.values()]
    for number in bad:
        found[number].flat[1] = np.nan
    return [tf.constant(gradient) for gradient in found]


def make(name, factors=(), average=0.5, **parameters):
    weights = make_weights()
    optimizer = create_keras_optimizer(name, parameters, 0.1, average, factors)
    optimizer.build(weights)
    return optimizer, weights


def state(optimizer, weights):
    return [v.numpy() for v in [*weights, *optimizer.slots, *optimizer.averages]]


def without_decay(name):
    known = keras_optimizers.parameters_of(name)
    return {key: 0.0 for key in ("weight_decay", "adam_weight_decay") if key in known}


def test_known_optimizers_are_found():
    assert {"adamw", "adafactor", "lion", "muon", "sgd"} <= set(NAMES)
    assert "adam" not in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_updates_are_those_of_keras(name):
    optimizer, weights = make(name, **without_decay(name))
    theirs = make_weights()
    reference = keras_optimizers._classes()[name](learning_rate=0.1, **without_decay(name))
    for step in range(3):
        optimizer.apply(gradients(step), weights)
        reference.apply(gradients(step), theirs)
    for ours, other in zip(weights, theirs, strict=True):
        np.testing.assert_allclose(ours.numpy(), other.numpy(), rtol=1e-6, atol=1e-7)
    assert len(optimizer.averages) == 3


@pytest.mark.parametrize("name", NAMES)
def test_an_invalid_gradient_changes_nothing_of_its_variable(name):
    optimizer, weights = make(name)
    clean, cleans = make(name)
    for step in range(2):
        optimizer.apply(gradients(step), weights)
        clean.apply(gradients(step), cleans)
    before = state(optimizer, weights)
    optimizer.apply(gradients(2, bad=(0, 1, 2)), weights)
    for old, new in zip(before, state(optimizer, weights), strict=True):
        np.testing.assert_array_equal(old, new)
    assert int(optimizer.iterations.numpy()) == 3
    # One variable is skipped, the others are updated as without it.
    clean.iterations.assign(3)
    optimizer.apply(gradients(3, bad=(1,)), weights)
    clean.apply(gradients(3), cleans)
    np.testing.assert_array_equal(weights[1].numpy(), before[1])
    np.testing.assert_array_equal(optimizer.averages[1].numpy(), before[-2])
    for number in (0, 2):
        np.testing.assert_array_equal(weights[number].numpy(), cleans[number].numpy())
        assert not np.array_equal(weights[number].numpy(), before[number])


@pytest.mark.parametrize("name", ["muon", "adafactor", "nadam"])
def test_a_checkpoint_continues_bit_for_bit(name, tmp_path):
    def parts(optimizer, weights):
        return {"weights": weights, "optimizer": optimizer_state(optimizer)}

    optimizer, weights = make(name)
    optimizer.apply(gradients(0), weights)
    saved = tf.train.Checkpoint(**parts(optimizer, weights), moments=moments_state(optimizer))
    prefix = saved.write(str(tmp_path / "ckpt"))
    again, others = make(name)
    again.apply(gradients(7), others)
    tf.train.Checkpoint(**parts(again, others)).read(prefix).assert_existing_objects_matched()
    restore_moments(again, prefix, np.array([0]))
    for each, values in ((optimizer, weights), (again, others)):
        each.apply(gradients(1), values)
    for old, new in zip(state(optimizer, weights), state(again, others), strict=True):
        np.testing.assert_array_equal(old, new)
    other, _ = make("lion")
    if name == "muon":  # Its slots have other shapes.
        with pytest.raises(CheckpointError, match="moments/slots"):
            restore_moments(make("ftrl")[0], prefix, np.array([0]))
    assert other.slots


def test_weight_decay_leaves_biases():
    decayed, weights = make("adamw", weight_decay=0.5)
    plain, others = make("adamw", weight_decay=0.0)
    for optimizer, values in ((decayed, weights), (plain, others)):
        optimizer.apply(gradients(0), values)
    start = make_weights()
    for number in (0, 1):
        expected = others[number].numpy() - 0.1 * 0.5 * start[number].numpy()
        np.testing.assert_allclose(weights[number].numpy(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(weights[2].numpy(), others[2].numpy())


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_factors_on_learning_rates(name):
    rules = [("a/kernel", 0.5), ("a/.*", 0.0)]
    weights = make_weights()
    if name == "adam":
        optimizer, plain = Adam(0.1, learning_rate_factors=rules), Adam(0.1)
        assert Adam.from_config(optimizer.get_config()).learning_rate_factors == tuple(rules)
    else:
        optimizer, plain = (create_keras_optimizer("sgd", {}, 0.1, 0.0, r) for r in (rules, ()))
    others = make_weights()
    for each, values in ((optimizer, weights), (plain, others)):
        each.build(values)
        each.apply(gradients(0), values)
    moved, full = (
        [v.numpy() - s.numpy() for v, s in zip(values, make_weights(), strict=True)]
        for values in (weights, others)
    )
    for number, factor in enumerate((1.0, 0.5, 0.0)):
        np.testing.assert_allclose(moved[number], factor * full[number], rtol=1e-4, atol=1e-6)
    with pytest.raises(ConfigError, match=r"learning_rate_factors\[0\].match = 'b/.*' matches no"):
        Adam(learning_rate_factors=[("b/.*", 2.0)]).build(make_weights())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "adamv"}, "name = 'adamv' is unknown; did you mean"),
        ({"name": "ScheduleFreeAdamW"}, "evaluates other weights .*ema_momentum"),
        ({"name": "sgd", "parameters": {"momentun": 0.9}}, "momentun is not .* of SGD.*'momentum'"),
        ({"name": "sgd", "parameters": {"clipnorm": 1.0}}, "clipnorm: .*set .*global_clipnorm"),
        ({"name": "sgd", "parameters": {"momentum": 7.0}}, r"parameters: SGD: .*momentum"),
        (  # Keras itself accepts it, until it updates a weight.
            {"name": "adafactor", "parameters": {"beta_2_decay": "x"}},
            r"parameters = {'beta_2_decay': 'x'}: Adafactor cannot update a weight with them",
        ),
        ({"name": "muon", "parameters": {"exclude_layers": 3}}, "Muon cannot update a weight"),
    ],
)
def test_what_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        check_optimizer(OptimizerConfig(**settings))


def test_which_tasks_train_a_variable():
    patterns, fields = [[], ["a/.*"], ["a/bias"]], ["t[0]", "t[1]", "t[2]"]
    assert trained_by(make_weights(), patterns, fields) == [
        [True, False, False],
        [True, True, False],
        None,
    ]
    with pytest.raises(ConfigError, match=r"t\[1\]\[0\] = 'bias' matches no trained variable"):
        trained_by(make_weights(), [[], ["bias"]], fields[:2])


# Task 0 trains everything, task 1 only the encoder.
ENCODER_ONLY = {"optimizer": "sgd", "train_only": [[], ["encoder/.*"]]}
CASES = {
    "plain": {"optimizer": "muon"},
    "jit": {"optimizer": "muon", "jit": True},
    "halves": {"optimizer": "muon", "halves": True, "accumulation": 2},
    "decoder 1": {"optimizer": "muon", "sharing": "encoder", "tasks": [1], "steps": 1},
    "task 1": {"tasks": [1], "steps": 1, **ENCODER_ONLY},
    "both": {"tasks": [0, 1], "steps": 1, "accumulation": 2, **ENCODER_ONLY},
    "only task 0": {"optimizer": "sgd", "tasks": [0], "steps": 1},
    "only task 1": {"optimizer": "sgd", "tasks": [1], "steps": 1},
}
TWO = {"two replicas": {"optimizer": "muon", "replicas": 2}}


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    def run(cases):
        directory = tmp_path_factory.mktemp("cases")
        (directory / "cases.json").write_text(json.dumps(list(cases.values())))
        processes.run(trainer_case.main, directory)
        return {name: dict(np.load(directory / f"{i}.npz")) for i, name in enumerate(cases)}

    return run(CASES) | run(TWO)


def changes(result):
    return {
        name.removeprefix("after/"): value - result[f"before/{name.removeprefix('after/')}"]
        for name, value in result.items()
        if name.startswith("after/")
    }


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["jit", "halves", "two replicas"])
def test_the_step_does_not_depend_on_how_it_is_computed(steps, name):
    expected, found = changes(steps["plain"]), changes(steps[name])
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-3, atol=1e-4, err_msg=key)


@pytest.mark.nightly
def test_a_decoder_that_no_batch_uses_does_not_change(steps):
    result = steps["decoder 1"]
    for owner, (name, change) in zip(result["owners"], changes(result).items(), strict=True):
        assert change.any() == (owner != 0), name


@pytest.mark.nightly
def test_a_task_trains_only_its_variables(steps):
    without, full = changes(steps["task 1"]), changes(steps["only task 1"])
    for name, change in without.items():
        assert change.any() == ("/encoder/" in name), name
        assert full[name].any()
    # In an update with both tasks, the rest moves in the direction of task 0.
    both, first = changes(steps["both"]), changes(steps["only task 0"])
    for name, change in both.items():
        sizes = np.linalg.norm(change), np.linalg.norm(first[name])
        if min(sizes) < 1e-6:  # The gradient of the biases of keys is 0.
            continue
        cosine = np.vdot(change, first[name]) / np.prod(sizes)
        assert (cosine > 0.9999) == ("/encoder/" not in name), (name, cosine)
