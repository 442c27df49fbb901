"""Parses the translation units of a TMX file one by one, and names the damage in a unit."""

import html.entities
import re
from collections.abc import Callable, Container, Mapping
from xml.parsers import expat

from keras_mtl.data.corpora import tmx_segment

# With an external document type, expat reports unknown entities instead of failing. Nothing is
# fetched, because no handler for external entities is set.
_PROLOGUE = b'<!DOCTYPE tmx SYSTEM "tmx14.dtd"><tmx>'

# Expat keeps each name of an element or attribute that it has seen. A new parser now and then
# bounds that for a file with endless names, and costs nothing.
_UNITS_PER_PARSER = 10_000

# (language code, text of its segment)
Variant = tuple[str, str]


class UnitError(Exception):
    """A unit cannot be parsed.

    Attributes:
        reason: description of the damage.
        line: line of the damage, counted from 0 at the beginning of the unit.
    """

    def __init__(self, reason: str, line: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


class _UnknownEntityError(Exception):
    pass


def local_name(tag: str) -> str:
    """Returns an element's name in lower case and without a namespace prefix."""
    return tag.rpartition(":")[2].lower()


class UnitParser:
    """Parses units.

    Args:
        languages: codes of the variants to return, as written in the file.
        entities: texts of the entities that the file declares. Those of HTML need no declaration.
        encoding: encoding of the file, for messages.
    """

    def __init__(
        self, languages: Container[str], entities: Mapping[str, str], encoding: str
    ) -> None:
        self._languages = languages
        self._entities = entities
        self._encoding = encoding
        self._renew()

    def _renew(self) -> None:
        parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.Parse(_PROLOGUE, False)
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.SkippedEntityHandler = self._entity
        self._parser = parser
        self._units = 0

    def parse(self, unit: bytes) -> list[Variant]:
        """Returns the texts of a unit, in order.

        Args:
            unit: the unit from its start tag to its end tag, in UTF-8.

        Raises:
            UnitError: the unit is not well-formed, or refers to an unknown entity.
        """
        if self._units < _UNITS_PER_PARSER:
            self._units += 1
            try:
                if self._parse(unit):
                    return self._variants
            except (expat.ExpatError, _UnknownEntityError):
                pass
        # After a damaged unit the parser is unusable, and may hold data that affects the next unit.
        self._renew()
        try:
            whole = self._parse(unit)
        except expat.ExpatError as error:
            reason = self._reason(error, unit)
            line = error.lineno - 1
        except _UnknownEntityError as error:
            reason = f"unknown entity &{error};"
            line = self._parser.CurrentLineNumber - 1
        else:
            if whole:
                return self._variants
            reason, line = "the unit has no end tag </tu>", 0
        self._renew()
        raise UnitError(reason, line)

    def _parse(self, unit: bytes) -> bool:
        """Parses a unit into `_variants`; returns whether it began and ended."""
        self._variants: list[Variant] = []
        self._depth = 0
        self._began = False
        self._language = ""
        self._text: list[str] | None = None
        self._code: tuple[str, dict[str, str]] | None = None
        self._code_depth = self._subflow_depth = 0
        self._listen(None)
        self._parser.Parse(unit, False)
        return self._began and self._depth == 0

    def _listen(self, sink: Callable[[str], None] | None) -> None:
        self._sink = sink
        self._parser.CharacterDataHandler = sink

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth = depth = self._depth + 1
        if depth == 1:
            self._began = True
        elif depth == 2:
            self._language = ""
            if local_name(tag) == "tuv":
                # TMX 1.1 wrote "lang" without the prefix.
                code = attributes.get("xml:lang") or attributes.get("lang") or ""
                self._language = code if code in self._languages else ""
        elif depth == 3:
            if self._language and local_name(tag) == "seg":
                self._text = []
                self._listen(self._text.append)
        elif self._text is not None:
            self._start_inline(local_name(tag), attributes)

    def _end(self, tag: str) -> None:
        depth = self._depth
        self._depth = depth - 1
        if self._text is None:
            return
        if depth > 3:
            self._end_inline(local_name(tag), depth)
            return
        self._variants.append((self._language, tmx_segment.close_breaks("".join(self._text))))
        # A variant has one segment.
        self._language = ""
        self._text = None
        self._listen(None)

    def _start_inline(self, name: str, attributes: dict[str, str]) -> None:
        assert self._text is not None
        if self._code is None:
            if name in tmx_segment.CODE_ELEMENTS:
                self._code = name, attributes
                self._code_depth = self._depth
                self._content: list[str] = []
                self._listen(self._content.append)
            elif tmx_segment.separating_tag(name):
                self._text.append(tmx_segment.BREAK)
        elif name == "sub" and not self._subflow_depth:
            # Text inside a code, such as the description of an image, is a sentence of its own.
            self._subflow_depth = self._depth
            self._listen(None)

    def _end_inline(self, name: str, depth: int) -> None:
        assert self._text is not None
        if self._code is None:
            if tmx_segment.separating_tag(name):
                self._text.append(tmx_segment.BREAK)
        elif depth == self._subflow_depth:
            self._subflow_depth = 0
            self._listen(self._content.append)
        elif depth == self._code_depth:
            if tmx_segment.separates_words(*self._code, "".join(self._content)):
                self._text.append(tmx_segment.BREAK)
            self._code = None
            self._listen(self._text.append)

    def _entity(self, name: str, is_parameter: bool) -> None:
        if self._sink is None:
            return
        text = self._entities.get(name) or html.entities.html5.get(f"{name};")
        if text is None:
            raise _UnknownEntityError(name)
        self._sink(text)

    def _reason(self, error: expat.ExpatError, unit: bytes) -> str:
        """Returns a description of the damage that helps to find it."""
        place = self._parser.ErrorByteIndex - len(_PROLOGUE)
        before, at = unit[:place], unit[place : place + 4]
        if error.code == expat.errors.codes[expat.errors.XML_ERROR_BAD_CHAR_REF]:
            reference = unit[place : unit.find(b";", place) + 1].decode("utf-8", "replace")
            return f"{reference} is not a character of XML"
        if error.code == expat.errors.codes[expat.errors.XML_ERROR_INVALID_TOKEN] and at:
            if re.search(rb"&#?[\w.:-]*$", before):
                return "an & that does not begin an entity; write &amp;"
            if at[0] < 0x20:
                return f"control character U+{at[0]:04X}"
            if at[0] >= 0x80:
                try:
                    character = at[:3].decode("utf-8")
                except UnicodeDecodeError as undecodable:
                    if undecodable.start == 0 and undecodable.reason != "unexpected end of data":
                        return f"bytes that are not {self._encoding}"
                    character = ""
                if character in ("\ufffe", "\uffff"):
                    return f"U+{ord(character):04X} is not a character of XML"
        return f"not well-formed XML ({expat.ErrorString(error.code)})"
