"""One gradient, however the rows are spread: over replicas, accumulated batches, or not at all."""

import json

import fit_case
import numpy as np
import pytest
import trainer_case

from keras_mtl.training.step.scaling import APPLICATIONS
from tests import processes

pytestmark = pytest.mark.slow  # Two processes trace 10 programs; guards what a gradient is.

MOMENTS = ("scaled", "per_task")
LEARNING_RATES = {name: {"moments": name, "scales": [1.5, 0.5]} for name in MOMENTS}
FLOAT16 = {"precision": "mixed_float16"}
ONE_DEVICE = {
    "plain": {},
    "halves": {"halves": True, "accumulation": 2},
    "jit": {"jit": True},
    "dropout": {"dropout": 0.3},
    "dropout again": {"dropout": 0.3},
    "poison": {"poison": 0},
    "decoder 0": {"sharing": "encoder", "tasks": [0, 0, 0]},
    "packed": {"pack": True},
}
# Repeats with other parts of the trainer.
NIGHTLY = {
    "float16": FLOAT16,
    "near overflow": {**FLOAT16, "loss_scale": 2.0**16, "steps": 12, "tasks": [0] * 12},
    "decoder 1": {"sharing": "encoder", "tasks": [1], "steps": 1},
    "decoder 1 0 0": {"sharing": "encoder", "tasks": [1, 0, 0]},
    "per_task, jit": {**LEARNING_RATES["per_task"], "jit": True},
    "decoder 1, gradient": {"scales": [1.5, 0.5], "sharing": "encoder", "tasks": [1], "steps": 1},
    "bfloat16": {"precision": "mixed_bfloat16"},
    "mixed": {"mixed": True, "scales": [1.5, 0.5]},
    "packed, mixed": {"mixed": True, "scales": [1.5, 0.5], "pack": True},
    "scaled, jit": {**LEARNING_RATES["scaled"], "jit": True},
    "pcgrad": {"mixed": True, "balancing": "pcgrad", "steps": 1},
    "packed, pcgrad": {"mixed": True, "balancing": "pcgrad", "steps": 1, "pack": True},
    "packed, jit": {"pack": True, "jit": True},
    "packed, bfloat16": {"pack": True, "precision": "mixed_bfloat16"},
    "packed, decoder 1": {"pack": True, "sharing": "encoder", "tasks": [1], "steps": 1},
    "packed, scaled": {"pack": True, **LEARNING_RATES["scaled"]},
    "quantized halves": {"quantization": True, "halves": True, "accumulation": 2},
    "quantized, jit": {"quantization": True, "sharing": "encoder", "tasks": [0, 0, 0], "jit": True},
    "quantized, saving": {
        "quantization": True,
        "sharing": "encoder",
        "tasks": [0] * 3,
        "saving": 1,
    },
    "quantized, poison": {"quantization": True, "poison": 0},
}


def fit(application):
    """A case of `model.fit` on two replicas."""
    return {
        "runtime": {"distribution_strategy": "mirrored", "num_replicas": 2},
        "fit": {"application": application},
    }


# Logical devices are set once in a process, so each strategy has its own.
MIRRORED = {
    "two replicas": {"replicas": 2},
    "learning_rate": fit("learning_rate"),
}
NIGHTLY_MIRRORED = {
    # So large that the gradients of many halvings overflow.
    "overflow, two replicas": {**FLOAT16, "loss_scale": 2.0**24, "replicas": 2},
    "per_task, two replicas": {**LEARNING_RATES["per_task"], "replicas": 2},
    "float16, two replicas": {**FLOAT16, "replicas": 2},
    "packed, two replicas": {"pack": True, "replicas": 2},
    "scaled, two replicas": {**LEARNING_RATES["scaled"], "replicas": 2},
    "quantized, two replicas": {"quantization": True, "replicas": 2},
    **{name: fit(name) for name in APPLICATIONS if name not in MIRRORED},
}


def run(cases, directory):
    """Runs cases in one process; returns what each has found."""
    (directory / "cases.json").write_text(json.dumps(list(cases.values())))
    processes.run(trainer_case.main, directory)
    return {name: dict(np.load(directory / f"{number}.npz")) for number, name in enumerate(cases)}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    groups = (ONE_DEVICE, MIRRORED)
    found = [run(cases, tmp_path_factory.mktemp("cases")) for cases in groups]
    return found[0] | found[1]


@pytest.fixture(scope="module")
def nightly_results(results, tmp_path_factory):
    groups = (NIGHTLY, NIGHTLY_MIRRORED)
    found = [run(cases, tmp_path_factory.mktemp("cases")) for cases in groups]
    return results | found[0] | found[1]


def weights(result, when="after"):
    return {k.split("/", 1)[1]: v for k, v in result.items() if k.startswith(f"{when}/")}


def assert_same_weights(a, b, **tolerance):
    a, b = weights(a), weights(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], err_msg=name, **tolerance)


def test_two_replicas_take_the_step_of_one_device(results):
    one, two = results["plain"], results["two replicas"]
    assert_same_weights(one, two, rtol=1e-4, atol=2e-5)
    for name in ("loss", "nll", "tokens", "source_tokens", "gradient_norm", "skipped"):
        np.testing.assert_allclose(one[f"total/{name}"], two[f"total/{name}"], rtol=1e-4)
    assert one["step"] == two["step"] == 3
    assert one["total/tokens"][0] > one["total/tokens"][1] > 0


def test_accumulated_halves_take_the_step_of_the_whole_batch(results):
    assert_same_weights(results["plain"], results["halves"], rtol=1e-4, atol=2e-5)


def test_xla_and_plain_graph_agree(results):
    assert_same_weights(results["plain"], results["jit"], rtol=1e-4, atol=2e-5)


def assert_same_step(found, known):
    assert_same_weights(found, known, rtol=1e-4, atol=2e-5)
    for name in ("loss", "nll", "tokens", "source_tokens", "gradient_norm"):
        total = f"total/{name}"
        np.testing.assert_allclose(found[total], known[total], rtol=1e-5, err_msg=name)


def test_packed_rows_take_the_step_of_their_sentences(results):
    assert_same_step(results["packed"], results["plain"])


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("packed, jit", "plain"),
        ("packed, two replicas", "plain"),
        ("packed, mixed", "mixed"),
        ("packed, pcgrad", "pcgrad"),
        ("packed, decoder 1", "decoder 1"),
        ("packed, scaled", "scaled, jit"),
    ],
)
def test_packed_rows_agree_with_other_parts_of_the_trainer(nightly_results, name, expected):
    assert_same_step(nightly_results[name], nightly_results[expected])
    assert nightly_results["mixed"]["total/tokens"].min() > 0


@pytest.mark.nightly
def test_packed_rows_in_bfloat16_stay_near_float32(nightly_results):
    found, known = nightly_results["packed, bfloat16"], nightly_results["plain"]
    np.testing.assert_allclose(found["total/loss"], known["total/loss"], rtol=0.02)


def test_same_seed_gives_the_same_bits_with_dropout(results):
    assert_same_weights(results["dropout"], results["dropout again"], rtol=0, atol=0)
    pairs = zip(
        weights(results["dropout"]).values(), weights(results["plain"]).values(), strict=True
    )
    assert any(not np.array_equal(a, b) for a, b in pairs)


def test_non_finite_step_is_counted_and_changes_nothing(results):
    result = results["poison"]
    assert result["total/skipped"] == 3
    assert result["total/gradient_norm"] == 0
    before, after = weights(result, "before"), weights(result)
    for name in before:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)


def test_a_decoder_that_no_batch_uses_stays_as_it_is(results):
    result = results["decoder 0"]
    before, after = weights(result, "before"), weights(result)
    owners = dict(zip(before, result["owners"], strict=True))
    assert set(owners.values()) == {-1, 0, 1}
    for name, owner in owners.items():
        changed = not np.array_equal(before[name], after[name])
        assert changed == (owner != 1), name


@pytest.mark.nightly
def test_an_unused_decoder_does_not_drift_by_its_momentum(nightly_results):
    # Task 1 comes first, so its decoder has momentum when the batches of task 0 follow.
    one, three = nightly_results["decoder 1"], nightly_results["decoder 1 0 0"]
    owners = dict(zip(weights(one), one["owners"], strict=True))
    for name, owner in owners.items():
        same = np.array_equal(weights(one)[name], weights(three)[name])
        assert same == (owner == 1), name


@pytest.mark.nightly
def test_bfloat16_stays_near_float32(nightly_results):
    half, full = nightly_results["bfloat16"], nightly_results["plain"]
    np.testing.assert_allclose(half["total/loss"], full["total/loss"], rtol=0.02)
    assert half["total/skipped"] == 0


@pytest.mark.nightly
@pytest.mark.parametrize("case", ["float16", "float16, two replicas"])
def test_float16_stays_near_float32(nightly_results, case):
    half, full = nightly_results[case], nightly_results["plain"]
    np.testing.assert_allclose(half["total/loss"], full["total/loss"], rtol=0.01)
    # The norm is of the gradients without the loss scale.
    np.testing.assert_allclose(half["total/gradient_norm"], full["total/gradient_norm"], rtol=0.02)
    assert half["total/skipped"] == 0
    assert half["loss_scale/value"] == 2.0**15 / 128
    assert half["loss_scale/updates"] == 3


@pytest.mark.nightly  # test_loss_scale.py has one device.
def test_an_overflow_halves_the_loss_scale_and_changes_no_weight(nightly_results):
    result = nightly_results["overflow, two replicas"]
    assert result["total/skipped"] == 3  # Once a step, not once a replica.
    assert result["loss_scale/value"] == 2.0**21
    assert result["loss_scale/updates"] == 0
    before, after = weights(result, "before"), weights(result)
    for name in before:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)


@pytest.mark.nightly
def test_training_starts_once_the_loss_scale_fits(nightly_results):
    result = nightly_results["near overflow"]
    assert 0 < result["total/skipped"] < 12
    assert result["loss_scale/value"] == 2.0 ** (16 - result["total/skipped"])
    assert 0 < result["loss_scale/updates"] <= 12 - result["total/skipped"]
    before, after = weights(result, "before"), weights(result)
    assert all(np.isfinite(value).all() for value in after.values())
    assert any(not np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.nightly
@pytest.mark.parametrize("moments", MOMENTS)
def test_learning_rates_by_task_agree_on_replicas_and_in_xla(nightly_results, moments):
    one, two = nightly_results[f"{moments}, jit"], nightly_results[f"{moments}, two replicas"]
    assert_same_weights(one, two, rtol=1e-4, atol=2e-5)
    for result in (one, two):
        assert result["factors"].tolist() == [1.5, 0.5]
        assert result["task_updates"].tolist() == [2, 1]


@pytest.mark.nightly
def test_a_factor_on_the_gradient_is_a_weight_of_the_loss(nightly_results):
    cases = ("decoder 1, gradient", "decoder 1")
    norms = [nightly_results[case]["total/gradient_norm"] for case in cases]
    assert norms[0] == pytest.approx(0.5 * norms[1], rel=1e-4)


def test_learning_rates_act_in_fit_on_two_replicas(results):
    check_fit(results, "learning_rate")


@pytest.mark.nightly
@pytest.mark.parametrize("application", set(APPLICATIONS) - {"learning_rate"})
def test_factors_act_in_fit_on_two_replicas(nightly_results, application):
    check_fit(nightly_results, application)


def check_fit(results, application):
    expected = fit_case.train_by_hand(application)
    for name, value in expected.items():
        np.testing.assert_allclose(
            results[application][name], value, rtol=1e-4, atol=1e-5, err_msg=name
        )


@pytest.mark.nightly
def test_ranges_are_those_of_all_replicas_and_batches(nightly_results):
    halves, two = (nightly_results[f"quantized{name}"] for name in (" halves", ", two replicas"))
    states = [name for name in halves if name.startswith("state/")]
    assert len(states) > 8
    for name in states:
        assert halves[name][0] == 2
        assert halves[name][2] > 0 or name == "state/decoder/projection"
        np.testing.assert_allclose(two[name], halves[name], rtol=1e-4, err_msg=name)
    assert_same_weights(halves, two, rtol=1e-3, atol=2e-4)


@pytest.mark.nightly
def test_only_the_used_decoder_measures_ranges(nightly_results):
    jit, saving = (nightly_results[f"quantized, {name}"] for name in ("jit", "saving"))
    for name in (name for name in jit if name.startswith("state/")):
        assert (jit[name][2] > 0) == ("decoder_de" not in name), name
        np.testing.assert_allclose(jit[name], saving[name], rtol=1e-4, err_msg=name)
    assert_same_weights(jit, saving, rtol=1e-3, atol=2e-4)


@pytest.mark.nightly
def test_skipped_steps_move_no_range(nightly_results):
    found = nightly_results["quantized, poison"]
    for name in (name for name in found if name.startswith("state/")):
        assert found[name].tolist() == [2, 0, 0], name
