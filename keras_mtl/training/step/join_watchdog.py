"""Ends a worker that waits in vain for the others while TensorFlow connects the workers.

TensorFlow holds Python's global lock while it connects the workers, and it may wait for an hour for
one that has been killed. No thread, timer or signal handler of the process can run in this time, so
another process watches it. That process runs this file as a script: it imports only the standard
library, and starts in milliseconds.
"""

import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping

# All workers have met before. What is left to them is to initialize their devices, which may take a
# minute on a machine with many GPUs.
SECONDS_TO_JOIN = 300.0
SECONDS_UNREACHABLE = 90.0
_SECONDS_BETWEEN_PROBES = 5.0
_SECONDS_TO_CONNECT = 2.0
_SHOWN = 8  # Maximum number of workers in a message.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def watched_join(
    own: str,
    others: Mapping[str, str],
    seconds: float = SECONDS_TO_JOIN,
    unreachable_seconds: float = SECONDS_UNREACHABLE,
) -> Iterator[None]:
    """Ends this process by SIGKILL if the context takes too long, with a message that says why.

    Within the context, SIGINT, SIGTERM and SIGHUP have their default effect, unless they are
    ignored. TensorFlow replaces the handler of SIGTERM by one that does nothing. A SIGTERM to the
    process group still ends the process, because the watching process receives it, too.

    Args:
        own: name of this worker in the message.
        others: address by name of the other workers.
        seconds: maximum time in the context, > 0.
        unreachable_seconds: maximum time for which the address of another worker may refuse
            connections, > 0.
    """
    arguments = {
        "parent": os.getpid(),
        "own": own,
        "others": dict(others),
        "seconds": seconds,
        "unreachable_seconds": unreachable_seconds,
    }
    watchdog = subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, json.dumps(arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert watchdog.stdin is not None
    try:
        with _default_signals():
            yield
    finally:
        watchdog.stdin.close()  # It ends when it reads the end of its input.
        watchdog.wait()


def unreachable(address: str) -> str:
    """Returns why no connection to an address can be opened; empty if one can.

    Args:
        address: host and port.
    """
    host, _, port = address.rpartition(":")
    place = host.strip("[]"), int(port)
    try:
        with socket.create_connection(place, _SECONDS_TO_CONNECT) as connection:
            # If nobody listens at a port of this machine, a client may get that very port and be
            # connected to itself.
            itself = connection.getsockname() == connection.getpeername()
    except OSError as error:
        return error.strerror or str(error)
    return os.strerror(errno.ECONNREFUSED) if itself else ""


def listed(addresses: Mapping[str, str], reasons: Mapping[str, str]) -> str:
    """Returns a list of workers for a message.

    Args:
        addresses: their addresses by name.
        reasons: why they cannot be reached, by name; possibly of more workers.
    """
    names = list(addresses)
    shown = [f"{name} at {addresses[name]} ({reasons[name]})" for name in names[:_SHOWN]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


@contextlib.contextmanager
def _default_signals() -> Iterator[None]:
    """Gives signals their default effect within the context, unless they are ignored."""
    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    stack.callback(signal.signal, number, signal.signal(number, signal.SIG_DFL))
        yield


def _watch(
    parent: int, own: str, others: Mapping[str, str], seconds: float, unreachable_seconds: float
) -> None:
    """Waits for the end of standard input; ends the parent if that takes too long."""
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, frame: _end(parent, f"{own} was stopped"))
    begin = time.monotonic()
    since: dict[str, float] = {}
    while True:
        if select.select([0], [], [], min(_SECONDS_BETWEEN_PROBES, unreachable_seconds))[0]:
            return
        found = {name: unreachable(address) for name, address in others.items()}
        reasons = {name: reason for name, reason in found.items() if reason}
        now = time.monotonic()
        since = {name: since.get(name, now) for name in reasons}
        gone = {
            name: others[name]
            for name, first in since.items()
            if now >= first + unreachable_seconds
        }
        if gone:
            _end(
                parent,
                f"{own} cannot reach {listed(gone, reasons)}, which ended while TensorFlow "
                "connected the workers; its own log says why",
            )
        if now >= begin + seconds:
            missing = {name: others[name] for name in reasons}
            _end(
                parent,
                f"{own} waited {seconds:.0f} s while TensorFlow connected the workers. "
                + (
                    f"It cannot reach {listed(missing, reasons)}"
                    if missing
                    else "It can reach all of them, but one does not connect; the logs of the "
                    "others may say why"
                ),
            )


def _end(parent: int, message: str) -> None:
    """Ends the parent, if it is still the parent and still waits, and this process."""
    joined = bool(select.select([0], [], [], 0)[0])  # While others were probed.
    if os.getppid() == parent and not joined:
        print(f"error: {message}. Start all workers again", file=sys.stderr, flush=True)
        os.kill(parent, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    _watch(**json.loads(sys.argv[1]))
