"""Family, text files and the account of bad lines: what all readers rely on."""

import gzip

import pytest

from keras_mtl import errors
from keras_mtl.data import corpora
from keras_mtl.data.corpora import base


class _ListReader(base.CorpusReader):
    """Yields what it is given, all from one file."""

    name = "list"

    def __init__(self, items):
        super().__init__("en", "fr")
        self._items = items

    def read(self):
        for item in self._items:
            self.lines["f"] += 1
            yield item


def _items(good, bad):
    pairs = [base.Pair("a", "b", i) for i in range(good)]
    return pairs + [base.BadLine("f", good + i + 1, "broken") for i in range(bad)]


def test_all_readers_are_registered():
    # Other tests register readers of their own.
    expected = {
        "cldr",
        "csv",
        "gettext",
        "jsonl",
        "parallel",
        "parquet",
        "text",
        "tfds",
        "tmx",
        "tsv",
    }
    assert expected <= set(corpora.available_readers())


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(errors.ConfigError, match="did you mean 'gettext'"):
        corpora.create_reader("getext", "en", "fr", {})
    with pytest.raises(errors.ConfigError, match="did you mean 'pairs'"):
        corpora.create_reader("cldr", "en", "fr", {"pair": 3})
    with pytest.raises(errors.ConfigError, match="needs the option 'source_file'"):
        corpora.create_reader("parallel", "en", "fr", {"target_file": "x"})


def test_missing_file_is_named_before_reading():
    with pytest.raises(errors.DataError, match=r"/no/such\.tsv"):
        corpora.create_reader("tsv", "en", "fr", {"file": "/no/such.tsv"})


def test_a_directory_is_no_file(tmp_path):
    with pytest.raises(errors.DataError, match="is a directory, not a file"):
        corpora.create_reader("tmx", "en", "fr", {"file": str(tmp_path)})


def test_few_bad_lines_are_counted_and_quoted():
    stream = corpora.read_pairs(_ListReader(_items(200, 2)), 0.01)
    assert len(list(stream)) == stream.pairs == 200
    assert stream.bad == 2
    assert stream.report() == ["f:201: broken", "f:202: broken"]


def test_over_one_percent_is_an_error_naming_lines():
    stream = corpora.read_pairs(_ListReader(_items(197, 3)), 0.01)
    with pytest.raises(errors.DataError, match=r"(?s)f: 3 of 200 lines.*1\.00%.*f:198: broken"):
        list(stream)


def test_one_bad_line_is_never_fatal_unless_it_is_all():
    assert len(list(corpora.read_pairs(_ListReader(_items(5, 1)), 0.0))) == 5
    with pytest.raises(errors.DataError, match="1 of 1 lines"):
        list(corpora.read_pairs(_ListReader(_items(0, 1))))


def test_max_bad_lines_is_checked():
    with pytest.raises(errors.ConfigError, match=r"max_bad_lines is 1\.5"):
        corpora.read_pairs(_ListReader([]), 1.5)


def test_a_stream_can_be_read_twice():
    stream = corpora.read_pairs(_ListReader(_items(100, 1)))
    assert list(stream) == list(stream)
    assert (stream.pairs, stream.bad) == (100, 1)


@pytest.mark.parametrize("compress", [False, True])
def test_read_lines(tmp_path, compress):
    # Byte order mark, both line ends, a line that is not UTF-8, a separator that ends no line.
    data = b"\xef\xbb\xbffirst\r\nsec\xc3\xb6nd\n\xff bad\nx\xe2\x80\xa8y\n\nlast"
    path = tmp_path / "text"
    path.write_bytes(gzip.compress(data) if compress else data)
    lines = list(base.read_lines(str(path)))
    assert lines[:2] == ["first", "secönd"]
    assert str(lines[2]).startswith(f"{path}:3: invalid UTF-8 at byte 0")
    assert lines[3:] == ["x\u2028y", "", "last"]


def test_a_line_without_end_costs_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "MAX_LINE_BYTES", 8)
    path = tmp_path / "text"
    path.write_bytes(b"x" * 40 + b"\nshort\n12345678\n1234567\n")
    lines = list(base.read_lines(str(path)))
    assert isinstance(lines[0], base.BadLine)
    assert lines[1] == "short"
    assert isinstance(lines[2], base.BadLine)
    assert lines[3:] == ["1234567"]


def test_damaged_gzip_names_the_file(tmp_path):
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(b"some text\n" * 1000)[:-20])
    with pytest.raises(errors.DataError, match=r"cut\.gz: damaged gzip"):
        list(base.read_lines(str(path)))


def test_fingerprint_follows_file_and_options(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("a\tb\n")
    options = {"file": str(path)}
    before = corpora.create_reader("tsv", "en", "fr", options).fingerprint()
    assert before == corpora.create_reader("tsv", "en", "fr", options).fingerprint()
    assert (
        before != corpora.create_reader("tsv", "en", "fr", {**options, "columns": 2}).fingerprint()
    )
    path.write_text("a\tb\nc\td\n")
    assert before != corpora.create_reader("tsv", "en", "fr", options).fingerprint()
