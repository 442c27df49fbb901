"""CSV: quoting, headers, delimiters, and rows whose quotes are wrong."""

import pytest

from keras_mtl import errors
from keras_mtl.data import corpora


def read(tmp_path, text, **options):
    path = tmp_path / "a.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return corpora.read_pairs(
        corpora.create_reader("csv", "en", "fr", {"file": str(path), **options}), 1.0
    )


def texts(stream):
    return [(pair.source, pair.target, pair.line) for pair in stream]


def test_quoted_fields_hold_delimiters_quotes_and_line_breaks(tmp_path):
    text = '\ufeffid,en,fr\r\n1,"a, b","c ""d"" e"\r\n2,"two\r\nlines",deux\r\n\r\n3,5" x,y\r\n'
    expected = [("a, b", 'c "d" e', 2), ("two\nlines", "deux", 3), ('5" x', "y", 6)]
    stream = read(tmp_path, text)
    assert texts(stream) == expected
    assert stream.bad == 0


def test_columns_by_number_and_other_delimiters(tmp_path):
    options = {"header": False, "delimiter": ";", "quote": "'"}
    stream = read(tmp_path, "1;un;'o;ne'\n", **options, source_column=2, target_column=1)
    assert texts(stream) == [("o;ne", "un", 1)]
    stream = read(tmp_path, '"a\t"b\n', header=False, delimiter="\t", quote=None)
    assert texts(stream) == [('"a', '"b', 1)]


def test_columns_of_the_header_are_the_languages_unless_named(tmp_path):
    text = "English,fr,de,score\none,un,eins,0.9\ntwo,deux,zwei,0.1\n"
    options = {"source_column": "English", "score_column": "score", "min_score": 0.5}
    stream = read(tmp_path, text, **options)
    assert texts(stream) == [("one", "un", 2)]
    assert stream.dropped == {"score below min_score": 1}
    path = str(tmp_path / "a.csv")
    other = {"file": path, "source_column": "English"}
    assert corpora.create_reader("csv", "en", "de", other).selection() == ("English", "de")
    with pytest.raises(errors.DataError, match=r"a\.csv:1: the header has no column 'en'; did"):
        texts(read(tmp_path, text))
    with pytest.raises(errors.DataError, match="the header has two columns 'fr'; give its number"):
        texts(read(tmp_path, "en,fr,fr\n"))


@pytest.mark.parametrize(("mark", "shown"), [(";", "';'"), ("\t", r"'\\t'"), ("|", r"'\|'")])
def test_another_delimiter_than_the_files_is_named(tmp_path, mark, shown):
    with pytest.raises(errors.DataError, match=rf"row is a single field.*set delimiter to {shown}"):
        texts(read(tmp_path, f"en{mark}fr\na{mark}b\n"))


def test_a_quote_that_is_not_closed_costs_one_line(tmp_path):
    good = "".join(f"s{i},t{i}\n" for i in range(300))
    stream = read(tmp_path, f'en,fr\n"open,x\n{good}')
    found = texts(stream)
    assert found[0] == ("s0", "t0", 3)
    assert len(found) == 300
    assert stream.report() == [
        f"{tmp_path}/a.csv:2: a row of more than 100 lines; is a quote not closed?"
    ]
    # The same where the next quote closes it, and at the end of the file.
    stream = read(tmp_path, 'en,fr\na,"open\nb,c\nd,"e"\nf,"g\n')
    assert texts(stream) == [("b", "c", 3), ("d", "e", 4)]
    assert [line.split(":", 1)[1].split(":")[0] for line in stream.report()] == ["2", "5"]


def test_wrong_bytes_inside_of_quotes_leave_the_rows_in_step(tmp_path):
    stream = read(tmp_path, b'en,fr\n"a\n\xff\nb",c\n"d\ne",f\n')
    assert texts(stream) == [("d\ne", "f", 5)]
    assert stream.report() == [f"{tmp_path}/a.csv:2: invalid UTF-8"]


def test_a_row_with_other_columns_is_bad(tmp_path):
    stream = read(tmp_path, "en,fr\na,b\nc\nd,e,f\ng,h\n")
    assert [pair[0] for pair in texts(stream)] == ["a", "g"]
    assert stream.bad == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": ", "}, "delimiter is ', '; it must be one character"),
        ({"quote": ""}, "quote is ''; it must be one character"),
        ({"quote": ","}, "another character than delimiter"),
        ({"header": False, "source_column": "en"}, "a column's name with header: true"),
        ({"target_column": "en"}, "target_column is 'en'; it must be another column"),
        ({"columns": True}, "columns is True"),
    ],
)
def test_options_are_checked(tmp_path, options, message):
    with pytest.raises(errors.ConfigError, match=message):
        read(tmp_path, "en,fr\n", **options)
