"""Pairs from TMX files (translation memory exchange), read unit by unit in bounded memory.

Format: TMX 1.4b, https://www.gala-global.org/tmx-14b. A file is read twice: first the language
codes of its variants are counted, which decides the codes that fit the wanted languages; then the
units are parsed. A damaged unit is reported and left out.
"""

import collections
import re
from collections.abc import Iterator, Sequence
from xml.parsers import expat

from keras_mtl import errors
from keras_mtl.data import languages
from keras_mtl.data.corpora import base, files, opening, xml_encoding
from keras_mtl.data.corpora.tmx_parser import UnitError, UnitParser, Variant, local_name
from keras_mtl.data.corpora.tmx_units import CUT_OFF, Kind, Piece, Splitter

# A start tag with its language; other attributes may hold ">" in quotes. TMX 1.1 wrote "lang".
_VARIANT = re.compile(
    rb"<(?:[\w.-]+:)?[tT][uU][vV]\s(?:[^<>\"']|\"[^\"<]*\"|'[^'<]*')*?"
    rb"(?<=\s)(?:xml:)?lang\s*=\s*[\"']([^\"'<>]{1,64})[\"']"
)

# If a file has more codes than this, they are not languages.
_MAX_CODES = 10_000

# Number of codes that an error lists, and of bytes of text that it quotes.
_SHOWN = 20
_SHOWN_BYTES = 60

# Texts of declared entities are short; a longer one would multiply a file's size.
_MAX_ENTITY = 1000

# Number of bytes of the text between two units that are kept, to check it.
_MAX_GAP_BYTES = 1 << 16

# Markup that belongs between the last unit and the end.
_CLOSING = re.compile(rb"<\?.*?\?>|</(?:[\w.-]+:)?(?:body|tmx)\s*>", re.IGNORECASE | re.DOTALL)
_END = re.compile(rb"</(?:[\w.-]+:)?tmx\s*>", re.IGNORECASE)

# The codes that a side takes, with their place in the order of preference.
_Preferences = dict[str, int]


def _count_codes(path: str) -> collections.Counter[str]:
    """Counts the variants of a file by language code, as the file writes it."""
    counts: collections.Counter[bytes] = collections.Counter()
    with opening.open_bytes(path) as handle:
        rest = b""
        for chunk in xml_encoding.utf8_chunks(path, handle)[1]:
            data = rest + chunk
            # A tag contains no other "<".
            end = data.rfind(b"<")
            counts.update(_VARIANT.findall(data, 0, max(end, 0)))
            rest = data[end:] if end >= 0 and len(data) - end < _MAX_GAP_BYTES else b""
            if len(counts) > _MAX_CODES:
                break
    codes: collections.Counter[str] = collections.Counter()
    for code, count in counts.items():
        codes[code.decode("utf-8", "replace")] += count
    return codes


class _Head:
    """Parses the text before the first unit: root element and declarations of entities.

    Attributes:
        root: name of the root element, or an empty string.
        entities: declared entities with their text.
        problem: damage after the root element, if any.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._parser = expat.ParserCreate("utf-8")
        self._parser.StartElementHandler = self._start
        self._parser.EntityDeclHandler = self._declared
        # With this handler, expat does not expand the entities that a file declares.
        self._parser.DefaultHandler = lambda text: None
        self.root = ""
        self.entities: dict[str, str] = {}
        self.problem: base.BadLine | None = None

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self.root = self.root or local_name(tag)
        if self.root != "tmx":
            raise self.not_tmx(self.root)

    def not_tmx(self, root: str) -> errors.DataError:
        return errors.DataError(
            f"{self._path}: not a TMX file: its root element is <{root}>, not <tmx>"
        )

    def _declared(self, name: str, is_parameter: bool, text: str | None, *_: object) -> None:
        # An entity without a text names another file, which is never read; a reference to it is an
        # error.
        if is_parameter or text is None:
            return
        # Nested entities can expand to gigabytes.
        if len(text) > _MAX_ENTITY or "&" in text or "<" in text:
            raise errors.DataError(
                f"{self._path}:{self._parser.CurrentLineNumber}: declares the entity {name!r} with "
                f"markup or more than {_MAX_ENTITY} characters; write its text out"
            )
        self.entities.setdefault(name, text)

    def feed(self, data: bytes, *, is_last: bool = False) -> None:
        """Parses a part.

        Raises:
            DataError: the file is not XML or not TMX, or declares a nested entity.
        """
        if self.problem is not None:
            return
        try:
            self._parser.Parse(data, is_last)
        except expat.ExpatError as error:
            reason = f"not well-formed XML ({expat.ErrorString(error.code)})"
            if not self.root or is_last:
                raise errors.DataError(
                    f"{self._path}:{error.lineno}: {reason}; repair or copy the file again"
                ) from error
            self.problem = base.BadLine(self._path, error.lineno, f"damaged header: {reason}")


@base.register_reader
class TmxReader(base.CorpusReader):
    """Reads TMX files.

    Args:
        source: code of the source language.
        target: code of the target language.
        file: path of the file, a pattern, or a list of these; plain or compressed, in the encoding
            that its XML declaration names.
        source_language: language of the source variants, or a list in order of preference; the
            default is `source`. `en` takes `en-US` too; see `languages.fit`.
        target_language: the same for the target.

    Raises:
        ConfigError: an option has a wrong value.
        DataError: a file does not exist.
    """

    name = "tmx"
    path_options = ("file",)
    divided_by = "_files"

    def __init__(
        self,
        source: str,
        target: str,
        *,
        file: str | Sequence[str],
        source_language: str | Sequence[str] | None = None,
        target_language: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(source, target)
        self._languages: list[tuple[str, ...]] = []
        for option, given, code in (
            ("source_language", source_language, source),
            ("target_language", target_language, target),
        ):
            value = code if given is None else given
            codes = base.require_texts(self.name, option, value, "a language code")
            if not codes:
                raise base.option_error(self.name, option, value, "a language code, or a list")
            self._languages.append(codes)
        self._files = files.require_files(self.name, "file", file, suffixes=(".tmx",), text=False)

    def selection(self) -> tuple[str, ...]:
        return tuple(", ".join(codes) for codes in self._languages)

    def paths(self) -> list[str]:
        return files.file_paths(self._files)

    def read(self) -> Iterator[base.Pair | base.BadLine]:
        """Yields pairs, file by file; `line` is the line on which the unit begins.

        A unit without one of the languages is counted under `no such language`: many memories
        hold more than two.

        Raises:
            DataError: a file is not TMX, or has no unit in both languages.
        """
        for name in self._files:
            yield from _File(self, name, self._languages).read()


class _File:
    """Reads one file for a reader.

    Args:
        reader: the reader, whose counts are updated.
        path: the file.
        wanted: language codes of source and target, each in order of preference.
    """

    def __init__(self, reader: TmxReader, path: str, wanted: Sequence[tuple[str, ...]]) -> None:
        self._reader = reader
        self._path = path
        self._wanted = wanted
        self._codes: collections.Counter[str] = collections.Counter()
        self._sides: tuple[_Preferences, _Preferences] = {}, {}
        self._gap = b""
        self._gap_line = 0
        self._ended = False
        self._unpaired = 0
        self._paired = False

    def read(self) -> Iterator[base.Pair | base.BadLine]:
        self._codes = _count_codes(self._path)
        self._sides = self._preferences()
        head = _Head(self._path)
        parser: UnitParser | None = None
        with opening.open_bytes(self._path) as handle:
            encoding, chunks = xml_encoding.utf8_chunks(self._path, handle)
            splitter = Splitter(self._path, chunks)
            for piece in splitter:
                if piece.kind is Kind.UNIT:
                    if parser is None:
                        parser = self._parser(head, encoding)
                        if head.problem is not None:
                            yield self._bad(head.problem.line, head.problem.reason)
                    if self._gap:
                        yield from self._judge_gap()
                    yield from self._judge(piece, parser)
                elif parser is None:
                    head.feed(piece.data)
                elif piece.kind is Kind.TEXT:
                    self._add_to_gap(piece)
        if parser is None:
            head.feed(b"", is_last=True)
            return
        yield from self._judge_gap()
        if not self._ended:
            yield self._bad(splitter.line, "the file ends without </tmx>; it may be cut off")
        if self._unpaired and not self._paired:
            raise self._language_error(f"none of {self._unpaired:,} units has both languages,")

    def _parser(self, head: _Head, encoding: str) -> UnitParser:
        """Returns the parser of the units; raises DataError if there is nothing to read."""
        if not head.root:
            raise head.not_tmx("tu")
        missing = [codes for codes, side in zip(self._wanted, self._sides, strict=True) if not side]
        if missing and self._codes:
            wanted = " or ".join(repr(code) for codes in missing for code in codes)
            raise self._language_error(f"no variant is in {wanted};")
        codes = self._sides[0].keys() | self._sides[1].keys()
        return UnitParser(codes, head.entities, encoding)

    def _preferences(self) -> tuple[_Preferences, _Preferences]:
        """Returns the codes that each side takes, the same for every unit of the file."""
        # If codes match equally well, the one with more variants comes first.
        available = [code for code, _ in self._codes.most_common()]
        source, target = (_fitting(wanted, available) for wanted in self._wanted)
        # From "en" to "en-GB", both sides match "en-GB"; the side that it matches better takes it.
        for code in source.keys() & target.keys():
            fits = [_best_fit(wanted, code) for wanted in self._wanted]
            if fits[0] != fits[1]:
                del (target if fits[0] < fits[1] else source)[code]
        return source, target

    def _language_error(self, problem: str) -> errors.DataError:
        listed = ", ".join(f"{code} ({n:,})" for code, n in self._codes.most_common(_SHOWN))
        others = f" and {len(self._codes) - _SHOWN} more" if len(self._codes) > _SHOWN else ""
        near = [
            code
            for wanted, side in zip(self._wanted, self._sides, strict=True)
            if not side
            for code in languages.near(wanted[0], self._codes)
        ]
        hint = f", for example {near[0]!r}" if near else ""
        return errors.DataError(
            f"{self._path}: {problem} the file's variants are in {listed}{others}; set "
            f"source_language and target_language to codes of the file{hint}"
        )

    def _bad(self, line: int, reason: str) -> base.BadLine:
        self._reader.lines[self._path] += 1
        return base.BadLine(self._path, line, reason)

    def _judge(self, piece: Piece, parser: UnitParser) -> Iterator[base.Pair | base.BadLine]:
        """Yields the pair of a unit, or its problem."""
        if piece.problem:
            self._ended = self._ended or piece.problem == CUT_OFF
            yield self._bad(piece.line, piece.problem)
            return
        try:
            variants = parser.parse(piece.data)
        except UnitError as error:
            inside = f" (line {piece.line + error.line})" if error.line else ""
            yield self._bad(piece.line, f"{error.reason}{inside}")
            return
        self._reader.lines[self._path] += 1
        source, target = _choose(variants, self._sides[0]), _choose(variants, self._sides[1])
        if source is None or target is None:
            self._unpaired += 1
            self._reader.dropped["no such language"] += 1
        else:
            self._paired = True
            yield base.Pair(source, target, piece.line)

    def _add_to_gap(self, piece: Piece) -> None:
        if not self._gap:
            if piece.data.isspace():
                return
            self._gap_line = piece.line
        if len(self._gap) < _MAX_GAP_BYTES:
            self._gap += piece.data

    def _judge_gap(self) -> Iterator[base.BadLine]:
        """Yields a problem for text outside units, such as a unit without its start tag."""
        gap, self._gap = self._gap, b""
        self._ended = self._ended or _END.search(gap) is not None
        text = _CLOSING.sub(b"", gap).strip()
        if text:
            # If markup inside it was removed, the line of the gap is close enough.
            line = self._gap_line + gap[: max(gap.find(text[:_SHOWN]), 0)].count(b"\n")
            shown = text[:_SHOWN_BYTES].decode("utf-8", "replace")
            yield self._bad(line, f"text outside a unit: {shown!r}")


def _fitting(wanted: Sequence[str], available: Sequence[str]) -> _Preferences:
    codes = [code for each in wanted for code in languages.fitting(each, available)]
    return {code: place for place, code in enumerate(dict.fromkeys(codes))}


def _best_fit(wanted: Sequence[str], code: str) -> int:
    return min(fit for each in wanted if (fit := languages.fit(each, code)) is not None)


def _choose(variants: Sequence[Variant], preferences: _Preferences) -> str | None:
    """Returns the text of the preferred variant that is not empty; None if there is no variant."""
    best: str | None = None
    best_place = len(preferences)
    for code, text in variants:
        place = preferences.get(code)
        if place is None:
            continue
        if best is None:
            best, best_place = text, place
            continue
        is_text, was_text = bool(text.strip()), bool(best.strip())
        if (is_text and not was_text) or (is_text == was_text and place < best_place):
            best, best_place = text, place
    return best
