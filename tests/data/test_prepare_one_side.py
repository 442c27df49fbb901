"""prepare: tasks with one side keep only the text of their target language."""

import dataclasses

import pytest
from test_prepare import NUMBERS, SETTINGS, TRANSLATED, run, sentence, task, texts

from keras_mtl import errors
from keras_mtl.configuration.schema import CorpusConfig, PairConfig, VocabularyConfig
from keras_mtl.data import corpora, split

SMALL = dataclasses.replace(SETTINGS, vocabulary=VocabularyConfig(size=286))
LANGUAGE_MODEL = {"kind": "language_model", "name": "fr-lm"}


def mono(tmp_path, lines, **fields):
    path = tmp_path / "mono.fr"
    path.write_text("".join(f"{line}\n" for line in lines))
    corpus = CorpusConfig("text", {"file": str(path)})
    return PairConfig(target="fr", corpora=[corpus], **{"kind": "denoising"} | fields)


def test_one_side_of_a_corpus_is_split_like_its_translation(tmp_path):
    data = run(tmp_path, [task(), task(**LANGUAGE_MODEL)])
    for part in split.SPLITS:
        both, one = texts(data, "en-fr", part), texts(data, "fr-lm", part)
        assert {("", target) for _, target in both} == set(one)
        reader = data.reader("fr-lm", part)
        if reader.has_text:
            assert set(reader.texts()) == set(one)
    entry = data.task("fr-lm")
    assert entry.source_tokens == 0
    assert entry.target_tokens == data.task("en-fr").target_tokens
    data.verify()
    assert run(tmp_path, [task(), task(**LANGUAGE_MODEL)]).log[0].endswith("used as it is")
    # The store suits every kind with one side, but not translation.
    run(tmp_path, [task(), task(name="fr-lm", kind="denoising")])
    with pytest.raises(errors.DataError, match=r'fr-lm.sides: "target" -> "both"'):
        run(tmp_path, [task(), task(name="fr-lm")])


def test_text_of_one_language_is_both_sides(tmp_path):
    lines = [sentence(i, TRANSLATED["fr"]) for i in range(400)]
    data = run(tmp_path, [mono(tmp_path, [*lines, "", *lines[:9]])], SMALL)
    (entry,) = data.tasks
    assert (entry.name, entry.source, entry.target) == ("fr-denoising", "fr", "fr")
    assert entry.counts["duplicate"] == 9
    assert entry.counts["empty"] == 1
    found = [text for part in split.SPLITS for _, text in texts(data, entry.name, part)]
    assert sorted(found) == sorted(lines)
    assert {source for source, _ in texts(data, entry.name, "train")} == {""}
    # No task trains on a held-out sentence of another one.
    again = run(tmp_path / "both", [task("fr", "en"), mono(tmp_path, lines)], SMALL)
    held_out = {source for source, _ in texts(again, "fr-en", "test")}
    assert held_out
    assert held_out.isdisjoint(text for _, text in texts(again, "fr-denoising", "train"))


def test_rules_that_compare_sides_do_not_count(tmp_path):
    """Pairs of equal or unequal sides are text as any other."""
    long = " ".join(NUMBERS)
    path = tmp_path / "pairs.tsv"
    rows = [f"{i}\t{sentence(i, NUMBERS)} {long}" for i in range(200)]
    path.write_text("\n".join(rows))
    corpus = CorpusConfig("tsv", {"file": str(path)})
    (entry,) = run(tmp_path, [PairConfig("x", "fr", "en", [corpus], kind="denoising")], SMALL).tasks
    assert entry.train_size + entry.dev_size + entry.test_size == 200


def test_the_text_reader(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfun\r\ndeux\n" + b"trois\n" * 200 + b"\xff\n")
    stream = corpora.read_pairs(corpora.create_reader("text", "fr", "fr", {"file": str(path)}))
    pairs = list(stream)
    assert [(p.source, p.target, p.line) for p in pairs[:2]] == [
        ("un", "un", 1),
        ("deux",) * 2 + (2,),
    ]
    assert (len(pairs), stream.bad) == (202, 1)
    with pytest.raises(
        errors.ConfigError, match=r"text of one language, but its task is from 'en'"
    ):
        corpora.create_reader("text", "en", "fr", {"file": str(path)})
    with pytest.raises(errors.DataError, match=r"no/such"):
        corpora.create_reader("text", "fr", "fr", {"file": "no/such"})
