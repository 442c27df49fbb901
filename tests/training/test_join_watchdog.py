"""A worker that waits in vain while TensorFlow connects the workers ends, and says for whom."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keras_mtl.training.step import cluster, join_watchdog
from tests import processes

# As TensorFlow does, `sleep` of a PyDLL keeps Python's global lock.
WAITS = """
import ctypes, signal, sys
# A job of a script's background ignores the signal, and so do its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
from keras_mtl.training.step.join_watchdog import watched_join
with watched_join("worker 0", {others}, seconds={seconds}, unreachable_seconds={unreachable}):
    print("waiting", flush=True)
    ctypes.PyDLL(None).sleep({sleep})
print("joined", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def waiting(others=None, seconds=300.0, unreachable=60.0, sleep=60):
    text = WAITS.format(others=others or {}, seconds=seconds, unreachable=unreachable, sleep=sleep)
    process = subprocess.Popen(
        [sys.executable, "-c", text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "waiting\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def children_of(process):
    return Path(f"/proc/{process.pid}/task/{process.pid}/children")


def watchdog_of(process):
    """Returns the process that watches another, once it runs its script."""
    (child,) = children_of(process).read_text().split()
    deadline = time.monotonic() + 20
    while "SigCgt:\t0000000000000000" in Path(f"/proc/{child}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(child)


def has_ended(pid):
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    return True


def test_a_worker_that_cannot_be_reached_is_named():
    address = f"127.0.0.1:{processes.free_ports(1)[0]}"
    with waiting({"worker 1": address}, unreachable=0.3) as process:
        _, error = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert f"error: worker 0 cannot reach worker 1 at {address} (Connection refused)" in error
    assert "Start all workers again" in error


def test_time_is_limited_if_all_can_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as peer:
        others = {"worker 1": f"127.0.0.1:{peer.getsockname()[1]}"}
        with waiting(others, seconds=0.3, unreachable=0.2) as process:
            _, error = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert "worker 0 waited 0 s" in error
    assert "It can reach all of them, but one does not connect" in error


def test_signals_end_a_worker_that_waits():
    with waiting() as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == -signal.SIGINT
    with waiting() as process:
        watchdog_of(process)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(20) in (-signal.SIGTERM, -signal.SIGKILL)


def test_the_watchdog_ends_with_the_process_and_after_the_join():
    with waiting() as process:
        watchdog = watchdog_of(process)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 20
        while not has_ended(watchdog):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    with waiting(sleep=0) as process:
        assert process.stdout.readline() == "joined\n"
        assert children_of(process).read_text() == ""


def test_a_worker_that_joined_at_the_last_moment_goes_on():
    """It has closed the pipe, while its watchdog still tried to reach the others."""
    end = "import os, sys, join_watchdog; join_watchdog._end(os.getppid(), 'too late')"
    text = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {end!r}], stdin=subprocess.DEVNULL, check=True)\n"
        "print('goes on')"
    )
    place = Path(join_watchdog.__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=place, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("goes on\n", "")


def join(cluster_of_all, index):
    """Runs in its own process."""
    task = {"type": "worker", "index": index}
    watched = join_watchdog.watched_join
    cluster.watched_join = lambda own, others: watched(own, others, 4.0, 1.0)
    cluster.make_multi_worker_strategy(
        {"TF_CONFIG": json.dumps({"cluster": {"worker": cluster_of_all}, "task": task})}
    )


@pytest.mark.parametrize("index", [0, 1])
def test_a_worker_that_ends_while_tensorflow_connects_is_named(index):
    """The first worker leads the others, so TensorFlow waits in different places."""
    ports = processes.free_ports(2)
    other = 1 - index
    with socket.create_server(("127.0.0.1", ports[other])) as peer:
        waits = processes.Forked(join, [f"127.0.0.1:{port}" for port in ports], index)
        peer.settimeout(60)
        peer.accept()[0].close()  # They have met.
    code, _, error = waits.finish(60)
    assert code == -signal.SIGKILL, error
    assert f"error: worker {index} cannot reach worker {other} at" in error
