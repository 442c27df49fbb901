"""Parsers of gettext catalogues: compiled (.mo) and text (.po).

Python's ``gettext`` and Babel read whole catalogues and give up at the first wrong byte; at other
damage Babel prints a warning and goes on. Here each message is judged alone: what is damaged
becomes a ``BadLine``, and no damage raises an exception.

Formats: https://www.gnu.org/software/gettext/manual/html_node/MO-Files.html and PO-Files.html.
"""

import codecs
import gettext as stdlib_gettext
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from keras_mtl.data.corpora import base

_MAGIC = 0x950412DE
_CONTEXT_END = "\x04"
# A compiled catalogue above this size is no catalogue (the largest known are some 10 MB).
_MAX_BYTES = 1 << 28


@dataclass(slots=True)
class Message:
    """One message of a catalogue.

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
      messages: what could be read, the header left out.
      bad: what could not.
      entries: number of entries in the file, bad ones included.
      singular: index of the form for n = 1.
      many: index of the form that most n from 2 to 100 take.
    """

    messages: list[Message]
    bad: list[base.BadLine]
    entries: int
    singular: int = 0
    many: int = 1


def _header_fields(header: str) -> dict[str, str]:
    fields = {}
    for line in header.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields[key.strip().lower()] = value.strip()
    return fields


def _charset(fields: dict[str, str]) -> str:
    match = re.search(r"charset=([\w.:+-]+)", fields.get("content-type", ""))
    name = match.group(1) if match else "utf-8"
    try:
        # Only text encodings: "hex" or "zlib" are known to codecs too.
        codec = codecs.lookup(name)
        return codec.name if codec._is_text_encoding else "utf-8"
    except LookupError:
        return "utf-8"


def plural_indices(fields: dict[str, str]) -> tuple[int, int]:
    """Returns the indices of the form for one and of the form for most other numbers.

    Args:
      fields: the header's fields, with lower-case names; a missing or wrong Plural-Forms means
        the two forms of English.
    """
    forms = fields.get("plural-forms", "")
    match = re.search(r"plural\s*=\s*([^;]+)", forms)
    # The compiler of expressions recurses; a sane expression is short.
    if match is None or len(match.group(1)) > 1000:
        return 0, 1
    try:
        function: Callable[[int], int] = stdlib_gettext.c2py(match.group(1).strip())
        counted = [int(function(n)) for n in range(2, 101)]
        return int(function(1)), max(sorted(set(counted)), key=counted.count)
    except (ValueError, ArithmeticError, RecursionError, SyntaxError, MemoryError):
        return 0, 1


def read_mo(path: str) -> Catalog:
    """Reads a compiled catalogue; little- or big-endian, any text encoding its header names."""
    with open(path, "rb") as handle:
        data = handle.read(_MAX_BYTES + 1)
    catalog = Catalog([], [], 0)

    def whole(reason: str) -> Catalog:
        catalog.bad.append(base.BadLine(path, 0, reason))
        catalog.entries = max(catalog.entries, 1)
        return catalog

    if len(data) > _MAX_BYTES:
        return whole(f"larger than {_MAX_BYTES} bytes, no gettext catalogue")
    if len(data) < 20:
        return whole(f"{len(data)} bytes are too short for a gettext catalogue")
    order = "<" if struct.unpack_from("<I", data)[0] == _MAGIC else ">"
    magic, revision, count, originals, translations = struct.unpack_from(f"{order}5I", data)
    if magic != _MAGIC:
        return whole("no compiled gettext catalogue (wrong first bytes)")
    if revision >> 16 > 1:
        return whole(f"revision {revision >> 16} of the format is unknown")
    if originals + 8 * count > len(data) or translations + 8 * count > len(data):
        return whole(f"cut off: the tables of {count} messages do not fit into {len(data)} bytes")
    catalog.entries = count

    def entry(table: int, index: int) -> bytes | None:
        length, offset = struct.unpack_from(f"{order}2I", data, table + 8 * index)
        return data[offset : offset + length] if offset + length <= len(data) else None

    charset = "utf-8"
    for index in range(count):
        original = entry(originals, index)
        translation = entry(translations, index)
        if original is None or translation is None:
            catalog.bad.append(base.BadLine(path, index + 1, "text lies outside of the file"))
            continue
        if not original:
            fields = _header_fields(translation.decode("utf-8", "replace"))
            charset = _charset(fields)
            catalog.singular, catalog.many = plural_indices(fields)
            continue
        try:
            identifier = original.decode(charset)
            forms = translation.decode(charset)
        except (UnicodeError, ValueError) as error:
            catalog.bad.append(base.BadLine(path, index + 1, f"not {charset}: {error}"))
            continue
        context, separator, rest = identifier.partition(_CONTEXT_END)
        singular, has_plural, plural = (rest if separator else identifier).partition("\0")
        catalog.messages.append(
            Message(
                context if separator else None,
                singular,
                plural if has_plural else None,
                forms.split("\0"),
                index + 1,
            )
        )
    return catalog


_KEYWORD = re.compile(r'(msgctxt|msgid_plural|msgid|msgstr)\s*(?:\[(\d{1,3})\])?\s*"(.*)"$')
_QUOTED = re.compile(r'"(.*)"$')
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def _unescape(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        code = match.group(1)
        if code[0] == "x" and len(code) > 1:
            return chr(int(code[1:], 16))
        if code[0] in "01234567":
            return chr(int(code, 8) & 0xFF)
        return _ESCAPES.get(code, code)

    return _ESCAPE.sub(replace, text) if "\\" in text else text


class _Entry:
    """The message that is being read; ``fields`` maps msgctxt, msgid, msgid_plural, msgstr[i]."""

    def __init__(self) -> None:
        self.fields: dict[tuple[str, int], list[str]] = {}
        self.current: list[str] | None = None
        self.fuzzy = False
        self.line = 0
        self.problem: tuple[int, str] | None = None

    def text(self, keyword: str, index: int = 0) -> str | None:
        parts = self.fields.get((keyword, index))
        return None if parts is None else "".join(parts)


def _finish(path: str, entry: _Entry, catalog: Catalog) -> None:
    """Adds the entry to the catalogue, as a message, a bad line or nothing (fuzzy, header)."""
    if not entry.fields and entry.problem is None:
        return
    catalog.entries += 1
    identifier = entry.text("msgid")
    translations = [
        "".join(parts)
        for (keyword, _), parts in sorted(entry.fields.items())
        if keyword == "msgstr"
    ]
    if entry.problem is None and (identifier is None or not translations):
        missing = "msgid" if identifier is None else "msgstr"
        entry.problem = (entry.line, f"entry without {missing}")
    if entry.problem is not None:
        catalog.bad.append(base.BadLine(path, *entry.problem))
        return
    assert identifier is not None
    if not identifier:
        fields = _header_fields(translations[0])
        catalog.singular, catalog.many = plural_indices(fields)
    elif not entry.fuzzy:
        catalog.messages.append(
            Message(
                entry.text("msgctxt"),
                identifier,
                entry.text("msgid_plural"),
                translations,
                entry.line,
            )
        )


def _po_lines(path: str) -> Iterator[tuple[int, str | None]]:
    """Yields (line number, text), None for a line that cannot be decoded."""
    with base.open_bytes(path) as handle:
        data = handle.read(_MAX_BYTES)
    head = data[:4096].decode("latin-1")
    charset = _charset({"content-type": head})
    for number, raw in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        try:
            yield number, raw.decode(charset).strip()
        except (UnicodeError, ValueError):
            yield number, None


def read_po(path: str) -> Catalog:
    """Reads a text catalogue; fuzzy and obsolete entries are left out."""
    catalog = Catalog([], [], 0)
    entry = _Entry()
    for number, line in _po_lines(path):
        if line is None:
            entry.problem = entry.problem or (number, "cannot be decoded in the file's charset")
            continue
        if line.startswith("#") or not line:
            # A comment or an empty line ends an entry that has its msgstr.
            if ("msgstr", 0) in entry.fields or (not line and entry.fields):
                _finish(path, entry, catalog)
                entry = _Entry()
            if line.startswith("#~"):
                entry.fuzzy = False  # Of the obsolete message, not of the next one.
            elif line.startswith("#,") and re.search(r"\bfuzzy\b", line):
                entry.fuzzy = True
            continue
        match = _KEYWORD.match(line)
        if match is None:
            quoted = _QUOTED.match(line)
            if quoted is not None and entry.current is not None:
                entry.current.append(_unescape(quoted.group(1)))
            else:
                entry.problem = entry.problem or (number, f"unexpected text {line[:40]!r}")
            continue
        keyword, index, text = match.group(1), int(match.group(2) or 0), _unescape(match.group(3))
        if keyword in ("msgctxt", "msgid") and ("msgstr", 0) in entry.fields:
            _finish(path, entry, catalog)
            entry = _Entry()
        if keyword == "msgid" or not entry.line:
            entry.line = number
        if (keyword, index) in entry.fields:
            entry.problem = entry.problem or (number, f"second {keyword} in one entry")
        entry.current = entry.fields[keyword, index] = [text]
    _finish(path, entry, catalog)
    return catalog
