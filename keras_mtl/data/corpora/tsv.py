"""Pairs from files of tab-separated columns."""

from collections.abc import Iterator, Sequence

from keras_mtl.data.corpora import base, files
from keras_mtl.data.corpora.columns import Columns, check_count, check_header


@base.register_reader
class TsvReader(base.CorpusReader):
    """Reads files with one pair per line and columns separated by tabs, without quoting.

    Args:
        source: code of the source language.
        target: code of the target language.
        file: path of the file, a pattern, or a list of these; UTF-8, plain or compressed.
        source_column: column of the source, from 0, or its name if the file has a header.
        target_column: column of the target, from 0, or its name if the file has a header.
        score_column: column of a score, for `min_score`.
        min_score: pairs with a lower score are dropped.
        columns: required number of columns of each line; None means that of the first line.
        header: whether the first line of each file names the columns.

    Raises:
        ConfigError: an option has a wrong value.
        DataError: a file does not exist or is not text.
    """

    name = "tsv"
    path_options = ("file",)
    divided_by = "_files"

    def __init__(
        self,
        source: str,
        target: str,
        *,
        file: str | Sequence[str],
        source_column: int | str = 0,
        target_column: int | str = 1,
        score_column: int | str | None = None,
        min_score: float | None = None,
        columns: int | None = None,
        header: bool = False,
    ) -> None:
        super().__init__(source, target)
        self._columns = Columns(
            self,
            source_column,
            target_column,
            score_column,
            min_score,
            check_header(self.name, header),
        )
        self._count = check_count(self.name, columns)
        self._files = files.require_files(self.name, "file", file, suffixes=(".tsv", ".tab"))

    def paths(self) -> list[str]:
        return files.file_paths(self._files)

    def read(self) -> Iterator[base.Pair | base.BadLine]:
        """Yields pairs, file by file.

        Raises:
            DataError: the first line of a file does not have the columns.
        """
        for name in self._files:
            rows = (
                (number, line if isinstance(line, base.BadLine) else line.split("\t"))
                for number, line in enumerate(base.read_lines(name), 1)
            )
            yield from self._columns.pairs(name, rows, self._count)
