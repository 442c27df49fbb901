"""Test sets that came later: read whole and in order, without what was trained on where asked."""

import dataclasses

import numpy as np
import pytest

from keras_mtl import errors
from keras_mtl.configuration.schema import CorpusConfig, DataConfig, PairConfig, VocabularyConfig
from keras_mtl.data.evaluation_sets import EvaluationCorpus, load_corpora, read_evaluation_set
from keras_mtl.data.prepare import prepare

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
    return [EvaluationCorpus("tsv", {"file": str(path)})]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    directory = tmp_path_factory.mktemp("given")
    pairs = [(words(n, EN), words(n, FR)) for n in range(100, 400)]
    tsv(directory / "train.tsv", pairs)
    task = PairConfig(
        "en-fr", "en", "fr", [CorpusConfig("tsv", {"file": str(directory / "train.tsv")})]
    )
    settings = DataConfig(
        vocabulary=VocabularyConfig(size=300), dev_fraction=0.05, test_fraction=0.05
    )
    return prepare([task], str(directory / "data"), settings, log=lambda line: None)


def read(prepared, tasks, corpora, unseen_by=None):
    lines = []
    pairs = read_evaluation_set(tasks, corpora, prepared.vocabulary, lines.append, unseen_by)
    return pairs, lines


def texts(pairs, task="en-fr"):
    reader = pairs.reader(task, "test")
    return [reader.text(i) for i in range(len(reader))]


def test_pairs_stay_whole_and_in_order(tmp_path, prepared):
    given = [("two  one", "deux un"), ("two one", "deux un"), ("one " * 300, "un"), ("ten", "ten")]
    pairs, lines = read(prepared, [EN_FR], tsv(tmp_path / "a.tsv", [*given, ("", "rien")]))
    assert texts(pairs) == [("two one", "deux un")] * 2 + [("one " * 299 + "one", "un"), given[3]]
    assert lines == [f"en-fr: 4 pairs of {tmp_path}/a.tsv"]
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
    assert lines == [f"en-fr: 2 pairs of {tmp_path}/a.tsv, 1 more are in training data"]
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
        ("- {reader: tsv, tasks: en-fr}", r"\[0\].tasks is 'en-fr'; give a list"),
        ("- {reader: tsv, tasks: []}", r"\[0\].tasks is \[\]"),
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
    assert load_corpora(path) == [
        EvaluationCorpus("cldr", {"pairs": 5}),
        EvaluationCorpus("tfds", {}),
    ]


EN_DE = Task("en-de", "en", "de")


def test_a_file_of_one_pair_of_languages_is_not_scored_for_another(tmp_path, prepared):
    corpora = tsv(tmp_path / "a.tsv", [("one", "un")])
    with pytest.raises(errors.ConfigError, match=r"a.tsv\) holds one pair of languages.*--tasks"):
        read(prepared, [EN_FR, EN_DE], corpora)
    # Two tasks of the same languages share a test set.
    again = dataclasses.replace(EN_FR, name="en-fr-ui")
    pairs, _ = read(prepared, [EN_FR, again], corpora)
    assert texts(pairs, "en-fr-ui") == texts(pairs) == [("one", "un")]
    # A corpus that names its tasks is read for these only, and the other task is left out.
    named = [dataclasses.replace(corpora[0], tasks=("en-fr",))]
    pairs, lines = read(prepared, [EN_FR, EN_DE], named)
    assert [task.name for task in pairs.tasks] == ["en-fr"]
    assert lines == [f"en-fr: 1 pairs of {tmp_path}/a.tsv"]
    with pytest.raises(errors.ConfigError, match="belong to en-fr, and none of these is scored"):
        read(prepared, [EN_DE], named)


TMX = """<?xml version="1.0"?>
<tmx version="1.4"><header/><body>
<tu><tuv xml:lang="en"><seg>one</seg></tuv><tuv xml:lang="fr"><seg>un</seg></tuv>
<tuv xml:lang="de"><seg>eins</seg></tuv></tu>
</body></tmx>
"""


def test_a_file_that_knows_languages_serves_every_task(tmp_path, prepared):
    (tmp_path / "a.tmx").write_text(TMX)
    corpora = [EvaluationCorpus("tmx", {"file": str(tmp_path / "a.tmx")})]
    pairs, _ = read(prepared, [EN_FR, EN_DE], corpora)
    assert texts(pairs) == [("one", "un")]
    assert texts(pairs, "en-de") == [("one", "eins")]
    assert pairs.reader("en-de", "test").place(0) == f"{tmp_path}/a.tmx:3"
    # Options that fix the languages make it a file of one pair of them.
    fixed = {"source_language": "en", "target_language": "fr"}
    corpora = [EvaluationCorpus("tmx", corpora[0].options | fixed)]
    with pytest.raises(errors.ConfigError, match="holds one pair of languages"):
        read(prepared, [EN_FR, EN_DE], corpora)
    italian = Task("en-it", "en", "it")
    with pytest.raises(errors.DataError, match=r"\(read for task 'en-it'; --tasks chooses"):
        read(prepared, [italian], [EvaluationCorpus("tmx", {"file": str(tmp_path / "a.tmx")})])


def test_every_pair_knows_its_file_and_line(tmp_path, prepared):
    first = tsv(tmp_path / "a.tsv", [("one", "un"), ("", "dropped"), ("two", "deux")])
    for name, lines in (("b.en", ["three", "four"]), ("b.fr", ["trois", "quatre"])):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    for name in ("c.en", "c.fr"):
        (tmp_path / name).write_text("six\n")
    files = {
        "source_file": [str(tmp_path / name) for name in ("b.en", "c.en")],
        "target_file": [str(tmp_path / name) for name in ("b.fr", "c.fr")],
    }
    (tmp_path / "po").mkdir()
    for name in ("fr", "de"):
        (tmp_path / f"po/{name}.po").write_text('msgid "five"\nmsgstr "cinq"\n')
    catalogs = EvaluationCorpus("gettext", {"folders": str(tmp_path / "po")})
    pairs, _ = read(prepared, [EN_FR], [*first, EvaluationCorpus("parallel", files), catalogs])
    reader = pairs.reader("en-fr", "test")
    places = [reader.place(i).removeprefix(f"{tmp_path}/") for i in range(len(reader))]
    assert places == ["a.tsv:1", "a.tsv:3", "b.en:1", "b.en:2", "c.en:1", "po/fr.po:1"]
