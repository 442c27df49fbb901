"""Which rows a new vocabulary takes from an old one."""

import numpy as np
import pytest

from keras_mtl.data.vocabulary_map import Speller, map_vocabulary
from keras_mtl.data.vocabulary_training import TaskText, train_vocabulary

ENGLISH = ["one red house", "two green trees", "the cat sleeps in the house", "good morning"]
CATALAN = ["una casa vermella", "dos arbres verds", "el gat dorm a la casa", "bon dia ŀ"]


def vocabulary(languages, *texts, size=285):
    tasks = [
        TaskText(
            str(number), 20 * len(text), lambda text=text: zip(text * 20, text * 20, strict=True)
        )
        for number, text in enumerate(texts)
    ]
    return train_vocabulary(tasks, languages, size=size, temperature=1.0)


@pytest.fixture(scope="module")
def old():
    return vocabulary(["fr", "es"], ENGLISH)


@pytest.fixture(scope="module")
def new():
    return vocabulary(["fr", "ca"], ENGLISH, CATALAN, size=300)


def test_rows_follow_their_pieces(old, new):
    found = map_vocabulary(old, new)
    rows = np.random.default_rng(1).normal(size=(old.size, 3)).astype(np.float32)
    initial = np.zeros((new.size, 3), np.float32)
    got = found.apply(rows, initial)
    np.testing.assert_array_equal(initial, 0)
    ids = {old.piece(i): i for i in range(old.size)}
    kept = [i for i in range(new.size) if new.piece(i) in ids]
    assert len(kept) == found.kept > 260
    for i in kept:
        np.testing.assert_array_equal(got[i], rows[ids[new.piece(i)]])
    # The projection has the vocabulary on its other axis.
    np.testing.assert_array_equal(found.apply(rows.T, initial.T, axis=1), got.T)
    assert found.kept + found.spelled + found.tags == new.size


def test_a_new_piece_is_the_mean_of_those_that_spell_it(old, new):
    found = map_vocabulary(old, new)
    known = {old.piece(i) for i in range(old.size)}
    made = [i for i in range(4 + len(new.languages), new.size) if new.piece(i) not in known]
    assert len(made) == found.spelled > 5
    for i in made:
        spelled = "".join(old.piece(j) for j in found.sources[i] if not old.is_byte[j])
        in_bytes = [old.piece(j) for j in found.sources[i] if old.is_byte[j]]
        text = new.piece(i)
        if in_bytes:
            rest = "".join(c for c in text if c not in known)
            assert bytes(int(piece[3:5], 16) for piece in in_bytes) == rest.encode()
            text = "".join(c for c in text if c in known)
        assert spelled == text
    rows = np.arange(old.size, dtype=np.float32)[:, None]
    i = made[0]
    expected = np.mean(found.sources[i])
    assert found.apply(rows, np.zeros((new.size, 1), np.float32))[i] == np.float32(expected)


def test_a_new_tag_is_the_mean_of_the_tags(old, new):
    found = map_vocabulary(old, new)
    assert found.tags == 1
    assert found.sources[new.tag_id("ca")] == [old.tag_id("fr"), old.tag_id("es")][::-1]
    assert found.sources[new.tag_id("fr")] == [old.tag_id("fr")]


def test_the_fewest_pieces_spell_a_word(old):
    speller = Speller(old)
    spelled = [old.piece(i) for i in speller.spell("▁house")]
    assert "".join(spelled) == "▁house"
    assert len(spelled) <= len(old.encode("house"))
    assert [old.piece(i) for i in speller.spell("ŀ")] == ["<0xC5>", "<0x80>"]
    assert speller.spell("") == []


def test_the_same_vocabulary_is_the_identity(old):
    assert map_vocabulary(old, old).is_identity
    more = old.with_languages(["de", "fr"])
    assert not map_vocabulary(old, more).is_identity


def test_tags_are_added_after_those_that_exist(old):
    more = old.with_languages(["oc", "de", "fr"])
    assert more.languages == ("es", "fr", "de", "oc")
    assert more.size == old.size + 2
    for text in [*ENGLISH, *CATALAN, "<2de> </s>"]:
        assert [more.piece(i) for i in more.encode(text)] == [
            old.piece(i) for i in old.encode(text)
        ]
        assert more.decode(more.encode(text)) == text
    # A tag is never found in text.
    assert not set(more.encode("<2de>")) & {more.tag_id("de"), more.tag_id("oc")}
    assert old.with_languages(["fr"]) is old
