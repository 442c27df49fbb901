"""Each rule, its count, and the set of hashes that finds duplicates."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_mtl.configuration.schema import CleaningConfig
from keras_mtl.data import cleaning


@pytest.mark.parametrize(
    ("source", "target", "rule"),
    [
        ("a\x00b", "c", "control"),
        ("a", "b\ufffd", "control"),
        ("a\x1bb", "c", "control"),
        ("", "x", "empty"),
        ("x", " \u00a0\u200b ", "empty"),
        ("same", " same", "identical"),
        ("x" * 21, "y" * 20, "too_long"),
        ("x", "y" * 14, "ratio"),
        ("kept", "gardé", "kept"),
        ("one", "three words it", "kept"),
    ],
)
def test_rules(source, target, rule):
    cleaner = cleaning.Cleaner(
        CleaningConfig(max_characters=20, max_length_ratio=4, ratio_slack=12)
    )
    cleaned = cleaner.clean(source, target)
    assert (cleaned is None) == (rule != "kept")
    assert getattr(cleaner.counts, rule) == cleaner.counts.read == 1
    dropped = {name: count for name, count in cleaner.counts.rows() if name != "normalized"}
    assert sum(dropped.values()) == 2  # once as read, once under its rule


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("Hide this notification message", "隐藏此通知消息"),
        ("Hide this notification message", "隱藏通知"),
        ("Could not open the selected file", "열기 실패"),
        ("Could not open the selected file", "開けません"),
        ("The password was changed yesterday", "ይለፍ ቃል ተቀይሯል"),
    ],
)
def test_short_scripts_are_not_dropped_for_their_length(source, target):
    # All but the first were dropped when lengths were counted in characters.
    assert cleaning.Cleaner().clean(source, target) is not None
    assert cleaning.Cleaner().clean(target, source) is not None


def test_a_misaligned_pair_is_dropped_in_every_script():
    text = "这个选项决定在启动程序时是否显示通知消息"  # 20 characters: some 60 letters.
    assert len(text) - len("Open") == 16
    cleaner = cleaning.Cleaner()
    assert cleaner.clean("Open", text) is None
    assert cleaner.clean("Do not open", text) is None  # Not dropped by characters.
    assert cleaner.counts.ratio == 2


@given(st.text(st.characters(max_codepoint=0x10FF)))
def test_letters_of_alphabets_are_characters(text):
    assert cleaning.letters(text) == len(text)


@given(st.text())
def test_letters_stay_within_the_bound_that_saves_counting_them(text):
    assert len(text) <= cleaning.letters(text) <= cleaning._MOST_LETTERS * len(text)


def test_letters():
    assert cleaning.letters("OK，确定") == 3 + 2 * 3
    assert cleaning.letters("ファイル(F)") == 4 * 2 + 3
    assert cleaning.letters("한글 hangul") == 2 * 2 + 7


def test_normalization():
    cleaner = cleaning.Cleaner()
    assert cleaner.clean("  cafe\u0301\u00a0\t noir ", "so\u00adft\u2009\u2013 x\n") == (
        "café noir",
        "soft \u2013 x",
    )
    assert cleaner.counts.normalized == 1


@given(st.text())
def test_normalization_is_idempotent(text):
    once = cleaning.normalize(text)
    assert cleaning.normalize(once) == once


def test_duplicates_are_found_after_normalization():
    cleaner = cleaning.Cleaner()
    assert cleaner.clean("a b", "c") is not None
    assert cleaner.clean("a  b ", "c") is None
    assert cleaner.clean("a b", "d") is not None
    assert (cleaner.counts.duplicate, cleaner.counts.kept) == (1, 2)


def test_rules_can_be_switched_off():
    settings = CleaningConfig(drop_identical=False, drop_duplicates=False)
    cleaner = cleaning.Cleaner(settings)
    assert [cleaner.clean("a", "a") for _ in range(2)] == [("a", "a")] * 2


def test_hash_set_is_a_set():
    generator = random.Random(1)
    values = [generator.randrange(2**64) for _ in range(5000)]
    values += [0, 2**64 - 1, *values[:1000], *range(0, 2**20, 2**10)]
    ours, pythons = cleaning.HashSet(), set()
    for value in values:
        assert ours.add(value) == (value not in pythons)
        pythons.add(value)
    assert len(ours) == len(pythons)
