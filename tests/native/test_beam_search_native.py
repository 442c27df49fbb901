"""The C++ search against a slow reference, and each option separately."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mtl.decoding.native_beam_search import native_beam_search
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.penalties import length_penalties
from keras_mtl.engine import library
from keras_mtl.engine.arguments import option_values
from keras_mtl.errors import InputError, KerasMtlError
from tests.decoding import reference, tables
from tests.decoding.test_beam_search import BATCH, EOS, OPTIONS, STEPS, V

KINDS = ["ties", "zeros", "near", "random"]


class TableSteps:
    """A step function over a table; remembers the tokens of every row by their parents."""

    def __init__(self, table, attention=None):
        self.table, self.attention, self.tokens = table, attention, []

    def __call__(self, rows):
        before = self.tokens
        self.tokens = [
            [*before[parent], token] if parent >= 0 else []
            for parent, token in zip(rows.parent, rows.token, strict=True)
        ]
        where = zip(rows.sentence, rows.position, self.tokens, strict=True)
        outputs = np.stack([self.table[s, p, tables.hash_of(tokens)] for s, p, tokens in where])
        if self.attention is None:
            return outputs
        return outputs, self.attention[rows.sentence, rows.position]


class AttentiveSteps(TableSteps):
    """Attention is a table too, by sentence, position and hash of the tokens."""

    def __call__(self, rows):
        attention, self.attention = self.attention, None
        outputs = super().__call__(rows)
        self.attention = attention
        where = zip(rows.sentence, rows.position, self.tokens, strict=True)
        return outputs, np.stack([attention[s, p, tables.hash_of(t)] for s, p, t in where])


def search(options, table, log_probabilities=True, attention=None, **arguments):
    found = native_beam_search(
        TableSteps(table, attention), len(table), table.shape[-1], options,
        eos_id=EOS, log_probabilities=log_probabilities, **arguments,
    )  # fmt: skip
    return found


def triples(hypotheses):
    return [(h.ids, np.float32(h.score), np.float32(h.log_probability)) for h in hypotheses]


def same(have, want, exact=True):
    assert [h[0] for h in have] == [w[0] for w in want]
    tolerance = 0 if exact else 1e-5
    for i in (1, 2):
        np.testing.assert_allclose([h[i] for h in have], [w[i] for w in want], tolerance, tolerance)


@pytest.mark.parametrize("name", OPTIONS)
@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    lengths=st.lists(st.integers(0, STEPS), min_size=BATCH, max_size=BATCH),
    prefix_lengths=st.lists(st.integers(0, 2), min_size=BATCH, max_size=BATCH),
    score_prefix=st.booleans(),
)
def test_equals_reference(name, seed, kind, lengths, prefix_lengths, score_prefix):
    options = OPTIONS[name].replace(score_prefix=score_prefix)
    table = tables.random_table(seed, kind, BATCH, STEPS, V)
    masked = bool(options.suppress) or options.min_length > 0
    if masked:  # Normalized again, with rounding that differs: no ties then.
        table = table + 1e-2 * tables.random_table(seed, "random", BATCH, STEPS, V)
    lengths = [0 if n == 0 else max(n, options.min_length) for n in lengths]
    tokens = np.random.default_rng(seed + 1).integers(EOS + 1, V, [BATCH, 2])
    prefixes = [
        [int(t) for t in row[: min(p, n)]]
        for row, p, n in zip(tokens, prefix_lengths, lengths, strict=True)
    ]
    have = search(options, table, max_lengths=lengths, prefixes=prefixes)
    late = options.replace(early_exit=False)
    assert repr(have) == repr(search(late, table, max_lengths=lengths, prefixes=prefixes))
    model = tables.TableModel(table)
    for i in range(BATCH):
        want = reference.search_sentence(
            model.sentence(i), V, options, lengths[i], EOS, prefixes[i], True
        )
        same(triples(have[i]), want, exact=not masked)
        for hypothesis in have[i]:
            assert len(hypothesis.token_scores) == len(hypothesis.ids) + hypothesis.ended or (
                lengths[i] == 0
            )
            np.testing.assert_allclose(
                hypothesis.token_scores.sum(), hypothesis.log_probability, 1e-4, 1e-4
            )


@pytest.mark.parametrize("name", OPTIONS)
def test_logits_are_normalized(name):
    for seed in range(5):
        table = np.random.default_rng(seed).normal(size=(BATCH, STEPS, tables.ROWS, V)) * 3
        table = table.astype(np.float32)
        model = tables.TableModel(table)
        for i, have in enumerate(search(OPTIONS[name], table, log_probabilities=False)):
            want = reference.search_sentence(model.sentence(i), V, OPTIONS[name], STEPS, EOS)
            same(triples(have), want, exact=False)


@pytest.mark.parametrize("name", OPTIONS)
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["ties", "zeros", "random"]))
def test_best_tokens_are_enough(name, seed, kind):
    """`advance_top` with the best of each row gives what `advance` gives.

    But for tokens that only rounding makes equal, the kind "near": see beam_search.h.
    """
    options = OPTIONS[name].replace(suppress=())
    table = tables.random_table(seed, kind, BATCH, STEPS, V)
    whole = search(options.replace(min_length=0), table)
    core = library.core().BeamSearch(option_values(options.replace(min_length=0)), V, 1, EOS)
    for i in range(BATCH):
        core.add(i, options.max_length)
    steps = TableSteps(table)
    while len(core.rows["token"]):
        rows = core.rows
        names = ("sentence", "parent", "position", "token")
        outputs = steps(dataclasses.make_dataclass("Rows", names)(*(rows[n] for n in names)))
        order = np.argsort(-outputs, axis=1, kind="stable")[:, : core.top_count]
        best = np.take_along_axis(outputs, order, 1)
        core.advance_top(order, best, np.zeros(len(outputs)))
    for i, want in enumerate(whole):
        assert core.results(i) == want


def test_a_sentence_does_not_see_the_others():
    table = tables.random_table(3, "random", BATCH, STEPS, V)
    options = OPTIONS["default"].replace(sampling=True, no_repeat_ngram=2, repetition_penalty=1.5)
    together = search(options, table, sentence_indices=[7, 5, 3, 1, 0])
    for i, index in enumerate([7, 5, 3, 1, 0]):
        alone = search(options, table[i : i + 1], sentence_indices=[index])
        assert repr(alone[0]) == repr(together[i])


def test_no_repeat_ngram():
    """Every hypothesis is free of repeats, and a beam that covers all finds the best such one."""
    options = BeamOptions(max_length=STEPS, min_length=STEPS, no_repeat_ngram=2, num_hypotheses=4)
    table = np.zeros([BATCH, STEPS, tables.ROWS, V], np.float32)
    table[..., 4] = 3.0
    for hypotheses in search(options, table, log_probabilities=False):
        for hypothesis in hypotheses:
            pairs = list(itertools.pairwise(hypothesis.ids))
            assert len(set(pairs)) == len(pairs)
    # One token alone is left by the mask: it has probability 1.
    options = options.replace(no_repeat_ngram=1, beam_size=1, num_hypotheses=1, max_length=6)
    table = np.full([1, STEPS, tables.ROWS, 7], -1.0, np.float32)
    hypothesis = search(options, table, log_probabilities=False)[0][0]
    assert sorted(hypothesis.ids) == [0, 1, 3, 4, 5, 6]
    np.testing.assert_allclose(hypothesis.token_scores, -np.log([6, 5, 4, 3, 2, 1]), atol=1e-6)


def test_repetition_penalty():
    options = BeamOptions(beam_size=1, max_length=3, min_length=3, repetition_penalty=2.0)
    logits = np.array([-4, -9, 0, 2.0, 1.5], np.float32)
    table = np.broadcast_to(logits, (1, 3, tables.ROWS, 5)).astype(np.float32)
    hypothesis = search(options, table, log_probabilities=False)[0][0]
    assert hypothesis.ids == [3, 4, 3]  # 2, then 1.5 against 2 / 2, then 1 against 1.5 / 2.
    after = logits.copy()
    after[2] = -np.inf  # min_length
    after[3] /= 2
    np.testing.assert_allclose(
        hypothesis.token_scores[1], reference.log_softmax(after)[4], rtol=1e-6
    )
    table = table.copy()
    table[...] -= 5.0  # Below 0 it multiplies: 3 falls from -3 to -6, 4 stays at -3.5.
    assert search(options, table, log_probabilities=False)[0][0].ids[:2] == [3, 4]


def test_shortlist():
    table = np.random.default_rng(0).normal(size=(BATCH, STEPS, tables.ROWS, V)).astype(np.float32)
    options = OPTIONS["default"]
    allowed = [EOS, 3, 5, 6]
    have = search(options, table, log_probabilities=False, shortlist=allowed)
    others = tuple(i for i in range(V) if i not in allowed)
    assert repr(have) == repr(search(options.replace(suppress=others), table, False))
    with pytest.raises(InputError, match="shortlist does not contain id 2, the end of sentence"):
        search(options, table, shortlist=[3, 4])
    with pytest.raises(
        InputError, match="shortlist contains id 9: the ids of this vocabulary are 0 to 8"
    ):
        search(options, table, shortlist=[EOS, 9])


def test_coverage_and_alignments():
    generator = np.random.default_rng(4)
    table = tables.random_table(4, "random", 3, STEPS, V)
    attention = generator.dirichlet(np.ones(4), size=(3, STEPS)).astype(np.float32)
    lengths = [4, 2, 3]
    options = BeamOptions(max_length=STEPS, num_hypotheses=3, coverage_penalty=0.4, alpha=0.8)
    penalties = length_penalties(options, STEPS)
    for lingvo, ratio in itertools.product([False, True], [1.0, 0.6]):
        options = options.replace(lingvo_pruning=lingvo, force_eos_in_last_step=True)
        options = options.replace(target_seq_length_ratio=ratio)
        found = search(options, table, attention=attention, source_lengths=lengths)
        for i, hypotheses in enumerate(found):
            assert hypotheses
            for hypothesis in hypotheses:
                count = len(hypothesis.token_scores)
                want = attention[i, :count, : lengths[i]]
                np.testing.assert_array_equal(hypothesis.alignment, want)
                sums = want.sum(0) / ratio
                capped = np.clip(sums, 1e-3, 0.5) if lingvo else np.minimum(sums, 1)
                score = hypothesis.log_probability / penalties[count]
                score += ratio * 0.4 * np.log(capped).sum()
                np.testing.assert_allclose(hypothesis.score, score, rtol=1e-5)
            scores = [hypothesis.score for hypothesis in hypotheses]
            assert scores == sorted(scores, reverse=True)
    with pytest.raises(InputError, match="coverage_penalty requires source_lengths"):
        search(options, table)
    with pytest.raises(InputError, match="attention is missing"):
        search(options, table, source_lengths=lengths)
    with pytest.raises(InputError, match="attention has 4 columns, but sentence 1 has 5"):
        search(options, table, attention=attention, source_lengths=[4, 5, 3])


def test_samples_have_the_models_frequencies():
    """Chi-square of 4,000 first tokens; what is filtered out never comes."""
    logits = np.array([-np.inf, 0.0, 0.5, 1.0, -1.0, 2.0], np.float32)
    table = np.broadcast_to(logits, (1, 1, tables.ROWS, 6)).astype(np.float32)

    def counts(**changes):
        options = BeamOptions(
            beam_size=5, num_hypotheses=5, max_length=1, min_length=0, sampling=True, **changes
        )
        result = np.zeros(6)
        for index in range(800):
            for hypothesis in search(options, table, False, sentence_indices=[index])[0]:
                result[hypothesis.ids[0] if hypothesis.ids else EOS] += 1
        return result

    def expected(keep, temperature=1.0):
        weights = np.where(np.isin(np.arange(6), keep), np.exp(logits / temperature), 0)
        return 4000 * weights / weights.sum()

    for changes, want in [
        ({}, expected([1, 2, 3, 4, 5])),
        ({"temperature": 3.0}, expected([1, 2, 3, 4, 5], 3.0)),
        ({"top_k": 3, "seed": 1}, expected([2, 3, 5])),
        ({"top_p": 0.8}, expected([2, 3, 5])),  # 0.55, then 0.75, then 0.88 with EOS, token 2.
        ({"top_k": 2, "top_p": 0.99}, expected([3, 5])),
    ]:
        have = counts(**changes)
        assert (have[want == 0] == 0).all()
        kept = want > 0
        chi_square = ((have - want)[kept] ** 2 / want[kept]).sum()
        assert chi_square < 20  # 4 degrees of freedom: once in 2,000 by chance.


def test_sampling_is_a_function_of_seed_sentence_and_step():
    table = np.random.default_rng(9).normal(size=(2, STEPS, tables.ROWS, V)).astype(np.float32)
    options = BeamOptions(max_length=STEPS, sampling=True, num_hypotheses=4, seed=5)
    assert repr(search(options, table, False)) == repr(search(options, table, False))
    assert repr(search(options, table, False)) != repr(
        search(options.replace(seed=6), table, False)
    )
    for key0, key1, counter0, counter1 in [(0, 0, 0, 0), (5, 2**63, 17, 3), (1, 2, 2**64 - 1, 9)]:
        key = np.array([key0, key1], np.uint64)
        counter = np.array([counter0, counter1, 0, 0], np.uint64)
        bits = np.random.Philox(key=key, counter=counter).random_raw()
        assert library.core().philox(key0, key1, counter0, counter1) == bits


@settings(max_examples=100)
@given(
    penalty=st.sampled_from(["none", "power", "gnmt", "lingvo", "constant"]),
    alpha=st.floats(0, 3),
    constant=st.floats(0, 20),
)
def test_length_penalties_are_pythons(penalty, alpha, constant):
    options = BeamOptions(
        length_penalty=penalty, alpha=alpha, length_penalty_constant=constant, max_length=300
    )
    have = library.core().length_penalties(option_values(options), 300)
    np.testing.assert_array_max_ulp(have, length_penalties(options, 300), maxulp=1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("logs", [False, True])
def test_nan_names_sentence_and_step(bad, logs):
    table = tables.random_table(0, "random", 3, STEPS, V)
    table[..., EOS] = -50
    table[1, 3, :, 6] = bad
    with pytest.raises(KerasMtlError, match=r"sentence 1: .* decoding step 3"):
        search(OPTIONS["default"], table, logs)


def test_nothing_possible_and_nothing_to_do():
    table = np.full([2, STEPS, tables.ROWS, V], -np.inf, np.float32)
    for logs in (False, True):
        for changes in ({}, {"sampling": True}, {"lingvo_pruning": True}):
            assert search(OPTIONS["default"].replace(**changes), table, logs) == [[], []]
    assert search(OPTIONS["default"], table[:0]) == []
    found = search(OPTIONS["default"], table, max_lengths=[0, 0])
    assert triples(found[0]) == [([], 0, 0)]


def test_bad_arguments():
    table = tables.random_table(0, "ties", 2, STEPS, V)
    options = OPTIONS["default"]
    for arguments, message in [
        (
            {"max_lengths": [7, 1]},
            "sentence 0: max_length=7: give a whole number from 0 to the option's max_length, 6",
        ),
        ({"max_lengths": [1]}, "max_lengths has 1 entries, but there are 2 sentences"),
        ({"prefixes": [[], [2]]}, "prefix of sentence 1 contains id 2"),
        ({"prefixes": [[], [99]]}, "prefix of sentence 1 contains id 99"),
        ({"prefixes": [[3] * 7, []]}, "prefix of sentence 0 has 7 tokens: give at most 6"),
        ({"source_lengths": [-1, 2]}, "source_length=-1"),
    ]:
        with pytest.raises(InputError, match=message):
            search(options, table, **arguments)
    with pytest.raises(InputError, match=r"outputs has shape \[2, 8\]; expected \[2, 9\]"):
        native_beam_search(lambda rows: np.zeros([2, 8]), 2, 9, options)
    core = library.core()
    for values, message in [
        ({"beam_size": 10}, "beam_size=10: it must not exceed the vocabulary's 9 tokens"),
        (
            {"beam_size": 2**40},
            "beam_size=1099511627776: the value is out of range or has the wrong type",
        ),
        ({"beam_size": -1}, "beam_size=-1: give a whole number from 1"),
        ({"num_hypotheses": 5}, "num_hypotheses=5: it must not exceed beam_size=4"),
        ({"min_length": 9, "max_length": 8}, "min_length=9: it must not exceed max_length=8"),
        ({"top_p": 1.5}, "top_p=1.5"),
        ({"temperature": 0.0}, "temperature=0: give a finite number above 0"),
        ({"alpha": float("nan")}, "alpha=nan"),
        ({"length_penalty": "word"}, "length_penalty='word' is unknown"),
        ({"suppress": [9]}, "suppress=9: the ids of this vocabulary are 0 to 8"),
        ({"sampling": True, "lingvo_pruning": True}, "choose one"),
    ]:
        with pytest.raises(InputError, match=message):
            core.BeamSearch(values, 9, 1, EOS)
