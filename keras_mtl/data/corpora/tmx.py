"""Pairs from a TMX file (translation memory exchange), plain or gzip, read in constant memory.

Format: TMX 1.4b, https://www.gala-global.org/tmx-14b. The text of a ``seg`` is what stands in it
without the inline elements that hold codes of a file format (``bpt``, ``ept``, ``it``, ``ph``,
``ut``).
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import BinaryIO
from xml.parsers import expat

from keras_mtl import errors
from keras_mtl.data.corpora import base

_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_CODES = frozenset({"bpt", "ept", "it", "ph", "ut"})
_CHUNK = 1 << 16


def language_matches(wanted: str, found: str) -> bool:
    """Says whether a variant's language is the wanted one: ``en`` takes ``EN-us``, ``en_GB``.

    A wanted code with a region takes that region alone, and variants that name no region.
    """
    wanted, found = (code.lower().replace("_", "-") for code in (wanted, found))
    return found == wanted or found.startswith(f"{wanted}-") or wanted.startswith(f"{found}-")


def _local_name(tag: object) -> str:
    return str(tag).rpartition("}")[2].lower()


def segment_text(segment: ElementTree.Element) -> str:
    """Returns the text of a ``seg`` without the native codes of inline elements."""
    parts = [segment.text or ""]
    for child in segment:
        if _local_name(child.tag) not in _CODES:
            parts.append(segment_text(child))
        parts.append(child.tail or "")
    return "".join(parts)


class _Unit:
    """A parsed translation unit and the line that it begins on."""

    __slots__ = ("element", "line")

    def __init__(self, element: ElementTree.Element, line: int) -> None:
        self.element = element
        self.line = line


class _Parser:
    """Builds one ``tu`` element at a time; everything else is thrown away at once.

    Entities that a file declares are refused: a few lines of them can unfold into gigabytes.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._expat = expat.ParserCreate(namespace_separator="}")
        self._expat.buffer_text = True
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._data
        self._expat.EntityDeclHandler = self._entity
        self._builder: ElementTree.TreeBuilder | None = None
        self._line = 0
        self.root = ""
        self.ready: list[_Unit] = []

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self.root:
            self.root = _local_name(tag)
            if self.root != "tmx":
                raise errors.DataError(
                    f"{self._path}: no TMX file: its root element is <{self.root}>, not <tmx>"
                )
        if self._builder is None and _local_name(tag) == "tu":
            self._builder = ElementTree.TreeBuilder()
            self._line = self._expat.CurrentLineNumber
        if self._builder is not None:
            # Expat writes a name as "namespace}name", ElementTree as "{namespace}name".
            named = {"{" + key if "}" in key else key: text for key, text in attributes.items()}
            self._builder.start(tag, named)

    def _end(self, tag: str) -> None:
        if self._builder is not None:
            self._builder.end(tag)
            if _local_name(tag) == "tu":
                self.ready.append(_Unit(self._builder.close(), self._line))
                self._builder = None

    def _data(self, text: str) -> None:
        if self._builder is not None:
            self._builder.data(text)

    def _entity(self, name: str, *_: object) -> None:
        raise errors.DataError(
            f"{self._path}:{self._expat.CurrentLineNumber}: declares the entity {name!r}; entity "
            "declarations are refused, write the text out"
        )

    def units(self, handle: BinaryIO) -> Iterator[_Unit]:
        """Yields the units of a file.

        Raises:
          DataError: no TMX file, or declares entities.
          expat.ExpatError: not well-formed XML.
        """
        while chunk := handle.read(_CHUNK):
            self._expat.Parse(chunk, False)
            yield from self._taken()
        self._expat.Parse(b"", True)
        yield from self._taken()

    def _taken(self) -> list[_Unit]:
        ready, self.ready = self.ready, []
        return ready


@base.register_reader
class TmxReader(base.CorpusReader):
    """A TMX file.

    Args:
      source: code of the source language.
      target: code of the target language.
      file: path of the file; plain or gzip, in the encoding its XML declaration names.
      source_language: language of the source variants; the default is ``source``. ``en`` takes
        ``en-US`` too.
      target_language: language of the target variants; the default is ``target``.

    Raises:
      DataError: the file does not exist.
    """

    name = "tmx"

    def __init__(
        self,
        source: str,
        target: str,
        *,
        file: str,
        source_language: str | None = None,
        target_language: str | None = None,
    ) -> None:
        super().__init__(source, target)
        self._path = base.require_file(self.name, "file", file)
        self._languages = tuple(
            base.require_text(self.name, option, code if given is None else given, "a code")
            for option, given, code in (
                ("source_language", source_language, source),
                ("target_language", target_language, target),
            )
        )

    def selection(self) -> tuple[str, ...]:
        return self._languages

    def paths(self) -> list[str]:
        return [self._path]

    def _texts(self, unit: ElementTree.Element) -> list[str | None]:
        """Returns the unit's text in the two languages: of the same code, else of the first."""
        texts: list[str | None] = [None, None]
        exact = [False, False]
        for variant in unit:
            if _local_name(variant.tag) != "tuv":
                continue
            # TMX 1.1 wrote "lang" without the namespace.
            language = variant.get(_LANGUAGE) or variant.get("lang") or ""
            segment = next((e for e in variant if _local_name(e.tag) == "seg"), None)
            if segment is None or not language:
                continue
            for side, wanted in enumerate(self._languages):
                same = language.lower().replace("_", "-") == wanted.lower().replace("_", "-")
                better = texts[side] is None or (same and not exact[side])
                if better and language_matches(wanted, language):
                    texts[side], exact[side] = segment_text(segment), same
        return texts

    def read(self) -> Iterator[base.Pair | base.BadLine]:
        """Yields pairs; ``line`` is the line on which the unit begins.

        A unit without one of the languages is counted under ``no such language``: many memories
        hold more than two.

        Raises:
          DataError: the file is no XML, no TMX, cut off, or has no unit in both languages.
        """
        found = False
        try:
            with base.open_bytes(self._path) as handle:
                for unit in _Parser(self._path).units(handle):
                    self.lines[self._path] += 1
                    source, target = self._texts(unit.element)
                    if source is None or target is None:
                        self.dropped["no such language"] += 1
                        continue
                    found = True
                    yield base.Pair(source, target, unit.line)
        except expat.ExpatError as error:
            raise errors.DataError(
                f"{self._path}:{error.lineno}: not well-formed XML "
                f"({expat.ErrorString(error.code)}); repair or copy the file again"
            ) from error
        except base.GZIP_ERRORS as error:
            raise errors.DataError(f"{self._path}: damaged gzip file ({error})") from error
        if not found and self.lines[self._path]:
            raise errors.DataError(
                f"{self._path}: none of {self.lines[self._path]} units has both "
                f"{self._languages[0]!r} and {self._languages[1]!r}; set source_language and "
                "target_language to the file's codes"
            )
