"""Test sets that came later: read whole and in order, without what was trained on where asked."""

import dataclasses

import numpy as np
import pytest

from keras_mtl import errors
from keras_mtl.data.given_pairs import load_corpora, read_given_pairs
from keras_mtl.data.prepare import PrepareSettings, TaskSpec, VocabularySettings, prepare

# Numbers in words; every pair of digits that a test asks for occurs in training.
EN = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
FR = ["un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix"]


@dataclasses.dataclass(frozen=True)
class Task:
    name: str
    source: str
    target: str


EN_FR, FR_EN = Task("en-fr", "en", "fr"), Task("fr-en", "fr", "en")


def words(number, of):
    return " ".join(of[int(digit)] for digit in str(number))


def tsv(path, pairs):
    path.write_text("".join(f"{source}\t{target}\n" for source, target in pairs), encoding="utf-8")
    return [("tsv", {"file": str(path)})]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    pairs = [(words(n, EN), words(n, FR)) for n in range(100, 400)]
    task = TaskSpec("en-fr", "en", "fr", tsv(folder / "train.tsv", pairs))
    settings = PrepareSettings(
        vocabulary=VocabularySettings(size=300), dev_fraction=0.05, test_fraction=0.05
    )
    return prepare([task], str(folder / "data"), settings, log=lambda line: None)


def read(prepared, tasks, corpora, unseen_by=None):
    lines = []
    pairs = read_given_pairs(tasks, corpora, prepared.vocabulary, lines.append, unseen_by)
    return pairs, lines


def texts(pairs, task="en-fr"):
    reader = pairs.reader(task, "test")
    return [reader.text(i) for i in range(len(reader))]


def test_pairs_stay_whole_and_in_order(tmp_path, prepared):
    given = [("two  one", "deux un"), ("two one", "deux un"), ("one " * 300, "un"), ("ten", "ten")]
    pairs, lines = read(prepared, [EN_FR], tsv(tmp_path / "a.tsv", [*given, ("", "rien")]))
    assert texts(pairs) == [("two one", "deux un")] * 2 + [("one " * 299 + "one", "un"), given[3]]
    assert lines == ["en-fr: 4 pairs"]
    source, target = pairs.reader("en-fr", "dev").gather(np.array([3, 0]))
    assert prepared.vocabulary.decode_batch(source) == ["ten", "two one"]
    assert prepared.vocabulary.decode_batch(target) == ["ten", "deux un"]


def test_what_was_trained_on_is_left_out_on_either_side(tmp_path, prepared):
    train = prepared.reader("en-fr", "train")
    [[ids], [french]] = train.gather(np.array([7]))
    trained, french = prepared.vocabulary.decode_batch([ids, french])
    held_out = prepared.reader("en-fr", "test").text(0)
    new = ("nine nine nine nine", "neuf neuf neuf neuf")
    corpora = tsv(tmp_path / "a.tsv", [(f" {trained.upper()}", "x"), held_out, new])
    pairs, lines = read(prepared, [EN_FR], corpora, prepared)
    assert texts(pairs) == [held_out, new]
    assert lines == ["en-fr: 2 pairs, 1 more are in training data"]
    # The other direction has learned these sentences as targets.
    corpora = tsv(tmp_path / "b.tsv", [(french, trained), (new[1], new[0])])
    assert texts(read(prepared, [FR_EN], corpora, prepared)[0], "fr-en") == [(new[1], new[0])]
    with pytest.raises(errors.DataError, match=r"task 'fr-en': 1 pairs in its corpora .* none of"):
        read(prepared, [FR_EN], tsv(tmp_path / "c.tsv", [(french, trained)]), prepared)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reader: tsv", "holds dict; give a list of corpora"),
        ("", "holds NoneType"),
        ("- tsv", r"\[0\] is 'tsv'; a corpus has a reader and options"),
        ("- {reader: tsv}\n- {options: {}}", r"\[1\] is "),
        ("- {reader: tsv, file: a}", r"\[0\] is "),
        ("- {reader: tsv, options: [a]}", r"\[0\] is "),
        ("- {reader: [", "cannot be read"),
    ],
)
def test_a_file_that_is_no_list_of_corpora_is_named(tmp_path, text, message):
    path = tmp_path / "corpora.yaml"
    path.write_text(text)
    with pytest.raises(errors.ConfigError, match=rf"corpora.yaml.*{message}"):
        load_corpora(path)
    with pytest.raises(errors.ConfigError, match=r"none.yaml cannot be read"):
        load_corpora(tmp_path / "none.yaml")


def test_readers_without_options_are_corpora(tmp_path):
    path = tmp_path / "corpora.yaml"
    path.write_text("- {reader: cldr, options: {pairs: 5}}\n- reader: tfds\n")
    assert load_corpora(path) == [("cldr", {"pairs": 5}), ("tfds", {})]
