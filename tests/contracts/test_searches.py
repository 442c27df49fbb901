"""The TensorFlow search equals the C++ search on every option that both have.

Tables of log-probabilities replace a model. If nothing is masked, nothing has to be normalized,
and all fields of all hypotheses have the same bits. Otherwise, the ids are equal and the scores
agree up to float32 rounding.
"""

import functools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mtl.decoding.beam_search import BeamResult, beam_search
from keras_mtl.decoding.graph_search.graph_options import parse_options
from keras_mtl.decoding.native_beam_search import native_beam_search
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.engine.hypothesis import hypothesis_of
from keras_mtl.errors import InputError
from tests.decoding import tables
from tests.native.test_beam_search_native import AttentiveSteps

BATCH, STEPS, V, EOS, WIDTH = 3, 6, 9, 2, 4
SHORTLIST = (EOS, 3, 4, 5, 7, 8)
FLOATS = ("score", "log_probability", "token_scores")


def attention_step(ids, index, state):
    outputs, after = tables.step(ids, index, state)
    rows = tf.gather(state["attention"], index, axis=1)  # [batch, ROWS, WIDTH]
    after = {**after, "attention": state["attention"]}
    return (outputs, tf.gather(rows, after["hash"], batch_dims=1)), after


def reorder(state, beam_index):
    return {**tables.reorder(state, beam_index), "attention": state["attention"]}


def tf_search(case, arrays, options=None):
    """Searches with TensorFlow; `arrays` hold what differs between cases of the same options."""
    options = case["options"] if options is None else options
    given = {name: arrays[name] for name in ("prefix", "bias") if name in arrays}
    lengths = {f"{name}_lengths": arrays[f"{name}_lengths"] for name in given}
    state = tables.start(arrays["table"], options.beam_size)
    return beam_search(
        attention_step, {**state, "attention": arrays["attention"]}, reorder, BATCH, V, options,
        eos_id=EOS, log_probabilities=case["exact"], max_lengths=arrays["max_lengths"],
        max_steps=STEPS, source_width=WIDTH, source_lengths=arrays["source_lengths"],
        sentence_indices=arrays["indices"], shortlist=case["shortlist"], **given, **lengths,
    )  # fmt: skip


@functools.cache
def compiled(options, exact, shortlist, names, jit):
    """A graph of a search, compiled by XLA or not, that takes the arrays of a case."""
    case = {"options": options, "exact": exact, "shortlist": shortlist}
    return tf.function(
        lambda *values: tf_search(case, dict(zip(names, values, strict=True))),
        jit_compile=jit,
        autograph=False,
    )


def run(case, mode):
    """Returns the TensorFlow search's hypotheses of each sentence."""
    arrays = {name: tf.constant(value) for name, value in case["arrays"].items()}
    if mode == "eager":
        result = tf_search(case, arrays)
    else:
        key = case["options"], case["exact"], case["shortlist"], tuple(arrays)
        result = compiled(*key, mode == "xla")(*arrays.values())
    return hypotheses_of(case, result)


def hypotheses_of(case, result):
    fields = {name: part.numpy() for name, part in BeamResult(*result)._asdict().items()}
    lengths = case["arrays"]["source_lengths"]
    found = []
    for i, count in enumerate(fields["counts"]):
        if case["arrays"]["max_lengths"][i] == 0:
            count = 0  # The empty hypothesis has no step, and other tests compare it.
        found.append([hypothesis_of(fields, (i, n), int(lengths[i])) for n in range(count)])
    return found


def native(case):
    arrays = case["arrays"]

    def rows(name):
        if name not in arrays:
            return None
        pairs = zip(arrays[name], arrays[f"{name}_lengths"], strict=True)
        return [ids[:count].tolist() for ids, count in pairs]

    found = native_beam_search(
        AttentiveSteps(arrays["table"], arrays["attention"]), BATCH, V, case["options"],
        eos_id=EOS, log_probabilities=case["exact"], max_lengths=arrays["max_lengths"].tolist(),
        prefixes=rows("prefix"), biases=rows("bias"), shortlist=case["shortlist"],
        source_lengths=arrays["source_lengths"].tolist(), sentence_indices=arrays["indices"],
    )  # fmt: skip
    empty = arrays["max_lengths"] == 0
    return [[] if nothing else row for nothing, row in zip(empty, found, strict=True)]


def compare(case, have, want, exact=None):
    """Compares hypotheses; bits only if the case normalizes nothing."""
    assert [[h.ids for h in row] for row in have] == [[w.ids for w in row] for row in want]
    for mine, other in zip(have, want, strict=True):
        for h, w in zip(mine, other, strict=True):
            if case["exact"] if exact is None else exact:
                assert h == w
                continue
            assert h.ended == w.ended
            np.testing.assert_array_equal(h.alignment, w.alignment)
            for name in FLOATS:
                np.testing.assert_allclose(getattr(h, name), getattr(w, name), 1e-5, 1e-5)


def make(options, seed, kind, exact, extras=(), shortlist=(), short=False):
    """Returns a case: options, whether nothing is masked, and arrays drawn with `seed`."""
    generator = np.random.default_rng(seed)
    table = tables.random_table(seed, kind, BATCH, STEPS, V)
    if not exact:  # Normalized, with rounding that differs: no ties then.
        table = table + 1e-2 * tables.random_table(seed, "random", BATCH, STEPS, V)
    source_lengths = generator.integers(1, WIDTH + 1, BATCH).astype(np.int32)
    attention = generator.dirichlet(np.ones(WIDTH), (BATCH, STEPS, tables.ROWS))
    attention *= (np.arange(WIDTH) < source_lengths[:, None])[:, None, None]
    lengths = np.array([STEPS, 3, 0] if short else [STEPS] * BATCH, np.int32)
    arrays = {
        "table": table.astype(np.float32),
        "attention": attention.astype(np.float32),
        "max_lengths": np.where(lengths > 0, np.maximum(lengths, options.min_length), 0),
        "source_lengths": source_lengths,
        "indices": generator.integers(0, 2**40, BATCH),
    }
    for name in extras:
        width = {"prefix": 2, "bias": 4}[name]
        arrays[name] = generator.integers(EOS + 1, V, [BATCH, width]).astype(np.int32)
        if name == "bias":
            arrays[name][:, -1] = EOS
        counts = generator.integers(0, width + 1, BATCH)
        if name == "prefix":
            counts = np.minimum(counts, arrays["max_lengths"])
        arrays[f"{name}_lengths"] = counts.astype(np.int32)
    return {"options": options, "exact": exact, "shortlist": shortlist, "arrays": arrays}


RULES = {
    "rule": {
        "num_hypotheses": [1, 2],
        "patience": [1.0, 2.0],
        "length_penalty": ["none", "power", "gnmt", "lingvo", "constant"],
        "alpha": [0.6, 1.0],
        "early_exit": [True, False],
    },
    "sampling": {
        "sampling": [True],
        "num_hypotheses": [1, 2],
        "temperature": [1.0, 0.7, 1.9],
        "top_k": [0, 3, 40],
        "top_p": [1.0, 0.8, 0.35],
        "seed": [0, 5, 2**64 - 3],
    },
    "lingvo": {
        "lingvo_pruning": [True],
        "num_hypotheses": [1, 2],
        "length_penalty": ["none", "lingvo"],
        "eos_max_logit_delta": [0.5, 5.0],
        "local_eos_threshold": [-1.5, -100.0],
        "beam_gap": [0.5, 3.0],
        "ensure_full_beam": [False, True],
        "force_eos_in_last_step": [False, True],
        "force_eos_in_top_k": [False, True],
    },
}
SCORES = {
    "coverage_penalty": [0.0, 0.4],
    "target_seq_length_ratio": [1.0, 0.7],
    "score_prefix": [True, False],
    "bias_weight": [0.3, 1.0, 0.0],
    "bias_only_if_consistent": [True, False],
}
MASKS = {
    "min_length": [0, 2],
    "suppress": [(), (0, 5)],
    "repetition_penalty": [1.0, 1.3, 0.7],
    "no_repeat_ngram": [0, 1, 2, 3],
}


@st.composite
def cases(draw):
    def some(values):
        return {name: draw(st.sampled_from(choices)) for name, choices in values.items()}

    exact = draw(st.booleans())
    chosen = some(RULES[draw(st.sampled_from(sorted(RULES)))])
    masks = {"min_length": 0} if exact else some(MASKS)
    beam_size = draw(st.sampled_from([1, 2, 3, 4, 5, V]))
    chosen["num_hypotheses"] = min(chosen["num_hypotheses"], beam_size)
    options = BeamOptions(max_length=STEPS, beam_size=beam_size, **chosen, **some(SCORES), **masks)
    kind = draw(st.sampled_from(["ties", "zeros", "near", "random"] if exact else ["random"]))
    extras = draw(st.sets(st.sampled_from(["prefix", "bias"])))
    shortlist = () if exact else draw(st.sampled_from([(), SHORTLIST]))
    seed = draw(st.integers(0, 2**32 - 1))
    return make(options, seed, kind, exact, sorted(extras), shortlist, draw(st.booleans()))


@settings(max_examples=8)
@given(case=cases())
def test_equals_cpp(case):
    compare(case, run(case, "eager"), native(case))


@pytest.mark.nightly
@settings(max_examples=1500)
@given(case=cases())
def test_equals_cpp_on_many_cases(case):
    compare(case, run(case, "eager"), native(case))


COMBINED = {
    "rule": {
        "coverage_penalty": 0.4, "target_seq_length_ratio": 0.7, "bias_weight": 0.3,
        "num_hypotheses": 3, "length_penalty": "gnmt", "alpha": 0.6,
    },
    "samples": {
        "sampling": True, "temperature": 1.3, "top_k": 6, "top_p": 0.9, "seed": 2**64 - 3,
        "num_hypotheses": 2, "coverage_penalty": 0.2,
    },
    "lingvo": {
        "lingvo_pruning": True, "beam_gap": 2.5, "force_eos_in_top_k": True, "alpha": 0.5,
        "coverage_penalty": 0.3, "num_hypotheses": 2, "force_eos_in_last_step": True,
        "local_eos_threshold": -3.0, "length_penalty": "lingvo",
    },
    "masked": {
        "repetition_penalty": 1.3, "no_repeat_ngram": 2, "min_length": 2, "suppress": (0,),
        "num_hypotheses": 3,
    },
    "plain samples": {"sampling": True, "repetition_penalty": 0.7, "num_hypotheses": 3},
    "full lingvo": {"lingvo_pruning": True, "ensure_full_beam": True, "no_repeat_ngram": 1},
}  # fmt: skip


def check_mode(name, mode, seeds):
    options = BeamOptions(max_length=STEPS, **{"min_length": 0, **COMBINED[name]})
    masked = {"repetition_penalty", "no_repeat_ngram"} & set(COMBINED[name])
    for seed in seeds:
        kind = ["ties", "random", "zeros", "near"][seed % 4] if not masked else "random"
        shortlist = SHORTLIST if masked else ()
        case = make(options, seed, kind, not masked, ["bias", "prefix"], shortlist)
        have = run(case, mode)
        compare(case, have, native(case))
        # A masked token is normalized with the same operations, but XLA's exp has other bits.
        if mode == "graph":
            compare(case, have, run(case, "eager"), exact=True)


@pytest.mark.parametrize("name", ["masked"])
def test_graph_equals_cpp(name):
    check_mode(name, "graph", range(4))


@pytest.mark.parametrize("name", ["samples"])
def test_xla_equals_cpp(name):
    check_mode(name, "xla", range(4))


@pytest.mark.nightly
@pytest.mark.parametrize("name", COMBINED)
@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_every_rule_in_every_mode_equals_cpp(name, mode):
    check_mode(name, mode, range(40))


@functools.cache
def program():
    """One graph whose options are an input."""
    defaults = BeamOptions(max_length=STEPS, min_length=0)

    @tf.function(autograph=False, reduce_retracing=True)
    def search(text, arrays):
        case = {"exact": True, "shortlist": ()}
        return tf_search(case, arrays, parse_options(text, defaults, V))

    return search


TEXTS = [
    "", "beam_size=2,num_hypotheses=2,alpha=0.6", "beam_size=1", "coverage_penalty=0.4",
    "length_penalty=none", "length_penalty=gnmt, alpha = 0.5, patience=2e0",
    "sampling=true,seed=7,top_k=3,top_p=0.8,beam_size=3,num_hypotheses=3", "sampling=true",
    "lingvo_pruning=true,beam_gap=1.5,force_eos_in_top_k=true,local_eos_threshold=-inf",
]  # fmt: skip


def test_what_tensorflow_lacks_is_refused():
    options = BeamOptions(max_length=STEPS, lingvo_pruning=True, merge_paths=True, eoc_id=4)
    case = make(options, 0, "ties", exact=True)
    with pytest.raises(InputError, match="merge_paths=True: only the native search"):
        run(case, "eager")
    case["options"] = BeamOptions(max_length=STEPS)
    for changes, message in [
        ({"shortlist": (3, 4)}, "shortlist does not contain id 2, the end of sentence"),
        ({"shortlist": (EOS, 9)}, "shortlist contains id 9: the ids of this vocabulary are 0 to 8"),
    ]:
        with pytest.raises(InputError, match=message):
            run({**case, **changes}, "eager")
    case["arrays"] |= {"bias": np.full([BATCH, 1], 9), "bias_lengths": np.ones([BATCH], np.int32)}
    with pytest.raises(InputError, match="the bias of sentence 0 contains id 9: give ids from 0"):
        run(case, "eager")
    table = tf.constant(case["arrays"]["table"])
    with pytest.raises(InputError, match="coverage_penalty requires source_width"):
        beam_search(
            tables.step, tables.start(table, 4), tables.reorder, BATCH, V,
            BeamOptions(max_length=STEPS, coverage_penalty=0.1), eos_id=EOS,
        )  # fmt: skip


def test_options_as_an_input_equal_cpp():
    """One program for all options. Its length penalties may differ in the last bit."""
    from keras_mtl.cli.common import parse_options as python_options

    for seed, text in enumerate(TEXTS):
        given = {name.strip(): value for name, value in python_options(text).items()}
        given = {n: float(v) if n == "local_eos_threshold" else v for n, v in given.items()}
        options = BeamOptions(max_length=STEPS, min_length=0, **given)
        case = make(options, seed, "random", exact=True)
        arrays = {name: tf.constant(value) for name, value in case["arrays"].items()}
        result = program()(tf.constant(text), arrays)
        compare(case, hypotheses_of(case, result), native(case), exact=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("beam_siz=2", "'beam_siz=2' is not NAME=VALUE with one of the names beam_size, "),
        ("beam_size", "'beam_size' is not NAME=VALUE"),
        ("beam_size=10", "beam_size=10: give 1 to 9"),
        ("beam_size=x", "beam_size=x: give a whole number"),
        ("alpha=-1", "alpha=-1: give 0 or a number above it"),
        ("length_penalty=word", "length_penalty=word: give one of none, power"),
        ("sampling=2", "sampling=2: give true or false"),
        ("sampling=1,lingvo_pruning=1", "sampling=1: give false with lingvo_pruning=true"),
        ("num_hypotheses=5", "num_hypotheses=5: give 1 to beam_size"),
        ("max_length=7", "max_length=7: give 1 to 6, the max_length of the export"),
    ],
)
def test_bad_options_as_an_input(text, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        parse_options(tf.constant(text), BeamOptions(max_length=STEPS), V)
