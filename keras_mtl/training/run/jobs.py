"""Runs trainings side by side, each on its own cores, until all are done or a signal arrives."""

import collections
import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from keras_mtl.configuration.files import diff, load_params, save_params
from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.interrupts import forwarded_to

CONFIG_FILE = "experiment.yaml"
"""The configuration that a run was started with, in the directory of the run."""

# Option of prctl in <linux/prctl.h>: the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1
_SECONDS_BETWEEN_POLLS = 0.2
_THREAD_VARIABLES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


class Job(NamedTuple):
    """Subcommands of keras-mtl that run one after another.

    Attributes:
        name: name for messages.
        commands: arguments of each subcommand.
        log: file to which their output is appended.
    """

    name: str
    commands: Sequence[Sequence[str]]
    log: Path


class Running(NamedTuple):
    """A job that runs now.

    Attributes:
        job: the job.
        process: the process of its first command that has not ended.
        left: its later commands.
        slot: number of its cores.
        start: `time.monotonic()` when the job was started.
    """

    job: Job
    process: subprocess.Popen[bytes]
    left: Sequence[Sequence[str]]
    slot: int
    start: float


class Pool:
    """Runs jobs in a number of slots, each of which has its own cores.

    There are no threads: between `fork` and `exec`, a child sets its cores and the signal that it
    gets if this process is killed.

    Args:
        slots: number of jobs at once, >= 1.
        log: function that is called with lines for the user.
        inherited: file descriptors that the processes keep open.

    Attributes:
        failed: names of the jobs that failed.
        signal: number of the signal that has ended the work; 0 before.
    """

    def __init__(
        self, slots: int, log: Callable[[str], None], inherited: Sequence[int] = ()
    ) -> None:
        self.failed: list[str] = []
        self.signal = 0
        self._log = log
        self._inherited = inherited
        cores = sorted(os.sched_getaffinity(0))
        # With more jobs than cores, jobs share cores.
        self._cores = [set(cores[slot::slots]) or set(cores) for slot in range(slots)]
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._running: list[Running] = []

    def run(self, jobs: Sequence[Job]) -> None:
        """Runs jobs; returns when all have ended, or when those that run have saved after a signal.

        A job that fails is reported, and the others still run.
        """
        waiting = collections.deque(jobs)
        durations: list[float] = []
        with forwarded_to(self._stop):
            while (waiting and not self.signal) or self._running:
                used = {item.slot for item in self._running}
                free = [slot for slot in range(len(self._cores)) if slot not in used]
                for slot in free:
                    if waiting and not self.signal:
                        job = waiting.popleft()
                        self._start(job, job.commands, slot, time.monotonic())
                        self._log(f"{job.name}: started")
                time.sleep(_SECONDS_BETWEEN_POLLS)
                for item in self._ended():
                    seconds = time.monotonic() - item.start
                    durations.append(seconds)
                    mean = sum(durations) / len(durations)
                    left = mean * (len(waiting) + len(self._running)) / len(self._cores)
                    self._log(
                        f"{item.job.name}: done in {_duration(seconds)}; "
                        f"{len(waiting) + len(self._running)} left, about {_duration(left)}"
                    )

    def _ended(self) -> Iterator[Running]:
        """Yields the jobs that are done, and starts the next commands of the others."""
        for item in list(self._running):
            code = item.process.poll()
            if code is None:
                continue
            self._running.remove(item)
            if self.signal:
                continue
            if code:
                self.failed.append(item.job.name)
                self._log(
                    f"{item.job.name}: FAILED with exit code {code}: {_last_line(item.job.log)} "
                    f"(see {item.job.log})"
                )
            elif item.left:
                self._start(item.job, item.left, item.slot, item.start)
            else:
                yield item

    def _start(self, job: Job, commands: Sequence[Sequence[str]], slot: int, start: float) -> None:
        first, *left = commands
        cores = self._cores[slot]
        threads = dict.fromkeys(_THREAD_VARIABLES, str(len(cores)))

        def prepare() -> None:
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, cores)
            if self._libc is not None:
                self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

        job.log.parent.mkdir(parents=True, exist_ok=True)
        with open(job.log, "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "keras_mtl.cli.main", *first],
                env=os.environ | threads,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A terminal sends Ctrl-C to its whole group; here each process gets it once.
                start_new_session=True,
                pass_fds=self._inherited,
                preexec_fn=prepare,
            )
        self._running.append(Running(job, process, left, slot, start))

    def _stop(self, number: int) -> None:
        if not self.signal:
            self._log(
                f"{signal.Signals(number).name}: waiting until {len(self._running)} runs save"
            )
        self.signal = number
        for item in self._running:
            with contextlib.suppress(ProcessLookupError):
                item.process.send_signal(signal.SIGTERM)


@contextlib.contextmanager
def locked(directory: Path, log: Callable[[str], None]) -> Iterator[int]:
    """Waits until no process of an earlier start works in a directory.

    Processes that inherit the descriptor keep the lock, so it also waits for runs that save after
    their harness was killed.

    Yields:
        The descriptor.
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"waiting for another process that works in {directory}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def write_config(config: ExperimentConfig, directory: Path) -> bool:
    """Writes the configuration of a run.

    Returns:
        Whether the run had no configuration or another one before.
    """
    path = directory / CONFIG_FILE
    if path.exists() and not diff(load_params(path), config):
        return False
    # What was evaluated with another configuration is not the result of this one.
    for stale in directory.glob("evaluation-*.json"):
        stale.unlink()
    save_params(config, path)
    return True


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min" if minutes else f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min"
