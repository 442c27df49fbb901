"""Beam search against a slow reference, against brute force, and as a graph and under XLA."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mtl.decoding.beam_search import beam_search, raise_on_nan
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.errors import InputError, KerasMtlError
from tests.decoding import reference, tables

BATCH, STEPS, V, EOS = 5, 6, 9, 2

OPTIONS = {
    "default": BeamOptions(max_length=STEPS, num_hypotheses=3),
    "plain": BeamOptions(max_length=STEPS, length_penalty="none", num_hypotheses=2, min_length=0),
    "patient": BeamOptions(
        max_length=STEPS, length_penalty="gnmt", alpha=0.6, patience=2.0, num_hypotheses=4
    ),
    "greedy": BeamOptions(beam_size=1, max_length=STEPS, min_length=0),
    "lingvo": BeamOptions(beam_size=2, max_length=STEPS, length_penalty="lingvo", min_length=3),
    "wide": BeamOptions(
        beam_size=9,
        num_hypotheses=5,
        max_length=STEPS,
        length_penalty="constant",
        length_penalty_constant=2.0,
        alpha=2.0,
        min_length=0,
        patience=0.6,
        suppress=(0, 5),
    ),
}


@functools.cache
def compiled(options, batch=BATCH, steps=STEPS, vocabulary_size=V, jit=False, logs=True):
    """One compiled search for each set of options; everything else is an input."""

    def search(table, max_lengths, prefix, prefix_lengths):
        return beam_search(
            tables.step,
            tables.start(table, options.beam_size),
            tables.reorder,
            batch,
            vocabulary_size,
            options,
            eos_id=EOS,
            max_lengths=max_lengths,
            max_steps=steps,
            prefix=prefix,
            prefix_lengths=prefix_lengths,
            log_probabilities=logs,
        )

    integers = tf.TensorSpec([batch], tf.int32)
    return tf.function(search, jit_compile=jit, autograph=False).get_concrete_function(
        tf.TensorSpec([batch, steps, tables.ROWS, vocabulary_size], tf.float32),
        integers,
        tf.TensorSpec([batch, 2], tf.int32),
        integers,
    )


def run(options, table, max_lengths=None, prefix=None, prefix_lengths=None, **settings):
    batch, steps, _, vocabulary_size = table.shape
    search = compiled(options, batch, steps, vocabulary_size, **settings)
    if max_lengths is None:
        max_lengths = np.full([batch], options.max_length)
    if prefix is None:
        prefix, prefix_lengths = np.zeros([batch, 2]), np.zeros([batch])
    arguments = [np.asarray(a, np.int32) for a in (max_lengths, prefix, prefix_lengths)]
    result = search(tf.constant(table), *map(tf.constant, arguments))
    return [part.numpy() for part in result if part is not None]  # There are no alignments.


def hypotheses(result, sentence):
    ids, lengths, scores, log_p, counts, *_ = result
    return [
        (list(ids[sentence, i, : lengths[sentence, i]]), scores[sentence, i], log_p[sentence, i])
        for i in range(counts[sentence])
    ]


def expect(options, table, max_lengths, prefixes, result, log_probabilities=True, exact=True):
    model = tables.TableModel(table)
    for i in range(len(table)):
        want = reference.search_sentence(
            model.sentence(i),
            table.shape[-1],
            options,
            max_lengths[i],
            EOS,
            prefixes[i],
            log_probabilities,
        )
        have = hypotheses(result, i)
        assert [h[0] for h in have] == [w[0] for w in want]
        tolerance = 0 if exact else 1e-5
        np.testing.assert_allclose([h[1] for h in have], [w[1] for w in want], tolerance, tolerance)
        np.testing.assert_allclose([h[2] for h in have], [w[2] for w in want], tolerance, tolerance)
        assert np.all(result[2][i, len(have) :] == -np.inf)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[] if n in ("default", "lingvo", "greedy") else pytest.mark.nightly)
        for n in OPTIONS
    ],
)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["ties", "zeros", "near", "random"]),
    lengths=st.lists(st.integers(0, STEPS), min_size=BATCH, max_size=BATCH),
    prefix_lengths=st.lists(st.integers(0, 2), min_size=BATCH, max_size=BATCH),
)
def test_equals_reference(name, seed, kind, lengths, prefix_lengths):
    options = OPTIONS[name]
    table = tables.random_table(seed, kind, BATCH, STEPS, V)
    lengths = [0 if n == 0 else max(n, options.min_length) for n in lengths]
    prefix_lengths = [min(p, n) for p, n in zip(prefix_lengths, lengths, strict=True)]
    generator = np.random.default_rng(seed + 1)
    prefix = generator.integers(EOS + 1, V, [BATCH, 2])
    prefixes = [list(row[:n]) for row, n in zip(prefix, prefix_lengths, strict=True)]
    if options.suppress or options.min_length:
        # What is masked is normalized again, with rounding that differs: no ties then.
        table = table + 1e-2 * tables.random_table(seed, "random", BATCH, STEPS, V)
        exact = False
    else:
        exact = True
    for jit in (False, True):
        result = run(options, table, lengths, prefix, prefix_lengths, jit=jit)
        expect(options, table, lengths, prefixes, result, exact=exact)
    late = dataclasses.replace(options, early_exit=False)
    whole = run(late, table, lengths, prefix, prefix_lengths)
    for have, want in zip(run(options, table, lengths, prefix, prefix_lengths), whole, strict=True):
        if have.dtype == np.float32 or have.ndim > 1:
            np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("name", ["default", "plain", "wide"])
def test_logits_are_normalized(name):
    options = OPTIONS[name]
    for seed in range(10):
        table = np.random.default_rng(seed).normal(size=(BATCH, STEPS, tables.ROWS, V)) * 3
        table = table.astype(np.float32)
        lengths = [STEPS] * BATCH
        # What normalizes is the same for all options, so XLA compiles it for the usual ones.
        for jit in (False, True) if name == "default" else (False,):
            result = run(options, table, jit=jit, logs=False)
            expect(options, table, lengths, [[]] * BATCH, result, False, exact=False)


def test_prefix_outside_the_score():
    options = BeamOptions(max_length=STEPS, score_prefix=False, min_length=0, suppress=(7,))
    table = np.random.default_rng(0).normal(size=(BATCH, STEPS, tables.ROWS, V)).astype(np.float32)
    prefixes = [[7, 4], [3], [], [8, 8], [7]]
    padded = [p + [0] * (2 - len(p)) for p in prefixes]
    result = run(options, table, None, padded, [len(p) for p in prefixes], logs=False)
    expect(options, table, [STEPS] * BATCH, prefixes, result, False, exact=False)
    assert list(result[0][0, 0, :2]) == [7, 4]  # Forced although suppressed.


@pytest.mark.parametrize("penalty", ["none", "power", "gnmt"])
def test_wide_beam_finds_the_best_of_all_sequences(penalty):
    """V = 5, 4 steps: a beam of 5 is not wide, so suppressing leaves 3 tokens and the end."""
    options = BeamOptions(
        beam_size=5,
        max_length=4,
        length_penalty=penalty,
        patience=40.0,
        min_length=0,
        suppress=(0,),
    )
    generator = np.random.default_rng(3)
    table = generator.normal(size=(20, 4, tables.ROWS, 5)).astype(np.float32) * 2
    result = run(options, table, logs=False)
    model = tables.TableModel(table)
    found = 0
    for i in range(len(table)):
        tokens, score = reference.best_sequence(model.sentence(i), 5, options, 4, EOS)
        have = hypotheses(result, i)[0]
        assert have[1] <= score + 1e-5  # No sequence scores above the best of all.
        found += have[0] == tokens
    assert found >= 18  # A beam of 5 among 85 sequences misses few.
    options = options.replace(max_length=2)  # 12 sequences of 2 steps: now none can be missed.
    result = run(options, table[:, :2], logs=False)
    for i in range(len(table)):
        tokens, score = reference.best_sequence(model.sentence(i), 5, options, 2, EOS)
        have = hypotheses(result, i)[0]
        assert have[0] == tokens
        np.testing.assert_allclose(have[1], score, rtol=1e-5)


def test_greedy_equals_an_arg_max_loop():
    options = OPTIONS["greedy"]
    for seed in range(20):
        table = tables.random_table(seed, "ties", BATCH, STEPS, V)
        result = run(options, table)
        for i in range(BATCH):
            model, tokens = tables.TableModel(table).sentence(i), []
            while len(tokens) < STEPS:
                token = int(np.argmax(model(tokens)))
                if token == EOS:
                    break
                tokens.append(token)
            assert hypotheses(result, i)[0][0] == tokens


def test_no_hypothesis_where_nothing_is_possible():
    """A model that forbids everything gives no hypothesis, and no NaN."""
    table = np.full([2, STEPS, tables.ROWS, V], -np.inf, np.float32)
    for logs in (True, False):
        _, lengths, scores, _, counts, nan_steps, *_ = run(OPTIONS["default"], table, logs=logs)
        assert not counts.any()
        assert not lengths.any()
        assert (scores == -np.inf).all()
        assert (nan_steps == -1).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("logs", [False, True])
def test_nan_names_sentence_and_step(bad, logs):
    table = tables.random_table(0, "random", BATCH, STEPS, V)
    table[..., EOS] = -50
    table[1, 3, :, 6] = bad
    table[2, 4, :, 6] = np.nan
    for jit in (False, True):
        nan_steps = run(OPTIONS["default"], table, jit=jit, logs=logs)[5]
        assert list(nan_steps) == [-1, 3, 4, -1, -1]
    with pytest.raises(KerasMtlError, match=r"sentence 1: .* decoding step 3"):
        raise_on_nan(nan_steps)
    with pytest.raises(KerasMtlError, match="line 8: "):
        raise_on_nan(nan_steps, [f"line {7 + i}" for i in range(BATCH)])
    with pytest.raises(KerasMtlError, match="decoding step 3"):
        eager(table=table, options=OPTIONS["default"])


def eager(table=None, options=None, **arguments):
    table = tables.random_table(0, "ties", 2, STEPS, V) if table is None else table
    options = options or OPTIONS["default"]
    state = tables.start(tf.constant(table), options.beam_size)
    size = arguments.pop("vocabulary_size", V)
    arguments = {name: tf.constant(value) for name, value in arguments.items()}
    return beam_search(
        tables.step, state, tables.reorder, len(table), size, options, eos_id=EOS, **arguments
    )


def test_empty_batch_and_empty_sentences():
    result = eager(table=np.zeros([0, STEPS, tables.ROWS, V], np.float32))
    assert result.ids.shape == (0, 3, STEPS)
    result = eager(max_lengths=[0, 0])
    assert result.lengths.numpy().tolist() == [[0] * 3] * 2
    assert result.scores.numpy()[:, 0].tolist() == [0, 0]
    assert result.counts.numpy().tolist() == [1, 1]


def test_bad_arguments():
    for arguments, message in [
        ({"vocabulary_size": 3}, r"beam_size=4: it must not exceed the vocabulary's 3 tokens"),
        ({"max_lengths": [7, 1]}, r"max_lengths\[0\]=7: give a whole number from 0 to max_steps=6"),
        ({"prefix_lengths": [1, 1]}, "prefix_lengths is given without prefix"),
        ({"prefix": [[3], [2]]}, "prefix of sentence 1 contains id 2"),
        ({"prefix": [[3], [99]]}, "prefix of sentence 1 contains id 99"),
        ({"prefix": [[3] * 7, [3] * 7]}, "prefix of sentence 0 has 7 tokens: give at most 6"),
        (
            {"options": BeamOptions(suppress=(9,), max_length=6)},
            "suppress contains id 9: the ids .* 0 to 8",
        ),
        ({"options": BeamOptions(suppress=(2,), max_length=6)}, "the end of sentence"),
    ]:
        with pytest.raises(InputError, match=message):
            eager(**arguments)
