"""Model files: what is written is what is read, and nothing damaged gets through."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mtl.engine import open_model_file
from keras_mtl.engine.model_file import write_model_file
from keras_mtl.errors import ExportError

HYPERPARAMETERS = {
    "layers": 6,
    "lowest": -(2**63),
    "epsilon": 1e-6,
    "activation": "gelu",
    "text": "zażółć 猫 \U0001f600",
    "empty": "",
    "ids": [3, 1, -4],
    "names": ["fr", "", "日本"],
    "none": [],
}
TENSORS = {
    "scalar": np.float32(2.5),
    "weight": np.arange(15, dtype=np.float32).reshape(3, 5),
    "packed": np.arange(-60, 60, dtype=np.int8).reshape(2, 3, 20),
    "bytes": np.frombuffer(b"\x00\xffhello", np.uint8),
    "ids": np.array([7, -1], np.int32),
}
HEADER = struct.Struct("<8sIIQQIII16xI")


def open_file(path, verify=True):
    return open_model_file(path, verify)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    return write_model_file(tmp_path_factory.mktemp("file") / "model.bin", HYPERPARAMETERS, TENSORS)


def test_what_is_written_is_read(model_file):
    file = open_file(model_file)
    assert file.hyperparameters == HYPERPARAMETERS
    assert set(file.tensor_names) == set(TENSORS)
    for name, array in TENSORS.items():
        have = file.tensor(name)
        assert have.dtype == array.dtype
        assert have.shape == np.shape(array)
        np.testing.assert_array_equal(have, array)
        assert have.ctypes.data % 64 == 0
        assert not have.flags.writeable
    assert file.size == model_file.stat().st_size


def test_arrays_outlive_the_object(model_file):
    array = open_file(model_file).tensor("weight")
    assert array.sum() == 105


def test_every_truncation_is_refused(model_file, tmp_path):
    content = model_file.read_bytes()
    path = tmp_path / "short"
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(ExportError, match=r"short: (header|file_size)"):
            open_file(path, verify=False)
    path.write_bytes(content + b"\0")
    with pytest.raises(ExportError, match="file_size"):
        open_file(path, verify=False)


def test_a_flipped_bit_of_any_byte_is_refused(model_file, tmp_path):
    content = bytearray(model_file.read_bytes())
    path = tmp_path / "flipped"
    for i in range(len(content)):
        content[i] ^= 1 << i % 8
        path.write_bytes(content)
        with pytest.raises(ExportError, match=r"flipped: [a-z_]+"):
            open_file(path)
        content[i] ^= 1 << i % 8


def forge(content, table):
    """The file with another table and with checksums that fit: a hostile file."""
    fields = list(HEADER.unpack(content[:64]))
    start = -(-(64 + len(table)) // 64) * 64
    rest = content[-(-(64 + fields[4]) // 64) * 64 :]
    body = table + b"\0" * (start - 64 - len(table)) + rest
    fields[3], fields[4], fields[7] = 64 + len(body), len(table), zlib.crc32(table)
    header = HEADER.pack(*fields)[:60]
    return header + struct.pack("<I", zlib.crc32(header)) + body


@settings(max_examples=150)
@given(data=st.data())
def test_hostile_tables_are_read_without_harm(data, model_file, tmp_path_factory):
    """Right checksums, wrong fields: an error or a file whose every tensor can be read."""
    content = model_file.read_bytes()
    table = bytearray(content[64 : 64 + HEADER.unpack(content[:64])[4]])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(table) - 1))
        kind = data.draw(st.sampled_from(["set", "insert", "delete", "number"]))
        if kind == "set":
            table[at] = data.draw(st.integers(0, 255))
        elif kind == "insert":
            table[at:at] = data.draw(st.binary(max_size=9))
        elif kind == "delete":
            del table[at : at + data.draw(st.integers(1, 9))]
        else:
            number = data.draw(st.sampled_from([0, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 2**61]))
            table[at : at + 8] = struct.pack("<Q", number)
        if not table:
            return
    path = tmp_path_factory.getbasetemp() / "hostile"
    path.write_bytes(forge(content, bytes(table)))
    try:
        file = open_file(path, verify=False)
    except ExportError as error:
        assert str(path) in str(error)  # noqa: PT017
        return
    assert len(file.tensor_names) <= len(TENSORS)
    assert sum(int(file.tensor(name).sum()) for name in file.tensor_names) is not None
    assert file.hyperparameters


def entry(name, dtype=0, shape=(1,), offset=None, length=4, checksum=0):
    name = name.encode()
    return (
        struct.pack("<H", len(name)) + name + struct.pack("<BB", dtype, len(shape))
        + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<QQI", offset, length, checksum)
    )  # fmt: skip


def forged(entries, tensor_count, size=64):
    table = b"".join(entries)
    start = -(-(64 + len(table)) // 64) * 64
    header = HEADER.pack(
        b"KMTLMODL", 1, 0, start + size, len(table), 0, tensor_count, zlib.crc32(table), 0
    )[:60]
    filling = b"\0" * (start + size - 64 - len(table))
    return header + struct.pack("<I", zlib.crc32(header)) + table + filling


@pytest.mark.parametrize(
    ("entries", "count", "message"),
    [
        ([entry("a", offset=128, shape=(2**62, 4))], 1, "tensor 0 a: dimension 0 of its shape"),
        ([entry("a", offset=128, shape=(0,))], 1, "dimension 0 of its shape is 0"),
        ([entry("a", offset=128, shape=(1,) * 9)], 1, "rank 9 exceeds 8"),
        ([entry("a", offset=128, dtype=7)], 1, "unknown dtype 7"),
        (
            [entry("a", offset=128, length=5)],
            1,
            r"length 5 does not match dtype float32 and shape \[1\]",
        ),
        ([entry("a", offset=64)], 1, "offset 64 should be 128"),
        ([entry("a", offset=129)], 1, "offset 129 should be 128"),
        (
            [entry("a", offset=128, shape=(20,), length=80)],
            1,
            "offset 128 and length 80 extend beyond",
        ),
        (
            [entry("a", offset=192), entry("a", offset=256)],
            2,
            "tensor 1 a: the name occurs twice",
        ),
        ([entry("a b", offset=128)], 1, "tensor 0: its name is empty or not printable ASCII"),
        ([entry("a", offset=128)], 2, "tensor 1: the table ends inside its name"),
        (
            [entry("a", offset=128)],
            2**32 - 1,
            "tensor_count: 4294967295 exceeds the maximum of 1048576",
        ),
        ([entry("a", offset=128), b"x"], 1, "table_size: 1 bytes follow the last entry"),
    ],
)
def test_messages_name_the_field(entries, count, message, tmp_path):
    path = tmp_path / "forged"
    path.write_bytes(forged(entries, count, size=128 if count == 2 else 64))
    with pytest.raises(ExportError, match=message):
        open_file(path)


def test_what_is_no_model_file(tmp_path):
    with pytest.raises(ExportError, match="absent: the model file cannot be opened"):
        open_file(tmp_path / "absent")
    with pytest.raises(ExportError, match="it is not a regular file"):
        open_file(tmp_path)
    path = tmp_path / "text"
    for content, message in [
        (b"", "header: the file has 0 bytes"),
        (b"x" * 100, "magic: this is not a model file"),
        (
            b"KMTLMODL\4" + b"\0" * 60,
            "version: the file has version 4, but this version of keras_mtl reads versions 1 to 3",
        ),
    ]:
        path.write_bytes(content)
        with pytest.raises(ExportError, match=message):
            open_file(path)


@pytest.mark.parametrize(
    ("hyperparameters", "tensors", "message"),
    [
        ({"a b": 1}, {}, "name 'a b': give printable ASCII"),
        ({"x": float("nan")}, {}, "hyperparameter x is nan"),
        ({"x": [1, "a"]}, {}, "hyperparameter x is"),
        ({}, {"x": np.zeros([0], np.float32)}, r"tensor x is float32 of shape \[0\]"),
        ({}, {"x": np.zeros([1], np.float64)}, "tensor x is float64"),
    ],
)
def test_writer_refuses_what_the_format_cannot_hold(hyperparameters, tensors, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        write_model_file(tmp_path / "file", hyperparameters, tensors)
    assert not list(tmp_path.iterdir())
