"""The cluster of a run with several workers, from the environment of its launcher."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver

from keras_mtl.errors import ConfigError, WorkerError
from keras_mtl.training.step.join_watchdog import listed, unreachable, watched_join

_HOW = (
    "start one process for each worker with srun, or with TF_CONFIG in its environment, for "
    'example TF_CONFIG=\'{"cluster": {"worker": ["host0:12345", "host1:12345"]}, "task": {"type": '
    '"worker", "index": 0}}\''
)
# Ports of two jobs on one node should differ; Linux gives ports from 32768 on to clients.
_FIRST_PORT, _PORTS = 12000, 20000

# A launcher may start the workers of a run minutes apart. TensorFlow waits for an hour and does not
# say for whom.
_SECONDS_TO_WAIT = 600.0
_SECONDS_BETWEEN_LINES = 30.0
_SECONDS_BETWEEN_ATTEMPTS = 0.2


def make_multi_worker_strategy(
    environment: Mapping[str, str] | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> tf.distribute.MultiWorkerMirroredStrategy:
    """Joins the other workers; returns when all are there.

    Call it before any TensorFlow operation. GPUs use NCCL, CPUs rings of sends and receives.

    Args:
        environment: the environment variables; None takes those of the process.
        log: function that receives lines that name the workers that are missing.

    Raises:
        ConfigError: the environment describes no cluster, or its description is wrong.
        WorkerError: a worker did not start within ten minutes.
    """
    values = os.environ if environment is None else environment
    cluster = cluster_of(values)
    task = cluster["task"]
    own = cluster["cluster"][task["type"]][task["index"]]
    _meet(cluster, log)
    os.environ["TF_CONFIG"] = json.dumps(cluster)
    kinds = tf.distribute.experimental.CommunicationImplementation
    gpus = bool(tf.config.list_physical_devices("GPU"))
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=kinds.AUTO if gpus else kinds.RING
    )
    others = _others(cluster)
    watched = watched_join(_name(cluster), others) if others else contextlib.nullcontext()
    try:
        with watched:
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
        known = known and all(map(_is_address, addresses))
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
            f"TF_CONFIG: task {kind} {index!r} is not in the cluster, or an address has no port "
            "from 1 to 65535; "
            f"{_HOW}"
        )
    cluster = {kind: list(workers[kind]) for kind in ("chief", "worker") if workers.get(kind)}
    return {"cluster": cluster, "task": {"type": kind, "index": index}}


def _is_address(text: str) -> bool:
    """Whether a text is a host and a port."""
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 1 << 16


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


def _meet(
    cluster: Mapping[str, Any], log: Callable[[str], None], seconds: float = _SECONDS_TO_WAIT
) -> None:
    """Waits until all other workers listen at their addresses, as this one does in the meantime.

    A worker that has seen all others stops listening here, and TensorFlow listens in its place, so
    those that come later see it as well.

    Args:
        cluster: from `cluster_of`.
        log: function that receives lines that name the workers that are missing.
        seconds: maximum time to wait.

    Raises:
        ConfigError: this worker cannot listen at its port.
        WorkerError: a worker is still missing when the time is over.
    """
    workers, task = cluster["cluster"], cluster["task"]
    missing = _others(cluster)
    begin = said = time.monotonic()
    with _listening(workers[task["type"]][task["index"]], 2 * len(missing)):
        while True:
            reasons = {name: unreachable(address) for name, address in missing.items()}
            missing = {name: missing[name] for name, reason in reasons.items() if reason}
            if not missing:
                return
            now = time.monotonic()
            if now < begin + seconds:
                if now >= said + _SECONDS_BETWEEN_LINES:
                    said = now
                    log(f"waiting for {listed(missing, reasons)}")
                time.sleep(_SECONDS_BETWEEN_ATTEMPTS)
                continue
            raise WorkerError(
                f"{_name(cluster)} waited {seconds:.0f} s for {listed(missing, reasons)}. Check "
                "that the addresses of the cluster are right and that no firewall blocks the "
                "ports, then start all workers again"
            )


def _name(cluster: Mapping[str, Any]) -> str:
    """Returns the name of this worker in messages."""
    return f"{cluster['task']['type']} {cluster['task']['index']}"


def _others(cluster: Mapping[str, Any]) -> dict[str, str]:
    """Returns the addresses of the other workers by their names in messages."""
    names = {
        f"{kind} {index}": address
        for kind, addresses in cluster["cluster"].items()
        for index, address in enumerate(addresses)
    }
    del names[_name(cluster)]
    return names


def _listening(address: str, connections: int) -> contextlib.closing[socket.socket]:
    """Listens at the port of an address within the context.

    Raises:
        ConfigError: another process listens there; TensorFlow would end the process.
    """
    port = int(address.rpartition(":")[2])
    both = socket.has_dualstack_ipv6()
    try:
        server = socket.create_server(
            ("", port),
            family=socket.AF_INET6 if both else socket.AF_INET,
            dualstack_ipv6=both,
            backlog=max(128, connections),
        )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(
            f"port {port} of this worker's address {address} cannot be used: {reason}; end the "
            "process that uses it, or choose another port"
        ) from error
    return contextlib.closing(server)
