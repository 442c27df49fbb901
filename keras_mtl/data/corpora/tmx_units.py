"""Cuts a TMX file into its translation units without parsing it.

An XML parser stops at the first error and cannot resume. This module finds the tags of units in the
text, so that each unit is parsed separately and damage affects only one unit.
Every byte belongs to one piece, and memory is bounded by the longest unit.
"""

import enum
import re
from collections.abc import Iterator
from typing import NamedTuple

from keras_mtl import errors

# Problem of a unit that is cut off by the end of the file.
CUT_OFF = "the file ends inside this unit; copy it again"

# A longer unit is damage, such as a missing end tag; a unit holds sentences, not documents.
MAX_UNIT_BYTES = 1 << 20

_NAME = rb"(?:[\w.-]+:)?[tT][uU]"
_OUTSIDE = re.compile(rb"<!--|<" + _NAME + rb"(?=[\s/>])")
_TAG = re.compile(rb"</" + _NAME + rb"\s*>|<" + _NAME + rb"(?=[\s/>])")
_INSIDE = re.compile(_TAG.pattern + rb"|<!--|<!\[CDATA\[")
_CDATA_EDGE = re.compile(rb"\]\]>|<!\[CDATA\[")

# The longest tag of a unit that the end of a chunk may cut: "</", a prefix, "tu", white space.
_TAG_BYTES = 256


class Kind(enum.Enum):
    """Kind of a piece of a TMX file; TEXT is everything outside units except comments."""

    UNIT = enum.auto()
    TEXT = enum.auto()
    COMMENT = enum.auto()


class Piece(NamedTuple):
    """A part of the file.

    Attributes:
        kind: kind of the piece: a whole unit, or a part of the text outside units.
        data: its bytes in UTF-8; empty for a unit that is too long.
        line: number of its first line, from 1.
        problem: reason why the unit cannot be parsed, or empty.
    """

    kind: Kind
    data: bytes
    line: int
    problem: str = ""


class Splitter:
    """Cuts a file into pieces.

    Args:
        path: the file, for errors.
        chunks: its content in UTF-8.

    Attributes:
        line: number of the current line.
    """

    def __init__(self, path: str, chunks: Iterator[bytes]) -> None:
        self._path = path
        self._chunks = chunks
        self._data = b""
        self._position = 0
        self._ended = False
        self.line = 1
        self._fill()
        only_returns = b"\r" in self._data and b"\n" not in self._data
        self._newline = b"\r" if only_returns else b"\n"

    def __iter__(self) -> Iterator[Piece]:
        """Yields the pieces in order.

        Raises:
            DataError: a comment outside units never ends.
        """
        while True:
            yield from self._outside()
            if self._position == len(self._data):
                return
            yield self._unit()

    def _fill(self) -> bool:
        """Appends a chunk and drops consumed data; returns whether there was a chunk."""
        chunk = b"" if self._ended else next(self._chunks, b"")
        self._ended = not chunk
        if chunk:
            self._data = self._data[self._position :] + chunk
            self._position = 0
        return bool(chunk)

    def _take(self, end: int) -> bytes:
        """Returns the bytes up to a position and advances past them."""
        taken = self._data[self._position : end]
        self._position = end
        self.line += taken.count(self._newline)
        return taken

    def _before_cut_tag(self) -> int:
        """Returns the position before any tag that the end of the data cuts off."""
        end = len(self._data)
        return end if self._ended else max(self._position, end - _TAG_BYTES)

    def _outside(self) -> Iterator[Piece]:
        """Yields text and comments up to the next unit or the end of the file."""
        while True:
            match = _OUTSIDE.search(self._data, self._position)
            end = match.start() if match else self._before_cut_tag()
            line = self.line
            if text := self._take(end):
                yield Piece(Kind.TEXT, text, line)
            if match is None:
                if self._position == len(self._data) and self._ended:
                    return
                self._fill()
            elif match[0] == b"<!--":
                yield from self._comment()
            else:
                return

    def _comment(self) -> Iterator[Piece]:
        first = self.line
        yield Piece(Kind.COMMENT, self._take(self._position + len(b"<!--")), first)
        while True:
            end = self._data.find(b"-->", self._position)
            stop = end + len(b"-->") if end >= 0 else max(self._position, len(self._data) - 2)
            line = self.line
            if text := self._take(stop):
                yield Piece(Kind.COMMENT, text, line)
            if end >= 0:
                return
            if not self._fill():
                raise errors.DataError(
                    f"{self._path}:{first}: the comment that begins here never ends, so the rest "
                    "of the file cannot be read; end it with '-->'"
                )

    def _more(self) -> bool:
        """Reads more of a unit; returns False at the end of the file or if the unit is too long."""
        return len(self._data) - self._position < MAX_UNIT_BYTES and self._fill()

    def _unit(self) -> Piece:
        """Returns the unit at the current position, up to its end tag or the next start tag."""
        line = self.line
        # Relative to the start of the unit, which moves when a chunk is appended.
        scanned = len(b"<tu")
        while True:
            match = _INSIDE.search(self._data, self._position + scanned)
            if match is None:
                scanned = max(scanned, self._before_cut_tag() - self._position)
                if self._more():
                    continue
                if self._ended:
                    rest = self._take(len(self._data))
                    return Piece(Kind.UNIT, rest, line, CUT_OFF)
                self._skip()
                return Piece(
                    Kind.UNIT, b"", line, f"the unit is longer than {MAX_UNIT_BYTES:,} bytes"
                )
            token = match[0]
            if token.startswith(b"</"):
                return Piece(Kind.UNIT, self._take(match.end()), line)
            if not token.startswith(b"<!"):
                return Piece(Kind.UNIT, self._take(match.start()), line)
            end = self._end_of_markup(token, match.end())
            if end is None and self._more():
                continue
            scanned = (match.end() if end is None else end) - self._position

    def _end_of_markup(self, token: bytes, start: int) -> int | None:
        """Returns where a comment or CDATA section inside a unit ends; None if more is needed.

        A comment cannot contain "--", and CDATA sections are not nested. If this seems to happen,
        the end is missing, and a longer search would swallow other units: it then ends at once.
        """
        if token == b"<!--":
            end = self._data.find(b"--", start)
            if end < 0 or end + 3 > len(self._data):
                return None
            return end + 3 if self._data[end + 2 : end + 3] == b">" else start
        match = _CDATA_EDGE.search(self._data, start)
        if match is None:
            return None
        return match.end() if match[0] == b"]]>" else start

    def _skip(self) -> None:
        """Advances past a unit that is too long, without keeping it."""
        while True:
            match = _TAG.search(self._data, self._position + len(b"<tu"))
            if match is not None:
                self._take(match.end() if match[0].startswith(b"</") else match.start())
                return
            self._take(self._before_cut_tag())
            if not self._fill():
                self._take(len(self._data))
                return
