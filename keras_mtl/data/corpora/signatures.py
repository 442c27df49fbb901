"""Recognizes file formats by their first bytes, except compressions, which `opening` knows.

Readers of text call `recognize` before they read, so that an error names the format of a wrong
file instead of reporting thousands of bad lines.
"""

import codecs
from dataclasses import dataclass

# Number of bytes that `recognize` reads; the mark of a tar archive ends at byte 262.
HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Format:
    """A file format that readers of text reject.

    Attributes:
        name: its name in messages, with the article: "a Parquet file".
        remedy: what the user can do, in the imperative.
        is_text: whether it is text that some readers accept: XML, UTF-16.
    """

    name: str
    remedy: str
    is_text: bool = False


_CONVERT = "convert it to plain text in UTF-8"
_UNPACK = "unpack it and name the files inside"
_TO_CSV = "save each sheet as CSV and read it with reader 'csv'"
_BY_PARQUET = "read it with reader 'parquet'"
_TO_UTF_8 = "convert it, for example with `iconv -f {0} -t UTF-8 OLD > NEW`"

TAR = Format("a tar archive", _UNPACK)
EXCEL = Format("an Excel workbook", _TO_CSV)
WORD = Format("a Word document", _CONVERT)
POWERPOINT = Format("a PowerPoint presentation", _CONVERT)
OPEN_DOCUMENT = Format("an OpenDocument file", "save it as text or CSV")
EPUB = Format("an EPUB book", _CONVERT)
NUMPY_ARCHIVE = Format("a NumPy archive", _CONVERT)
JAR = Format("a Java archive", _UNPACK)
PARQUET = Format("a Parquet file", _BY_PARQUET)
ARROW = Format("an Arrow file", _BY_PARQUET)
ARROW_STREAM = Format("a stream of Arrow records", _BY_PARQUET)

_UTF_16 = Format("UTF-16 text", _TO_UTF_8.format("UTF-16"), is_text=True)
_UTF_32 = Format("UTF-32 text", _TO_UTF_8.format("UTF-32"), is_text=True)
_BINARY = Format("a binary file, not text", "check that it is the right file")
_XML = Format(
    "an XML file", "if it is a translation memory, read it with reader 'tmx'", is_text=True
)
_HTML = Format(
    "an HTML page", "it may be the error page of a failed download; check its address", is_text=True
)

# First bytes of tables, for a reader that expects one. A text may begin with the same letters, so
# `recognize` wants to see one or two bytes more. A stream of Arrow messages begins with the mark of
# a continuation.
_TABLES = ((b"PAR1", PARQUET), (b"ARROW1", ARROW), (b"\xff\xff\xff\xff", ARROW_STREAM))

# First bytes according to the specifications of the formats.
_BEGINNINGS: tuple[tuple[bytes, Format], ...] = (
    (b"PAR1\x15", PARQUET),
    (b"PARE", Format("an encrypted Parquet file", "decrypt it first")),
    (b"ARROW1\0\0", ARROW),
    (b"\xff\xff\xff\xff", ARROW_STREAM),
    (b"%PDF-", Format("a PDF", "extract its text, for example with `pdftotext`")),
    (b"SQLite format 3\0", Format("a SQLite database", "export the table as CSV")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Format("an old Office document (.xls, .doc)", _CONVERT)),
    (b"7z\xbc\xaf\x27\x1c", Format("a 7z archive", _UNPACK)),
    (b"Rar!\x1a\x07", Format("a RAR archive", _UNPACK)),
    (b"\x04\x22\x4d\x18", Format("an LZ4-compressed file", "decompress it with `lz4 -d`")),
    (b"\x1f\x9d", Format("a file of Unix compress (.Z)", "decompress it with `gzip -d`")),
    (b"\xde\x12\x04\x95", Format("a compiled gettext catalog", "use reader 'gettext'")),
    (b"\x95\x04\x12\xde", Format("a compiled gettext catalog", "use reader 'gettext'")),
    (b"\x93NUMPY", Format("a NumPy array", _CONVERT)),
    (b"\x89HDF\r\n\x1a\n", Format("an HDF5 file", _CONVERT)),
    (b"\x80\x02}", Format("a Python pickle", _CONVERT)),
    (b"\x80\x03", Format("a Python pickle", _CONVERT)),
    (b"\x80\x04\x95", Format("a Python pickle", _CONVERT)),
    (b"\x80\x05\x95", Format("a Python pickle", _CONVERT)),
    (b"\x7fELF", Format("a program or library", "check that it is the right file")),
    (b"\x89PNG\r\n", Format("an image", "check that it is the right file")),
    (b"\xff\xd8\xff", Format("an image", "check that it is the right file")),
    (b"GIF87a", Format("an image", "check that it is the right file")),
    (b"GIF89a", Format("an image", "check that it is the right file")),
    (b"{\\rtf", Format("an RTF document", _CONVERT)),
    (
        b"version https://git-lfs.github.com/spec/",
        Format("a pointer of Git LFS, not the file itself", "fetch it with `git lfs pull`"),
    ),
    # UTF-32 first: its little-endian mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, _UTF_32),
    (codecs.BOM_UTF32_BE, _UTF_32),
    (codecs.BOM_UTF16_LE, _UTF_16),
    (codecs.BOM_UTF16_BE, _UTF_16),
)

# Share of zero bytes above which a file is not text; a damaged text may contain a few.
_ZEROS = 0.1


def recognize(head: bytes) -> Format | None:
    """Returns the format of a file that is not UTF-8 text, by its first bytes; else None.

    Args:
        head: up to `HEAD_BYTES` bytes from the beginning of the file, after decompression.
    """
    for beginning, known in _BEGINNINGS:
        if head.startswith(beginning):
            return known
    if head[257:262] == b"ustar":
        return TAR
    return _of_zeros(head) or _of_markup(head)


def _of_zeros(head: bytes) -> Format | None:
    """UTF-16 without a byte order mark has zeros in every other byte, for most alphabets."""
    if head.count(0) <= _ZEROS * len(head):
        return None
    even, odd = head[0::2], head[1::2]
    few, many = sorted((even.count(0) / max(1, len(even)), odd.count(0) / max(1, len(odd))))
    return _UTF_16 if few < 0.05 and many > 0.4 else _BINARY


def _of_markup(head: bytes) -> Format | None:
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()[:64].lower()
    if start.startswith((b"<?xml ", b"<tmx", b"<!doctype tmx")):
        return _XML
    return _HTML if start.startswith((b"<!doctype html", b"<html")) else None


def of_table(head: bytes) -> Format | None:
    """Returns `PARQUET`, `ARROW` or `ARROW_STREAM` by a file's first bytes, or None."""
    return next((table for beginning, table in _TABLES if head.startswith(beginning)), None)


def of_zip(members: list[str], mimetype: bytes) -> Format | None:
    """Returns the format of a document that is a zip archive; None for an archive of files.

    Args:
        members: names of the members.
        mimetype: beginning of the member `mimetype`, empty if there is none.
    """
    if "[Content_Types].xml" in members:
        for directory, office in (("xl/", EXCEL), ("word/", WORD), ("ppt/", POWERPOINT)):
            if any(name.startswith(directory) for name in members):
                return office
    if mimetype.startswith(b"application/vnd.oasis.opendocument"):
        return OPEN_DOCUMENT
    if mimetype.startswith(b"application/epub"):
        return EPUB
    if members and all(name.endswith(".npy") for name in members):
        return NUMPY_ARCHIVE
    return JAR if "META-INF/MANIFEST.MF" in members else None
