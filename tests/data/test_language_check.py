"""A corpus whose sides are exchanged or in another language is named; right ones never are."""

import itertools

import pytest

from keras_mtl.configuration.schema import CorpusConfig, DataConfig, PairConfig, VocabularyConfig
from keras_mtl.data import corpora
from keras_mtl.data.evaluation_sets import EvaluationCorpus, read_evaluation_set
from keras_mtl.data.language_check import SAMPLE_SIZE, Sample, language_warning, spread
from keras_mtl.data.prepare import prepare
from keras_mtl.data.prepare_report import sample_lines

CLOSE = ["da", "nb", "pt", "gl", "es", "ca", "cs", "sk", "hr", "sr", "sr-Latn", "id", "ms"]
OTHERS = ["fr", "de", "it", "ru", "zh", "ja", "ko", "ar", "hi", "tr", "fi"]


def pairs(language, source="en", count=150):
    """Dates, quantities, names and lists: harder to judge than sentences."""
    reader = corpora.create_reader("cldr", source, language, {"pairs": count, "seed": 3})
    return [(pair.source, pair.target) for pair in reader]


@pytest.mark.parametrize("language", CLOSE + OTHERS)
def test_right_corpora_raise_no_alarm(language):
    assert language_warning("en", language, pairs(language)) is None


@pytest.mark.parametrize("language", CLOSE + OTHERS)
def test_exchanged_sides_are_named(language):
    exchanged = [pair[::-1] for pair in pairs(language)]
    assert "exchanged" in language_warning("en", language, exchanged)


@pytest.mark.parametrize(("one", "other"), [("da", "nb"), ("cs", "sk"), ("pt", "gl"), ("hr", "sr")])
def test_close_relatives_raise_no_alarm(one, other):
    assert language_warning(one, other, pairs(other, one)) is None


SENTENCES = {
    "en": [
        "The file could not be opened because it does not exist.",
        "Choose the language in which the program shows its messages.",
        "Please wait while the pictures are being copied.",
        "This password is too short, and anyone could guess it.",
        "Show the number of words at the bottom of the window.",
    ],
    "fr": [
        "Le fichier n'a pas pu être ouvert car il n'existe pas.",
        "Choisissez la langue dans laquelle le programme affiche ses messages.",
        "Veuillez patienter pendant la copie des images.",
        "Ce mot de passe est trop court et n'importe qui pourrait le deviner.",
        "Afficher le nombre de mots au bas de la fenêtre.",
    ],
    "de": [
        "Die Datei konnte nicht geöffnet werden, weil es sie nicht gibt.",
        "Wählen Sie die Sprache, in der das Programm seine Meldungen anzeigt.",
        "Bitte warten Sie, während die Bilder kopiert werden.",
        "Dieses Passwort ist zu kurz, und jeder könnte es erraten.",
        "Die Anzahl der Wörter am unteren Rand des Fensters anzeigen.",
    ],
}


def sentences(source, target):
    return list(zip(SENTENCES[source], SENTENCES[target], strict=True)) * 5


def test_another_language_is_named():
    text = language_warning("en", "fr", sentences("en", "de"))
    assert text == "the target is not 'fr': 100% of 25 texts look like 'de'"
    text = language_warning("en", "fr", sentences("de", "fr"))
    assert text == "the source is not 'en': 100% of 25 texts look like 'de'"
    assert language_warning("de", "fr", sentences("de", "fr")) is None
    assert "exchanged" in language_warning("fr", "de", sentences("de", "fr"))


def test_a_target_that_was_not_translated_is_named():
    text = language_warning("en", "fr", sentences("en", "en"))
    assert text == "the target is not 'fr': 100% of 25 texts look like 'en'"


@pytest.mark.parametrize(("source", "target"), [("en", "xx"), ("qaa", "qab"), ("en", "be-Latn")])
def test_languages_that_are_not_known_are_not_judged(source, target):
    assert language_warning(source, target, pairs("fr")) is None


def test_an_unknown_language_on_the_other_side_hides_nothing():
    text = language_warning("en", "xx", [pair[::-1] for pair in pairs("fr")])
    assert text.startswith("the source is not 'en'")
    assert text.endswith("are the sides exchanged?")


def test_few_pairs_and_pairs_without_words_prove_nothing():
    exchanged = [pair[::-1] for pair in pairs("fr")]
    assert language_warning("en", "fr", exchanged[:19]) is None
    assert language_warning("en", "fr", [("1.2.3 %s", "!? 17")] * 100) is None
    assert language_warning("en", "fr", []) is None


def test_a_sample_spreads_over_the_stream():
    for length in (0, 5, SAMPLE_SIZE, 12_345):
        sample = Sample()
        for i in range(length):
            sample.add((str(i), ""))
        numbers = [int(source) for source, _ in sample.pairs]
        assert min(length, SAMPLE_SIZE) <= len(numbers) <= 2 * SAMPLE_SIZE
        steps = {b - a for a, b in itertools.pairwise(numbers)}
        assert len(steps) <= 1
        assert not numbers or numbers[-1] + max(steps) >= length
    assert spread([("a", ""), ("b", "")], 3) == [("a", ""), ("b", "")]
    assert [source for source, _ in spread([(str(i), "") for i in range(9)], 3)] == ["1", "4", "7"]


def test_sample_pairs_fit_the_terminal():
    long = "a long sentence " * 20
    lines = sample_lines([("short", "court"), (long, long), ("确定" * 100, "ok")], 60)
    assert lines[0] == "  short ||| court"
    assert lines[1].startswith("  a long sentence a long")
    assert lines[1].count("... |||") == 1
    assert all(len(line) <= 60 for line in lines)
    assert lines[2].count("确定") == 5 or len(lines[2]) < 40


def test_prepare_shows_pairs_and_repeats_its_warnings(tmp_path):
    lines = [f"{target}\t{source}" for source, target in pairs("fr", count=400)]
    (tmp_path / "a.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    corpus = CorpusConfig("tsv", {"file": str(tmp_path / "a.tsv")})
    columns = {"source_column": 1, "target_column": 0}
    right = CorpusConfig("tsv", {"file": str(tmp_path / "a.tsv"), **columns})
    tasks = [PairConfig("en-fr", "en", "fr", [right], [corpus])]
    settings = DataConfig(vocabulary=VocabularyConfig(size=600), test_fraction=0.1)
    for _ in range(2):
        log = []
        data = prepare(tasks, tmp_path / "data", settings, log=log.append)
        (warning,) = [line for line in log if line.startswith("warning: ")]
        assert warning.startswith("warning: task 'en-fr': dev_corpora[0] (reader 'tsv'): the sides")
        assert data.warnings == [warning.removeprefix("warning: ")]
        assert len(data.samples["en-fr"]) == 3


def test_evaluate_is_told_of_an_exchanged_test_set(tmp_path):
    lines = [f"{target}\t{source}" for source, target in sentences("en", "fr")]
    (tmp_path / "a.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    corpus = EvaluationCorpus("tsv", {"file": str(tmp_path / "a.tsv")}, None)
    log = []
    task = PairConfig("en-fr", "en", "fr", [CorpusConfig("tsv")])
    read_evaluation_set([task], [corpus], None, log.append)
    assert f"warning: task 'en-fr': {tmp_path / 'a.tsv'}: the sides seem" in log[-1]


def test_pairs_that_differ_in_numbers_only_prove_nothing():
    pairs = [(f"Settings {number}", f"Подешавања {number}") for number in range(60)]
    assert language_warning("en", "sr", pairs) is None
