"""Parser of compiled gettext catalogs (.mo).

The file is not trusted: tables and texts must be inside the file, and the total size of the texts
is limited by the size of the file.
"""

import struct
from collections.abc import Iterator

from keras_mtl.data.corpora import base
from keras_mtl.data.corpora.catalog import (
    Catalog,
    Charset,
    Message,
    header_fields,
    plural_indices,
    read_at_most,
    refused,
)

_MAGIC = 0x950412DE
_CONTEXT_END = "\x04"
# Ends the segments of a system-dependent string.
_LAST_SEGMENT = 0xFFFFFFFF
# A larger file is not a catalog (the largest known catalogs are about 10 MB).
_MAX_BYTES = 1 << 26
# Equal texts can share bytes of the file. If the texts add up to more than this multiple of the
# file size, the file is damaged or malicious, and would fill the memory.
_MAX_SHARING = 4


class _Damaged(Exception):
    """The catalog or an entry cannot be read; the message says why."""


class _File:
    """The bytes of a catalog, with every access checked."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = _MAX_SHARING * len(data)
        self._order = "<" if data[:4] == struct.pack("<I", _MAGIC) else ">"

    def __len__(self) -> int:
        return len(self._data)

    def numbers(self, offset: int, count: int) -> tuple[int, ...]:
        """Returns 32-bit unsigned numbers."""
        if offset + 4 * count > len(self._data):
            raise _Damaged("a table is outside the file")
        return struct.unpack_from(f"{self._order}{count}I", self._data, offset)

    def spend(self, size: int) -> None:
        """Counts bytes that a text or its description takes.

        Raises:
            OverflowError: the texts overlap so much that the file cannot be a catalog.
        """
        self._left -= size
        if self._left < 0:
            raise OverflowError

    def bytes_at(self, offset: int, length: int) -> bytes:
        """Returns a part of the file."""
        if offset + length > len(self._data):
            raise _Damaged("text is outside the file")
        self.spend(length)
        return self._data[offset : offset + length]

    def text(self, table: int, index: int) -> bytes:
        """Returns a text of a table of (length, offset); a zero byte must follow it."""
        length, offset = self.numbers(table + 8 * index, 2)
        found = self.bytes_at(offset, length + 1)
        if found[-1]:
            raise _Damaged("text does not end with a zero byte")
        return found[:-1]


def _system_dependent(file: _File, offset: int, segments: int, known: int) -> bytes:
    """Returns a text with the names of C's formats, `%<PRIu64>`, as a text catalog has them.

    Args:
        file: the catalog.
        offset: of the description: an offset of fixed text, then pairs of (length of the next part
            of the fixed text, number of the segment that follows it).
        segments: offset of the table of segments.
        known: number of segments.
    """
    (start,) = file.numbers(offset, 1)
    parts: list[bytes] = []
    while True:
        offset += 8
        length, segment = file.numbers(offset - 4, 2)
        file.spend(8)
        parts.append(file.bytes_at(start, length))
        start += length
        if segment == _LAST_SEGMENT:
            return b"".join(parts).removesuffix(b"\0")
        if segment >= known:
            raise _Damaged(f"segment {segment} of {known} does not exist")
        length, name_offset = file.numbers(segments + 8 * segment, 2)
        name = file.bytes_at(name_offset, length).removesuffix(b"\0")
        # "I" is a flag of printf, the others are macros of <inttypes.h>.
        parts.append(name if name == b"I" else b"<" + name + b">")


def _entries(file: _File) -> Iterator[tuple[bytes, bytes] | _Damaged]:
    """Yields (original, translation), or the reason why an entry cannot be read."""
    revision, count, originals, translations = file.numbers(4, 4)
    for table in (originals, translations):
        if table + 8 * count > len(file):
            raise _Damaged(
                f"cut off: the tables of {count} messages do not fit into {len(file)} bytes"
            )
    if abs(originals - translations) < 8 * count:
        raise _Damaged(f"the two tables of {count} messages overlap")
    for index in range(count):
        try:
            yield file.text(originals, index), file.text(translations, index)
        except _Damaged as error:
            yield error
    if revision & 0xFFFF == 0:
        return
    known, segments, count, originals, translations = file.numbers(28, 5)
    for table in (originals, translations):
        if table + 4 * count > len(file):
            raise _Damaged(
                f"cut off: the tables of {count} system-dependent messages do not fit into "
                f"{len(file)} bytes"
            )
    for index in range(count):
        try:
            original, translation = (
                _system_dependent(file, file.numbers(table + 4 * index, 1)[0], segments, known)
                for table in (originals, translations)
            )
            yield original, translation
        except _Damaged as error:
            yield error


def _read_entries(path: str, file: _File) -> tuple[list[tuple[bytes, bytes, int]], Catalog]:
    """Returns (original, translation, number) of each valid entry, and a catalog of the rest."""
    catalog = Catalog([], [], 0)
    entries = []
    try:
        for found in _entries(file):
            catalog.entries += 1
            if isinstance(found, _Damaged):
                catalog.bad.append(base.BadLine(path, catalog.entries, str(found)))
            else:
                entries.append((*found, catalog.entries))
    except _Damaged as error:
        catalog.entries += 1
        catalog.bad.append(base.BadLine(path, 0, str(error)))
    except OverflowError:
        return [], refused(
            path, f"damaged: its texts add up to more than {_MAX_SHARING} times the file's size"
        )
    return entries, catalog


def _message(original: str, translation: str, number: int) -> Message:
    context, separator, rest = original.partition(_CONTEXT_END)
    singular, has_plural, plural = (rest if separator else original).partition("\0")
    return Message(
        context if separator else None,
        singular,
        plural if has_plural else None,
        translation.split("\0"),
        number,
    )


def read_mo(path: str) -> Catalog:
    """Reads a compiled catalog; little- or big-endian, in any charset that its header names."""
    with open(path, "rb") as handle:
        data = read_at_most(handle, _MAX_BYTES)
    if data is None:
        return refused(path, f"larger than {_MAX_BYTES} bytes, not a gettext catalog")
    if len(data) < 20:
        return refused(path, f"{len(data)} bytes are too short for a gettext catalog")
    file = _File(data)
    magic, revision = file.numbers(0, 2)
    if magic != _MAGIC:
        return refused(path, "not a compiled gettext catalog (wrong first bytes)")
    if revision >> 16 > 1:
        return refused(path, f"revision {revision >> 16} of the format is unknown")
    entries, catalog = _read_entries(path, file)
    header = next((text for original, text, _ in entries if not original), b"")
    charset = Charset(header, lambda: b"\n".join(b for entry in entries for b in entry[:2]))
    if charset.refusal:
        return refused(path, charset.refusal)
    catalog.singular, catalog.many = plural_indices(
        header_fields(header.decode(charset.codec or "ascii", "replace"))
    )
    for original, translation, number in entries:
        if not original:
            continue
        try:
            message = _message(charset.decode(original), charset.decode(translation), number)
        except ValueError as error:
            catalog.bad.append(base.BadLine(path, number, str(error)))
        else:
            catalog.messages.append(message)
    return catalog
