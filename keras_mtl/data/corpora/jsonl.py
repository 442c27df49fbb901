"""Pairs from JSON Lines: one JSON object on each line."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from keras_mtl import errors
from keras_mtl.data.corpora import base, files
from keras_mtl.data.corpora.records import Fields, Path, field_paths


@base.register_reader
class JsonlReader(base.CorpusReader):
    """Reads files with one JSON object per line.

    Args:
        source: code of the source language.
        target: code of the target language.
        file: path of the file, a pattern, or a list of these; UTF-8, plain or compressed.
        source_column: field of the source; `a.b` is a field inside of another. The default is the
            code of the source language, or `translation.<code>`.
        target_column: the same for the target.
        score_column: field of a score, for `min_score`.
        min_score: pairs with a lower score are dropped.

    Raises:
        ConfigError: an option has a wrong value.
        DataError: a file does not exist or is not text.
    """

    name = "jsonl"
    path_options = ("file",)
    divided_by = "_files"

    def __init__(
        self,
        source: str,
        target: str,
        *,
        file: str | Sequence[str],
        source_column: str | None = None,
        target_column: str | None = None,
        score_column: str | None = None,
        min_score: float | None = None,
    ) -> None:
        super().__init__(source, target)
        self._fields = Fields(self, source_column, target_column, score_column, min_score)
        self._files = files.require_files(
            self.name, "file", file, suffixes=(".jsonl", ".ndjson", ".json")
        )

    def paths(self) -> list[str]:
        return files.file_paths(self._files)

    def selection(self) -> tuple[str, ...]:
        return self._fields.names()

    def read(self) -> Iterator[base.Pair | base.BadLine]:
        """Yields pairs, file by file.

        Raises:
            DataError: the first object of a file does not have the fields.
        """
        for name in self._files:
            yield from self._fields.pairs(name, self._records(name))

    def _records(self, name: str) -> Iterator[tuple[int, Sequence[Any] | base.BadLine]]:
        paths: list[Path] | None = None
        for line, text in enumerate(base.read_lines(name), 1):
            if isinstance(text, base.BadLine):
                yield line, text
                continue
            if not text.strip():
                continue
            try:
                record = json.loads(text)
            except (ValueError, RecursionError) as error:
                if paths is None and text.lstrip()[:1] == "[":
                    raise _one_array(name) from error
                yield line, base.BadLine(name, line, f"not JSON: {error}")
                continue
            if not isinstance(record, dict):
                if paths is None and isinstance(record, list):
                    raise _one_array(name)
                yield line, base.BadLine(name, line, "not a JSON object")
                continue
            if paths is None:
                paths = self._fields.find(f"{name}:{line}", field_paths(record))
            values = [_value(record, path) for path in paths]
            missing = next((i for i, value in enumerate(values) if value is _MISSING), None)
            if missing is None:
                yield line, values
            else:
                field = ".".join(paths[missing])
                yield line, base.BadLine(name, line, f"the object has no field {field!r}")


_MISSING = object()


def _value(record: Any, path: Path) -> Any:
    """Returns the value of a field; `_MISSING` if there is none, None inside a null field."""
    for key in path:
        if record is None:
            return None
        if not isinstance(record, dict) or key not in record:
            return _MISSING
        record = record[key]
    return record


def _one_array(name: str) -> errors.DataError:
    return errors.DataError(
        f"{name} is a JSON array, not one JSON object per line; convert it, for example with "
        "`jq -c '.[]' OLD > NEW`"
    )
