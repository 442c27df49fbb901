"""Standard input, output and error: handles closed streams and makes errors name the stream.

In Python, a closed standard stream is None, and the next opened file gets its descriptor. Output
that a library prints would then be written to that file.
"""

import contextlib
import io
import os
import sys
from typing import BinaryIO, TextIO, cast

from keras_mtl.errors import InputError
from keras_mtl.files import naming


def prepare_streams() -> None:
    """Occupies the descriptors of closed streams and makes errors of writing name their stream.

    If standard error is closed, messages are discarded. If standard input is closed,
    `standard_input` reports this to the commands that read it.

    Raises:
        InputError: standard output is closed.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # Gets the lowest free descriptor, which is this one.
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  until the process ends
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        raise InputError(
            "standard output is closed. Redirect it to a file, or to /dev/null to discard it"
        )
    # Only the original streams, not replacements by tests or by a program that calls `main`.
    if sys.stdout is sys.__stdout__:
        sys.stdout = _named(cast(TextIO, sys.stdout), "standard output")
    if sys.stderr is sys.__stderr__:
        sys.stderr = _named(cast(TextIO, sys.stderr), "standard error")


def standard_input() -> BinaryIO:
    """Returns standard input as a binary stream.

    Raises:
        InputError: it is closed.
    """
    if sys.stdin is None:
        raise InputError("standard input is closed. Provide text with `< FILE` or a pipe")
    return sys.stdin.buffer


def discard(stream: TextIO) -> None:
    """Discards the content of a stream's buffer.

    Otherwise Python would try to write it at exit and print an error.
    """
    with contextlib.suppress(OSError, ValueError):  # A stream in memory has no descriptor.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def flush_error() -> None:
    """Flushes standard error. An error is ignored, because it cannot be reported."""
    try:
        sys.stderr.flush()
    except OSError:
        discard(sys.stderr)


class _NamedFile(io.FileIO):
    """A file descriptor whose errors contain a name."""

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
