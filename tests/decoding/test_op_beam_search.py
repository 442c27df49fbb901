"""The search by operations: what the TensorFlow search and the C++ search give, in a graph."""

import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.decoding.beam_search import beam_search
from keras_mtl.decoding.op_beam_search import op_beam_search
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.engine import load_ops
from keras_mtl.engine.arguments import option_lines
from keras_mtl.errors import InputError
from tests.decoding import tables
from tests.decoding.test_beam_search import BATCH, EOS, OPTIONS, STEPS, V, run
from tests.native.test_beam_search_native import search as native_search

NATIVE_OPTIONS = {
    "none": {},
    "sampling": {"sampling": True, "top_k": 4, "temperature": 1.5, "seed": 2**64 - 3},
    "blocking": {"no_repeat_ngram": 2, "repetition_penalty": 1.3},
    "lingvo": {"lingvo_pruning": True, "beam_gap": 2.5, "force_eos_in_last_step": True},
}


def op_run(options, table, attention=None, **arguments):
    """Searches a table inside a function; the state is the hash of all tokens."""
    table = tf.constant(table)

    def step(rows, state):
        hashes = (3 * state["hash"] + rows.token + 1) % tables.ROWS
        hashes = tf.where(rows.position > 0, hashes, state["hash"])
        where = tf.stack([rows.sentence, rows.position, hashes], axis=1)
        outputs = tf.gather_nd(table, where)
        if attention is not None:
            outputs = outputs, tf.gather_nd(attention, where[:, :2])
        return outputs, {"hash": hashes}

    @tf.function(autograph=False)
    def whole():
        state = {"hash": tf.zeros([table.shape[0]], tf.int32)}
        return op_beam_search(
            step, state, table.shape[0], table.shape[-1], options, eos_id=EOS, **arguments
        )

    return [tensor.numpy() for tensor in whole()]


@pytest.mark.parametrize("kind", ["ties", "zeros", "near"])
def test_equals_the_tensorflow_search(kind):
    """The same bits; what the C++ search shares with it for more tables is tested with that."""
    options = OPTIONS["patient"].replace(min_length=0)
    table = tables.random_table(6, kind, BATCH, STEPS, V)
    have = op_run(options, table, log_probabilities=True)
    want = run(options, table)
    for column, expected in zip(have[:5], want[:5], strict=True):
        np.testing.assert_array_equal(column, expected)


@pytest.mark.parametrize("name", NATIVE_OPTIONS)
def test_equals_the_cpp_search(name):
    options = BeamOptions(max_length=STEPS, num_hypotheses=2).replace(**NATIVE_OPTIONS[name])
    table = 3 * np.random.default_rng(4).normal(size=(BATCH, STEPS, tables.ROWS, V)).astype("f")
    arguments = {
        "max_lengths": [STEPS, 2, 0, STEPS, 3],
        "prefixes": [[3], [], [], [4, 3], []],
    }
    attention = np.random.default_rng(5).dirichlet(np.ones(4), (BATCH, STEPS)).astype("f")
    source_lengths = [4, 3, 2, 4, 1]
    want = native_search(
        options, table, log_probabilities=False, attention=attention,
        source_lengths=source_lengths, **arguments,
    )  # fmt: skip
    ids, lengths, scores, log_p, counts, token_scores, ended, alignments = op_run(
        options,
        table,
        tf.constant(attention),
        source_lengths=source_lengths,
        alignments=True,
        max_lengths=arguments["max_lengths"],
        prefix=np.array([[3, 0], [0, 0], [0, 0], [4, 3], [0, 0]], np.int32),
        prefix_lengths=[1, 0, 0, 2, 0],
    )
    for i, hypotheses in enumerate(want):
        assert counts[i] == len(hypotheses)
        for n, hypothesis in enumerate(hypotheses):
            assert list(ids[i, n, : lengths[i, n]]) == hypothesis.ids
            assert scores[i, n] == np.float32(hypothesis.score)
            assert log_p[i, n] == np.float32(hypothesis.log_probability)
            count = len(hypothesis.token_scores)
            np.testing.assert_array_equal(token_scores[i, n, :count], hypothesis.token_scores)
            assert not token_scores[i, n, count:].any()
            assert ended[i, n] == hypothesis.ended
            if count:
                rows = alignments[i, n, :count, : source_lengths[i]]
                np.testing.assert_array_equal(rows, hypothesis.alignment)
            assert not alignments[i, n, count:].any()
        assert (scores[i, counts[i] :] == -np.inf).all()


def test_coverage_takes_attention():
    options = BeamOptions(max_length=STEPS, coverage_penalty=0.7)
    generator = np.random.default_rng(5)
    table = generator.normal(size=(BATCH, STEPS, tables.ROWS, V)).astype("f")
    attention = generator.dirichlet(np.ones(4), (BATCH, STEPS)).astype("f")
    lengths = [4] * BATCH
    want = native_search(
        options, table, log_probabilities=False, attention=attention, source_lengths=lengths
    )
    ids, counts, scores, *_ = op_run(
        options, table, tf.constant(attention), source_lengths=np.array(lengths, np.int32)
    )
    for i, hypotheses in enumerate(want):
        assert list(ids[i, 0, : counts[i, 0]]) == hypotheses[0].ids
        assert scores[i, 0] == np.float32(hypotheses[0].score)
    with pytest.raises(InputError, match="source_lengths"):
        op_run(options, table)


def test_alignments_are_left_out_unless_asked_for():
    table = tables.random_table(6, "random", BATCH, STEPS, V)
    *_, alignments = op_run(OPTIONS["default"], table)
    assert alignments.shape == (BATCH, OPTIONS["default"].num_hypotheses, STEPS + 1, 0)
    with pytest.raises(InputError, match="alignments require source_lengths"):
        op_run(OPTIONS["default"], table, alignments=True)


def test_no_sentence_and_a_nan():
    table = np.zeros([2, STEPS, tables.ROWS, V], np.float32)
    ids, *_ = op_run(OPTIONS["default"], table[:0])
    assert ids.shape == (0, 3, STEPS)
    table[1, 2] = np.nan
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"sentence 1.*step 2"):
        op_run(OPTIONS["default"], table)


def test_a_search_that_failed_takes_no_other_step():
    ops = load_ops()
    none = tf.zeros([2], tf.int32)
    search, *_ = ops.keras_mtl_beam_search(
        max_lengths=[9, 9], prefixes=tf.zeros([2, 0], tf.int32), prefix_lengths=none,
        source_lengths=none, indices=tf.constant([0, 1], tf.int64),
        options="beam_size=64\nmax_length=9\n", vocabulary_size=500, start_id=1, eos_id=2,
    )  # fmt: skip
    outputs = np.zeros([2, 500], np.float32)
    outputs[1, 5] = np.nan
    attention = tf.zeros([2, 0])
    for message in (
        "sentence 1: the model's output is not a number",
        "the search failed at an earlier step",
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            ops.keras_mtl_beam_search_step(search=search, outputs=outputs, attention=attention)


def test_a_result_of_any_size_is_no_crash():
    ops = load_ops()
    none = tf.zeros([1], tf.int32)
    search, *_ = ops.keras_mtl_beam_search(
        max_lengths=[0], prefixes=tf.zeros([1, 0], tf.int32), prefix_lengths=none,
        source_lengths=none, indices=tf.constant([0], tf.int64), options="beam_size=2\n",
        vocabulary_size=V, start_id=1, eos_id=2,
    )  # fmt: skip
    for hypotheses, longest in ((1, 2**31 - 1), (2**31 - 1, 1)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="give at most 16777216 each"):
            ops.keras_mtl_beam_search_result(
                search=search, num_hypotheses=hypotheses, max_length=longest
            )


def test_both_searches_take_the_same_arguments():
    table = np.random.default_rng(0).normal(size=(V, V)).astype(np.float32)
    options = BeamOptions(beam_size=2, max_length=4)
    state = tf.zeros([2, 1])

    def both(options=options, **arguments):
        plain = beam_search(
            lambda ids, step, state: (tf.gather(table, ids), state), state,
            lambda state, _: state, 2, V, options, eos_id=EOS, **arguments,
        )  # fmt: skip
        op = op_beam_search(
            lambda rows, state: (tf.gather(table, rows.token), state), state, 2, V, options,
            eos_id=EOS, **arguments,
        )  # fmt: skip
        np.testing.assert_array_equal(plain.ids, op.ids)
        return op.ids.numpy().tolist()

    free = both()
    assert both(prefix=tf.zeros([2, 0], tf.int32)) == free
    assert both(prefix=tf.constant([[3], [4]], tf.int64))[0][0][0] == 3
    assert both(max_lengths=tf.constant([4, 1], tf.int64))[1][0][1:] == [0, 0, 0]
    assert both(options.replace(patience=1e308, alpha=0.0)) is not None
    for search in (lambda: both(prefix_lengths=tf.constant([1, 1])),):
        with pytest.raises(InputError, match="prefix_lengths is given without prefix"):
            search()
    with pytest.raises(InputError, match="prefix_lengths is given without prefix"):
        op_beam_search(None, state, 2, V, options, prefix_lengths=tf.constant([1, 1]))


def test_attention_of_half_precision():
    def step(rows, state):
        attention = tf.ones([tf.size(rows.token), 3], tf.float16) / 3
        return (tf.zeros([tf.size(rows.token), V], tf.float16), attention), state

    options = BeamOptions(beam_size=2, max_length=3, coverage_penalty=0.2)
    found = op_beam_search(step, tf.zeros([2]), 2, V, options, eos_id=EOS, source_lengths=[3, 3])
    assert np.isfinite(found.scores.numpy()).all()


def test_gradients_end_at_a_search():
    weights = tf.Variable(np.zeros([V], np.float32))

    def step(rows, state):
        return tf.repeat(weights[None], tf.size(rows.token), axis=0), state

    with tf.GradientTape() as tape:
        found = op_beam_search(step, tf.zeros([2]), 2, V, BeamOptions(max_length=3), eos_id=EOS)
        loss = tf.reduce_sum(found.scores)
    assert tape.gradient(loss, weights) is None


def test_options_keep_every_bit():
    options = BeamOptions(alpha=0.1 + 0.2, suppress=(7, 3), seed=2**63 + 1, score_prefix=False)
    lines = dict(line.split("=") for line in option_lines(options).splitlines())
    assert float(lines["alpha"]) == options.alpha
    assert lines["suppress"] == "3,7"
    assert int(lines["seed"]) == options.seed
    assert lines["score_prefix"] == "0"
    assert "max_length_factor" not in lines


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("beam_sise=3", "'beam_sise=3' is not a beam-search option"),
        ("beam_size=3.5", "beam_size=3.5: the value is out of range"),
        ("beam_size=99999999999", "beam_size=99999999999"),
        ("alpha=x", "alpha=x"),
        ("length_penalty=long", "length_penalty='long'"),
        ("suppress=2", "suppress=2: this is the end of sentence"),
        ("beam_size=50", "exceed the vocabulary's 6 tokens"),
    ],
)
def test_operation_refuses_options(options, message):
    none = np.zeros([1], np.int32)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        load_ops().keras_mtl_beam_search(
            max_lengths=none,
            prefixes=np.zeros([1, 0], np.int32),
            prefix_lengths=none,
            source_lengths=none,
            indices=none.astype(np.int64),
            options=options,
            vocabulary_size=6,
            start_id=1,
            eos_id=2,
        )


def test_result_before_the_end_is_refused():
    ops = load_ops()
    none = np.zeros([1], np.int32)
    search, sentence, *_ = ops.keras_mtl_beam_search(
        max_lengths=none + 2,
        prefixes=np.zeros([1, 0], np.int32),
        prefix_lengths=none,
        source_lengths=none,
        indices=none.astype(np.int64),
        options="max_length=2",
        vocabulary_size=6,
        start_id=1,
        eos_id=2,
    )
    assert list(sentence) == [0]
    with pytest.raises(tf.errors.FailedPreconditionError, match="has not ended"):
        ops.keras_mtl_beam_search_result(search=search, num_hypotheses=1, max_length=2)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"outputs has shape \[2,6\]"):
        ops.keras_mtl_beam_search_step(
            search=search, outputs=np.zeros([2, 6], "f"), attention=np.zeros([2, 0], "f")
        )
