"""Standard input, output and error: closed ones, and errors that name them.

A closed stream is None in Python, and the next file that is opened gets its descriptor, so that
whatever a library prints would be written into that file.
"""

import contextlib
import io
import os
import sys
from typing import BinaryIO, TextIO, cast

from keras_mtl.errors import InputError
from keras_mtl.files import naming


def prepare_streams() -> None:
    """Occupies the descriptors of closed streams, and lets errors of writing name their stream.

    Messages for a closed standard error are discarded. `standard_input` reports a closed standard
    input to the commands that read it.

    Raises:
        InputError: standard output is closed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest free descriptor, which is this one.
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  until the process ends
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        raise InputError(
            "standard output is closed; redirect it to a file, or to /dev/null to discard it"
        )
    # Not what a test or a program that calls `main` has put in their place.
    if sys.stdout is sys.__stdout__:
        sys.stdout = _named(cast(TextIO, sys.stdout), "standard output")
    if sys.stderr is sys.__stderr__:
        sys.stderr = _named(cast(TextIO, sys.stderr), "standard error")


def standard_input() -> BinaryIO:
    """Returns the bytes of standard input.

    Raises:
        InputError: it is closed.
    """
    if sys.stdin is None:
        raise InputError("standard input is closed; give it text: `< FILE`, a pipe or a terminal")
    return sys.stdin.buffer


def discard(stream: TextIO) -> None:
    """Sends what is left in a stream's buffer nowhere.

    Otherwise Python would try to write it again at exit, and complain.
    """
    with contextlib.suppress(OSError, ValueError):  # A stream in memory has no descriptor.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def flush_error() -> None:
    """Flushes standard error; if that fails, the error cannot be reported anywhere."""
    try:
        sys.stderr.flush()
    except OSError:
        discard(sys.stderr)


class _NamedFile(io.FileIO):
    """A descriptor whose errors carry a name."""

    def __init__(self, descriptor: int, shown: str) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._shown = shown

    def write(self, data: "memoryview[int] | bytes", /) -> int:  # type: ignore[override]
        """See `io.FileIO.write`."""
        with naming(self._shown):
            return super().write(data)


def _named(stream: TextIO, shown: str) -> TextIO:
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_NamedFile(stream.fileno(), shown)),  # type: ignore[type-var]
        encoding=stream.encoding,
        errors=stream.errors,
        newline="\n",
        line_buffering=getattr(stream, "line_buffering", False),
        write_through=getattr(stream, "write_through", False),
    )
