"""Text line by line: reading it as it comes, and losing nothing of it to an error."""

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
    """Iterates over the lines of a stream, without their ends; reads no more than there is.

    Args:
        stream: bytes, not read by anything else.
        name: what messages call it, usually its file.

    Raises:
        InputError: of the iteration: a line is not UTF-8.
        OSError: of the iteration: the stream cannot be read; it names `name`.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name
        self._lines: deque[bytes] = deque()
        self._rest: list[bytes] = []  # Parts of a line whose end has not come.

    def has_more(self) -> bool:
        """Whether the next line, or the end, can be read without waiting for its writer."""
        if self._lines:
            return True
        try:
            descriptor = self._stream.fileno()
        except (AttributeError, io.UnsupportedOperation):  # In memory.
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
                "is not UTF-8; convert the text, for example with `iconv -f latin1 -t utf-8`"
            ) from error


def chunks(
    items: Iterable[Item], size: int, has_more: Callable[[], bool] = lambda: True
) -> Iterator[list[Item]]:
    """Yields lists of items.

    Args:
        items: what to group. Items before an error of the iteration are yielded before it is
            raised.
        size: most items of a list.
        has_more: whether the next item can be had at once; if not, the list is yielded as it is.
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
    """Does work on many items at once; an error costs none of the results before it.

    After an error the halves are tried, so that all items before the one at fault get their
    results.

    Args:
        work: (items, number of the first one) -> a result for each, which does not depend on the
            other items.
        items: the items.
        first: number of the first one.

    Yields:
        Number of the first item, and results, in the order of the items.

    Raises:
        KerasMtlError: that of the first item at fault.
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
