"""What every corpus reader has in common: the interface, the family, the count of bad lines.

A reader yields a `Pair` for each pair of sentences and a `BadLine` for each entry of a file
that cannot be read. `read_pairs` passes the pairs on, counts the rest and judges each file.
"""

import abc
import collections
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from keras_mtl import errors
from keras_mtl.configuration import paths
from keras_mtl.configuration.components import Family
from keras_mtl.data.corpora.opening import open_bytes

# A line longer than this is not a sentence but a binary file or a missing line break. Reading stops
# there, so that such a file costs no memory.
MAX_LINE_BYTES = 1 << 20

# Bad lines that a report quotes, per file.
_EXAMPLES = 5

_BOM = "\ufeff"
_ESCAPED = re.compile("[\udc80-\udcff]")


@dataclass(slots=True)
class Pair:
    """A sentence and its translation, as the corpus has them.

    Attributes:
        source: text in the source language.
        target: text in the target language.
        line: number of the line or entry, from 1; for generated corpora the pair's number.
    """

    source: str
    target: str
    line: int


@dataclass(slots=True)
class BadLine:
    """An entry of a corpus file that cannot be read.

    Attributes:
        path: the file.
        line: number of the line or entry, from 1; 0 means the file as a whole.
        reason: what is wrong, for the report.
    """

    path: str
    line: int
    reason: str

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else self.path
        return f"{where}: {self.reason}"


class CorpusReader(abc.ABC):
    """Reads one corpus of one task. Subclasses take their options as keyword-only arguments.

    The constructor checks that the files are there, before anything is read. Iterating starts from
    the beginning each time and yields the same sequence each time.

    Args:
        source: code of the source language, for example `en`.
        target: code of the target language.

    Attributes:
        name: name in a configuration.
        path_options: options whose values are paths, patterns of paths, or lists of these. In a
          configuration file they are relative to the file.
        lines: entries read so far, by file; the whole that the share of bad lines is taken of. The
          file of the pair that was yielded last is the newest key.
        dropped: pairs that the reader's own rules dropped so far, by rule.
        notes: what the user should know about the choice of files; the constructor writes them.
    """

    name: ClassVar[str]
    path_options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, source: str, target: str) -> None:
        self.source = source
        self.target = target
        self.options: dict[str, Any] = {}
        self.lines: collections.Counter[str] = collections.Counter()
        self.dropped: collections.Counter[str] = collections.Counter()
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[Pair | BadLine]:
        self.lines.clear()
        self.dropped.clear()
        return self.read()

    @abc.abstractmethod
    def read(self) -> Iterator[Pair | BadLine]:
        """Yields pairs and bad lines in a fixed order, counting `lines` and `dropped`."""

    def paths(self) -> list[str]:
        """Returns the files that `read` opens, in its order; none for generated corpora."""
        return []

    def selection(self) -> tuple[str, ...]:
        """Returns what the task's languages select: codes of variants, names of columns, files.

        Readers of two tasks that select the same read the same pairs. Empty for a reader whose
        files hold one language each, whatever the task.
        """
        return ()

    def fingerprint(self) -> dict[str, Any]:
        """Returns what decides the output, ready for JSON: files, sizes, times, options."""
        files = []
        for path in self.paths():
            status = os.stat(path)
            files.append([path, status.st_size, status.st_mtime_ns])
        return {
            "reader": self.name,
            "source": self.source,
            "target": self.target,
            "options": self.options,
            "files": files,
        }


_Reader = TypeVar("_Reader", bound=CorpusReader)
_READERS = Family[CorpusReader]("reader", field="reader", parameter="option")


def register_reader(cls: type[_Reader]) -> type[_Reader]:
    """Class decorator: makes a reader known by its `name`, and its paths to configurations.

    Raises:
        ConfigError: it has no name, another class has its name, or a method is missing.
    """
    _READERS.register(cls)
    paths.register_path_options(cls.name, cls.path_options)
    return cls


available_readers = _READERS.available


def path_options(reader: object) -> tuple[str, ...]:
    """Returns a reader's options that are paths; none of a reader that is not known."""
    return _READERS.classes[reader].path_options if reader in _READERS.classes else ()


def create_reader(
    reader: str, source: str, target: str, options: Mapping[str, Any] | None = None
) -> CorpusReader:
    """Builds a reader by name.

    Args:
        reader: registered name, see `available_readers`.
        source: code of the source language.
        target: code of the target language.
        options: the reader's options by name.

    Raises:
        ConfigError: the reader, an option or an option's value is unknown, or one is missing.
        DataError: a file that an option names is missing.
    """
    given = dict(options or {})
    instance = _READERS.find(reader, given)(source, target, **given)
    instance.options = given
    return instance


def option_error(reader: str, option: str, value: object, right: str) -> errors.ConfigError:
    """Returns the error for an option's value.

    Args:
        reader: name of the reader.
        option: name of the option.
        value: what was given.
        right: what would be right, for example "an integer >= 1".
    """
    return errors.ConfigError(f"reader {reader!r}: {option} is {value!r}; it must be {right}")


def require_text(reader: str, option: str, value: object, right: str) -> str:
    """Returns an option's value that must be a text which is not empty; else ConfigError."""
    if not isinstance(value, str) or not value:
        raise option_error(reader, option, value, f"{right}{_QUOTES if value is False else ''}")
    return value


def require_texts(reader: str, option: str, value: object, right: str) -> tuple[str, ...]:
    """Returns an option's value that must be a text or a list of texts; else ConfigError."""
    values = value if isinstance(value, list | tuple) else (value,)
    if not all(isinstance(text, str) and text for text in values):
        right = f"{right}, or a list of them"
        raise option_error(reader, option, value, f"{right}{_QUOTES if value is False else ''}")
    return tuple(values)


# YAML 1.1 reads no, off and others as booleans.
_QUOTES = "; put it in quotes, as in 'no'"


def read_lines(name: str, *, escape: bool = False) -> Iterator[str | BadLine]:
    """Yields a text file's lines without their ends; a line that is not UTF-8 is a `BadLine`.

    Plain or compressed; `\\n` and `\\r\\n` end a line, and nothing else does; a byte order mark
    at the beginning is dropped.

    Args:
        name: a path, or `path:member` for a member of a zip archive.
        escape: yields a line that is not UTF-8 with its wrong bytes as surrogates (see
            `is_escaped`), for formats in which it may be a part of something longer.

    Raises:
        DataError: the file is damaged, or is no text in UTF-8.
    """
    with open_bytes(name, text=True) as handle:
        number = 0
        while raw := handle.readline(MAX_LINE_BYTES):
            number += 1
            if len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
                while raw and not raw.endswith(b"\n"):
                    raw = handle.readline(MAX_LINE_BYTES)
                yield BadLine(name, number, f"line longer than {MAX_LINE_BYTES} bytes")
                continue
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                if not escape:
                    yield BadLine(
                        name, number, f"invalid UTF-8 at byte {error.start}: {error.reason}"
                    )
                    continue
                text = raw.decode("utf-8", "surrogateescape")
            if number == 1:
                text = text.removeprefix(_BOM)
            yield text.rstrip("\r\n")


def is_escaped(text: str) -> bool:
    """Whether a text has bytes that were not UTF-8, as `read_lines` escapes them."""
    return not text.isascii() and _ESCAPED.search(text) is not None


class PairStream:
    """The pairs of a reader; counts while it is iterated, judges each file at the end.

    Attributes:
        pairs: pairs passed on.
        bad: number of bad lines.
        examples: the first few bad lines of each file, by path.
    """

    def __init__(self, reader: CorpusReader, max_bad_lines: float) -> None:
        self._reader = reader
        self._max_bad_lines = max_bad_lines
        self._bad: collections.Counter[str] = collections.Counter()
        self.pairs = 0
        self.examples: dict[str, list[BadLine]] = {}

    @property
    def bad(self) -> int:
        """Bad lines so far, over all files."""
        return self._bad.total()

    @property
    def dropped(self) -> dict[str, int]:
        """Pairs that the reader's own rules dropped, by rule."""
        return dict(self._reader.dropped)

    def __iter__(self) -> Iterator[Pair]:
        self.pairs = 0
        self._bad.clear()
        self.examples.clear()
        for item in self._reader:
            if isinstance(item, BadLine):
                self._bad[item.path] += 1
                examples = self.examples.setdefault(item.path, [])
                if len(examples) < _EXAMPLES:
                    examples.append(item)
            else:
                self.pairs += 1
                yield item
        self._judge()

    def _judge(self) -> None:
        for path, bad in self._bad.items():
            lines = max(self._reader.lines[path], bad)
            # A single bad line is never fatal, unless the file has nothing else to offer.
            if bad > self._max_bad_lines * lines and (bad > 1 or lines == 1):
                shown = "\n".join(f"  {example}" for example in self.examples[path])
                raise errors.DataError(
                    f"{path}: {bad} of {lines} lines cannot be read, more than "
                    f"{self._max_bad_lines:.2%} (cleaning.max_bad_lines); the first:\n{shown}"
                )

    def report(self) -> list[str]:
        """Returns the reader's notes, each quoted bad line, and a line for each file with more."""
        lines = list(self._reader.notes)
        for path, examples in self.examples.items():
            lines.extend(str(example) for example in examples)
            not_shown = self._bad[path] - len(examples)
            if not_shown:
                lines.append(f"{path}: {not_shown} more bad lines")
        return lines


def read_pairs(reader: CorpusReader, max_bad_lines: float = 0.01) -> PairStream:
    """Reads a corpus, keeping count.

    Args:
        reader: the corpus.
        max_bad_lines: largest share of bad lines in a file, in [0, 1]. A single bad line is never
            an error, unless the file holds nothing else.

    Returns:
        An iterable of `Pair`. Its counts are complete when the iteration has ended. Iterating
        raises DataError at the end of the corpus for a file with too many bad lines.
    """
    if not 0 <= max_bad_lines <= 1:
        raise errors.ConfigError(f"cleaning.max_bad_lines is {max_bad_lines}; it must be in [0, 1]")
    return PairStream(reader, max_bad_lines)
