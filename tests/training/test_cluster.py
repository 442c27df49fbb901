"""Which cluster the environment of a launcher describes; workers really join in test_workers."""

import json
import re
import socket
import threading
import time

import pytest

from keras_mtl.errors import ConfigError, WorkerError
from keras_mtl.training.step import cluster as cluster_module
from keras_mtl.training.step.cluster import cluster_of, make_multi_worker_strategy
from tests.processes import free_ports

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
        (tf_config({"worker": ["a:http"]}), "an address has no port from 1 to 65535"),
        (tf_config({"worker": ["a:70000"]}), "an address has no port from 1 to 65535"),
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


def meet(addresses, index, seconds, log=print):
    task = {"type": "worker", "index": index}
    cluster_module._meet({"cluster": {"worker": addresses}, "task": task}, log, seconds)


def test_a_worker_that_never_starts_is_named_in_time(monkeypatch):
    monkeypatch.setattr(cluster_module, "_SECONDS_BETWEEN_LINES", 0.0)
    addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
    lines = []
    with (
        socket.create_server(("127.0.0.1", int(addresses[1].rpartition(":")[2]))),
        pytest.raises(WorkerError) as caught,
    ):
        meet(addresses, 0, 0.5, lines.append)
    missing = f"worker 2 at {addresses[2]} (Connection refused)"
    assert f"worker 0 waited 0 s for {missing}. Check" in str(caught.value)
    assert lines[0] == f"waiting for {missing}"


def test_workers_that_start_late_are_waited_for():
    """The last one meets the others after they have left their ports to TensorFlow, or before."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
    met = []

    def worker(index):
        meet(addresses, index, 20.0)
        met.append(index)
        with socket.create_server(("127.0.0.1", int(addresses[index].rpartition(":")[2]))):
            everyone.wait(20.0)

    everyone = threading.Event()
    threads = [threading.Thread(target=worker, args=(index,)) for index in range(3)]
    for thread in threads[:2]:
        thread.start()
    time.sleep(0.5)
    assert not met
    threads[2].start()
    deadline = time.monotonic() + 20.0
    while len(met) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    everyone.set()
    for thread in threads:
        thread.join()
    assert sorted(met) == [0, 1, 2]
