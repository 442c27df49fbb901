"""Model files: named arrays and hyperparameters in one file that the C++ engine maps into memory.

`docs/reference/engine_file.md` describes the format. Python writes the files;
`cc/engine/model_file.cc` reads them.
"""

import math
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_mtl.engine import library
from keras_mtl.errors import ExportError
from keras_mtl.files import replacing_file

MAGIC = b"KMTLMODL"
VERSION = 1
# Version of files with ranges of inputs, which engines of version 1 would ignore.
_RANGES_VERSION = 2
# Version of files with a vocabulary of the sources, which engines of version 2 would ignore.
_SOURCE_VOCABULARY_VERSION = 3
SOURCE_VOCABULARY = "source_vocabulary"
"""Name of the tensor with the vocabulary of the sources, if they have their own."""
INPUT_RANGE = ".input_range"
"""End of the name of a tensor that holds the range of the inputs of a layer."""
ALIGNMENT = 64  # Bytes: a cache line, and the widest vector register.
# Magic, version, 0, file size, table size, number of hyperparameters, number of tensors, checksum
# of the table, 16 bytes of 0. The checksum of these 60 bytes follows.
_HEADER = struct.Struct("<8sIIQQIII16x")
_DTYPES = {"float32": 0, "int8": 1, "uint8": 2, "int32": 3}

Value = int | float | str | list[int] | list[str]


def is_model_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins like a model file. Does not require the C++ core."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def open_model_file(path: str | os.PathLike[str], verify: bool = False) -> Any:
    """Opens a model file: maps it into memory and checks its header and its table.

    Args:
        path: the file.
        verify: if True, also reads every tensor and compares its checksum.

    Returns:
        An object with `path`, `size` in bytes, `format_version`, `hyperparameters` by name,
        `tensor_names`, `tensor(name)` (a read-only array that shares the memory of the file),
        `verify()` and `check_transformer()`. `Engine.file` is such an object.

    Raises:
        ExportError: the file is missing, damaged or of another kind.
        NativeError: the C++ core cannot be loaded.
    """
    return library.core().ModelFile(os.fspath(path), verify)


def write_model_file(
    path: str | os.PathLike[str],
    hyperparameters: Mapping[str, Value],
    tensors: Mapping[str, np.ndarray],
) -> Path:
    """Writes a model file. After an error there is no new or partial file.

    Args:
        path: the file. An existing file is replaced.
        hyperparameters: 64-bit integers, finite floats, strings, and lists of integers or of
            strings. An empty list is stored as a list of integers. Names are printable ASCII
            without spaces.
        tensors: float32, int8, uint8 or int32 arrays with at least one element and at most 8 axes.

    Returns:
        The path.

    Raises:
        ExportError: a value does not fit the format, or the file cannot be written.
    """
    target = Path(path)
    entries = [_hyperparameter(name, value) for name, value in hyperparameters.items()]
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    # The size of an entry does not depend on the offsets, so the first pass uses offset 0.
    table_size = len(b"".join(entries)) + sum(
        len(_tensor(name, array, 0)) for name, array in arrays.items()
    )
    offset = _round_up(_HEADER.size + 4 + table_size)
    offsets = {}
    for name, array in arrays.items():
        offsets[name] = offset
        entries.append(_tensor(name, array, offset))
        offset = _round_up(offset + array.nbytes)
    table = b"".join(entries)
    version = _RANGES_VERSION if any(name.endswith(INPUT_RANGE) for name in arrays) else VERSION
    if SOURCE_VOCABULARY in arrays:
        version = _SOURCE_VOCABULARY_VERSION
    header = _HEADER.pack(
        MAGIC, version, 0, offset, table_size, len(hyperparameters), len(arrays), zlib.crc32(table)
    )
    header += struct.pack("<I", zlib.crc32(header))
    try:
        with replacing_file(target) as file:
            file.write(header + table)
            for name, array in arrays.items():
                file.write(b"\0" * (offsets[name] - file.tell()))
                file.write(array.data)
            file.write(b"\0" * (offset - file.tell()))
    except OSError as error:
        raise ExportError(
            f"{target} could not be written: {error.strerror}. Free disk space or choose another "
            "output"
        ) from error
    return target


def _round_up(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _name(name: str) -> bytes:
    if not name or not all("!" <= character <= "~" for character in name):
        raise ExportError(f"name {name!r}: give printable ASCII without spaces")
    return struct.pack("<H", len(name)) + name.encode()


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<I", len(encoded)) + encoded


def _hyperparameter(name: str, value: Value) -> bytes:
    start = _name(name)
    if isinstance(value, int):
        return start + struct.pack("<Bq", 0, value)
    if isinstance(value, float) and math.isfinite(value):
        return start + struct.pack("<Bd", 1, value)
    if isinstance(value, str):
        return start + b"\2" + _text(value)
    if isinstance(value, list):
        count = struct.pack("<I", len(value))
        if all(isinstance(item, int) for item in value):
            return start + b"\3" + count + struct.pack(f"<{len(value)}q", *value)
        if all(isinstance(item, str) for item in value):
            return start + b"\4" + count + b"".join(_text(str(item)) for item in value)
    raise ExportError(
        f"hyperparameter {name} is {value!r}: give an integer, a finite float, a string, or a list "
        "of integers or strings"
    )


def _tensor(name: str, array: np.ndarray, offset: int) -> bytes:
    dtype = str(array.dtype)
    if dtype not in _DTYPES or array.size == 0 or array.ndim > 8:
        raise ExportError(
            f"tensor {name} is {dtype} of shape {list(array.shape)}: give one of "
            f"{', '.join(_DTYPES)} with at least one element and at most 8 axes"
        )
    shape = struct.pack(f"<{array.ndim}Q", *array.shape)
    end = struct.pack("<QQI", offset, array.nbytes, zlib.crc32(array.data))
    return _name(name) + struct.pack("<BB", _DTYPES[dtype], array.ndim) + shape + end
