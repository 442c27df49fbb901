"""Noise of denoising tasks: what it may change, how often it does, and that it needs no state."""

import itertools

import numpy as np
import pytest

from keras_mtl.configuration.other_tasks import NoiseConfig
from keras_mtl.data.keyed_numbers import example_keys
from keras_mtl.data.noise import BLANK_ID, make_noise
from tests.data.subword_case import TEXTS, vocabulary

WORDS = vocabulary("unigram")
COPIES = 400
NOTHING = {"drop": 0.0, "blank": 0.0, "shuffle": 0}


def noisy(texts=TEXTS * COPIES, step=0, first=0, **config):
    """Rows of sources and of targets."""
    rows = WORDS.encode_batch(list(texts))
    tokens = np.array(list(itertools.chain(*rows)), np.int32)
    lengths = np.array([len(row) for row in rows])
    keys = example_keys(1, "task", "noise", step, np.arange(first, first + len(rows)))
    noise = make_noise(WORDS, NoiseConfig(**config))
    sides = noise(tokens, lengths, keys)
    source_limit, target_limit = noise.longest(lengths)
    assert (sides.source_lengths <= source_limit).all()
    assert (sides.target_lengths <= target_limit).all()
    source = np.split(sides.source, np.cumsum(sides.source_lengths)[:-1])
    target = np.split(sides.target, np.cumsum(sides.target_lengths)[:-1])
    return source, target


def words(row):
    """The words of a row, each as a tuple of ids; blanks are words."""
    pieces = [(int(token), WORDS.piece(int(token))) for token in row]
    found = []
    for token, piece in pieces:
        if token == BLANK_ID or piece.startswith("▁") or not found or found[-1] == (BLANK_ID,):
            found.append((token,))
        else:
            found[-1] = (*found[-1], token)
    return found


def test_words_are_dropped_whole_at_the_rate():
    sources, targets = noisy(**NOTHING | {"drop": 0.3})
    total = kept = 0
    for source, target in zip(sources, targets, strict=True):
        remaining = iter(words(target))
        assert all(word in remaining for word in words(source))  # In order.
        total, kept = total + len(words(target)), kept + len(words(source))
        assert len(source)
    assert 1 - kept / total == pytest.approx(0.3, abs=0.02)


def test_one_word_is_left_of_every_text():
    sources, _ = noisy(["cat", "the mat"] * 50, **NOTHING | {"drop": 0.999})
    assert {len(words(source)) for source in sources} == {1}


def test_blanks_replace_words():
    sources, targets = noisy(**NOTHING | {"blank": 0.25})
    total = blank = 0
    for source, target in zip(sources, targets, strict=True):
        assert len(words(source)) == len(words(target))
        for ours, theirs in zip(words(source), words(target), strict=True):
            assert ours in (theirs, (BLANK_ID,))
            blank += ours == (BLANK_ID,)
            total += 1
    assert blank / total == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("unit", ["word", "piece"])
def test_nothing_moves_further_than_shuffle(unit):
    texts = ["the cat sat on that mat here"] * 300
    sources, targets = noisy(texts, **NOTHING | {"shuffle": 2, "unit": unit})
    split = words if unit == "word" else lambda row: [(int(token),) for token in row]
    moves = set()
    for source, target in zip(sources, targets, strict=True):
        before, after = split(target), split(source)
        assert sorted(before) == sorted(after)
        if unit == "word":  # All words differ, so their moves are known.
            moves |= {after.index(word) - place for place, word in enumerate(before)}
    assert moves == ({-2, -1, 0, 1, 2} if unit == "word" else set())


def test_mass_masks_one_span_which_is_the_target():
    begins = set()
    sources, targets = noisy(method="mass", span=0.4)
    originals = WORDS.encode_batch(list(TEXTS * COPIES))
    for source, target, text in zip(sources, targets, originals, strict=True):
        masked = np.flatnonzero(source == BLANK_ID)
        assert len(masked) == max(1, round(0.4 * len(text)))
        assert masked[-1] - masked[0] == len(masked) - 1
        assert target.tolist() == [text[place] for place in masked]
        restored = source.copy()
        restored[masked] = target
        assert restored.tolist() == text
        begins.add((len(text), int(masked[0])))
    longest = max(len(text) for text in originals)
    most = longest - round(0.4 * longest)
    assert {begin for length, begin in begins if length == longest} == set(range(most + 1))


@pytest.mark.parametrize("config", [{}, {"method": "mass"}])
def test_noise_is_a_function_of_step_and_example(config):
    sources, targets = noisy(TEXTS, **config)
    for number, text in enumerate(TEXTS):
        ((source,), (target,)) = noisy([text], first=number, **config)
        assert np.array_equal(source, sources[number])
        assert np.array_equal(target, targets[number])
    others, _ = noisy(TEXTS, step=1, **config)
    assert any(not np.array_equal(a, b) for a, b in zip(sources, others, strict=True))
