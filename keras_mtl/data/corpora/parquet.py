"""Pairs from Parquet and Arrow files, and from datasets that Hugging Face `datasets` has saved.

They are read with the package pyarrow (extra `parquet`), a batch of rows at a time. A directory
that `Dataset.save_to_disk` has written holds Arrow files and `state.json`, which lists them.
That of a `DatasetDict` holds `dataset_dict.json` and such a directory for each split.
"""

import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from keras_mtl import errors
from keras_mtl.data.corpora import base, files, signatures
from keras_mtl.data.corpora.records import Fields, Path

_ROWS = 4096

_STATE = "state.json"
_SPLITS = "dataset_dict.json"


def _pyarrow(name: str) -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise errors.DataError(
            f"{name}: reader 'parquet' needs the package pyarrow; install it with "
            "`pip install 'keras_mtl[parquet]'`"
        ) from error
    return pyarrow


@base.register_reader
class ParquetReader(base.CorpusReader):
    """Reads Parquet files, Arrow files, and directories of `datasets.save_to_disk`.

    Args:
        source: code of the source language.
        target: code of the target language.
        file: path of a file or of a saved dataset, a pattern, or a list of these.
        split: split of a saved `DatasetDict`; None means the only one.
        source_column: column of the source; `a.b` is a field inside of a column. The default is
            the code of the source language, or `translation.<code>`.
        target_column: the same for the target.
        score_column: column of a score, for `min_score`.
        min_score: pairs with a lower score are dropped.

    Raises:
        ConfigError: an option has a wrong value.
        DataError: a file does not exist, is of another format, or a dataset has no such split.
    """

    name = "parquet"
    path_options = ("file",)
    divided_by = "_files"

    def __init__(
        self,
        source: str,
        target: str,
        *,
        file: str | Sequence[str],
        split: str | None = None,
        source_column: str | None = None,
        target_column: str | None = None,
        score_column: str | None = None,
        min_score: float | None = None,
    ) -> None:
        super().__init__(source, target)
        self._fields = Fields(self, source_column, target_column, score_column, min_score)
        if split is not None:
            base.require_text(self.name, "split", split, "the name of a split")
        self._files: list[str] = []
        for path in files.expand(self.name, "file", file):
            if os.path.isdir(path):
                self._files.extend(saved_files(path, split))
            else:
                files.require_file(self.name, "file", path)
                self._files.append(path)
        for path in self._files:
            _format(path)
        _pyarrow(self._files[0])

    def paths(self) -> list[str]:
        return list(self._files)

    def selection(self) -> tuple[str, ...]:
        return self._fields.names()

    def read(self) -> Iterator[base.Pair | base.BadLine]:
        """Yields pairs, file by file; `line` is the number of the row, from 1.

        Raises:
            DataError: a file is damaged or does not have the columns.
        """
        for name in self._files:
            yield from self._fields.pairs(name, self._records(name))

    def _records(self, name: str) -> Iterator[tuple[int, Sequence[Any] | base.BadLine]]:
        arrow = _pyarrow(name)
        row = 0
        try:
            with _Table(arrow, name) as table:
                paths = self._fields.find(name, _fields_of(arrow, table.schema))
                for batch in table.batches([path[0] for path in paths]):
                    columns = [_values(arrow, batch, path) for path in paths]
                    for values in zip(*columns, strict=True):
                        row += 1
                        wrong = any(isinstance(value, UnicodeDecodeError) for value in values)
                        yield row, base.BadLine(name, row, "invalid UTF-8") if wrong else values
        except (arrow.ArrowException, UnicodeError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error)
            raise errors.DataError(
                f"{name}: damaged, or cut off, after {row:,} rows ({first}); copy or download it "
                "again"
            ) from error


class _Table:
    """An open Parquet or Arrow file."""

    def __init__(self, arrow: Any, name: str) -> None:
        self._arrow = arrow
        self._format = _format(name)
        self._source = arrow.OSFile(name, "rb")
        self._reader: Any
        try:
            if self._format is signatures.PARQUET:
                self._reader = arrow.parquet.ParquetFile(self._source)
                self.schema = self._reader.schema_arrow
            elif self._format is signatures.ARROW:
                self._reader = arrow.ipc.open_file(self._source)
                self.schema = self._reader.schema
            else:
                self._reader = arrow.ipc.open_stream(self._source)
                self.schema = self._reader.schema
        except BaseException:
            self._source.close()
            raise

    def __enter__(self) -> "_Table":
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Yields batches of rows; Parquet reads only the columns that are asked for."""
        if self._format is signatures.PARQUET:
            names = list(dict.fromkeys(columns))
            yield from self._reader.iter_batches(batch_size=_ROWS, columns=names)
        elif self._format is signatures.ARROW:
            for number in range(self._reader.num_record_batches):
                yield self._reader.get_batch(number)
        else:
            yield from self._reader


def _format(name: str) -> signatures.Format:
    """Returns the format of a table; raises DataError if a file is not one."""
    with open(name, "rb") as handle:
        head = handle.read(signatures.HEAD_BYTES)
    table = signatures.of_table(head)
    if table is not None:
        return table
    found = signatures.recognize(head)
    what = "" if found is None else f"{found.name}, "
    raise errors.DataError(
        f"{name}: is {what}not a Parquet or Arrow file; give a Parquet or Arrow file or the "
        "directory of a saved dataset, or choose another reader"
    )


def _fields_of(arrow: Any, schema: Any) -> list[Path]:
    """Paths of all fields of a schema, those inside of structs included."""

    def inside(field: Any) -> Iterator[Path]:
        yield (field.name,)
        if arrow.types.is_struct(field.type):
            for number in range(field.type.num_fields):
                for rest in inside(field.type.field(number)):
                    yield (field.name, *rest)

    return [path for field in schema for path in inside(field)]


def _values(arrow: Any, batch: Any, path: Path) -> list[Any]:
    """The values of a field in a batch; a text that is not UTF-8 is its `UnicodeDecodeError`.

    Arrow trusts the offsets in a file and may end the whole process if they are wrong, so they are
    validated first.
    """
    batch.validate()
    array = batch.column(path[0])
    for name in path[1:]:
        # `flatten` keeps the nulls of the struct, which `field` does not.
        array = array.flatten()[array.type.get_field_index(name)]
    if arrow.types.is_dictionary(array.type):
        array.validate(full=True)
        array = array.dictionary_decode()
    # As bytes: a text that is not UTF-8 is a bad row, not a damaged file.
    as_bytes = {arrow.string(): arrow.binary(), arrow.large_string(): arrow.large_binary()}
    array.view(as_bytes.get(array.type, array.type)).validate(full=True)
    try:
        return list(array.to_pylist())
    except UnicodeDecodeError:
        return [_text(value) for value in array]


def _text(value: Any) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        return error


def saved_files(directory: str, split: str | None) -> list[str]:
    """Returns the Arrow files of a dataset that `save_to_disk` has written, in order.

    Args:
        directory: of a `Dataset` or a `DatasetDict`.
        split: a split of the dataset; None takes the only one.

    Raises:
        DataError: the directory is not a saved dataset, is incomplete, or has no such split.
    """
    root = pathlib.Path(directory)
    if (root / _SPLITS).is_file():
        names = _read_json(root / _SPLITS).get("splits")
        known = [str(name) for name in names] if isinstance(names, list) else []
        if split is None and len(known) != 1:
            raise errors.DataError(
                f"{directory} is a saved DatasetDict with the splits {', '.join(known)}; choose "
                "one with the option split of reader 'parquet'"
            )
        chosen = known[0] if split is None else split
        if chosen not in known:
            raise errors.DataError(
                f"{directory}: the saved DatasetDict has no split {chosen!r}"
                f"{errors.nearest(chosen, known)}"
            )
        root = root / chosen
    elif split is not None:
        raise errors.DataError(
            f"{directory} is not a saved DatasetDict, so it has no split "
            f"{split!r}; leave the option "
            "split out"
        )
    if not (root / _STATE).is_file():
        raise errors.DataError(
            f"{root} is a directory, but holds no saved dataset ({_STATE} is missing); name its "
            f"files, for example {root}/*.parquet"
        )
    state = _read_json(root / _STATE)
    if state.get("_indices_data_files"):
        raise errors.DataError(
            f"{root}: the dataset was saved with a selection of its rows; save it again after "
            "`flatten_indices()`"
        )
    listed = state.get("_data_files")
    names = [e.get("filename") for e in listed or [] if isinstance(e, dict)]
    paths = [str(root / name) for name in names if isinstance(name, str)]
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing or not paths:
        raise errors.DataError(
            f"{root}: the saved dataset is not complete: "
            + (f"{missing[0]} is missing" if missing else f"{_STATE} lists no file")
            + "; save or copy it again"
        )
    return paths


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise errors.DataError(f"{path}: is damaged ({error}); save the dataset again") from error
    if not isinstance(values, dict):
        raise errors.DataError(f"{path}: is damaged; save the dataset again")
    return values
