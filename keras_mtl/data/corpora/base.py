"""The interface of corpus readers, their registry, and the count of bad lines.

A reader yields a `Pair` for each pair of sentences and a `BadLine` for each entry of a file that
cannot be read. `read_pairs` yields the pairs, counts bad lines and limits their share in a file.
"""

import abc
import collections
import copy
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from keras_mtl import errors
from keras_mtl.configuration import paths
from keras_mtl.configuration.components import Family
from keras_mtl.data.corpora.opening import open_bytes

# A longer line is not a sentence, but a binary file or a missing line break. Reading stops there,
# so that such a file needs no memory.
MAX_LINE_BYTES = 1 << 20

# Number of bad lines of a file that a report quotes.
_EXAMPLES = 5

_BOM = "\ufeff"
_ESCAPED = re.compile("[\udc80-\udcff]")


@dataclass(slots=True)
class Pair:
    """A sentence and its translation, as in the corpus.

    Attributes:
        source: text in the source language.
        target: text in the target language.
        line: number of the line or entry, from 1; for generated corpora the number of the pair.
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
        reason: description of the problem.
    """

    path: str
    line: int
    reason: str

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line else self.path
        return f"{where}: {self.reason}"


class CorpusReader(abc.ABC):
    """Base class of readers of one corpus of one task.

    Subclasses take their options as keyword-only arguments. The constructor checks that the files
    exist. Each iteration starts from the beginning and yields the same sequence.

    Args:
        source: code of the source language, for example `en`.
        target: code of the target language.

    Attributes:
        name: name in a configuration.
        path_options: options whose values are paths, patterns of paths, or lists of these. In a
            configuration file they are relative to the file.
        divided_by: name of the attribute with the list of files, if `read` reads them one after
            the other and nothing of a file depends on another one; then `parts` divides the corpus
            between processes. Empty if it cannot be divided.
        lines: number of entries read so far by file, of which the share of bad lines is computed.
            The newest key is the file of the last pair.
        dropped: number of pairs dropped so far by each of the reader's own rules.
        notes: notes for the user on the choice of files; the constructor sets them.
    """

    name: ClassVar[str]
    path_options: ClassVar[tuple[str, ...]] = ()
    divided_by: ClassVar[str] = ""

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

    def parts(self) -> list[Self]:
        """Returns readers of consecutive parts, which together read what this one reads."""
        files = getattr(self, self.divided_by) if self.divided_by else ()
        return self._divided([{self.divided_by: [file]} for file in files])

    def _divided(self, attributes: Sequence[Mapping[str, Any]]) -> list[Self]:
        """Returns a copy of this reader for each set of attributes; itself if there is only one."""
        if len(attributes) < 2:
            return [self]
        own, parts = vars(self), []
        for values in attributes:
            # Helper objects refer to their reader, so they are copied. The values that are replaced
            # may be large and are not.
            parts.append(copy.deepcopy(self, {id(own[name]): values[name] for name in values}))
        for part in parts[1:]:
            part.notes = []
        return parts

    def selection(self) -> tuple[str, ...]:
        """Returns what the languages of the task select: codes of variants, columns or files.

        Readers of two tasks with the same selection read the same pairs. Empty if each file of the
        reader holds one language.
        """
        return ()

    def fingerprint(self) -> dict[str, Any]:
        """Returns everything that determines the pairs, for JSON: files, sizes, times, options."""
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
    """Registers a reader under its `name`; a class decorator.

    Raises:
        ConfigError: it has no name, its name is taken, or an abstract method is missing.
    """
    _READERS.register(cls)
    paths.register_path_options(cls.name, cls.path_options)
    return cls


available_readers = _READERS.available


def path_options(reader: object) -> tuple[str, ...]:
    """Returns the options of a reader that are paths; none if the reader is unknown."""
    return _READERS.classes[reader].path_options if reader in _READERS.classes else ()


def create_reader(
    reader: str, source: str, target: str, options: Mapping[str, Any] | None = None
) -> CorpusReader:
    """Creates a reader by name.

    Args:
        reader: registered name, see `available_readers`.
        source: code of the source language.
        target: code of the target language.
        options: the reader's options by name.

    Raises:
        ConfigError: the reader or an option is unknown, or an option is missing or wrong.
        DataError: a file that an option names is missing.
    """
    given = dict(options or {})
    instance = _READERS.find(reader, given)(source, target, **given)
    instance.options = given
    return instance


def option_error(reader: str, option: str, value: object, right: str) -> errors.ConfigError:
    """Returns the error for a wrong value of an option.

    Args:
        reader: name of the reader.
        option: name of the option.
        value: the given value.
        right: description of right values, for example "an integer >= 1".
    """
    return errors.ConfigError(f"reader {reader!r}: {option} is {value!r}; it must be {right}")


def require_text(reader: str, option: str, value: object, right: str) -> str:
    """Returns the value of an option that must be a non-empty string; else ConfigError."""
    if not isinstance(value, str) or not value:
        raise option_error(reader, option, value, f"{right}{_QUOTES if value is False else ''}")
    return value


def require_texts(reader: str, option: str, value: object, right: str) -> tuple[str, ...]:
    """Returns the value of an option that must be a string or a list of strings."""
    values = value if isinstance(value, list | tuple) else (value,)
    if not all(isinstance(text, str) and text for text in values):
        right = f"{right}, or a list of them"
        raise option_error(reader, option, value, f"{right}{_QUOTES if value is False else ''}")
    return tuple(values)


# YAML 1.1 reads no, off and others as booleans.
_QUOTES = "; put it in quotes, as in 'no'"


def read_lines(name: str, *, escape: bool = False) -> Iterator[str | BadLine]:
    """Yields the lines of a text file; a line that is not UTF-8 is a `BadLine`.

    The file may be compressed. Only `\\n` and `\\r\\n` end a line. A byte order mark at the
    beginning is dropped.

    Args:
        name: a path, or `path:member` for a member of a zip archive.
        escape: whether to yield a line that is not UTF-8 with its wrong bytes as surrogates (see
            `is_escaped`), for formats whose records have several lines.

    Raises:
        DataError: the file is damaged, or is not UTF-8 text.
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
    """Whether a text has escaped bytes that are not UTF-8; see `read_lines`."""
    return not text.isascii() and _ESCAPED.search(text) is not None


class PairStream:
    """The pairs of a reader, with counts; checks the bad lines of each file at its end.

    Attributes:
        pairs: number of pairs yielded so far.
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
        """Number of bad lines so far, in all files."""
        return self._bad.total()

    @property
    def dropped(self) -> dict[str, int]:
        """Numbers of pairs that the reader's own rules dropped, by rule."""
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
            # A single bad line is not an error, unless the file has nothing else.
            if bad > self._max_bad_lines * lines and (bad > 1 or lines == 1):
                shown = "\n".join(f"  {example}" for example in self.examples[path])
                raise errors.DataError(
                    f"{path}: {bad} of {lines} lines cannot be read, more than "
                    f"{self._max_bad_lines:.2%} (cleaning.max_bad_lines); the first:\n{shown}"
                )

    def report(self) -> list[str]:
        """Returns the notes of the reader, quoted bad lines, and a line for each file with more."""
        lines = list(self._reader.notes)
        for path, examples in self.examples.items():
            lines.extend(str(example) for example in examples)
            not_shown = self._bad[path] - len(examples)
            if not_shown:
                lines.append(f"{path}: {not_shown} more bad lines")
        return lines


def read_pairs(reader: CorpusReader, max_bad_lines: float = 0.01) -> PairStream:
    """Reads a corpus and counts its pairs and bad lines.

    Args:
        reader: the corpus.
        max_bad_lines: largest share of bad lines in a file, in [0, 1]. A single bad line is not
            an error, unless the file has nothing else.

    Returns:
        An iterable of `Pair`. Its counts are complete after the iteration, which raises DataError
        at the end of the corpus if a file has too many bad lines.
    """
    if not 0 <= max_bad_lines <= 1:
        raise errors.ConfigError(f"cleaning.max_bad_lines is {max_bad_lines}; it must be in [0, 1]")
    return PairStream(reader, max_bad_lines)
