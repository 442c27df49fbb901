"""Reads text line by line as it arrives, and keeps all results before an error."""

import io
import select
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, TypeVar

from keras_mtl.errors import InputError, KerasMtlError
from keras_mtl.files import naming

_READ_BYTES = 1 << 16  # The capacity of a pipe on Linux.

Item = TypeVar("Item")
Result = TypeVar("Result")


class LineReader:
    """Iterates over the lines of a stream, without line ends. Reads only what is available.

    Args:
        stream: a binary stream that nothing else reads.
        name: name in messages, usually the file name.

    Raises:
        InputError: during iteration: a line is not UTF-8.
        OSError: during iteration: the stream cannot be read; the error contains `name`.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name
        self._lines: deque[bytes] = deque()
        self._rest: list[bytes] = []  # Parts of an incomplete line.

    def has_more(self) -> bool:
        """Returns whether the next line or the end can be read without waiting for the writer."""
        if self._lines:
            return True
        try:
            descriptor = self._stream.fileno()
        except (AttributeError, io.UnsupportedOperation):  # A stream in memory.
            return True
        return bool(select.select([descriptor], [], [], 0)[0])

    def __iter__(self) -> Iterator[str]:
        number = 0
        while self._fill():
            while self._lines:
                number += 1
                yield self._decode(self._lines.popleft(), number)

    def _fill(self) -> bool:
        """Reads at least one line; returns whether there was one."""
        read = getattr(self._stream, "read1", self._stream.read)
        while not self._lines:
            with naming(self._name):
                data = read(_READ_BYTES)
            if not data:
                if self._rest:
                    self._lines.append(b"".join(self._rest))
                    self._rest = []
                break
            first, *others = data.split(b"\n")
            self._rest.append(first)
            if others:
                self._lines.append(b"".join(self._rest))
                self._lines.extend(others[:-1])
                self._rest = [others[-1]] if others[-1] else []
        return bool(self._lines)

    def _decode(self, line: bytes, number: int) -> str:
        try:
            return line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self._name}, line {number}: byte {error.start + 1} (0x{line[error.start]:02x}) "
                "is not UTF-8. Convert the text, for example with `iconv -f latin1 -t utf-8`"
            ) from error


def chunks(
    items: Iterable[Item], size: int, has_more: Callable[[], bool] = lambda: True
) -> Iterator[list[Item]]:
    """Groups items into lists.

    Args:
        items: the items. If the iteration raises an error, the items before it are yielded first.
        size: maximum of items per list.
        has_more: function that returns whether the next item is available without waiting; if it is
            not, the list is yielded.
    """
    chunk: list[Item] = []
    try:
        for item in items:
            chunk.append(item)
            if len(chunk) == size or not has_more():
                yield chunk
                chunk = []
    except KerasMtlError:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def finished_first(
    work: Callable[[Sequence[Item], int], Sequence[Result]], items: Sequence[Item], first: int
) -> Iterator[tuple[int, Sequence[Result]]]:
    """Processes many items in one call, but yields all results before an error.

    After an error, each half is tried separately, so that all items before the erroneous one get
    their results.

    Args:
        work: function `(items, number of the first item)` that returns one result per item. Results
            must not depend on other items.
        items: the items.
        first: number of the first item.

    Yields:
        The number of the first item and the results, in the order of the items.

    Raises:
        KerasMtlError: the error of the first erroneous item.
    """
    try:
        results = work(items, first)
    except KerasMtlError:
        if len(items) == 1:
            raise
    else:
        yield first, results
        return
    middle = len(items) // 2
    yield from finished_first(work, items[:middle], first)
    yield from finished_first(work, items[middle:], first + middle)
