"""Detects the encoding of an XML file and converts its content to UTF-8.

Expat supports UTF-8, UTF-16 and single-byte encodings, but translation memories also use GB2312,
Shift_JIS and others. Therefore Python decodes the file, and the parser always gets UTF-8.
"""

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

from keras_mtl import errors

CHUNK_BYTES = 1 << 17

# The XML declaration is within these bytes, even with four bytes per character.
_HEAD_BYTES = 1024

# Replaces bytes that cannot be decoded: a byte that is never part of UTF-8, so that the parser
# rejects it.
UNDECODABLE = b"\xff"

# UTF-32 first: its little-endian mark begins with UTF-16's.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# How "<" begins a file without a byte order mark (appendix F of the XML specification).
_FIRST_BYTES = ((b"<\x00", "utf-16-le"), (b"\x00<", "utf-16-be"))
_EBCDIC = b"\x4c\x6f\xa7\x94"

_DECLARATION = re.compile(
    rb"\s*<\?xml\s[^>]*?\bencoding\s*=\s*[\"']\s*([^\"'>]*?)\s*[\"'][^>]*>", re.IGNORECASE
)

# What files that declare these encodings really contain, by the labels of the WHATWG Encoding
# Standard (https://encoding.spec.whatwg.org/#names-and-labels): supersets that programs on Windows
# write under the older name. ASCII is read as UTF-8. Keys are the names of Python's codecs.
_SUPERSETS = {
    "ascii": "utf-8",
    "big5": "cp950",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso8859-1": "cp1252",
    "iso8859-11": "cp874",
    "iso8859-9": "cp1254",
    "shift_jis": "cp932",
    "tis-620": "cp874",
}

# Labels of the same standard that Python does not support.
_LABELS = {
    "dos-874": "cp874",
    "iso-8859-8-i": "iso8859-8",
    "windows-31j": "cp932",
    "windows-874": "cp874",
    "windows-949": "cp949",
    "x-cp1250": "cp1250",
    "x-cp1251": "cp1251",
    "x-cp1252": "cp1252",
    "x-euc-jp": "euc_jp",
    "x-gbk": "gb18030",
    "x-mac-cyrillic": "mac_cyrillic",
    "x-mac-roman": "mac_roman",
    "x-sjis": "cp932",
    "x-x-big5": "cp950",
}

# Names of encodings with two or four bytes a character. If the declaration
# itself reads as ASCII, the file has been saved in another encoding since.
_WIDE = re.compile(r"(utf|ucs|iso-10646-ucs)[-_]?(16|32|2|4)([-_]?[bl]e)?|unicode", re.IGNORECASE)

# Codecs of Python that are not encodings of files.
_NOT_FOR_FILES = frozenset({"idna", "raw-unicode-escape", "unicode-escape"})


def _codec(path: str, name: str) -> str:
    """Returns Python's name of the codec of a declared encoding."""
    sample = b"<?xml?>"
    try:
        codec = codecs.lookup(_LABELS.get(name.lower(), name)).name
        # The declaration was read as ASCII, so it must have the same bytes in the encoding.
        usable = codec not in _NOT_FOR_FILES and sample.decode(codec) == sample.decode()
    except (LookupError, ValueError):
        usable = False
    if not usable:
        raise errors.DataError(
            f"{path}: declares the encoding {name!r}, which is unknown; convert the file to "
            "UTF-8 and change its XML declaration"
        )
    return _SUPERSETS.get(codec, codec)


def detect(path: str, head: bytes) -> tuple[str, int]:
    """Returns the encoding of an XML file and the length of its byte order mark.

    The byte order mark determines it, else the first bytes, else the XML declaration. A file
    without any of these is UTF-8.

    Args:
        path: the file, for errors.
        head: its first bytes, at least up to the end of the XML declaration.

    Raises:
        DataError: the encoding is unknown or not supported.
    """
    for mark, name in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return name, len(mark)
    for first, name in _FIRST_BYTES:
        if head.startswith(first):
            return name, 0
    if head.startswith(_EBCDIC):
        raise errors.DataError(f"{path}: is in EBCDIC, which is not supported; convert it to UTF-8")
    declaration = _DECLARATION.match(head)
    if declaration is None:
        return "utf-8", 0
    declared = declaration[1].decode("latin-1")
    return ("utf-8" if _WIDE.fullmatch(declared) else _codec(path, declared)), 0


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    # This is not a character of XML, just as UNDECODABLE is not a byte of UTF-8.
    return "\uffff", error.end


codecs.register_error("keras_mtl.mark", _mark)


def utf8_chunks(path: str, handle: BinaryIO) -> tuple[str, Iterator[bytes]]:
    """Returns a file's encoding and its content in UTF-8, in chunks.

    The byte order mark is removed. The XML declaration is replaced by spaces, because its encoding
    is no longer true. Bytes that cannot be decoded become `UNDECODABLE`, which the parser treats
    like invalid bytes of UTF-8.

    Args:
        path: the file, for errors.
        handle: the file, at its beginning.

    Raises:
        DataError: the encoding is unknown or not supported.
    """
    head = handle.read(max(CHUNK_BYTES, _HEAD_BYTES))
    encoding, skipped = detect(path, head[:_HEAD_BYTES])
    return encoding, _transcode(handle, head[skipped:], encoding)


def _transcode(handle: BinaryIO, chunk: bytes, encoding: str) -> Iterator[bytes]:
    decoder = None
    if encoding != "utf-8":
        decoder = codecs.getincrementaldecoder(encoding)("keras_mtl.mark")
    first = True
    while True:
        last = not chunk
        if decoder is not None:
            text = decoder.decode(chunk, last)
            # A codec may yield lone surrogates, which are not characters of XML either.
            chunk = text.encode("utf-8", "surrogatepass").replace(b"\xef\xbf\xbf", UNDECODABLE)
        if first:
            chunk, first = _without_declaration(chunk), False
        if chunk:
            yield chunk
        if last:
            return
        chunk = handle.read(CHUNK_BYTES)


def _without_declaration(chunk: bytes) -> bytes:
    found = re.match(rb"\s*<\?xml\s[^>]*\?>", chunk)
    if found is None:
        return chunk
    return re.sub(rb"[^\r\n]", b" ", found[0]) + chunk[found.end() :]
