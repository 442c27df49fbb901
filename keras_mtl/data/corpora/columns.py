"""Columns of source, target and score, for readers of rows and records."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from keras_mtl import errors
from keras_mtl.data.corpora import base

_LOW_SCORE = "score below min_score"


class ScoreRule:
    """Drops pairs with a low score, which automatically aligned corpora have.

    Args:
        reader: the reader, which counts the dropped pairs.
        column: the option `score_column`; None disables the rule.
        min_score: the option `min_score`, the smallest score that is kept.

    Raises:
        ConfigError: one of the two is missing, or `min_score` is not a finite number.
    """

    def __init__(
        self, reader: base.CorpusReader, column: int | str | None, min_score: float | None
    ) -> None:
        if (column is None) != (min_score is None):
            given, missing = "score_column", "min_score"
            if column is None:
                given, missing = missing, given
            raise errors.ConfigError(
                f"reader {reader.name!r}: {given} needs {missing} too; give "
                "both to drop pairs with a low score, or neither"
            )
        number = isinstance(min_score, int | float) and not isinstance(min_score, bool)
        if min_score is not None and not (number and math.isfinite(min_score)):
            raise base.option_error(reader.name, "min_score", min_score, "a number")
        self._reader = reader
        self._least = min_score

    def keeps(self, score: Any) -> bool | str:
        """Returns whether the rule keeps a pair, or the reason why its score is invalid.

        Args:
            score: a number or its text.
        """
        if self._least is None:
            return True
        try:
            value = math.nan if score is None else float(score)
        except (TypeError, ValueError, OverflowError):
            return f"the score {str(score)[:40]!r} is not a number"
        # A pair without a score (null, NaN) is not known to be good.
        if value >= self._least:
            return True
        self._reader.dropped[_LOW_SCORE] += 1
        return False


class Columns:
    """The columns of a file of rows.

    Args:
        reader: the reader, for messages and counts.
        source: the option `source_column`: a number from 0, or a name if there is a header.
        target: the option `target_column`.
        score: the option `score_column`, or None.
        min_score: the option `min_score`, or None.
        header: whether the first row names the columns.

    Raises:
        ConfigError: a column is negative, is a name without a header, or is used twice.
    """

    def __init__(
        self,
        reader: base.CorpusReader,
        source: int | str,
        target: int | str,
        score: int | str | None,
        min_score: float | None,
        header: bool,
    ) -> None:
        self._reader = reader
        self._header = header
        self._scores = ScoreRule(reader, score, min_score)
        self._columns = [source, target] + ([] if score is None else [score])
        names = ("source_column", "target_column", "score_column")
        for number, (option, column) in enumerate(zip(names, self._columns, strict=False)):
            named = isinstance(column, str) and bool(column) and header
            counted = isinstance(column, int) and not isinstance(column, bool) and column >= 0
            if not named and not counted:
                right = "an integer >= 0, or a column's name with header: true"
                raise base.option_error(reader.name, option, column, right)
            if column in self._columns[:number]:
                first = names[self._columns.index(column)]
                raise base.option_error(reader.name, option, column, f"another column than {first}")

    def pairs(
        self, name: str, rows: Iterator[tuple[int, list[str] | base.BadLine]], count: int | None
    ) -> Iterator[base.Pair | base.BadLine]:
        """Yields the pairs of a file, and counts its lines.

        Args:
            name: the file.
            rows: line number and cells of each row, or its problem.
            count: number of cells of each row; None means that of the first row.

        Raises:
            DataError: the first row does not have the columns.
        """
        places: list[int] = []
        for line, cells in rows:
            self._reader.lines[name] += 1
            if isinstance(cells, base.BadLine):
                if not places and self._header:
                    raise errors.DataError(f"{name}:{line}: the header: {cells.reason}")
                yield cells
                continue
            if not places:
                places = [self._place(f"{name}:{line}", column, cells) for column in self._columns]
                count = count or len(cells)
                if self._header:
                    continue
            if len(cells) != count:
                yield base.BadLine(name, line, f"{len(cells)} columns instead of {count}")
                continue
            kept = self._scores.keeps(cells[places[2]]) if len(places) > 2 else True
            if isinstance(kept, str):
                yield base.BadLine(name, line, kept)
            elif kept:
                yield base.Pair(cells[places[0]], cells[places[1]], line)

    def _place(self, place: str, column: int | str, cells: Sequence[str]) -> int:
        """Returns a column's index, checked against the first row."""
        if isinstance(column, str):
            if cells.count(column) == 1:
                return cells.index(column)
            problem = "has two columns" if column in cells else "has no column"
            remedy = "; give its number" if column in cells else errors.nearest(column, cells)
            raise errors.DataError(f"{place}: the header {problem} {column!r}{remedy}")
        if column >= len(cells):
            raise errors.DataError(
                f"{place}: there is no column {column}: columns count from 0, and the line has "
                f"{len(cells)}; set source_column and target_column"
                + ("" if len(cells) > 1 else ", or check what separates the columns")
            )
        return column


def check_header(reader: str, header: object) -> bool:
    """Returns the option `header`; raises ConfigError unless it is true or false."""
    if not isinstance(header, bool):
        raise base.option_error(reader, "header", header, "true or false")
    return header


def check_count(reader: str, columns: object) -> int | None:
    """Returns the option `columns`; raises ConfigError unless it is an integer >= 2 or None."""
    whole = isinstance(columns, int) and not isinstance(columns, bool)
    if columns is not None and not (whole and columns >= 2):  # type: ignore[operator]
        raise base.option_error(reader, "columns", columns, "an integer >= 2 or null")
    return columns  # type: ignore[return-value]
