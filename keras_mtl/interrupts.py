"""Signals that take effect at once, whatever the main thread is doing.

Python runs signal handlers in the main thread, between two of its instructions: not while the main
thread is inside TensorFlow or the engine, which may be minutes. A thread that waits on the wake-up
descriptor (`signal.set_wakeup_fd`) learns of a signal at once.

Everything here takes effect in the main thread only; in other threads signals stay as they are.
"""

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator

# Ctrl-C, a preempted machine or `kill`, a closed terminal.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# How long the main thread may take from Ctrl-C to the first instruction of its clean-up: longer
# than a garbage collection, shorter than a user's patience.
_SECONDS_TO_ANSWER = 0.5
# How long its clean-up may take, such as removing temporary files.
_SECONDS_TO_CLEAN = 5.0
# Ctrl-C is one request however many processes pass it on: a terminal sends it to the whole group,
# and a launcher such as `uv run` sends it to its child again.
_SECONDS_OF_ONE_PRESS = 0.2
# How long a stream without a reader may delay the end of the process.
_SECONDS_TO_FLUSH = 0.3


class StopRequest:
    """Whether a signal has asked for an end, and which one.

    Attributes:
        signal: number of the first signal; 0 before it comes.
    """

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self) -> bool:
        """Whether a signal has come."""
        return bool(self.signal)

    @property
    def name(self) -> str:
        """Name of the signal, for example SIGTERM; empty before it comes."""
        return signal.Signals(self.signal).name if self.signal else ""


@contextlib.contextmanager
def stop_on_signals(message: Callable[[str], None]) -> Iterator[StopRequest]:
    """Lets the first SIGINT, SIGTERM or SIGHUP ask for an orderly end.

    The caller checks the request whenever it can stop, and saves. A SIGINT (Ctrl-C) after that
    ends the process at once with exit code 130: files must be complete or absent at any moment. A
    signal that is ignored (`nohup`), and a SIGINT that has another handler, stay as they are.

    Args:
        message: gets a line for the user within milliseconds, in another thread.

    Yields:
        The request.
    """
    request = StopRequest()
    first = 0.0

    def came(number: int) -> None:
        nonlocal first
        if request.signal:
            if number == signal.SIGINT and time.monotonic() > first + _SECONDS_OF_ONE_PRESS:
                _end_at_once("stopped without saving")
            return
        request.signal, first = number, time.monotonic()
        name = "Ctrl-C" if number == signal.SIGINT else request.name
        again = "; press Ctrl-C again to stop without saving" if number == signal.SIGINT else ""
        # In its own thread: a terminal may be stopped, and the next signal must be seen.
        text = f"{name}: saving at the end of the current step{again}"
        threading.Thread(target=message, args=(text,), daemon=True).start()

    def leave_to_thread(number: int, frame: object) -> None:
        pass

    with contextlib.ExitStack() as stack:
        ours = [number for number in _SIGNALS if _in_main_thread() and _is_ours(number)]
        if ours:
            stack.enter_context(_watching(ours, came))
        for number in ours:
            stack.callback(signal.signal, number, signal.signal(number, leave_to_thread))
        yield request


@contextlib.contextmanager
def prompt_interrupts() -> Iterator[None]:
    """Lets Ctrl-C end the process soon, even if the main thread does not get to its handler.

    The first Ctrl-C raises KeyboardInterrupt as always. If the main thread is inside a long call
    of native code, or its clean-up takes too long, or Ctrl-C is pressed again, the process ends
    with exit code 130. SentencePiece and TensorFlow turn a KeyboardInterrupt in their callbacks
    into errors of their own; these become a KeyboardInterrupt again.
    """
    interrupt = _RaiseInterrupt()
    with contextlib.ExitStack() as stack:
        if _in_main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            watchdog = _EndWhenStuck(interrupt.raised)
            stack.enter_context(_watching([signal.SIGINT], watchdog))
            stack.callback(watchdog.done.set)
            stack.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, interrupt))
        try:
            yield
        except Exception as error:
            if interrupt.raised.is_set():
                raise KeyboardInterrupt from error
            raise


@contextlib.contextmanager
def forwarded_to(send: Callable[[int], None]) -> Iterator[None]:
    """Sends signals on to a child process, which ends in its own way; the caller waits for it.

    A terminal sends Ctrl-C to the child too; two at the same time count as one.

    Args:
        send: sends a signal to the child.
    """
    with contextlib.ExitStack() as stack:
        if _in_main_thread():
            # `prompt_interrupts` must not end this process before the child.
            stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(-1))
            for number in _SIGNALS:
                if _is_ours(number):
                    previous = signal.signal(number, lambda number, frame: send(number))
                    stack.callback(signal.signal, number, previous)
        yield


class _RaiseInterrupt:
    """The handler of SIGINT that says that it was reached."""

    def __init__(self) -> None:
        self.raised = threading.Event()

    def __call__(self, number: int, frame: object) -> None:
        self.raised.set()
        raise KeyboardInterrupt


class _EndWhenStuck:
    """Ends the process when the main thread does not end in time after SIGINT."""

    def __init__(self, answered: threading.Event) -> None:
        self.done = threading.Event()
        self._answered = answered
        self._first = 0.0

    def __call__(self, number: int) -> None:
        now = time.monotonic()
        if not self._first:
            self._first = now
            threading.Thread(target=self._wait, daemon=True).start()
        elif now > self._first + _SECONDS_OF_ONE_PRESS:
            _end_at_once("interrupted")

    def _wait(self) -> None:
        answered = self._answered.wait(_SECONDS_TO_ANSWER)
        if not self.done.wait(_SECONDS_TO_CLEAN if answered else 0.0):
            _end_at_once("interrupted")


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _is_ours(number: int) -> bool:
    """Whether the handler of a signal is Python's default or this module's."""
    handler = signal.getsignal(number)
    return handler in (signal.SIG_DFL, signal.default_int_handler) or isinstance(
        handler, _RaiseInterrupt
    )


@contextlib.contextmanager
def _watching(numbers: Collection[int], came: Callable[[int], None]) -> Iterator[None]:
    """Calls a function with the number of each of these signals that comes, in a thread.

    They need handlers in Python. The descriptor tells of all signals that have one.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    previous = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    done = threading.Event()

    def watch() -> None:
        while True:
            select.select([receiver], [], [])
            received = receiver.recv(64)
            if done.is_set() or not received:
                return
            for number in received:
                if number in numbers:
                    came(number)

    thread = threading.Thread(target=watch, name="keras_mtl-signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        done.set()
        sender.close()
        thread.join(timeout=1.0)
        receiver.close()


def _end_at_once(message: str) -> None:
    """Ends the process without waiting for any thread."""

    def flush() -> None:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            print(message, file=sys.stderr, flush=True)

    # Another thread may hold a stream that has no reader.
    thread = threading.Thread(target=flush, daemon=True)
    thread.start()
    thread.join(_SECONDS_TO_FLUSH)
    os._exit(128 + signal.SIGINT)
