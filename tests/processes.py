"""Processes that begin with TensorFlow imported: forks of a server that has imported it once.

Each is a process of its own in all that TensorFlow sets once in a process, such as devices and
determinism. Tests of how the program itself starts and ends run it with `subprocess`.
"""

import contextlib
import multiprocessing
import os
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.preloaded"])


class Forked:
    """A function that runs in a process of its own.

    Args:
        function: a function at the top level of a module; what it returns is the exit code.
        args: its arguments.
    """

    def __init__(self, function: Callable[..., int | None], *args: Any) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._files = [Path(self._directory.name, name) for name in ("stdout", "stderr")]
        self._process = _CONTEXT.Process(target=_run, args=(self._files, function, args))
        # The server skips what it cannot import, and its path begins with its working directory.
        with contextlib.chdir(_ROOT):
            forkserver.ensure_running()
        self._process.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def kill(self) -> None:
        """Sends SIGKILL and waits."""
        self._process.kill()
        self._process.join()

    def send(self, number: int) -> None:
        """Sends a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def printed(self) -> str:
        """Returns standard output and standard error so far."""
        return "".join(file.read_text() for file in self._files if file.exists())

    def finish(self, timeout: float = 600.0) -> tuple[int | None, str, str]:
        """Waits; returns exit code (None: still running), standard output and standard error."""
        self._process.join(timeout)
        output, error = (file.read_text() if file.exists() else "" for file in self._files)
        return self._process.exitcode, output, error


def keras_mtl(*words: object, eager: bool = False) -> Forked:
    """Starts a subcommand of `keras-mtl`.

    Args:
        *words: its arguments.
        eager: execute `tf.function`s eagerly; tracing takes most of the time of a run of few steps.
    """
    return Forked(_main_eagerly if eager else _main, [str(word) for word in words])


def keras_mtl_in(directory: Path, *commands: str) -> Forked:
    """Starts subcommands of `keras-mtl`, one after the other, in a directory, eagerly.

    Prints a line "code N" after each. As for the program, Python does not look for modules in the
    directory.
    """
    return Forked(_main_in, directory, commands)


def run(function: Callable[..., int | None], *args: Any) -> None:
    """Runs a function that has to succeed."""
    code, output, error = Forked(function, *args).finish()
    assert code == 0, output + error


def free_ports(count: int) -> list[int]:
    """Returns ports of this machine at which nobody listens now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _main(words: list[str]) -> int:
    from keras_mtl.cli.main import main

    return main(words)


def execute_eagerly() -> None:
    """Executes the `tf.function`s of this process eagerly."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    warnings.filterwarnings("ignore", message="Even though the `tf.config")


def _main_eagerly(words: list[str]) -> int:
    execute_eagerly()
    return _main(words)


def _main_in(directory: Path, commands: tuple[str, ...]) -> int:
    os.chdir(directory)
    execute_eagerly()
    for command in commands:
        print("code", _main(command.split()), flush=True)
    return 0


def _run(files: list[Path], function: Callable[..., int | None], args: tuple[Any, ...]) -> None:
    for descriptor, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.exit(function(*args))
