"""Which cluster the environment of a launcher describes; workers really join in test_workers."""

import json
import re
import socket

import pytest

from keras_mtl.errors import ConfigError
from keras_mtl.training.step.cluster import cluster_of, make_multi_worker_strategy

CLUSTER = {"worker": ["a:1200", "b:1200"]}


def tf_config(cluster, kind="worker", index=0):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}


def test_tf_config_is_taken_as_it_is():
    found = cluster_of(tf_config(CLUSTER, index=1))
    assert found == {"cluster": CLUSTER, "task": {"type": "worker", "index": 1}}


def test_an_evaluator_is_left_out_of_the_cluster():
    found = cluster_of(tf_config({**CLUSTER, "chief": ["c:1"], "evaluator": ["d:1"]}, "chief"))
    assert found["cluster"] == {**CLUSTER, "chief": ["c:1"]}


def test_workers_of_slurm_are_in_the_order_of_their_ranks():
    """Two hosts whose names are not sorted, three tasks on the first."""
    variables = {
        "SLURM_STEP_NODELIST": "node[09-10]",
        "SLURM_STEP_TASKS_PER_NODE": "3,1",
        "SLURM_PROCID": "3",
        "SLURM_JOB_ID": "20007",
    }
    found = cluster_of(variables)
    addresses = ["node09:12007", "node09:12008", "node09:12009", "node10:12007"]
    assert found == {
        "cluster": {"worker": addresses},
        "task": {"type": "worker", "index": 3},
    }


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "neither TF_CONFIG nor variables of Slurm are set; start one process"),
        ({"TF_CONFIG": "{"}, "TF_CONFIG is '{', which describes no cluster"),
        ({"TF_CONFIG": "{}"}, "TF_CONFIG is '{}', which describes no cluster"),
        ({"TF_CONFIG": "[]"}, r"TF_CONFIG is '\[\]', which describes no cluster"),
        (tf_config(CLUSTER, index=2), "task worker 2 is not in the cluster"),
        (tf_config(CLUSTER, index=-1), "task worker -1 is not in the cluster"),
        (tf_config({"worker": ["a"]}), "an address has no port"),
        (tf_config({**CLUSTER, "ps": ["c:1"]}), "names ps: .* no parameter servers"),
        ({"SLURM_STEP_NODELIST": "a"}, "'SLURM_STEP_TASKS_PER_NODE'.*srun"),
        (
            {
                "SLURM_STEP_NODELIST": "a",
                "SLURM_STEP_TASKS_PER_NODE": "2",
                "SLURM_PROCID": "2",
            },
            "SLURM_PROCID is 2, and the job step has 2 tasks",
        ),
    ],
)
def test_refusals(environment, message):
    with pytest.raises(ConfigError) as caught:
        cluster_of(environment)
    assert re.search(message, str(caught.value))


def test_a_port_that_is_taken_is_refused_and_the_process_lives():
    with socket.socket() as server:
        server.bind(("", 0))
        server.listen()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConfigError, match="cannot be used: Address already in use; end the"):
            make_multi_worker_strategy(tf_config({"worker": [address]}))
