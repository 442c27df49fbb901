"""The engine's translations: against searches over its own model, by definition, and refusals."""

import itertools
import signal
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mtl.decoding.native_beam_search import native_beam_search
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.engine import Engine, NativeError, library
from keras_mtl.errors import ExportError, InputError, KerasMtlError
from tests.native.engine_case import (
    EOS,
    SIZES,
    TAG,
    random_arrays,
    random_file,
    sentences,
    write_engine_file,
)

V, LONGEST = SIZES["vocabulary_size"], SIZES["max_length"]
ISAS = library.ISAS[: library.ISAS.index(library.core().isa()) + 1]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("engine")
    return {
        kind: random_file(directory / kind, {"tie_embeddings": False}, decoders=2, weight_type=kind)
        for kind in ("float32", "int8")
    }


@pytest.fixture(scope="module")
def engine(files):
    return Engine(files["float32"], workers=2)


class StepsOfTheEngine:
    """A step function that computes each hypothesis from its beginning, alone."""

    def __init__(self, arrays, sources, decoders, layer, head):
        model = library.core().testing.Model(
            {**SIZES, "tie_embeddings": False, "decoders": 2}, arrays, "float32", ISAS[-1]
        )
        self.decoder = library.core().testing.Decoder(model)
        self.sources, self.decoders, self.tokens = sources, decoders, []
        self.attention = {"attention_layer": layer, "attention_head": head}

    def __call__(self, rows):
        self.tokens = [
            [*(self.tokens[parent] if parent >= 0 else []), token]
            for parent, token in zip(rows.parent, rows.token, strict=True)
        ]
        outputs, attention = [], np.zeros([len(rows.token), LONGEST], np.float32)
        for i, (sentence, tokens) in enumerate(zip(rows.sentence, self.tokens, strict=True)):
            (handle,) = self.decoder.admit([self.sources[sentence]], self.decoders[sentence])
            for token in tokens:
                row = np.array([[handle, 0, 0, token]], np.int32)
                step = self.decoder.step(row, all=True, **self.attention)
            self.decoder.release(handle)
            outputs.append(step["all"][0] + step["log_sums"][0])  # Logits.
            attention[i, : step["attention"].shape[1]] = step["attention"][0]
        return np.stack(outputs), attention


OPTIONS = {
    "greedy": {"beam_size": 1, "min_length": 0},
    "best of 4": {"num_hypotheses": 4, "alpha": 0.6},
    "patient": {
        "patience": 2.0,
        "num_hypotheses": 3,
        "length_penalty": "gnmt",
        "early_exit": False,
    },
    "coverage": {"coverage_penalty": 0.3, "num_hypotheses": 2},
    "repetition": {"repetition_penalty": 1.4, "suppress": (0, 7)},
    "ngrams": {"no_repeat_ngram": 1, "beam_size": 3, "min_length": 5},
    "samples": {"sampling": True, "temperature": 1.3, "top_k": 9, "top_p": 0.9, "seed": 5},
    "penalised samples": {"sampling": True, "repetition_penalty": 1.2, "suppress": (9,)},
    "lingvo": {"lingvo_pruning": True, "ensure_full_beam": True, "length_penalty": "lingvo"},
    "forced end": {"lingvo_pruning": True, "force_eos_in_last_step": True, "min_length": 0},
    "merged": {
        "lingvo_pruning": True,
        "merge_paths": True,
        "eoc_id": 7,
        "force_eos_in_top_k": True,
        "min_length": 0,
    },
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("extras", ["plain", "prefix", "shortlist", "bias"])
def test_every_option_gives_what_the_search_alone_gives(engine, name, extras):
    options = BeamOptions(max_length=7, **OPTIONS[name])
    random = np.random.default_rng(len(name))
    sources = sentences(random, 5, LONGEST, V)
    decoders = [0, 1, 1, 0, 1]
    arguments = {"sentence_indices": [3, 10, 4, 2**30, 0]}
    if extras == "prefix":
        arguments["prefixes"] = [[5], [], [7, 9], [0], [5, 5, 6, 0, 8, 11, 12]]
    if extras == "bias":
        arguments["biases"] = [[5, 9], [], [7, 9, EOS], [0], [11, 6, 5, 0, 8, 11, 12, 4]]
    if extras == "shortlist":
        arguments["shortlist"] = [EOS, *range(5, 31), 129]
    steps = StepsOfTheEngine(
        random_arrays({**SIZES, "tie_embeddings": False}, 2), sources, decoders, 1, 2
    )
    want = native_beam_search(
        steps, 5, V, options, eos_id=EOS, source_lengths=[*map(len, sources)], **arguments
    )
    have = engine.translate(
        sources, options, decoders=decoders, alignments=True, attention_layer=1, attention_head=2,
        **arguments,
    )  # fmt: skip
    for mine, other in zip(have, want, strict=True):
        assert [(h.ids, h.ended) for h in mine] == [(h.ids, h.ended) for h in other]
        for h, w in zip(mine, other, strict=True):
            assert h.score == pytest.approx(w.score, rel=1e-5, abs=1e-5)
            np.testing.assert_allclose(h.token_scores, w.token_scores, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(h.alignment, w.alignment, rtol=0, atol=1e-6)


def test_a_wide_beam_finds_the_best_sequence(tmp_path):
    sizes = {**SIZES, "vocabulary_size": 5, "hidden_dim": 16, "num_heads": 2, "max_length": 6}
    path = write_engine_file(tmp_path / "m", random_arrays(sizes, spread=1.0), sizes)
    engine = Engine(path)
    source = [[3, 4, 3, EOS]]
    options = {"beam_size": 5, "num_hypotheses": 1, "max_length": 4, "min_length": 0,
               "patience": 1000.0, "early_exit": False}  # fmt: skip
    others = [token for token in range(5) if token != EOS]
    targets = [
        [*tokens, *end]
        for length in range(5)
        for tokens in itertools.product(others, repeat=length)
        for end in ([[EOS], []] if length == 4 else [[EOS]])
        if length + bool(end) <= 4
    ]
    totals = [s.sum() for s in engine.score(source * len(targets), targets)]
    for alpha in (0.0, 1.0):
        best = max(
            total / max(len(t), 1) ** alpha for t, total in zip(targets, totals, strict=True)
        )
        # 5 hypotheses of at most 4^3 are not all there are: the best score is an upper bound, and
        # with this model the beam attains it.
        found = engine.translate(source, {**options, "alpha": alpha})[0][0]
        assert found.score == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_scores_are_those_of_the_search(files, kind):
    engine = Engine(files[kind], workers=2)
    sources = sentences(np.random.default_rng(1), 9, LONGEST, V)
    decoders = [i % 2 for i in range(9)]
    options = {"num_hypotheses": 3, "min_length": 0, "max_length": 12}
    found = engine.translate(sources, options, decoders=decoders)
    for n in range(3):
        targets = [[*h[n].ids, *([EOS] if h[n].ended else [])] for h in found]
        scores = engine.score(sources, targets, decoders=decoders, max_batch_size=4)
        for h, s in zip(found, scores, strict=True):
            np.testing.assert_array_equal(h[n].token_scores, s)
            assert s.sum() == pytest.approx(h[n].log_probability, rel=1e-5)


def run(engine, sources, **arguments):
    found = engine.translate(sources, **arguments)
    return [
        [(h.ids, np.float32(h.score).tobytes(), h.token_scores.tobytes()) for h in hypotheses]
        for hypotheses in found
    ]


@settings(max_examples=4)
@given(data=st.data())
def test_results_do_not_depend_on_machine_batch_or_threads(files, data):
    kind = data.draw(st.sampled_from(["float32", "int8"]))
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    sources = sentences(random, 64, LONGEST, V)
    decoders = random.integers(0, 2, 64).tolist()
    prefixes = [random.integers(4, V, random.integers(0, 3)).tolist() for _ in sources]
    options = {"max_length": 10, "num_hypotheses": 2, "alpha": 0.6, "suppress": [0, 1]}
    options |= data.draw(
        st.sampled_from([{}, {"beam_size": 3}, {"sampling": True}, {"no_repeat_ngram": 2}])
    )
    order = random.permutation(64)
    results = []
    for isa in ISAS:
        engine = Engine(
            files[kind],
            isa=isa,
            workers=data.draw(st.integers(1, 3)),
            threads=data.draw(st.sampled_from([1, 2, 4])),
        )
        found = run(
            engine,
            [sources[i] for i in order],
            options=options,
            decoders=[decoders[i] for i in order],
            prefixes=[prefixes[i] for i in order],
            sentence_indices=order,
            max_batch_size=data.draw(st.sampled_from([1, 3, 17, 64])),
        )
        results.append([found[place] for place in np.argsort(order)])
        alone = int(random.integers(64))
        (one,) = run(
            engine, [sources[alone]], options=options, decoders=[decoders[alone]],
            prefixes=[prefixes[alone]], sentence_indices=[alone],
        )  # fmt: skip
        assert one == results[0][alone]
    assert all(result == results[0] for result in results)


def test_int8_of_the_file_and_of_the_engine_are_one(files):
    sources = sentences(np.random.default_rng(2), 20, LONGEST, V)
    options = {"max_length": 12}
    of_file = Engine(files["int8"])
    of_engine = Engine(files["float32"], compute_type="int8")
    assert of_file.compute_type == of_engine.compute_type == "int8"
    assert run(of_file, sources, options=options) == run(of_engine, sources, options=options)
    assert Engine(files["int8"], compute_type="float32").compute_type == "float32"


def test_encoding_does_not_depend_on_the_batch(engine):
    sources = [*sentences(np.random.default_rng(3), 90, LONGEST, V), []]
    outputs = engine.encode(sources)
    assert [output.shape for output in outputs] == [(len(s), 36) for s in sources]
    for i in (0, 40, 89):
        np.testing.assert_array_equal(engine.encode([sources[i]])[0], outputs[i])
    assert engine.encode([]) == []


def test_empty_input(engine):
    assert engine.translate([]) == []
    full = [TAG, 9, EOS]
    found = engine.translate([[], full, [TAG, EOS], [EOS]], {"max_length": 5}, prefixes=[[5]] * 4)
    assert [h[0].ids for h in (found[0], found[2], found[3])] == [[], [], []]
    assert [h[0].score for h in (found[0], found[2], found[3])] == [0, 0, 0]
    assert found[1][0].ids[0] == 5
    assert engine.score([[], full], [[], []])[0].shape == (0,)


def test_longest_target_by_source(engine):
    sources = [[TAG, *[9] * n, EOS] for n in range(1, 9)]
    options = BeamOptions(max_length=9, min_length=9).replace(
        min_length=2, max_length_factor=1.5, max_length_offset=1
    )
    limits = [options.sentence_max_length(n) for n in range(1, 9)]
    found = engine.translate(sources, options.replace(suppress=()), shortlist=[EOS, 5])
    assert all(len(h[0].ids) <= limit for h, limit in zip(found, limits, strict=True))
    longest = options.replace(lingvo_pruning=False, min_length=2, alpha=50.0, patience=100.0)
    found = engine.translate(sources, longest)
    assert [len(h[0].ids) for h in found] == limits


def test_numpy_in_and_out(engine):
    source = np.array([[TAG, 9, 8, EOS], [TAG, 4, 4, EOS]], np.int64)
    want = run(engine, source.tolist(), options={"max_length": 6})
    assert run(engine, source, options={"max_length": 6}) == want
    hypothesis = engine.translate(source, {"max_length": 6}, alignments=True)[0][0]
    assert hypothesis.alignment.shape == (len(hypothesis.token_scores), 4)
    np.testing.assert_allclose(hypothesis.alignment.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"options": {"beam_size": 200}}, "beam_size=200"),
        ({"options": {"beam_sise": 2}}, "beam_sise.*did you mean 'beam_size'"),
        ({"options": {"max_length": 25}}, "max_length=25: the model has only 24 positions"),
        ({"options": {"num_hypotheses": 5}}, "num_hypotheses=5.*beam_size=4"),
        ({"options": {"alpha": "high"}}, "alpha=high"),
        ({"options": {"max_length_factor": -1.0}}, "max_length_factor=-1"),
        ({"options": {"max_length_offset": -1}}, "max_length_offset=-1"),
        ({"options": {"suppress": [EOS]}}, "suppress=2"),
        ({"decoders": [2]}, "decoder of sentence 0=2: give a whole number from 0 to 1"),
        ({"decoders": [0, 0]}, "decoders has 2 entries, but there are 1 sentences"),
        ({"prefixes": [[5] * 9], "options": {"max_length": 8}}, "prefix of sentence 0 has 9"),
        ({"prefixes": [[EOS]]}, "prefix of sentence 0 contains id 2"),
        ({"prefixes": [[5]], "sentence_indices": [1, 2]}, "indices has 2 entries"),
        ({"shortlist": [5]}, "shortlist does not contain id 2"),
        ({"shortlist": [EOS, V]}, "shortlist contains id 131"),
        ({"attention_layer": 3}, "attention_layer=3"),
        ({"attention_head": 3}, "attention_head=3"),
        ({"max_batch_size": 0}, "max_batch_size=0"),
        ({"max_batch_size": 1.5}, "max_batch_size=1.5"),
        ({"sources": [[1] * 25]}, "source 0 has 25 tokens.*max_length, 24"),
        ({"sources": [[TAG, V, EOS]]}, r"source 0 contains id 131.*\[0, 131\)"),
        ({"sources": [[TAG, -1, EOS]]}, "source 0 contains id -1"),
        ({"sources": [[TAG, 2**40]]}, "source 0 contains id 1099511627776"),
        ({"sources": [[[5]]]}, r"source 0 is int64 of shape \[1, 1\]"),
        ({"sources": [[0.5]]}, "source 0 is float64"),
    ],
)
def test_bad_requests_are_refused(engine, arguments, message):
    with pytest.raises(InputError, match=message):
        engine.translate(**{"sources": [[TAG, 9, EOS]], **arguments})


def test_bad_scoring_requests_are_refused(engine):
    source = [TAG, 9, EOS]
    for sources, targets, message in [
        ([source], [], "1 sources and 0 targets"),
        ([source], [[V]], "target 0 contains id 131"),
        ([source], [[5] * 25], "target 0 has 25 tokens"),
        ([source, []], [[], [5]], "source 1 is empty, but its target is not"),
    ]:
        with pytest.raises(InputError, match=message):
            engine.score(sources, targets)
    with pytest.raises(InputError, match="max_batch_size=0"):
        engine.score([source], [[5]], max_batch_size=0)


def test_bad_engines_are_refused(files, tmp_path, monkeypatch):
    path = files["float32"]
    for arguments, message in [
        ({"workers": 0}, "workers=0: give a whole number from 1 to 1024"),
        ({"threads": 2000}, "threads=2000"),
        ({"compute_type": "int4"}, "compute_type='int4' is unknown"),
    ]:
        with pytest.raises(InputError, match=message):
            Engine(path, **arguments)
    with pytest.raises(NativeError, match="isa='avx3' is not an instruction set"):
        Engine(path, isa="avx3")
    monkeypatch.setenv("KERAS_MTL_ISA", "generic")
    assert Engine(path).isa == "generic"
    with pytest.raises(ExportError, match="missing"):
        Engine(tmp_path / "missing")
    damaged = bytearray(path.read_bytes())
    damaged[-100] ^= 1
    (tmp_path / "damaged").write_bytes(damaged)
    with pytest.raises(ExportError, match="checksum"):
        Engine(tmp_path / "damaged", verify=True)


def test_a_model_that_gives_no_numbers_is_reported(tmp_path):
    arrays = random_arrays(SIZES)
    arrays["decoder.0.final_norm.gamma"][:] = 1e38
    arrays["embedding.weight"] *= 1e3
    engine = Engine(write_engine_file(tmp_path / "m", arrays, SIZES), workers=2)
    sources = [[TAG, 9, EOS]] * 5
    for call in (lambda: engine.translate(sources), lambda: engine.score(sources, [[5]] * 5)):
        with pytest.raises(KerasMtlError, match=r"sentence \d: the model's output is not a number"):
            call()
    with pytest.raises(InputError):  # The workers are still there.
        engine.translate([[V]])


def test_an_engine_from_before_a_fork_is_refused(engine, monkeypatch):
    monkeypatch.setattr("os.getpid", lambda: 1)
    with pytest.raises(NativeError, match="opened before this process was forked"):
        engine.translate([[TAG, 9, EOS]])


AFTER_A_FORK = """
import os, sys
from keras_mtl.errors import KerasMtlError
from keras_mtl.engine import Engine
path, what = sys.argv[1:]
engine = Engine(path, workers=2, threads=2)
want = engine.translate([[3, 9, 2]], {"max_length": 5})[0][0].ids
child = os.fork()
if child == 0:
    if what == "open anew":
        engine = Engine(path, workers=2)  # Which drops the one that was inherited.
        assert engine.translate([[3, 9, 2]], {"max_length": 5})[0][0].ids == want
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
print("fine")
"""


@pytest.mark.parametrize("what", ["open anew", "end"])
def test_a_forked_process_lets_an_inherited_engine_go(files, run_python, what):
    done = run_python(AFTER_A_FORK, str(files["int8"]), what, timeout=60)
    assert done.stdout == "fine\n", done.stderr


FEW_THREADS = """
import resource, sys
from keras_mtl.errors import InputError
from keras_mtl.engine import Engine
path, option = sys.argv[1:]
# The stacks of so many threads do not fit.
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
try:
    Engine(path, **{option: 1024}).translate([[3, 9, 2]], {"max_length": 5})
except InputError as error:
    print(error)
engine = Engine(path)
print(len(engine.translate([[3, 9, 2]], {"max_length": 5})))
"""


@pytest.mark.parametrize("option", ["workers", "threads"])
def test_threads_that_the_system_does_not_give_are_an_error(files, run_python, option):
    done = run_python(FEW_THREADS, str(files["int8"]), option, timeout=60)
    message, count = done.stdout.splitlines()
    assert message.startswith(f"{option}=1024: the system started only "), done.stderr
    assert count == "1"


AT_THE_END = """
import atexit, sys, threading, time
# Before the engine's own, so that it is called after that.
atexit.register(lambda: print(len(engine.translate([[3, 9, 2]] * 3, {"max_length": 5}))))
from keras_mtl.engine import Engine
engine = Engine(sys.argv[1], workers=2)
began = threading.Event()

def work():
    while True:
        began.set()
        engine.translate([[3, 9, 8, 7, 2]] * int(sys.argv[2]), {"max_length": int(sys.argv[3])})

for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
began.wait()
time.sleep(0.3)
"""


# Most of the time goes to the search, or to the making of the results.
@pytest.mark.parametrize(("count", "length"), [(20_000, 24), (3000, 1)])
def test_the_interpreter_ends_while_daemon_threads_translate(files, run_python, count, length):
    done = run_python(AT_THE_END, str(files["int8"]), str(count), str(length), timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


def test_int8_of_a_model_too_wide_for_exact_sums_is_refused(tmp_path):
    sizes = {
        **SIZES,
        "hidden_dim": 4,
        "num_heads": 1,
        "intermediate_dim": 2**17 + 1,
        "encoder_layers": 1,
        "decoder_layers": 0,
    }
    path = write_engine_file(tmp_path / "wide", random_arrays(sizes), sizes)
    assert Engine(path).encode([[TAG, EOS]])[0].shape == (2, 4)
    with pytest.raises(ExportError, match=r"intermediate_dim=131073: int8 supports at most 131072"):
        Engine(path, compute_type="int8")


def test_ids_that_are_none_are_named(engine):
    with pytest.raises(InputError, match="source 0 is not a list of token ids"):
        engine.translate([[[TAG], [9, EOS]]])
    found = engine.translate([[TAG, 9, EOS]], {"max_length": 4}, sentence_indices=[5_000_000_000])
    assert len(found) == 1
    with pytest.raises(InputError, match=r"decoders=5000000000: give a whole number below 2\^31"):
        engine.translate([[TAG, 9, EOS]], decoders=[5_000_000_000])


def test_calls_of_many_threads(engine):
    sources = sentences(np.random.default_rng(4), 24, LONGEST, V)
    settings = [{"options": {"max_length": 8, "beam_size": 1 + i % 5}} for i in range(24)]
    want = [run(engine, [s], **o) for s, o in zip(sources, settings, strict=True)]
    have = [None] * 24

    def work(first):
        for i in range(first, 24, 8):
            have[i] = run(engine, [sources[i]], **settings[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert have == want


def test_an_interrupt_ends_a_long_call(engine):
    class StopError(Exception):
        pass

    def handler(*_):
        raise StopError

    sources = sentences(np.random.default_rng(5), 400, LONGEST, V) * 500
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        begin = time.monotonic()
        with pytest.raises(StopError):
            engine.translate(sources, {"beam_size": 8, "max_length": 24, "min_length": 20})
        assert time.monotonic() - begin < 10
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert engine.translate(sources[:1], {"max_length": 4})
