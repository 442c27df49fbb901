"""The cluster of a run with several workers, from the environment of its launcher."""

import json
import os
import socket
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver

from keras_mtl.errors import ConfigError

_HOW = (
    "start one process for each worker with srun, or with TF_CONFIG in its environment, for "
    'example TF_CONFIG=\'{"cluster": {"worker": ["host0:12345", "host1:12345"]}, "task": {"type": '
    '"worker", "index": 0}}\''
)
# Ports of two jobs on one node should differ; Linux gives ports from 32768 on to clients.
_FIRST_PORT, _PORTS = 12000, 20000


def make_multi_worker_strategy(
    environment: Mapping[str, str] | None = None,
) -> tf.distribute.MultiWorkerMirroredStrategy:
    """Joins the other workers; returns when all are there.

    Call it before any TensorFlow operation. GPUs use NCCL, CPUs rings of sends and receives.

    Args:
        environment: the environment variables; None takes those of the process.

    Raises:
        ConfigError: the environment describes no cluster, or its description is wrong.
    """
    values = os.environ if environment is None else environment
    cluster = cluster_of(values)
    task = cluster["task"]
    own = cluster["cluster"][task["type"]][task["index"]]
    _check_port_is_free(own)
    os.environ["TF_CONFIG"] = json.dumps(cluster)
    kinds = tf.distribute.experimental.CommunicationImplementation
    gpus = bool(tf.config.list_physical_devices("GPU"))
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=kinds.AUTO if gpus else kinds.RING
    )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise ConfigError(
            f"runtime.distribution_strategy is 'multi_worker_mirrored', and worker {task['index']} "
            f"at {own} cannot join the others: {reason}"
        ) from error


def cluster_of(environment: Mapping[str, str]) -> dict[str, Any]:
    """Returns the cluster and this worker's place in it, in the form of TF_CONFIG.

    Args:
        environment: the environment variables: TF_CONFIG, or those that `srun` of Slurm sets.

    Raises:
        ConfigError: there is none, or a worker is missing in it.
    """
    text = environment.get("TF_CONFIG", "")
    if text:
        return _checked(text)
    if "SLURM_STEP_NODELIST" in environment:
        return _slurm_cluster(environment)
    raise ConfigError(
        "runtime.distribution_strategy is 'multi_worker_mirrored', and neither TF_CONFIG nor "
        f"variables of Slurm are set; {_HOW}"
    )


def _checked(text: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
        workers, task = config["cluster"], config["task"]
        kind, index = task["type"], int(task["index"])
        others = set(workers) - {"chief", "worker", "evaluator"}
        known = kind in ("chief", "worker") and 0 <= index < len(workers[kind])
        addresses = [address for kind in workers for address in workers[kind]]
        known = known and all(":" in address for address in addresses)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"TF_CONFIG is {text[:200]!r}, which describes no cluster; {_HOW}") from (
            error
        )
    if others:
        raise ConfigError(
            f"TF_CONFIG names {', '.join(sorted(others))}: the workers of a run train in step, and "
            f"there are no parameter servers; list all processes as workers; {_HOW}"
        )
    if not known:
        raise ConfigError(
            f"TF_CONFIG: task {kind} {index!r} is not in the cluster, or an address has no port; "
            f"{_HOW}"
        )
    cluster = {kind: list(workers[kind]) for kind in ("chief", "worker") if workers.get(kind)}
    return {"cluster": cluster, "task": {"type": kind, "index": index}}


def _slurm_cluster(environment: Mapping[str, str]) -> dict[str, Any]:
    """Returns the cluster of a job step of Slurm, workers in the order of their ranks."""
    # TensorFlow's resolver sorts the hosts by name, and needs GPUs.
    try:
        hosts = slurm_cluster_resolver.expand_hostlist(environment["SLURM_STEP_NODELIST"])
        tasks = slurm_cluster_resolver.expand_tasks_per_node(
            environment["SLURM_STEP_TASKS_PER_NODE"]
        )
        rank = int(environment["SLURM_PROCID"])
        job = int(environment.get("SLURM_JOB_ID", "0"))
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"the variables of Slurm describe no job step ({error}); start the workers with srun"
        ) from error
    first = _FIRST_PORT + job % _PORTS
    addresses = [
        f"{host}:{first + number}"
        for host, count in zip(hosts, tasks, strict=True)
        for number in range(count)
    ]
    if not 0 <= rank < len(addresses):
        raise ConfigError(f"SLURM_PROCID is {rank}, and the job step has {len(addresses)} tasks")
    return {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}


def _check_port_is_free(address: str) -> None:
    """Raises ConfigError if another process listens; TensorFlow would end the process."""
    port = int(address.rpartition(":")[2])
    with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("", port))
        except OSError as error:
            raise ConfigError(
                f"port {port} of this worker's address {address} cannot be used: {error.strerror}; "
                "end the process that uses it, or choose another port"
            ) from error
