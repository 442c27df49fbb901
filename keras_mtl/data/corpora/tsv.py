"""Pairs from a file of tab-separated columns, plain or gzip."""

from collections.abc import Iterator

from keras_mtl import errors
from keras_mtl.data.corpora import base


@base.register_reader
class TsvReader(base.CorpusReader):
    """A file with one pair a line; columns are separated by tabulators and nothing is quoted.

    Args:
      source: code of the source language.
      target: code of the target language.
      file: path of the file; UTF-8, plain or gzip.
      source_column: column of the source, from 0, or its name when the file has a header.
      target_column: column of the target, from 0, or its name when the file has a header.
      columns: number of columns that each line must have; None takes the first line's.
      header: the first line names the columns and holds no pair.

    Raises:
      ConfigError: a column is negative, or a name without a header.
      DataError: the file does not exist.
    """

    name = "tsv"

    def __init__(
        self,
        source: str,
        target: str,
        *,
        file: str,
        source_column: int | str = 0,
        target_column: int | str = 1,
        columns: int | None = None,
        header: bool = False,
    ) -> None:
        super().__init__(source, target)
        self._path = base.require_file(self.name, "file", file)
        for option, column in (("source_column", source_column), ("target_column", target_column)):
            named = isinstance(column, str) and bool(column) and header
            counted = isinstance(column, int) and not isinstance(column, bool) and column >= 0
            if not named and not counted:
                right = "an integer >= 0, or a column's name with header: true"
                raise base.option_error(self.name, option, column, right)
        if source_column == target_column:
            raise base.option_error(
                self.name, "target_column", target_column, "another column than source_column"
            )
        if columns is not None and (not isinstance(columns, int) or columns < 2):
            raise base.option_error(self.name, "columns", columns, "an integer >= 2 or null")
        self._columns = (source_column, target_column)
        self._count = columns
        self._header = bool(header)

    def paths(self) -> list[str]:
        return [self._path]

    def _place(self, column: int | str, cells: list[str]) -> int:
        """Returns a column's place, checked against the first line."""
        if isinstance(column, str):
            if column not in cells:
                raise errors.DataError(
                    f"{self._path}:1: the header has no column {column!r}"
                    f"{errors.nearest(column, cells)}"
                )
            return cells.index(column)
        if column >= len(cells):
            raise errors.DataError(
                f"{self._path}:1: column {column} is asked for (columns count from 0), and the "
                f"line has {len(cells)}; set source_column and target_column"
            )
        return column

    def read(self) -> Iterator[base.Pair | base.BadLine]:
        """Yields pairs.

        Raises:
          DataError: the first line does not have the columns.
        """
        count = self._count
        places: list[int] = []
        for number, line in enumerate(base.read_lines(self._path), 1):
            self.lines[self._path] = number
            if isinstance(line, base.BadLine):
                if number == 1 and self._header:
                    raise errors.DataError(f"{self._path}:1: the header: {line.reason}")
                yield line
                continue
            cells = line.split("\t")
            if not places:
                places = [self._place(column, cells) for column in self._columns]
                count = count or len(cells)
                if self._header:
                    continue
            if len(cells) != count:
                yield base.BadLine(self._path, number, f"{len(cells)} columns instead of {count}")
                continue
            yield base.Pair(cells[places[0]], cells[places[1]], number)
