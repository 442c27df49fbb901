"""Parquet, Arrow and saved Hugging Face datasets."""

import builtins
import json

import pytest

from keras_mtl import errors
from keras_mtl.data import corpora

pa = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.parquet")
pytest.importorskip("pyarrow.ipc")

RECORDS = [
    {"translation": {"en": "one", "fr": "un"}, "score": 0.9},
    {"translation": {"en": "two", "fr": None}, "score": 0.9},
    {"translation": None, "score": 0.9},
    {"translation": {"en": "four", "fr": "quatre"}, "score": None},
]
TABLE = pa.Table.from_pylist(RECORDS)


def parquet(path, table=TABLE):
    pa.parquet.write_table(table, path)
    return str(path)


def arrow(path, new=pa.ipc.new_stream, table=TABLE):
    with pa.OSFile(str(path), "wb") as file, new(file, table.schema) as writer:
        writer.write_table(table)
    return str(path)


def saved(path, tables=(TABLE,)):
    """What `Dataset.save_to_disk` writes."""
    path.mkdir(parents=True)
    names = [f"data-{i:05}-of-{len(tables):05}.arrow" for i in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        arrow(path / name, table=table)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0"}
    (path / "state.json").write_text(json.dumps(state))
    (path / "dataset_info.json").write_text("{}")
    return str(path)


def reader(file, **options):
    return corpora.create_reader("parquet", "en", "fr", {"file": str(file), **options})


def texts(made):
    return [(pair.source, pair.target, pair.line) for pair in made]


@pytest.mark.parametrize("kind", ["parquet", "stream", "file", "saved"])
def test_nested_columns_and_nulls(tmp_path, kind):
    path = {
        "parquet": parquet,
        "stream": arrow,
        "file": lambda path: arrow(path, pa.ipc.new_file),
        "saved": saved,
    }[kind](tmp_path / "a")
    made = reader(path)
    assert texts(made) == [("one", "un", 1), ("four", "quatre", 4)]
    assert made.dropped == {"no text": 2}
    assert made.lines.total() == 4
    made = reader(path, score_column="score", min_score=0.5)
    assert texts(made) == [("one", "un", 1)]
    assert made.dropped == {"no text": 2, "score below min_score": 1}


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
)
def test_all_types_of_text(tmp_path, kind):
    table = pa.table({"en": pa.array(["a", "b"]).cast(kind), "fr": pa.array(["c", None])})
    assert texts(reader(parquet(tmp_path / "a", table))) == [("a", "c", 1)]


def test_batches_lists_and_patterns(tmp_path):
    rows = [f"s{i}" for i in range(10_000)]
    parquet(tmp_path / "a-1.parquet", pa.table({"en": rows, "fr": rows}))
    parquet(tmp_path / "a-2.parquet", pa.table({"en": ["x"], "fr": ["y"]}))
    made = reader(tmp_path / "a-*.parquet")
    found = texts(made)
    assert found[:2] == [("s0", "s0", 1), ("s1", "s1", 2)]
    assert found[-2:] == [("s9999", "s9999", 10_000), ("x", "y", 1)]
    assert made.paths() == [str(tmp_path / name) for name in ("a-1.parquet", "a-2.parquet")]


def test_splits_of_a_saved_dataset_dict(tmp_path):
    one = pa.table({"en": ["a"], "fr": ["b"]})
    two = pa.table({"en": ["c"], "fr": ["d"]})
    saved(tmp_path / "all" / "train", [one, two])
    saved(tmp_path / "all" / "test", [two])
    (tmp_path / "all" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    made = reader(tmp_path / "all", split="train")
    assert texts(made) == [("a", "b", 1), ("c", "d", 1)]
    assert [path.rpartition("/")[2][:10] for path in made.paths()] == ["data-00000", "data-00001"]
    assert texts(reader(tmp_path / "all" / "test")) == [("c", "d", 1)]
    with pytest.raises(errors.DataError, match="with the splits train, test; choose one"):
        reader(tmp_path / "all")
    with pytest.raises(errors.DataError, match="no split 'trian'; did you mean 'train'"):
        reader(tmp_path / "all", split="trian")
    with pytest.raises(
        errors.DataError, match="is not a saved DatasetDict, so it has no split 'a'"
    ):
        reader(tmp_path / "all" / "test", split="a")
    (tmp_path / "all" / "train" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(
        errors.DataError, match=r"not complete: .*data-00001-of-00002\.arrow is miss"
    ):
        reader(tmp_path / "all", split="train")
    with pytest.raises(
        errors.DataError, match=r"holds no saved dataset.*for example .*/\*\.parquet"
    ):
        reader(tmp_path)


def test_columns_that_are_not_there_or_no_text(tmp_path):
    path = parquet(tmp_path / "a", pa.table({"en": [1], "fr": ["b"], "x": [["l"]]}))
    made = corpora.read_pairs(reader(path), 1.0)
    assert list(made) == []
    assert made.report() == [f"{path}:1: source_column holds a number, not text"]
    with pytest.raises(errors.DataError, match=r"no field 'eng' .*did you mean 'en'"):
        texts(reader(path, source_column="eng"))


def test_a_text_that_is_not_utf_8_is_a_bad_line(tmp_path):
    offsets = pa.array([0, 1, 2], pa.int32()).buffers()[1]
    wrong = pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"a\xff"))
    path = parquet(tmp_path / "a", pa.table({"en": wrong, "fr": ["b", "c"]}))
    made = corpora.read_pairs(reader(path), 1.0)
    assert texts(made) == [("a", "b", 1)]
    assert made.report() == [f"{path}:2: invalid UTF-8"]


@pytest.mark.parametrize("write", [parquet, arrow])
def test_damage_and_other_formats_are_named(tmp_path, write):
    path = tmp_path / "a"
    write(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        errors.DataError, match=rf"{path}: damaged, or cut off, after 0 rows.*copy or"
    ):
        texts(reader(path))
    path.write_bytes(b"%PDF-1.7")
    with pytest.raises(errors.DataError, match="a: is a PDF, not a Parquet or Arrow file; give"):
        reader(path)
    path.write_text("a\tb\n")
    with pytest.raises(errors.DataError, match="a: is not a Parquet or Arrow file; give"):
        reader(path)


@pytest.mark.parametrize("write", [parquet, arrow])
def test_wrong_offsets_are_an_error_and_do_not_end_the_process(tmp_path, write):
    """Arrow itself ends the process with a C++ exception when it reads such a text."""
    offsets = pa.array([0, 9, 3, 10], pa.int32()).buffers()[1]
    wrong = pa.StringArray.from_buffers(3, offsets, pa.py_buffer(b"abcdefghij"))
    if (
        write is parquet
    ):  # Parquet has no offsets to be wrong; bytes that cannot be decoded instead.
        path = tmp_path / "a"
        parquet(path)
        data = path.read_bytes()
        path.write_bytes(data[:8] + bytes(60) + data[68:])
    else:
        arrow(tmp_path / "a", table=pa.table({"en": wrong, "fr": ["x", "y", "z"]}))
    with pytest.raises(errors.DataError, match="a: damaged, or cut off, after 0 rows"):
        texts(reader(tmp_path / "a"))


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    path = parquet(tmp_path / "a")
    real = builtins.__import__

    def no_pyarrow(name, *args, **kwargs):
        if name.split(".")[0] == "pyarrow":
            raise ModuleNotFoundError(name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_pyarrow)
    with pytest.raises(errors.DataError, match=r"pip install 'keras_mtl\[parquet\]'"):
        reader(path)
