"""Pairs from CSV files, whose fields may be quoted and may contain line breaks."""

import collections
import csv
from collections.abc import Iterator, Sequence

from keras_mtl import errors
from keras_mtl.data.corpora import base, files
from keras_mtl.data.corpora.columns import Columns, check_count, check_header

# Largest number of lines of a row: an unclosed quote would make the rest of the file one row.
_MAX_ROW_LINES = 100


@base.register_reader
class CsvReader(base.CorpusReader):
    """Reads CSV files in the format of spreadsheets and RFC 4180.

    A field that begins with the quote character ends at the next one; two quote characters inside
    it mean one. White space around a field is part of it.

    Args:
        source: code of the source language.
        target: code of the target language.
        file: path of the file, a pattern, or a list of these; UTF-8, plain or compressed.
        source_column: column of the source: its name in the header or its number from 0; the
            default is the code of the source language, or 0 without a header.
        target_column: the same for the target; without a header the default is 1.
        score_column: column of a score, for `min_score`.
        min_score: pairs with a lower score are dropped.
        header: whether the first row of each file names the columns.
        delimiter: character between fields, such as `,` or `;`.
        quote: character around fields; None (`null`) disables quoting.
        columns: required number of columns of each row; None means that of the first row.

    Raises:
        ConfigError: an option has a wrong value.
        DataError: a file does not exist or is not text.
    """

    name = "csv"
    path_options = ("file",)
    divided_by = "_files"

    def __init__(
        self,
        source: str,
        target: str,
        *,
        file: str | Sequence[str],
        source_column: int | str | None = None,
        target_column: int | str | None = None,
        score_column: int | str | None = None,
        min_score: float | None = None,
        header: bool = True,
        delimiter: str = ",",
        quote: str | None = '"',
        columns: int | None = None,
    ) -> None:
        super().__init__(source, target)
        check_header(self.name, header)
        if source_column is None:
            source_column = source if header else 0
        if target_column is None:
            target_column = target if header else 1
        self._chosen = (str(source_column), str(target_column))
        self._columns = Columns(self, source_column, target_column, score_column, min_score, header)
        self._count = check_count(self.name, columns)
        for option, value in (("delimiter", delimiter), ("quote", quote)):
            if option == "quote" and value is None:
                continue
            if not isinstance(value, str) or len(value) != 1 or value in "\r\n":
                raise base.option_error(self.name, option, value, "one character")
        if delimiter == quote:
            raise base.option_error(self.name, "quote", quote, "another character than delimiter")
        self._delimiter = delimiter
        self._quote = quote
        self._files = files.require_files(self.name, "file", file, suffixes=(".csv",))

    def paths(self) -> list[str]:
        return files.file_paths(self._files)

    def selection(self) -> tuple[str, ...]:
        return self._chosen

    def read(self) -> Iterator[base.Pair | base.BadLine]:
        """Yields pairs, file by file; `line` is the line on which a row begins.

        Raises:
            DataError: the first row of a file does not have the columns.
        """
        for name in self._files:
            try:
                yield from self._columns.pairs(name, self._rows(name), self._count)
            except errors.DataError as error:
                raise self._with_delimiter(name, error) from error

    def _with_delimiter(self, name: str, error: errors.DataError) -> errors.DataError:
        """Adds the likely reason if the first row of a file is a single field."""
        row = next((cells for _, cells in self._rows(name) if isinstance(cells, list)), [])
        other = next((mark for mark in ";\t|," if len(row) == 1 and mark in row[0]), None)
        if other is None:
            return error
        return errors.DataError(
            f"{name}: the first row is a single field, {row[0][:60]!r}; set delimiter to {other!r}"
        )

    def _rows(self, name: str) -> Iterator[tuple[int, list[str] | base.BadLine]]:
        """Yields (line, cells) of each row that is not empty.

        If a row has a wrong number of fields because a quote is not closed, only its first line is
        skipped, and reading resumes at the second line.
        """
        lines = _Lines(base.read_lines(name, escape=True))
        count = self._count or 0
        parser = csv.reader(
            lines,
            delimiter=self._delimiter,
            quotechar=self._quote,
            quoting=csv.QUOTE_NONE if self._quote is None else csv.QUOTE_MINIMAL,
            strict=True,
        )
        while True:
            lines.taken.clear()
            problem: str | None = None
            try:
                cells = next(parser)
            except StopIteration:
                return
            except (csv.Error, _RowTooLongError) as error:
                if lines.bad is None and not lines.taken:
                    return
                problem = str(error)
                cells = []
            first = lines.number - len(lines.taken) + 1
            if lines.bad is not None:
                bad, lines.bad = lines.bad, None
                # The unreadable line ends the row; the lines before it are bad too.
                yield from ((first + i, _bad(name, first + i)) for i in range(len(lines.taken)))
                yield bad.line, bad
                continue
            count = count or len(cells)
            if problem is None and len(cells) not in (0, count) and len(lines.taken) > 1:
                problem = f"{len(cells)} columns instead of {count} in {len(lines.taken)} lines"
            if problem is not None:
                lines.put_back()
                yield first, base.BadLine(name, first, f"{problem}; is a quote not closed?")
            elif any(base.is_escaped(cell) for cell in cells):
                yield first, base.BadLine(name, first, "invalid UTF-8")
            elif cells:
                yield first, cells


def _bad(name: str, line: int) -> base.BadLine:
    return base.BadLine(name, line, "a quoted field that cannot be read")


class _RowTooLongError(Exception):
    """A row has more lines than any sentence pair."""


class _UnreadableError(_RowTooLongError):
    """A line in a row cannot be read."""


class _Lines:
    """The lines of a file for `csv.reader`; lines can be put back.

    Attributes:
        taken: lines of the row that is being read.
        number: number of the last line taken, from 1.
        bad: the line that cannot be read and has ended the row.
    """

    def __init__(self, lines: Iterator[str | base.BadLine]) -> None:
        self._lines = lines
        self._waiting: collections.deque[str | base.BadLine] = collections.deque()
        self.taken: list[str] = []
        self.number = 0
        self.bad: base.BadLine | None = None

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if len(self.taken) >= _MAX_ROW_LINES:
            raise _RowTooLongError(f"a row of more than {_MAX_ROW_LINES} lines")
        line = self._waiting.popleft() if self._waiting else next(self._lines)
        self.number += 1
        if isinstance(line, base.BadLine):
            self.bad = line
            raise _UnreadableError(line.reason)
        self.taken.append(line)
        # A line break inside quotes is part of the field.
        return f"{line}\n"

    def put_back(self) -> None:
        """Puts back the lines of the row, except the first."""
        self._waiting.extendleft(reversed(self.taken[1:]))
        self.number -= len(self.taken) - 1
