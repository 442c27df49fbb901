"""Subword sampling draws from the right distribution, keeps the text, and needs no state."""

import collections
import io
import itertools
import math

import numpy as np
import pytest
import sentencepiece

from keras_mtl.data.bpe_dropout import BpeDropout
from keras_mtl.data.keyed_numbers import example_keys, uniforms
from keras_mtl.data.sentencepiece_model import BPE, UNIGRAM, model_type
from keras_mtl.data.subword_samplers import make_sampler
from keras_mtl.data.unigram_sampling import UnigramSampler
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.errors import ConfigError
from tests.data.subword_case import TEXTS, UNSEEN, vocabulary

DRAWS = 4000
both = pytest.mark.parametrize("kind", ["unigram", "bpe"])


def encoded(kind, texts):
    """Pieces and lengths of texts."""
    rows = vocabulary(kind).encode_batch(list(texts))
    return np.array(list(itertools.chain(*rows))), np.array([len(row) for row in rows])


def sampled(sampler, tokens, lengths, keys, most=1000):
    found, sizes = sampler.sample(tokens, lengths, keys, np.maximum(lengths, most))
    return np.split(found, np.cumsum(sizes)[:-1])


def frequencies(sampler, kind, word):
    """How often each segmentation of a word is drawn."""
    tokens, lengths = encoded(kind, [word] * DRAWS)
    keys = example_keys(3, "task", "pieces", 0, np.arange(DRAWS))
    rows = sampled(sampler, tokens, lengths, keys)
    return collections.Counter(tuple(row.tolist()) for row in rows)


def segmentations(pieces, word):
    """All ways to spell a word in pieces."""
    if not word:
        yield ()
    for end in range(1, len(word) + 1):
        if word[:end] in pieces:
            for rest in segmentations(pieces, word[end:]):
                yield (word[:end], *rest)


def assert_close(counts, expected):
    """Every count is within 4.5 standard deviations."""
    assert set(counts) <= set(expected)
    for key, share in expected.items():
        deviation = math.sqrt(DRAWS * share * (1 - share)) + 1e-9
        assert abs(counts[key] - DRAWS * share) < 4.5 * deviation + 1, key


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0])
def test_a_unigram_segmentation_is_as_likely_as_its_power(alpha):
    pieces = vocabulary("unigram").text_pieces()
    weights = {
        tuple(pieces[piece][0] for piece in found): math.exp(
            alpha * sum(pieces[piece][1] for piece in found)
        )
        for found in segmentations(pieces, "▁that")
    }
    assert len(weights) > 4
    total = sum(weights.values())
    expected = {ids: weight / total for ids, weight in weights.items()}
    sampler = UnigramSampler(vocabulary("unigram"), alpha)
    assert_close(frequencies(sampler, "unigram", "that"), expected)


def test_a_merge_is_dropped_with_the_rate():
    """Two merges: `▁` and `t`, `h` and `e`, and then both; each step draws again for the rest."""
    pieces = {piece: token for piece, (token, _) in vocabulary("bpe").text_pieces().items()}
    scores = {piece: score for piece, (_, score) in vocabulary("bpe").text_pieces().items()}
    rate = 0.3
    sampler = BpeDropout(vocabulary("bpe"), rate)

    def distribution(parts):
        """The exact distribution by recursion over which merges are left out."""
        places = [i for i in range(len(parts) - 1) if parts[i] + parts[i + 1] in pieces]
        found = collections.Counter()
        for kept in itertools.product([False, True], repeat=len(places)):
            chance = math.prod(1 - rate if each else rate for each in kept)
            left = [i for i, each in zip(places, kept, strict=True) if each]
            if not left:
                found[tuple(pieces[part] for part in parts)] += chance
                continue
            best = max(left, key=lambda i: (scores[parts[i] + parts[i + 1]], -i))
            merged = (*parts[:best], parts[best] + parts[best + 1], *parts[best + 2 :])
            for ids, rest in distribution(merged).items():
                found[ids] += chance * rest
        return found

    expected = dict(distribution(tuple("▁the")))
    assert len(expected) > 3
    assert_close(frequencies(sampler, "bpe", "the"), expected)


@both
def test_without_randomness_the_segmentation_is_the_usual_one(kind):
    sampler = make_sampler(vocabulary(kind), alpha=200.0, dropout=0.0)
    tokens, lengths = encoded(kind, [*TEXTS, UNSEEN])
    rows = sampled(sampler, tokens, lengths, np.arange(len(lengths), dtype=np.uint64))
    assert np.array_equal(np.concatenate(rows), tokens)


@both
def test_the_text_remains_and_the_limit_holds(kind):
    texts = [*TEXTS, "", UNSEEN] * 20
    sampler = make_sampler(vocabulary(kind), alpha=0.2, dropout=0.4)
    tokens, lengths = encoded(kind, texts)
    keys = example_keys(1, "task", "pieces", 9, np.arange(len(texts)))
    rows = sampled(sampler, tokens, lengths, keys)
    assert vocabulary(kind).decode_batch(rows) == texts
    assert np.mean([len(row) for row in rows]) > 1.05 * lengths.mean()
    for most in (lengths, lengths + 2):
        rows = sampled(sampler, tokens, lengths, keys, most)
        assert vocabulary(kind).decode_batch(rows) == texts
        assert all(len(row) <= limit for row, limit in zip(rows, most, strict=True))


@both
def test_a_text_is_segmented_alike_in_any_company(kind):
    """What was sampled before and what else is sampled does not matter."""
    tokens, lengths = encoded(kind, TEXTS)
    keys = example_keys(1, "task", "pieces", 9, np.arange(len(TEXTS)))
    sampler = make_sampler(vocabulary(kind), alpha=0.2, dropout=0.4)
    rows = sampled(sampler, tokens, lengths, keys)
    alone = make_sampler(vocabulary(kind), alpha=0.2, dropout=0.4)
    for number in reversed(range(len(TEXTS))):
        part = encoded(kind, TEXTS[number : number + 1])
        (row,) = sampled(alone, *part, keys[number : number + 1])
        assert np.array_equal(row, rows[number])
    others = sampled(sampler, tokens, lengths, example_keys(1, "task", "pieces", 10, np.arange(5)))
    assert any(not np.array_equal(a, b) for a, b in zip(rows, others, strict=True))


def test_a_model_without_other_segmentations_is_refused():
    output = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=output,
        model_type="char",
        vocab_size=40,
        hard_vocab_limit=False,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        minloglevel=3,
    )
    with pytest.raises(ConfigError, match="there is nothing to sample; use a unigram or BPE model"):
        make_sampler(Vocabulary(output.getvalue()), 0.3, 0.1)


def test_the_type_of_a_model_is_read_from_it():
    assert model_type(vocabulary("unigram").model_bytes) == UNIGRAM
    assert model_type(vocabulary("bpe").model_bytes) == BPE


def test_numbers_are_uniform_and_independent_of_other_keys():
    keys = example_keys(1, "a", "noise", 0, np.arange(2000))
    counts = np.full(2000, 5)
    numbers = uniforms(keys, counts)
    assert 0 <= numbers.min() < numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(numbers.reshape(-1, 5).T) - np.eye(5)).max() < 0.1
    assert np.array_equal(uniforms(keys[7:9], counts[7:9]), numbers[35:45])
    for other in (
        example_keys(2, "a", "noise", 0, np.arange(9)),
        example_keys(1, "b", "noise", 0, np.arange(9)),
        example_keys(1, "a", "pieces", 0, np.arange(9)),
        example_keys(1, "a", "noise", 1, np.arange(9)),
    ):
        assert not set(other.tolist()) & set(keys.tolist())
