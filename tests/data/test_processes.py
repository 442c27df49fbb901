"""Processes: jobs and the parts that they hand over, errors, and ends of all kinds."""

import os
import signal
import subprocess
import sys
import time

import pytest

from keras_mtl import errors
from keras_mtl.data.processes import Processes, keep


def square(number):
    return number * number


def where(number):
    time.sleep(0.02)
    return number, os.getpid()


def many_parts(count, share):
    own = []
    for number in range(count):
        if not share(where, number):
            own.append(where(number))
    return own


def fails(kind):
    raise kind("spoiled.tsv: 3 of 4 lines cannot be read")


def fails_in_a_part(share):
    while not share(fails, errors.DataError):
        time.sleep(0.001)


def dies():
    os.kill(os.getpid(), signal.SIGKILL)


def process_ids(processes):
    return [worker._process.pid for worker in processes._workers]


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def two():
    with Processes(2) as processes:
        yield processes


def test_results_belong_to_their_jobs(two):
    jobs = [two.submit(square, number, urgent=number % 2 == 0) for number in range(20)]
    assert [two.result(job) for job in jobs] == [number * number for number in range(20)]


def test_a_job_hands_parts_to_an_idle_process(two):
    job = two.submit(many_parts, 20, shares=True)
    own = two.result(job)
    assert sorted(number for number, _ in [*own, *job.shared]) == list(range(20))
    assert {pid for _, pid in own} != {pid for _, pid in job.shared}
    assert len(own) >= 3
    assert len(job.shared) >= 3


def test_a_single_process_hands_nothing_over_and_is_this_one():
    with Processes(1) as one:
        job = one.submit(many_parts, 2, shares=True)
        assert one.result(job) == [(0, os.getpid()), (1, os.getpid())]
        assert one.result(job) == one.result(job)
    assert not keep(square, 2)


def test_what_cannot_be_pickled_runs_here(two):
    assert two.result(two.submit(lambda: os.getpid())) == os.getpid()
    assert two.result(two.submit(os.getpid, here=True)) == os.getpid()
    assert two.result(two.submit(os.getpid)) != os.getpid()


@pytest.mark.parametrize("kind", [errors.DataError, KeyError])
def test_an_error_of_a_job_is_raised_with_its_traceback(two, kind):
    job = two.submit(fails, kind)
    with pytest.raises(kind, match=r"spoiled\.tsv: 3 of 4") as caught:
        two.result(job)
    assert "in another process" in caught.value.__notes__[0]
    with pytest.raises(errors.DataError, match=r"spoiled\.tsv"):
        two.result(two.submit(fails_in_a_part, shares=True))
    assert two.result(two.submit(square, 3)) == 9


def test_a_killed_process_is_an_error_with_a_remedy():
    with Processes(2) as processes:
        ids = process_ids(processes)
        with pytest.raises(
            errors.DataError, match=r"one of 2 processes was killed \(SIGKILL\).*--processes"
        ):
            processes.result(processes.submit(dies))
    assert not any(map(is_alive, ids))


def test_processes_end_when_this_one_is_killed():
    """They would write into a directory that the next run uses."""
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "import test_processes\n"
        "from keras_mtl.data.processes import Processes\n"
        "processes = Processes(2)\n"
        "job = processes.submit(time.sleep, 100)\n"
        "print(*test_processes.process_ids(processes), flush=True)\n"
        "processes.result(job)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, os.path.dirname(__file__)], stdout=subprocess.PIPE, text=True
    ) as process:
        ids = [int(word) for word in process.stdout.readline().split()]
        assert all(map(is_alive, ids))
        process.kill()
    end = time.monotonic() + 30
    while any(map(is_alive, ids)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(is_alive, ids))
