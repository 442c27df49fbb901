"""Pairs from two text files, plain or gzip: line i of one translates line i of the other."""

import itertools
from collections.abc import Iterator

from keras_mtl import errors
from keras_mtl.data.corpora import base


@base.register_reader
class ParallelReader(base.CorpusReader):
    """Two parallel text files in UTF-8.

    Args:
      source: code of the source language.
      target: code of the target language.
      source_file: path of the source text; plain or gzip.
      target_file: path of the target text; plain or gzip.

    Raises:
      DataError: a file does not exist.
    """

    name = "parallel"

    def __init__(self, source: str, target: str, *, source_file: str, target_file: str) -> None:
        super().__init__(source, target)
        self._paths = [
            base.require_file(self.name, "source_file", source_file),
            base.require_file(self.name, "target_file", target_file),
        ]

    def paths(self) -> list[str]:
        return list(self._paths)

    def read(self) -> Iterator[base.Pair | base.BadLine]:
        """Yields pairs.

        Raises:
          DataError: the files have different numbers of lines; known when the shorter one ends.
        """
        source_path, target_path = self._paths
        pairs = itertools.zip_longest(base.read_lines(source_path), base.read_lines(target_path))
        for number, (source, target) in enumerate(pairs, 1):
            if source is None or target is None:
                rest = 1 + sum(1 for _ in pairs)
                lines = (number - 1, number - 1 + rest)
                if target is None:
                    lines = lines[::-1]
                raise errors.DataError(
                    f"{source_path} has {lines[0]} lines and {target_path} has {lines[1]}; "
                    "line i of one must translate line i of the other"
                )
            self.lines[source_path] = self.lines[target_path] = number
            if isinstance(source, str) and isinstance(target, str):
                yield base.Pair(source, target, number)
                continue
            for line in (source, target):
                if isinstance(line, base.BadLine):
                    yield line
