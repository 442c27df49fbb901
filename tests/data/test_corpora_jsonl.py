"""JSON Lines: fields at any depth, and lines that hold something else."""

import json

import pytest

from keras_mtl import errors
from keras_mtl.data import corpora


def read(tmp_path, records, **options):
    path = tmp_path / "a.jsonl"
    lines = (each if isinstance(each, str) else json.dumps(each) for each in records)
    path.write_text("\n".join(lines), encoding="utf-8")
    return corpora.read_pairs(
        corpora.create_reader("jsonl", "en", "fr", {"file": str(path), **options}), 1.0
    )


def texts(stream):
    return [(pair.source, pair.target, pair.line) for pair in stream]


def test_languages_are_fields_or_inside_of_translation(tmp_path):
    assert texts(read(tmp_path, [{"fr": "un", "id": 1, "en": "one\n"}])) == [("one\n", "un", 1)]
    nested = [
        {"translation": {"en": "one", "fr": "ünⁿ"}},
        "",
        {"translation": {"en": "2", "fr": "2"}},
    ]
    assert texts(read(tmp_path, nested)) == [("one", "ünⁿ", 1), ("2", "2", 3)]


def test_fields_are_named_by_path(tmp_path):
    records = [{"a.b": "dot", "c": {"d": {"e": "deep"}}}]
    stream = read(tmp_path, records, source_column="c.d.e", target_column="a.b")
    assert texts(stream) == [("deep", "dot", 1)]
    with pytest.raises(
        errors.DataError,
        match=r"a\.jsonl:1: the records have no field 'c\.d\.f' "
        r"\(source_column of reader 'jsonl'\); did you mean 'c\.d\.e'",
    ):
        texts(read(tmp_path, records, source_column="c.d.f", target_column="a.b"))


def test_scores_and_missing_texts_drop_pairs(tmp_path):
    records = [
        {"en": "a", "fr": "b", "meta": {"score": 0.9}},
        {"en": "c", "fr": "d", "meta": {"score": "0.1"}},
        {"en": "e", "fr": "f", "meta": None},
        {"en": "g", "fr": None, "meta": {"score": 1}},
        {"en": "h", "fr": "i", "meta": {"score": "high"}},
    ]
    stream = read(tmp_path, records, score_column="meta.score", min_score=0.5)
    assert texts(stream) == [("a", "b", 1)]
    assert stream.dropped == {"score below min_score": 2, "no text": 1}
    assert stream.report()[0].endswith("a.jsonl:5: the score 'high' is not a number")


def test_lines_that_are_no_such_objects_are_bad(tmp_path):
    lines = [{"en": "a", "fr": "b"}, "{'en': 1}", "[]", "3", {"en": "x"}, {"en": 1, "fr": "b"}]
    lines += [{"en": "a", "fr": ["b"]}, "[" * 100_000]
    stream = read(tmp_path, lines)
    assert texts(stream) == [("a", "b", 1)]
    reasons = "\n".join(stream.report())
    for reason in ("2: not JSON", "3: not a JSON object", "5: the object has no field 'fr'"):
        assert f"a.jsonl:{reason}" in reasons
    assert "6: source_column holds a number, not text" in reasons
    assert stream.bad == 7


@pytest.mark.parametrize("text", ['[{"en": "a", "fr": "b"}]', '[\n {"en": "a",\n "fr": "b"}]'])
def test_one_array_for_the_whole_file_is_named(tmp_path, text):
    with pytest.raises(errors.DataError, match=r"a\.jsonl is a JSON array.*jq -c"):
        texts(read(tmp_path, [text]))


def test_options_are_checked(tmp_path):
    with pytest.raises(
        errors.ConfigError, match="source_column is 3; it must be the name of a fie"
    ):
        read(tmp_path, [], source_column=3)
    with pytest.raises(errors.ConfigError, match="target_column is 'a'; it must be another field"):
        read(tmp_path, [], source_column="a", target_column="a")
