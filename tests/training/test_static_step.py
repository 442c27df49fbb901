"""Programs of static shapes take the same updates as one graph of any shape, bit for bit."""

import json
from unittest import mock

import balance_case
import numpy as np
import pytest
import static_case
import tensorflow as tf

from keras_mtl.data.batch_plan import Bucket
from keras_mtl.training.step.distribution import static_shapes
from tests import processes

ONE = {"accumulation": 1, "tasks": [0, 1, 1, 0]}
THREE = {"accumulation": 3, "tasks": [0, 1, 1, 0, 1, 1]}
CASES = {
    "accumulated famo": {**THREE, "method": "famo"},
    "accumulated pcgrad": {**THREE, "method": "pcgrad"},
}
# Each case traces a program for each length of batches.
NIGHTLY = {
    "accumulation, decoder per language": {**THREE, "decoders": 2},
    "one batch, XLA": {**ONE, "jit": True},
    "one shape": {**ONE, "lengths": [5]},
    "not finite": {**THREE, "poison": True},
    "mixed famo": {"method": "famo", "mixed": True},
}
TWO_REPLICAS = {
    "accumulated pcgrad": CASES["accumulated pcgrad"],
    "one batch, XLA": NIGHTLY["one batch, XLA"],
}


def run(tmp_path_factory, one_replica, two_replicas):
    """Returns what the graph and the static programs give, by name and number of replicas."""
    found = {}
    # Logical devices are set once in a process, so each number of replicas has its own.
    for replicas, arguments in ((1, one_replica), (2, two_replicas)):
        if not arguments:
            continue
        directory = tmp_path_factory.mktemp("cases")
        cases = [
            {"lengths": [6, 4], **case, "replicas": replicas, "static": static}
            for case in arguments.values()
            for static in (False, True)
        ]
        (directory / "cases.json").write_text(json.dumps(cases))
        processes.run(balance_case.main, directory)
        for number, name in enumerate(arguments):
            found[name, replicas] = [
                dict(np.load(directory / f"{2 * number + static}.npz")) for static in (0, 1)
            ]
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return run(tmp_path_factory, CASES, {})


@pytest.fixture(scope="module")
def nightly_results(tmp_path_factory):
    return run(tmp_path_factory, NIGHTLY, TWO_REPLICAS)


@pytest.mark.parametrize("name", CASES)
def test_static_shapes_change_no_bit(results, name):
    check_bits(*results[name, 1])


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "replicas"), [(n, 1) for n in NIGHTLY] + [(n, 2) for n in TWO_REPLICAS]
)
def test_static_shapes_change_no_bit_of_more(nightly_results, name, replicas):
    check_bits(*nightly_results[name, replicas])


def check_bits(graph, static):
    assert graph.keys() == static.keys()
    for key, value in graph.items():
        np.testing.assert_array_equal(value, static[key], err_msg=key)
    assert graph["total/tokens"].min() > 0


def test_compilations_do_not_grow_with_the_run(tmp_path):
    processes.run(static_case.count, tmp_path)
    counts = json.loads((tmp_path / "counts.json").read_text())
    shapes = len(static_case.LENGTHS)
    # Traces of the gradients, traces of the loop, programs that XLA compiled.
    assert counts == [[shapes, 1, shapes]] * 4


@pytest.mark.nightly
def test_a_run_trains_with_a_program_for_each_bucket(tmp_path):
    processes.run(static_case.compare, tmp_path)
    graph, static = (dict(np.load(tmp_path / f"losses{number}.npz")) for number in (0, 1))
    np.testing.assert_array_equal(graph["consumed"], static["consumed"])
    assert graph["consumed"].sum() == 12
    assert (graph["loss"] > 0).any(axis=1).all()
    np.testing.assert_allclose(graph["loss"], static["loss"], rtol=1e-4)


def test_only_a_tpu_needs_static_shapes():
    buckets = [Bucket(8, 64), Bucket(16, 32)]
    assert static_shapes(tf.distribute.OneDeviceStrategy("/CPU:0"), buckets) is None
    tpu = mock.Mock(spec=tf.distribute.TPUStrategy, num_replicas_in_sync=4)
    assert static_shapes(tpu, buckets) == [(16, 8), (8, 16)]
