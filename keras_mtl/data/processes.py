"""Runs functions in several processes.

The processes are started as programs, not forked: TensorFlow may be loaded in this one, and a
user's program need not protect its main module. A job can hand parts of its work to idle processes,
so one large corpus keeps all of them busy. The processes end with this one, however it ends.
"""

import collections
import contextlib
import ctypes
import multiprocessing.connection
import os
import pickle
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Protocol

from keras_mtl import errors
from keras_mtl.interrupts import signal_name

# Parts of a job that wait for each idle process, so that it need not wait for the next one.
_WAITING_PER_PROCESS = 2
_PR_SET_PDEATHSIG = 1  # prctl(2)


class Share(Protocol):
    """Hands a part of a job to an idle process."""

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> bool:
        """Returns whether a process takes the part; if not, the job must do it itself."""
        ...


def keep(function: Callable[..., Any], *arguments: Any) -> bool:
    """The `Share` of a single process: hands over nothing."""
    return False


class Job:
    """A call of a function; `Processes.result` returns its result.

    Attributes:
        shared: results of the parts that the job has handed over, in any order; complete when the
            result is there.
    """

    def __init__(self, function: Callable[..., Any], arguments: Sequence[Any], shares: bool):
        self.shared: list[Any] = []
        self._call = function, tuple(arguments)
        self._shares = shares
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._payload: bytes | None = None
        self._parts = 0  # That are handed over and not done.

    def _run(self) -> None:
        function, arguments = self._call
        self._value = function(*arguments, keep) if self._shares else function(*arguments)
        self._done = True


class Processes:
    """Processes that run jobs; a context manager that ends them.

    Args:
        count: number of processes. With 1, jobs run in this process.

    Raises:
        DataError: a process cannot be started.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._queue: collections.deque[Job] = collections.deque()
        # (job, payload) of parts that jobs have handed over.
        self._parts: collections.deque[tuple[Job, bytes]] = collections.deque()
        self._workers: list[_Worker] = []
        if count > 1:
            try:
                for _ in range(count):
                    self._workers.append(_Worker(count))
            except OSError as error:
                self.close()
                raise errors.DataError(
                    f"cannot start {count} processes: {error.strerror}; use fewer (--processes)"
                ) from error

    def __enter__(self) -> "Processes":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes, whatever they are doing."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def submit(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        shares: bool = False,
        here: bool = False,
        urgent: bool = False,
    ) -> Job:
        """Queues a job.

        Args:
            function: function of a module.
            arguments: its arguments. If they cannot be pickled, this process runs the job.
            shares: whether the function takes a `Share` as its last argument.
            here: whether this process must run the job.
            urgent: whether the job comes before those that wait.
        """
        job = Job(function, arguments, shares)
        if self._workers and not here:
            # A class that cannot be pickled raises errors of many types.
            with contextlib.suppress(Exception):
                job._payload = pickle.dumps((function, tuple(arguments), shares))
        if job._payload is not None:
            (self._queue.appendleft if urgent else self._queue.append)(job)
            self._start()
        return job

    def result(self, job: Job) -> Any:
        """Waits for a job and returns its result.

        Raises:
            DataError: a process was killed.
            Exception: what the function raised.
        """
        if job._payload is None:
            if not job._done:
                job._run()
            return job._value
        while job._error is None and not (job._done and not job._parts):
            self._serve()
        if job._error is not None:
            raise job._error
        return job._value

    def _start(self) -> None:
        """Gives work to idle processes, and lets jobs hand over parts if too little is left."""
        for worker in self._workers:
            if worker.job is None:
                if self._parts:
                    worker.run(*self._parts.popleft(), is_part=True)
                elif self._queue:
                    job = self._queue.popleft()
                    assert job._payload is not None
                    worker.run(job, job._payload)
        sharing = [
            worker
            for worker in self._workers
            if worker.job is not None and worker.job._shares and not worker.is_part
        ]
        helpers = sum(worker.job is None or worker.is_part for worker in self._workers)
        if not sharing or self._queue:
            return
        wanted = _WAITING_PER_PROCESS * helpers
        wanted -= len(self._parts) + sum(worker.granted for worker in sharing)
        for number in range(wanted):
            sharing[number % len(sharing)].grant()

    def _serve(self) -> None:
        """Waits for messages of the processes and handles them."""
        by_connection = {worker.connection: worker for worker in self._workers}
        for connection in multiprocessing.connection.wait(list(by_connection)):
            worker = by_connection[connection]  # type: ignore[index]
            try:
                kind = worker.connection.recv()
                content = worker.connection.recv_bytes()
            except (EOFError, OSError) as error:
                raise worker.ended() from error
            job = worker.job
            assert job is not None
            if kind == "part":
                worker.granted -= 1
                job._parts += 1
                self._parts.append((job, content))
                continue
            value = pickle.loads(content)
            if kind == "error":
                job._error = job._error or value
            elif worker.is_part:
                job.shared.append(value)
            else:
                job._value, job._done = value, True
            job._parts -= worker.is_part
            worker.job, worker.granted = None, 0
        self._start()


class _Worker:
    """A process, seen from the one that started it.

    Attributes:
        connection: the connection to it.
        job: the job that it works on.
        is_part: whether it works on a part that the job has handed over.
        granted: number of parts that it may hand over.
    """

    def __init__(self, count: int) -> None:
        self.job: Job | None = None
        self.is_part = False
        self.granted = 0
        ours, theirs = socket.socketpair()
        with theirs:
            descriptor = theirs.fileno()
            code = f"from keras_mtl.data import processes; processes._work({descriptor})"
            # The package is found as in this process.
            path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", code],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[descriptor],
                    env={**os.environ, "PYTHONPATH": path},
                )
            except OSError:
                ours.close()
                raise
        self.connection = Connection(ours.detach())
        self._count = count
        self.connection.send((sys.path, os.getpid()))

    def run(self, job: Job, payload: bytes, is_part: bool = False) -> None:
        """Starts a job, or a part of one, in the process, which must be idle."""
        self.job, self.is_part = job, is_part
        try:
            self.connection.send("run")
            self.connection.send_bytes(payload)
        except OSError as error:
            raise self.ended() from error

    def grant(self) -> None:
        """Lets the job hand over one more part."""
        self.granted += 1
        with contextlib.suppress(OSError):  # `_serve` reports the end of a process.
            self.connection.send("grant")

    def ended(self) -> errors.DataError:
        """Returns the error for a process that has ended unexpectedly."""
        code = self._process.wait()
        how = f"was killed ({signal_name(-code)})" if code < 0 else f"ended with exit code {code}"
        return errors.DataError(
            f"one of {self._count} processes {how}, perhaps because memory is short; start again, "
            "with fewer (--processes) if it happens again"
        )

    def kill(self) -> None:
        """Ends the process and waits for its end."""
        self._process.kill()
        self._process.wait()
        self.connection.close()


def _work(descriptor: int) -> None:
    """Runs jobs until the connection ends; the main function of a process."""
    # Ctrl-C reaches all processes of a terminal; the one that started this one cleans up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(descriptor)
    sys.path[:], parent = connection.recv()
    # The process must not write to a directory that another run uses after its parent is killed.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    granted = 0

    def share(function: Callable[..., Any], *arguments: Any) -> bool:
        nonlocal granted
        while connection.poll():
            connection.recv()
            granted += 1
        if not granted:
            return False
        granted -= 1
        connection.send("part")
        connection.send_bytes(pickle.dumps((function, arguments, False)))
        return True

    with contextlib.suppress(EOFError, OSError):
        while True:
            # A grant that arrives after the end of a job has no effect.
            if connection.recv() != "run":
                continue
            granted = 0
            payload = connection.recv_bytes()
            try:
                function, arguments, shares = pickle.loads(payload)
                value = function(*arguments, share) if shares else function(*arguments)
                kind, content = "done", pickle.dumps(value)
            except Exception as error:
                kind, content = "error", _pickled(error)
            connection.send(kind)
            connection.send_bytes(content)


def _pickled(error: Exception) -> bytes:
    """Pickles an error with the traceback of this process, which a defect shows."""
    text = "".join(traceback.format_exception(error))
    try:
        error.add_note(f"in another process:\n{text}")
        content = pickle.dumps(error)
        pickle.loads(content)
        return content
    except Exception:  # Errors of libraries may have any constructor.
        return pickle.dumps(RuntimeError(f"in another process:\n{text}"))
