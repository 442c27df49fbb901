"""Messages, header and charset of compiled (.mo) and text (.po) gettext catalogs.

Each message of a catalog is read separately: a damaged message becomes a `BadLine`, and damage
never raises an exception other than DataError.

Formats: https://www.gnu.org/software/gettext/manual/html_node/MO-Files.html and PO-Files.html.
"""

import codecs
import gettext as stdlib_gettext
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from keras_mtl.data.corpora import base

# Python codecs whose text does not extend ASCII: quotation marks, backslashes or plus signs have
# another meaning.
_NOT_ASCII = re.compile(r"utf_?(7|16|32)|iso2022|hz|idna|punycode|.*unicode_escape|undefined|mbcs")

# The header of a template has this word for the charset. Its text is ASCII or UTF-8.
_PLACEHOLDER = "CHARSET"


_CHUNK = 1 << 20


@dataclass(slots=True)
class Message:
    """One message of a catalog.

    Attributes:
        context: its context, or None.
        identifier: the msgid (in English by convention).
        plural: the msgid_plural, or None.
        translations: the forms of msgstr, at least one.
        line: number of the entry (.mo) or line of its msgid (.po), from 1.
    """

    context: str | None
    identifier: str
    plural: str | None
    translations: list[str]
    line: int


@dataclass(slots=True)
class Catalog:
    """The messages of one file.

    Attributes:
        messages: the readable messages, without the header.
        bad: the unreadable messages.
        entries: number of entries in the file, including bad ones.
        singular: index of the form for n = 1.
        many: index of the form that most n from 2 to 100 take.
    """

    messages: list[Message]
    bad: list[base.BadLine]
    entries: int
    singular: int = 0
    many: int = 1


def read_at_most(handle: BinaryIO, size: int) -> bytes | None:
    """Returns the rest of a file, or None if it has more than `size` bytes."""
    chunks = []
    left = size
    while chunk := handle.read(_CHUNK):
        left -= len(chunk)
        if left < 0:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def refused(path: str, reason: str) -> Catalog:
    """Returns the catalog of a file that cannot be read at all."""
    return Catalog([], [base.BadLine(path, 0, reason)], 1)


class Charset:
    """Decodes the text of a catalog.

    Args:
        header: the translation of the empty msgid, as bytes; empty if the catalog has none.
        texts: function that returns all texts of the catalog. If all are UTF-8, an unknown charset
            name is ignored; it is usually a typing error.

    Attributes:
        name: the name in the header; UTF-8 if there is none or only the placeholder of a template.
        codec: Python's name of the codec, or None if Python does not know the charset.
        refusal: reason why no text can be read, or empty. Only charsets that contain ASCII are
            possible.
    """

    def __init__(self, header: bytes, texts: Callable[[], bytes]) -> None:
        # GNU gettext searches the whole header; the name ends at white space.
        match = re.search(rb"charset=([^ \t\n]*)", header, re.IGNORECASE)
        self.name = match.group(1).decode("ascii", "replace").strip("\"';\r") if match else ""
        if self.name in ("", _PLACEHOLDER):
            self.name = "UTF-8"
        self.codec = _codec(self.name)
        self.refusal = ""
        if self.codec is None:
            if _is_utf8(texts()):
                self.codec = "utf-8"
        elif _NOT_ASCII.match(self.codec.replace("-", "_")) or not _contains_ascii(self.codec):
            self.refusal = (
                f"the header says charset={self.name}, which a gettext catalog cannot have; "
                "save the file as UTF-8 and write charset=UTF-8 in its header"
            )

    def decode(self, text: bytes) -> str:
        """Returns the text.

        Raises:
            ValueError: it cannot be decoded; the error says why.
        """
        if self.codec is not None:
            try:
                return text.decode(self.codec)
            except UnicodeError as error:
                raise ValueError(f"not {self.name}: {error}") from error
        if text.isascii():
            return text.decode("ascii")
        raise ValueError(
            f"charset {self.name!r} of the header is unknown; convert the file with "
            "'msgconv --to-code=UTF-8'"
        )


def _codec(name: str) -> str | None:
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    # Only text encodings: `codecs` also has "hex" and "zlib".
    return info.name if info._is_text_encoding else None


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeError:
        return False
    return True


def _contains_ascii(codec: str) -> bool:
    # Shift_JIS and JOHAB have a yen or won sign for the backslash, and an overline for the tilde.
    letters = bytes(range(0x20, 0x5C)) + bytes(range(0x5D, 0x7E)) + b"\n"
    try:
        return letters.decode(codec) == letters.decode("ascii")
    except UnicodeError:
        return False


def header_fields(header: str) -> dict[str, str]:
    """Returns the fields of a header by their names in lower case."""
    fields = {}
    for line in header.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields[key.strip().lower()] = value.strip()
    return fields


def plural_indices(fields: dict[str, str]) -> tuple[int, int]:
    """Returns the indices of the form for one and of the form for most other numbers.

    Args:
        fields: the header's fields, with lower-case names; a missing or wrong Plural-Forms means
            the two forms of English.
    """
    forms = fields.get("plural-forms", "")
    match = re.search(r"plural\s*=\s*([^;]+)", forms)
    # The expression compiler is recursive; a valid expression is short.
    if match is None or len(match.group(1)) > 1000:
        return 0, 1
    try:
        function: Callable[[int], int] = stdlib_gettext.c2py(match.group(1).strip())
        counted = [int(function(n)) for n in range(2, 101)]
        indices = int(function(1)), max(sorted(set(counted)), key=counted.count)
    except (ValueError, ArithmeticError, RecursionError, SyntaxError, MemoryError):
        return 0, 1
    return indices if min(indices) >= 0 else (0, 1)
