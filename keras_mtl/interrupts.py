"""Signals that take effect immediately, whatever the main thread is doing.

Python runs signal handlers in the main thread, between two Python instructions, and thus not while
the main thread is inside TensorFlow or the engine, which may take minutes. A thread that waits on
the wake-up descriptor (`signal.set_wakeup_fd`) is notified of a signal immediately.

The functions of this module have an effect only in the main thread.
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
# Time from Ctrl-C to the first instruction of the main thread's clean-up: longer than a garbage
# collection, short enough for a user who waits.
_SECONDS_TO_ANSWER = 0.5
# Time for its clean-up, such as removing temporary files.
_SECONDS_TO_CLEAN = 5.0
# One Ctrl-C may arrive several times: a terminal sends it to the whole group of processes, and a
# launcher such as `uv run` also sends it to its child.
_SECONDS_OF_ONE_PRESS = 0.2
# Longest delay of the end of the process by a stream without a reader.
_SECONDS_TO_FLUSH = 0.3


class StopRequest:
    """Whether a signal has requested the end of the process, and which one.

    Attributes:
        signal: number of the first signal; 0 before it arrives.
    """

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self) -> bool:
        """Returns whether a signal has arrived."""
        return bool(self.signal)

    @property
    def name(self) -> str:
        """Name of the signal, for example SIGTERM; empty before it arrives."""
        return signal_name(self.signal)


def signal_name(number: int) -> str:
    """Returns the name of a signal, for example SIGTERM; empty for 0."""
    return signal.Signals(number).name if number else ""


@contextlib.contextmanager
def stop_on_signals(message: Callable[[str], None]) -> Iterator[StopRequest]:
    """Turns the first SIGINT, SIGTERM or SIGHUP into a request to stop.

    The caller checks the request whenever it can stop, and then saves. Another SIGINT (Ctrl-C) ends
    the process immediately with exit code 130, so files must be complete or absent at any time.
    Ignored signals (`nohup`), and a SIGINT with another handler, are not changed.

    Args:
        message: function that is called with a line for the user within milliseconds, in another
            thread.

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
        # In its own thread, because printing to a stopped terminal would block the next signal.
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
    """Lets Ctrl-C end the process soon, even if the main thread does not reach its handler.

    The first Ctrl-C raises KeyboardInterrupt as usual. If the main thread is inside a long call of
    native code, if its clean-up takes too long, or if Ctrl-C is pressed again, the process ends
    with exit code 130. SentencePiece and TensorFlow turn a KeyboardInterrupt in their callbacks
    into their own errors, which this function turns back into a KeyboardInterrupt.
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
    """Forwards signals to a child process; the caller waits for the child to end.

    A terminal also sends Ctrl-C to the child, which counts two at the same time as one.

    Args:
        send: function that sends a signal to the child.
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
    """Handler of SIGINT that records that it was reached."""

    def __init__(self) -> None:
        self.raised = threading.Event()

    def __call__(self, number: int, frame: object) -> None:
        self.raised.set()
        raise KeyboardInterrupt


class _EndWhenStuck:
    """Ends the process if the main thread does not end in time after SIGINT."""

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
    """Calls a function, in a thread, with the number of each of these signals that arrives.

    The signals need handlers in Python: only these signals are reported on the descriptor.
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
