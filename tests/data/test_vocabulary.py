"""The vocabulary: fixed ids, exact round trips, the same model everywhere, messages that help."""

import hashlib
import io
import subprocess
import sys

import numpy as np
import pytest
import sentencepiece

from keras_mtl import errors
from keras_mtl.data import vocabulary_training
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.data.vocabulary_training import TaskText, train_vocabulary

PAIRS = [
    (f"the {noun} number {i} is {adjective}", f"le {nom} numéro {i} est {adjectif}")
    for i in range(60)
    for noun, nom in (("house", "maison"), ("river", "fleuve"), ("window", "fenêtre"))
    for adjective, adjectif in (("large", "grand"), ("small", "petit"), ("green", "vert"))
]
TEXT = TaskText("en-fr", len(PAIRS), lambda: iter(PAIRS))


def train(size=300, languages=("fr", "de"), **options):
    return train_vocabulary([TEXT], languages, size=size, **options)


@pytest.fixture(scope="module")
def vocabulary():
    return train()


def test_special_ids_tags_and_bytes_have_their_places(vocabulary):
    assert vocabulary.size == 300
    assert (vocabulary.pad_id, vocabulary.bos_id, vocabulary.eos_id, vocabulary.unk_id) == (
        0,
        1,
        2,
        3,
    )
    assert [vocabulary.piece(i) for i in range(6)] == [
        "<pad>",
        "<s>",
        "</s>",
        "<unk>",
        "<2de>",
        "<2fr>",
    ]
    assert vocabulary.languages == ("de", "fr")
    assert vocabulary.tag_id("fr") == 5
    assert vocabulary.is_byte[6:262].all()
    assert not vocabulary.is_byte[262:].any()


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_round_trip_is_exact_also_for_unseen_characters_and_spaces(model_type):
    vocabulary = train(model_type=model_type)
    texts = [
        "the large window",
        "two  spaces",
        " leading and trailing ",
        "日本語 🎉 ελληνικά",
        "a<2fr>b",
        "</s> is text here",
        "x",
    ]
    batch = vocabulary.encode_batch(texts)
    assert batch == [vocabulary.encode(text) for text in texts]
    assert vocabulary.decode_batch(batch) == texts
    assert not any(vocabulary.unk_id in ids for ids in batch)
    assert not any(set(ids) & {0, 1, 2} for ids in batch)


# What looks like a tag, a special id, a byte piece or the sign of a space.
SPECIAL_TEXT = ("<2fr>", "the <2de> river", "a<2fr>b", "</s> x<s>", "<pad><unk>", "<0x41> <0x0A>")


def old_model(model_type="unigram"):
    """A vocabulary as older versions trained it: tags are user-defined symbols."""
    output = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(text for _ in range(2) for pair in PAIRS for text in pair),
        model_writer=output, vocab_size=300, model_type=model_type, character_coverage=0.9995,
        pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="<pad>", num_threads=4,
        user_defined_symbols=["<2de>", "<2fr>"], byte_fallback=True, minloglevel=3,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
    )  # fmt: skip
    return output.getvalue()


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize("age", ["old", "new"])
def test_tags_and_special_ids_in_text_are_text(age, model_type):
    vocabulary = Vocabulary(old_model(model_type)) if age == "old" else train(model_type=model_type)
    assert vocabulary.languages == ("de", "fr")
    batch = vocabulary.encode_batch(SPECIAL_TEXT)
    assert batch == [vocabulary.encode(text) for text in SPECIAL_TEXT]
    assert min(map(min, batch)) > vocabulary.tag_id("fr")
    assert vocabulary.decode_batch(batch) == list(SPECIAL_TEXT)
    # U+2581 is SentencePiece's own sign of a space.
    assert vocabulary.encode("the\u2581river") == vocabulary.encode("the river")
    # What any other tokenizer gets, such as that of an exported model, encodes the same ids.
    other = sentencepiece.SentencePieceProcessor(model_proto=vocabulary.tokenizer_bytes)
    assert other.encode(list(SPECIAL_TEXT)) == batch


def test_tags_decode_to_nothing(vocabulary):
    ids = [vocabulary.tag_id("fr"), *vocabulary.encode("the river"), vocabulary.eos_id]
    assert vocabulary.decode(ids) == Vocabulary(old_model()).decode(ids) == "the river"


def test_an_old_vocabulary_keeps_its_ids_its_bytes_and_its_hash():
    data = old_model()
    plain = sentencepiece.SentencePieceProcessor(model_proto=data)
    assert "<2fr>" in plain.encode("a<2fr>b", out_type=str)  # The fault that this repairs.
    old = Vocabulary(data)
    texts = [text for pair in PAIRS for text in pair]
    assert old.encode_batch(texts) == plain.encode(texts)
    assert [old.piece(i) for i in range(300)] == [plain.id_to_piece(i) for i in range(300)]
    assert old.model_bytes == data
    assert old.hash == hashlib.blake2b(data, digest_size=16).hexdigest()
    again = Vocabulary(old.tokenizer_bytes)
    assert again.tokenizer_bytes == again.model_bytes == old.tokenizer_bytes


def test_the_new_type_of_tags_changes_no_id(monkeypatch):
    """A vocabulary that is trained on the same sentences has the ids that older versions gave."""
    sentences = [text for _ in range(2) for pair in PAIRS for text in pair]
    monkeypatch.setattr(vocabulary_training, "_sample", lambda *_: iter(sentences))
    new, old = train(), Vocabulary(old_model())
    assert [new.piece(i) for i in range(300)] == [old.piece(i) for i in range(300)]
    texts = [text for pair in PAIRS for text in pair]
    assert new.encode_batch(texts) == old.encode_batch(texts)


def test_decode_ignores_padding_and_ends_and_takes_arrays(vocabulary):
    ids = np.array([1, *vocabulary.encode("the river"), 2, 0, 0], np.int32)
    assert vocabulary.decode(ids) == "the river"
    assert vocabulary.decode([]) == ""
    assert vocabulary.decode_batch([]) == []


def test_decode_names_an_id_out_of_range(vocabulary):
    for wrong in (300, -1):
        with pytest.raises(errors.InputError, match=f"id {wrong} .* 300 pieces"):
            vocabulary.decode([5, wrong])


def test_training_is_deterministic_and_seeded(vocabulary):
    again = train()
    assert again.model_bytes == vocabulary.model_bytes
    assert again.hash == vocabulary.hash
    assert train(max_sentences=300, seed=1).hash != train(max_sentences=300, seed=2).hash


def test_sample_follows_the_temperature():
    tasks = [
        TaskText("large", 900, lambda: iter([("large", "large")] * 900)),
        TaskText("small", 9, lambda: iter([("small", "small")] * 9)),
    ]

    def share(temperature):
        sample = list(vocabulary_training._sample(tasks, temperature, 1000, seed=1))
        assert 900 <= len(sample) <= 1100
        return sample.count("small") / len(sample)

    assert share(1.0) == pytest.approx(9 / 909, abs=0.01)
    assert share(2.0) == pytest.approx(1 / 11, abs=0.03)
    assert share(1e9) == pytest.approx(0.5, abs=0.05)


def test_a_size_too_large_names_the_largest_which_then_works():
    with pytest.raises(errors.ConfigError, match=r"vocabulary\.size: 9000 .* (\d+)$") as caught:
        train(size=9000)
    largest = int(str(caught.value).rsplit(" ", 1)[1])
    assert train(size=largest).size == largest


def test_a_size_too_small_names_the_need():
    with pytest.raises(errors.ConfigError, match=r"vocabulary\.size: 200 is too small.* 2\d\d"):
        train(size=200)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("model_type", "word"),
        ("temperature", 0.5),
        ("temperature", float("nan")),
        ("character_coverage", 0.0),
        ("max_sentences", 0),
    ],
)
def test_settings_out_of_range_name_field_and_value(option, value):
    with pytest.raises(errors.ConfigError, match=rf"vocabulary\.{option}: .*{value}"):
        train(**{option: value})


def test_no_text_is_an_error():
    with pytest.raises(errors.ConfigError, match="no text"):
        train_vocabulary([TaskText("t", 0, lambda: iter(()))], ["fr"], size=300)


def test_unknown_language_names_the_nearest(vocabulary):
    with pytest.raises(errors.DataError, match=r"'frr'; did you mean 'fr'"):
        vocabulary.tag_id("frr")


def test_damaged_files_are_refused(vocabulary, tmp_path):
    path = tmp_path / "vocabulary.model"
    data = vocabulary.model_bytes
    for damaged in (b"", b"text", data[:-7], data[: len(data) // 2], b"\xff" * 50 + data[50:]):
        path.write_bytes(damaged)
        with pytest.raises(errors.DataError, match=r"vocabulary\.model: damaged"):
            Vocabulary.load(path)
    with pytest.raises(errors.DataError, match=r"missing\.model: cannot read"):
        Vocabulary.load(tmp_path / "missing.model")
    path.write_bytes(data)
    assert Vocabulary.load(path).hash == vocabulary.hash


def test_a_model_with_other_special_ids_is_refused(tmp_path):
    program = f"""
import io, sentencepiece
out = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter({[s for s, _ in PAIRS[:50]]!r}), model_writer=out, vocab_size=60,
    hard_vocab_limit=False, minloglevel=3)
open({str(tmp_path / "other.model")!r}, "wb").write(out.getvalue())
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(errors.DataError, match=r"other\.model: ids 0 to 3 .*<unk>, <s>, </s>"):
        Vocabulary.load(tmp_path / "other.model")


def test_sentencepiece_stays_silent(capfd):
    train()
    with pytest.raises(errors.ConfigError):
        train(size=9000)
    with pytest.raises(errors.DataError):
        Vocabulary(b"text")
    assert capfd.readouterr() == ("", "")


def test_a_task_with_more_pairs_than_its_size_is_named():
    texts = [TaskText("en-fr", 1, lambda: iter([("one", "un"), ("two", "deux")]))]
    with pytest.raises(errors.DataError, match="'en-fr' has more pairs than its size, 1"):
        train_vocabulary(texts, ["fr"], size=300)
