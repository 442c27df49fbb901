"""Parser of gettext catalogs in text form (.po), as GNU `msgfmt` reads them.

The syntax is one of tokens and not of lines: strings and keywords may stand on one line or on many.
Octal and hexadecimal escapes are bytes of the file's charset. So the file is split into tokens
and unescaped as bytes, and decoded last.

A message that `msgfmt` rejects is a bad line here, and the other messages are read. Parsing resumes
at the next msgctxt or msgid.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from keras_mtl.data.corpora import base, opening
from keras_mtl.data.corpora.catalog import (
    Catalog,
    Charset,
    Message,
    header_fields,
    plural_indices,
    read_at_most,
    refused,
)

# Larger catalogs are not read, because a catalog is held in memory.
_MAX_BYTES = 1 << 28

# First bytes of characters of two bytes whose second byte may be a backslash.
_LEADS = {
    "big5": rb"\x81-\xfe",
    "big5hkscs": rb"\x81-\xfe",
    "cp932": rb"\x81-\x9f\xe0-\xfc",
    "cp950": rb"\x81-\xfe",
    "gb18030": rb"\x81-\xfe",
    "gbk": rb"\x81-\xfe",
    "johab": rb"\x84-\xf9",
    "shift_jis": rb"\x81-\x9f\xe0-\xfc",
    "shift_jis_2004": rb"\x81-\x9f\xe0-\xfc",
    "shift_jisx0213": rb"\x81-\x9f\xe0-\xfc",
}

_ESCAPES = {
    b"n": b"\n",
    b"t": b"\t",
    b"r": b"\r",
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"v": b"\v",
    b"\\": b"\\",
    b'"': b'"',
    b"\n": b"",  # The string continues on the next line.
}

# The separator of context and msgid in compiled catalogs.
_CONTEXT_END = b"\x04"


@dataclass(slots=True)
class _Token:
    """A token.

    Attributes:
        kind: comment, string, keyword or junk.
        text: text of a comment after the #, unescaped text of a string, a keyword, or the junk.
        line: number of its line, from 1.
        index: index of `msgstr[index]`, or None.
        after_blank_line: whether an empty line precedes it.
        problem: reason why a string cannot be used, or empty.
    """

    kind: str
    text: bytes
    line: int
    index: int | None = None
    after_blank_line: bool = False
    problem: str = ""


class _Lexer:
    """Splits a catalog into tokens.

    Args:
        data: the file.
        leads: what `_LEADS` has for the charset, or empty.
    """

    def __init__(self, data: bytes, leads: bytes) -> None:
        self._data = data
        # Old Macintosh files end their lines with carriage returns.
        self._end = b"\n" if b"\n" in data else b"\r"
        # A character of two bytes is taken as a whole, so that its second is not an escape.
        double = b"|[" + leads + b"][^" + self._end + b'"]' if leads else b""
        plain = rb'[^"\\' + self._end + leads + b"]++"
        self._token = re.compile(
            rb"(?P<space>(?:\s|\\\n)++)"
            rb"|#(?P<comment>[^" + self._end + rb"]*)"
            rb'|"(?P<string>(?:' + plain + double + rb'|\\[\s\S])*+)(?P<quote>"?)'
            # A name; white space may separate the number of a msgstr from it.
            rb"|(?P<keyword>[A-Za-z_$][\w$]*)(?:\s*\[\s*(?P<index>\d{1,4})\s*\])?"
            rb'|(?P<junk>[^\s"#A-Za-z_$]+)'
        )
        self._escape = re.compile(
            (b"[" + leads + rb"][\s\S]|" if leads else b"")
            + rb"\\(?:(?P<octal>[0-7]{1,3})|x(?P<hexadecimal>[0-9a-fA-F]+)|(?P<other>[\s\S]))"
        )

    def tokens(self) -> Iterator[_Token]:
        """Yields the tokens of the file."""
        line = 1
        blank = False
        for match in self._token.finditer(self._data):
            kind = match.lastgroup
            newlines = match.group().count(self._end)
            if kind == "space":
                blank = newlines > 1
            elif kind == "quote":
                yield self._string(match["string"], bool(match["quote"]), line)
            elif kind in ("keyword", "index"):
                index = match["index"]
                number = None if index is None else int(index)
                yield _Token("keyword", match["keyword"], line, number, blank)
            else:
                assert kind is not None
                yield _Token(kind, match[kind], line, None, blank)
            blank = kind == "space" and blank
            line += newlines

    def _string(self, raw: bytes, has_end: bool, line: int) -> _Token:
        if not has_end:
            return _Token("string", raw, line, problem="text without a closing quotation mark")
        problem = ""

        def replace(match: re.Match[bytes]) -> bytes:
            nonlocal problem
            if match["octal"]:
                return bytes([int(match["octal"], 8) & 0xFF])
            if match["hexadecimal"]:
                # Any number of digits; the last two count.
                return bytes([int(match["hexadecimal"][-2:], 16)])
            other = match["other"]
            if other is None:
                return match.group()
            if other not in _ESCAPES:
                problem = f"unknown escape sequence {_shown(match.group())}"
            return _ESCAPES.get(other, other)

        if b"\\" in raw:
            raw = self._escape.sub(replace, raw)
        # A zero byte ends a string in C, for msgfmt and for programs.
        return _Token("string", raw.partition(b"\0")[0], line, problem=problem)


def _shown(text: bytes) -> str:
    """Returns the beginning of a text, for a message of one line."""
    decoded = text[:40].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in decoded)


@dataclass(slots=True)
class _Entry:
    """The current message.

    Attributes:
        line: line of its msgid.
        fuzzy: whether it has the flag `fuzzy`.
        fields: (keyword, parts of its text) in order; the msgstr[i] are last.
        closed: whether a comment followed, after which nothing can be added.
        problem: line and reason why the message cannot be used.
    """

    line: int
    fuzzy: bool = False
    fields: list[tuple[bytes, list[bytes]]] = field(default_factory=list)
    closed: bool = False
    problem: tuple[int, str] | None = None

    def fail(self, line: int, reason: str) -> None:
        """Keeps the first problem."""
        self.problem = self.problem or (line, reason)

    @property
    def last(self) -> bytes:
        """The last keyword, or empty."""
        return self.fields[-1][0] if self.fields else b""

    def text(self, keyword: bytes) -> bytes | None:
        """Returns the text of a keyword, or None."""
        return next((b"".join(parts) for name, parts in self.fields if name == keyword), None)

    def translations(self) -> list[bytes]:
        """Returns the forms of msgstr."""
        return [b"".join(parts) for name, parts in self.fields if name == b"msgstr"]

    def check(self) -> None:
        """Records missing parts as problems."""
        names = [name for name, _ in self.fields]
        for keyword in (b"msgid", b"msgstr"):
            if keyword not in names and names != [b"domain"]:
                return self.fail(self.line, f"entry without {keyword.decode()}")
        for keyword, parts in self.fields:
            if not parts:
                return self.fail(self.line, f"{keyword.decode()} without text")
            if any(_CONTEXT_END in part for part in parts):
                return self.fail(self.line, f"{keyword.decode()} with a control character (EOT)")
        return None


class _Parser:
    """Joins tokens into entries.

    Attributes:
        entries: the complete entries, in order; without domain directives.
    """

    def __init__(self) -> None:
        self.entries: list[_Entry] = []
        self._entry: _Entry | None = None
        self._fuzzy = False

    def parse(self, tokens: Iterator[_Token]) -> list[_Entry]:
        """Returns the entries of a file, valid or not."""
        for token in tokens:
            if token.kind == "comment":
                self._comment(token.text)
            elif token.kind == "string":
                self._string(token)
            elif token.kind == "keyword":
                self._keyword(token)
            else:
                self._junk(token)
        self._finish()
        return self.entries

    def _comment(self, text: bytes) -> None:
        if self._entry is not None:
            self._entry.closed = True
        if text.startswith(b"~"):
            self._fuzzy = False  # The comment of an obsolete message, not of the next one.
        elif text.startswith((b",", b"!")) and b"fuzzy" in re.split(rb"[\s,]+", text[1:]):
            self._fuzzy = True

    def _begin(self, line: int) -> _Entry:
        self._finish()
        self._entry = _Entry(line, self._fuzzy)
        self._fuzzy = False
        return self._entry

    def _finish(self) -> None:
        entry, self._entry = self._entry, None
        if entry is None:
            return
        if entry.problem is None:
            entry.check()
        # All domains of a file are read; the directive is not a message.
        if entry.problem is not None or entry.last != b"domain":
            self.entries.append(entry)

    def _string(self, token: _Token) -> None:
        entry = self._entry or self._begin(token.line)
        complete = entry.last == b"domain" and entry.fields[-1][1]
        if not entry.fields or entry.closed or complete:
            entry.fail(token.line, "text that belongs to no keyword")
        else:
            entry.fields[-1][1].append(token.text)
        if token.problem:
            entry.fail(token.line, token.problem)

    def _keyword(self, token: _Token) -> None:
        keyword, entry = token.text, self._entry
        if keyword not in (b"msgctxt", b"msgid", b"msgid_plural", b"msgstr", b"domain"):
            return self._junk(token)
        last = entry.last if entry is not None else b""
        is_open = entry is not None and not entry.closed
        continues_context = keyword == b"msgid" and last == b"msgctxt" and is_open
        if keyword in (b"msgctxt", b"domain") or (keyword == b"msgid" and not continues_context):
            entry = self._begin(token.line)
        elif entry is None:
            entry = self._begin(token.line)
            entry.fail(token.line, f"{keyword.decode()} without msgid")
        elif entry.closed:
            entry.fail(token.line, f"{keyword.decode()} after a comment, inside of an entry")
        if keyword == b"msgid":
            entry.line = token.line
        if token.index is not None and keyword != b"msgstr":
            entry.fail(token.line, f"{keyword.decode()} with a number")
        if keyword == b"msgid_plural" and last != b"msgid":
            entry.fail(token.line, "msgid_plural does not follow msgid")
        if keyword == b"msgstr":
            self._check_msgstr(entry, token)
        entry.fields.append((keyword, []))
        return None

    def _check_msgstr(self, entry: _Entry, token: _Token) -> None:
        names = [name for name, _ in entry.fields]
        forms = names.count(b"msgstr")
        expected = forms if b"msgid_plural" in names else None
        if token.index != expected:
            given, right = ("" if i is None else f"[{i}]" for i in (token.index, expected))
            entry.fail(token.line, f"found msgstr{given}, expected msgstr{right}")
        elif forms and expected is None:
            entry.fail(token.line, "second msgstr in one entry")

    def _junk(self, token: _Token) -> None:
        entry = self._entry
        # A separate line after an empty line does not belong to a complete entry.
        if entry is None or (
            (token.after_blank_line or entry.closed) and entry.last in (b"msgstr", b"domain")
        ):
            entry = self._begin(token.line)
        entry.fail(token.line, f"unexpected text '{_shown(token.text)}'")


def _header(entries: list[_Entry]) -> bytes:
    """Returns the translation of the empty msgid without context; fuzzy or not."""
    for entry in entries:
        if entry.text(b"msgid") == b"" and entry.text(b"msgctxt") is None:
            return b"".join(entry.translations()[:1])
    return b""


def _parse(data: bytes) -> tuple[list[_Entry], Charset, bytes]:
    entries = _Parser().parse(_Lexer(data, b"").tokens())
    header = _header(entries)
    charset = Charset(header, lambda: b"\n".join(b"".join(p) for e in entries for _, p in e.fields))
    leads = _LEADS.get(charset.codec or "", b"")
    if leads:
        entries = _Parser().parse(_Lexer(data, leads).tokens())
    return entries, charset, header


def _message(entry: _Entry, charset: Charset) -> Message:
    """Decodes an entry.

    Raises:
        ValueError: it cannot be decoded.
    """
    context, identifier, plural = (
        None if text is None else charset.decode(text)
        for text in map(entry.text, (b"msgctxt", b"msgid", b"msgid_plural"))
    )
    assert identifier is not None
    translations = [charset.decode(text) for text in entry.translations()]
    return Message(context, identifier, plural, translations, entry.line)


def read_po(path: str) -> Catalog:
    """Reads a text catalog; fuzzy and obsolete entries are skipped.

    Raises:
        DataError: the file is compressed and damaged.
    """
    with opening.open_bytes(path) as handle:
        data = read_at_most(handle, _MAX_BYTES)
    if data is None:
        return refused(path, f"larger than {_MAX_BYTES} bytes; split it")
    data = data.removeprefix(codecs.BOM_UTF8)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data[:1000]:
        return refused(path, "is UTF-16 or not a text file; save it as UTF-8")
    entries, charset, header = _parse(data)
    if charset.refusal:
        return refused(path, charset.refusal)
    fields = header_fields(header.decode(charset.codec or "ascii", "replace"))
    catalog = Catalog([], [], len(entries), *plural_indices(fields))
    first: dict[tuple[bytes | None, bytes | None], int] = {}
    for entry in entries:
        key = (entry.text(b"msgctxt"), entry.text(b"msgid"))
        if entry.problem is None and key in first:
            entry.fail(entry.line, f"second definition of the message of line {first[key]}")
        if entry.problem is not None:
            catalog.bad.append(base.BadLine(path, *entry.problem))
            continue
        first[key] = entry.line
        if key != (None, b"") and not entry.fuzzy:
            try:
                catalog.messages.append(_message(entry, charset))
            except ValueError as error:
                catalog.bad.append(base.BadLine(path, entry.line, str(error)))
    return catalog
