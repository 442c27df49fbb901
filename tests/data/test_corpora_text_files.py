"""Parallel text files and TSV."""

import gzip

import pytest

from keras_mtl import errors
from keras_mtl.data import corpora


def _write(path, text):
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def _parallel(tmp_path, source, target, suffix=""):
    options = {
        "source_file": _write(tmp_path / f"a.en{suffix}", source),
        "target_file": _write(tmp_path / f"a.fr{suffix}", target),
    }
    return corpora.read_pairs(corpora.create_reader("parallel", "en", "fr", options))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_parallel(tmp_path, suffix):
    stream = _parallel(tmp_path, "\ufeffone\r\ntwo\r\n", "un\ndeux", suffix)
    assert [(p.source, p.target, p.line) for p in stream] == [("one", "un", 1), ("two", "deux", 2)]


def test_parallel_keeps_lines_in_step_over_bad_ones(tmp_path):
    good = "".join(f"s{i}\n" for i in range(200)).encode()
    stream = _parallel(tmp_path, b"\xff\n" + good, b"x\n" + good)
    assert [p.source for p in stream] == [p.target for p in stream]
    assert stream.bad == 1


@pytest.mark.parametrize(
    ("source", "target", "counts"), [("a\nb\nc\n", "x\n", (3, 1)), ("a\n", "x\ny\nz", (1, 3))]
)
def test_unequal_line_counts_name_both_files(tmp_path, source, target, counts):
    message = rf"a\.en has {counts[0]} lines and .*a\.fr has {counts[1]}"
    with pytest.raises(errors.DataError, match=message):
        list(_parallel(tmp_path, source, target))


def test_lists_of_parallel_files_are_read_in_step(tmp_path):
    for number in "12":
        _write(tmp_path / f"a{number}.en", f"s{number}\n")
        _write(tmp_path / f"a{number}.fr", f"t{number}\n")
    for sources in (str(tmp_path / "a*.en"), [str(tmp_path / "a1.en"), str(tmp_path / "a2.en")]):
        options = {"source_file": sources, "target_file": str(tmp_path / "*.fr")}
        reader = corpora.create_reader("parallel", "en", "fr", options)
        assert [(p.source, p.target) for p in reader] == [("s1", "t1"), ("s2", "t2")]
        ends = ["a1.en", "a1.fr", "a2.en", "a2.fr"]
        assert reader.paths() == [str(tmp_path / end) for end in ends]
    options["target_file"] = str(tmp_path / "a1.fr")
    with pytest.raises(errors.DataError, match=r"source_file names 2 files .*target_file 1 \("):
        corpora.create_reader("parallel", "en", "fr", options)
    options = {"source_file": str(tmp_path / "a1.en"), "target_file": str(tmp_path / "a1.en")}
    with pytest.raises(errors.DataError, match=r"a1\.en: is both source_file and target_file"):
        corpora.create_reader("parallel", "en", "fr", options)


def _tsv(tmp_path, text, name="a.tsv", **options):
    options["file"] = _write(tmp_path / name, text)
    return corpora.read_pairs(corpora.create_reader("tsv", "en", "fr", options))


@pytest.mark.parametrize("name", ["a.tsv", "a.gz"])
def test_tsv(tmp_path, name):
    stream = _tsv(tmp_path, 'one\tun "x"\r\ntwo\tdeux\r\n', name)
    assert [(p.source, p.target) for p in stream] == [("one", 'un "x"'), ("two", "deux")]


def test_utf_16_is_named(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("one\tun\n", encoding="utf-16")
    with pytest.raises(
        errors.DataError, match=r"a\.tsv is UTF-16 text; convert it.*`iconv -f UTF-16"
    ):
        corpora.create_reader("tsv", "en", "fr", {"file": str(path)})


def test_tsv_columns(tmp_path):
    stream = _tsv(tmp_path, "1\tun\tone\n2\tdeux\ttwo\n", source_column=2, target_column=1)
    assert [(p.source, p.target) for p in stream] == [("one", "un"), ("two", "deux")]


def test_tsv_header(tmp_path):
    text = "id\tfr\ten\n1\tun\tone\n"
    stream = _tsv(tmp_path, text, header=True, source_column="en", target_column="fr")
    assert [(p.source, p.target, p.line) for p in stream] == [("one", "un", 2)]
    with pytest.raises(errors.DataError, match=r"a\.tsv:1: the header has no column 'eng'"):
        list(_tsv(tmp_path, text, header=True, source_column="eng", target_column="fr"))
    (tmp_path / "b.tsv").write_bytes(b"en\xff\tfr\none\tun\n")
    reader = corpora.create_reader(
        "tsv", "en", "fr", {"file": str(tmp_path / "b.tsv"), "header": True}
    )
    with pytest.raises(errors.DataError, match=r"b\.tsv:1: the header: "):
        list(reader.read())


def test_tsv_wrong_column_count_is_a_bad_line(tmp_path):
    rows = "".join(f"s{i}\tt{i}\n" for i in range(100))
    stream = _tsv(tmp_path, rows + "only one\n")
    assert len(list(stream)) == 100
    assert stream.report()[0].endswith("a.tsv:101: 1 columns instead of 2")
    with pytest.raises(errors.DataError, match="2 of 102 lines"):
        list(_tsv(tmp_path, rows + "one\na\tb\tc\n"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source_column": -1}, "source_column is -1"),
        ({"source_column": "en"}, "source_column is 'en'"),
        ({"source_column": 1}, "another column"),
        ({"columns": 1}, "columns is 1"),
    ],
)
def test_tsv_options_are_checked(tmp_path, options, message):
    with pytest.raises(errors.ConfigError, match=message):
        _tsv(tmp_path, "a\tb\n", **options)


def test_tsv_asked_column_is_not_there(tmp_path):
    with pytest.raises(errors.DataError, match="there is no column 5: columns count from 0"):
        list(_tsv(tmp_path, "a\tb\n", target_column=5))


def test_tsv_drops_low_scores(tmp_path):
    rows = "0.5\ta\tb\n1.25\tc\td\nnan\te\tf\n-1\tg\th\n"
    stream = _tsv(tmp_path, rows, source_column=1, target_column=2, score_column=0, min_score=0.5)
    assert [p.source for p in stream] == ["a", "c"]
    assert stream.dropped == {"score below min_score": 2}
    stream = _tsv(
        tmp_path,
        "s\tsc\tt\n" + "a\t1\tb\n" * 99 + "a\tx\tb\n",
        header=True,
        source_column="s",
        target_column="t",
        score_column="sc",
        min_score=0,
    )
    assert len(list(stream)) == 99
    assert stream.report()[0].endswith("a.tsv:101: the score 'x' is not a number")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_column": 2}, "score_column needs min_score too"),
        ({"min_score": 2}, "min_score needs score_column too"),
        ({"score_column": 2, "min_score": "1"}, "min_score is '1'; it must be a number"),
        (
            {"score_column": 1, "min_score": 1},
            "score_column is 1; it must be another column than t",
        ),
        ({"header": "yes"}, "header is 'yes'; it must be true or false"),
    ],
)
def test_score_options_are_checked(tmp_path, options, message):
    with pytest.raises(errors.ConfigError, match=message):
        _tsv(tmp_path, "a\tb\t1\n", **options)
