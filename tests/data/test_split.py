"""The split is a function of the source sentence alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_mtl.data import split


def test_hash_is_fixed():
    # Golden values: a change would move sentences of prepared corpora between train and test.
    assert split.source_hash("Hello world") == 0xA83272EE65149C7A
    assert split.pair_hash("Hello world", "Bonjour") == 0xD7B2F8F16FFEFA07


@given(st.text())
def test_spelling_does_not_move_a_sentence(text):
    value = split.source_hash(text)
    assert 0 <= value < 2**64
    assert value == split.source_hash(f"  {text}\n") == split.source_hash(text.replace(" ", "  "))


def test_case_and_composition_do_not_move_a_sentence():
    assert split.source_hash("CAFÉ noir") == split.source_hash("cafe\u0301\u00a0Noir")


def test_no_sentence_of_one_task_leaks_into_anothers_test():
    tasks = {
        task: [f"sentence {i}" for i in range(start, start + 3000)]
        for task, start in (("en-fr", 0), ("en-de", 1500))
    }
    parts = {
        name: {
            s for sources in tasks.values() for s in sources if split.split_of(s, 0.1, 0.1) == name
        }
        for name in split.SPLITS
    }
    assert not parts["train"] & parts["test"]
    assert not parts["train"] & parts["dev"]
    assert not parts["dev"] & parts["test"]


def test_fractions():
    names = [split.split_of(str(i), 0.02, 0.05) for i in range(50_000)]
    assert names.count("dev") == pytest.approx(1000, abs=150)
    assert names.count("test") == pytest.approx(2500, abs=250)
    assert all(split.split_of(str(i), 0, 0) == "train" for i in range(1000))


def test_a_larger_dev_takes_nothing_from_test():
    small = {i for i in range(5000) if split.split_of(str(i), 0.01, 0.05) == "test"}
    large = {i for i in range(5000) if split.split_of(str(i), 0.20, 0.05) == "test"}
    assert small == large
