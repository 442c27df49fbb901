"""Balancing in the trainer: one step, however its gradients are computed."""

import json

import balance_case
import numpy as np
import pytest

from keras_mtl.balancing import Balancing
from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.files import load_experiment, name_tasks
from keras_mtl.configuration.overriding import set_values
from keras_mtl.configuration.schema import BalancingConfig, ExperimentConfig
from keras_mtl.errors import ConfigError
from keras_mtl.training.run.baselines import single_task_config
from keras_mtl.training.run.planning import plan_schedule, plan_updates
from keras_mtl.training.step import balancing as balance
from tests import processes

LEAK = {"method": "graddrop", "parameters": {"leak": 1.0}}
ONE_DEVICE = {
    "sum": {"decoders": 2},
    "graddrop": {**LEAK, "decoders": 2},
    "mgda": {"method": "mgda"},
    "mgda, mixed, xla": {"method": "mgda", "mixed": True, "jit": True},
    "famo": {"method": "famo", "mixed": True},
    "uncertainty": {"method": "uncertainty", "scales": [1.5, 0.5], "poison": True},
    "loop, famo": {"custom_loop": "famo"},
    "loop, cagrad": {"custom_loop": "cagrad"},
}
# One process has one strategy.
MIRRORED = {
    "famo, two replicas": {"method": "famo", "mixed": True, "replicas": 2},
    "loop, famo, two replicas": {"custom_loop": "famo", "replicas": 2},
    "loop, cagrad, two replicas": {"custom_loop": "cagrad", "replicas": 2},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    found = {}
    for cases in (ONE_DEVICE, MIRRORED):
        directory = tmp_path_factory.mktemp("cases")
        (directory / "cases.json").write_text(json.dumps(list(cases.values())))
        processes.run(balance_case.main, directory)
        for number, name in enumerate(cases):
            found[name] = dict(np.load(directory / f"{number}.npz"))
    return found


def assert_same_weights(one, two, tolerance):
    names = [name for name in one if name.startswith("after/") and name != "after/state"]
    assert len(names) >= 2
    for name in names:
        np.testing.assert_allclose(one[name], two[name], rtol=0, atol=tolerance, err_msg=name)


def state(result, when="after"):
    return json.loads(str(result[f"{when}/state"]))


def test_weights_of_one_are_the_plain_step(results):
    # Gradients of accumulated batches taken apart and put together again, decoders too.
    assert_same_weights(results["sum"], results["graddrop"], 1e-7)


def test_accumulated_batches_and_one_mixed_batch_take_the_same_step(results):
    accumulated, mixed = results["mgda"], results["mgda, mixed, xla"]
    assert_same_weights(accumulated, mixed, 1e-6)
    for name in ("weights", "weighted_steps", "loss", "gradient_norm"):
        np.testing.assert_allclose(
            accumulated[f"total/{name}"], mixed[f"total/{name}"], rtol=1e-4, err_msg=name
        )


def test_one_backward_pass_and_one_for_each_task_take_the_same_step(results):
    # FAMO weighs the losses on one device, and needs them from all replicas where there are two.
    assert_same_weights(results["famo"], results["famo, two replicas"], 1e-6)
    one, two = state(results["famo"]), state(results["famo, two replicas"])
    np.testing.assert_allclose(one["logits"], two["logits"], rtol=1e-3)
    assert abs(one["logits"][0]) > 0.01  # it has looked back


def test_the_mean_weight_counts_the_steps_that_had_the_task(results):
    # The last update has only batches of the second task.
    np.testing.assert_array_equal(results["mgda"]["total/weighted_steps"], [2, 3])
    assert state(results["mgda"])["step"] == 3


def test_a_step_that_is_not_finite_teaches_nothing(results):
    result = results["uncertainty"]
    assert result["total/skipped"] == 1
    np.testing.assert_array_equal(result["total/weighted_steps"], [2, 2])
    assert state(result) == state(result, "before")
    assert state(result)["step"] == 2


def test_loss_balancing_learns_beside_the_factors_of_a_schedule(results):
    variances = state(results["uncertainty"])["log_variance"]
    # Both losses are above 1, so both variances grow, by the learning rate at each step.
    np.testing.assert_allclose(variances, [0.002, 0.002], rtol=0.01)


@pytest.mark.parametrize("method", ["famo", "cagrad"])
def test_a_loop_of_ones_own_on_two_replicas(results, method):
    one, two = results[f"loop, {method}"], results[f"loop, {method}, two replicas"]
    assert np.abs(one["gradients"]).min() > 0.1
    np.testing.assert_allclose(one["gradients"], two["gradients"], rtol=1e-5)
    for name, value in state(one).items():
        np.testing.assert_allclose(state(two)[name], value, rtol=1e-4, err_msg=name)


def config(**changes):
    result = ExperimentConfig()
    pairs = [{"source": "en", "target": target} for target in ("fr", "de", "es")]
    set_values(result, {"task": {"pairs": pairs}})
    name_tasks(result)
    result.trainer.balancing = BalancingConfig(name=changes.pop("name", "pcgrad"))
    parameters = result.trainer.balancing.parameters
    parameters.update(changes.pop("parameters", {}))
    result.task.data.granularity = changes.pop("granularity", "example")
    for name, value in changes.items():
        setattr(result.trainer.optimizer, name, value)
    return result


def check(config):
    draft = Draft(config)
    schedule, _ = plan_schedule(draft)
    plan = plan_updates(draft, schedule)
    draft.finish()
    balance.check_balancing(config.trainer.balancing, plan)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "pcgard"}, "did you mean 'pcgrad'"),
        ({"parameters": {"c": 0.5}}, "no parameter 'c'"),
        ({"name": "cagrad", "parameters": {"c": 2}}, "c = 2 must be finite and >= 0 and < 1"),
        ({"name": "", "parameters": {"c": 2}}, "name is empty"),
        ({"granularity": "batch"}, "gradient_accumulation_steps: 3"),
        ({"name": "famo", "granularity": "batch"}, "gradient_accumulation_steps: 3"),
        ({"name": "dwa", "granularity": "batch", "moments": "per_task"}, "per-task moments"),
    ],
)
def test_what_cannot_be_is_refused_before_data_are_prepared(changes, message):
    with pytest.raises(ConfigError, match=message):
        check(config(**changes))


def test_what_can_be():
    for changes in (
        {},
        {"granularity": "batch", "gradient_accumulation_steps": 3},
        {"name": "dwa", "granularity": "batch"},
        {"name": "", "granularity": "batch", "moments": "per_task"},
    ):
        check(config(**changes))
    single = config()
    single.task.pairs = single.task.pairs[:1]
    with pytest.raises(ConfigError, match="there is nothing to balance"):
        check(single)


def test_a_baseline_is_trained_without_balancing():
    mixed = config(granularity="batch", gradient_accumulation_steps=3)
    check(single_task_config(mixed, mixed.task.pairs[0]))
    assert mixed.trainer.balancing.name == "pcgrad"


def test_a_checkpoint_of_another_method_or_list_of_tasks():
    saved = Balancing("dwa", 3)
    saved.load_state_dict({"step": 7, "last": np.array([1, 2, 3], np.float32)})
    arrays = {"best": np.zeros(2), **balance.collect(saved)}
    fewer, other = Balancing("dwa", 2), Balancing("famo", 3)
    balance.restore(fewer, arrays, np.array([2, 0]))
    balance.restore(other, arrays, np.arange(3))
    balance.restore(None, arrays, np.arange(3))
    assert fewer.state_dict()["last"].tolist() == [3, 1]
    assert (fewer.state_dict()["step"], other.state_dict()["step"]) == (7, 0)
    assert balance.collect(None) == {}


def test_a_new_method_drops_the_parameters_of_the_old_one(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("trainer: {balancing: {name: cagrad, parameters: {c: 0.4}}}\n")
    found = load_experiment(None, [str(file)], "trainer.balancing.name=pcgrad", check=None)
    assert found.trainer.balancing.parameters == {}
