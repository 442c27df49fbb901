"""Pairs from parallel text files: line i of one translates line i of the other."""

import itertools
from collections.abc import Iterator, Sequence

from keras_mtl import errors
from keras_mtl.data.corpora import base, files, opening


@base.register_reader
class ParallelReader(base.CorpusReader):
    """Reads parallel text files in UTF-8, plain or compressed.

    Both options may name the same zip archive, such as those of OPUS: each takes the file of its
    language.

    Args:
        source: code of the source language.
        target: code of the target language.
        source_file: path of the source text, a pattern, or a list of these.
        target_file: the same for the target; the first file translates the first one, and so on.

    Raises:
        DataError: a file does not exist or is not text, or the options name different numbers of
            files.
    """

    name = "parallel"
    path_options = ("source_file", "target_file")
    divided_by = "_files"

    def __init__(
        self,
        source: str,
        target: str,
        *,
        source_file: str | Sequence[str],
        target_file: str | Sequence[str],
    ) -> None:
        super().__init__(source, target)
        sources, targets = (
            files.require_files(self.name, option, value, language=code)
            for option, value, code in (
                ("source_file", source_file, source),
                ("target_file", target_file, target),
            )
        )
        if len(sources) != len(targets):
            raise errors.DataError(
                f"reader 'parallel': source_file names {len(sources)} files ({_shown(sources)}) "
                f"and target_file {len(targets)} ({_shown(targets)}); each file needs its "
                "translation"
            )
        self._files = list(zip(sources, targets, strict=True))
        for source_name, target_name in self._files:
            if source_name == target_name:
                raise errors.DataError(
                    f"{source_name}: is both source_file and target_file of reader 'parallel'; "
                    "give two files"
                )

    def paths(self) -> list[str]:
        return files.file_paths([name for pair in self._files for name in pair])

    def selection(self) -> tuple[str, ...]:
        # The languages select the members of a zip archive with a file for each language.
        names = [name for pair in self._files for name in pair]
        return tuple(name for name in names if opening.split_member(name)[1] is not None)

    def read(self) -> Iterator[base.Pair | base.BadLine]:
        """Yields pairs, file by file.

        Raises:
            DataError: two files have different numbers of lines; known when the shorter one ends.
        """
        for source_name, target_name in self._files:
            yield from self._read(source_name, target_name)

    def _read(self, source_name: str, target_name: str) -> Iterator[base.Pair | base.BadLine]:
        pairs = itertools.zip_longest(base.read_lines(source_name), base.read_lines(target_name))
        for number, (source, target) in enumerate(pairs, 1):
            if source is None or target is None:
                rest = 1 + sum(1 for _ in pairs)
                lines = (number - 1, number - 1 + rest)
                if target is None:
                    lines = lines[::-1]
                raise errors.DataError(
                    f"{source_name} has {lines[0]} lines and {target_name} has {lines[1]}; "
                    "line i of one must translate line i of the other"
                )
            # The source comes last: the newest file in `lines` is the one that a pair is named by.
            self.lines[target_name] = self.lines[source_name] = number
            if isinstance(source, str) and isinstance(target, str):
                yield base.Pair(source, target, number)
                continue
            for line in (source, target):
                if isinstance(line, base.BadLine):
                    yield line


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
