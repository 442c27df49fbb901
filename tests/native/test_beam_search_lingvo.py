"""What Lingvo's users expect of the C++ search: its rule, merged paths, biased decoding."""

import itertools

import numpy as np
import pytest

from keras_mtl.decoding.options import BeamOptions
from keras_mtl.engine import library
from keras_mtl.engine.arguments import option_values
from keras_mtl.errors import InputError
from tests.decoding import lingvo_reference, reference, tables
from tests.decoding.test_beam_search import BATCH, EOS, STEPS, V
from tests.native.test_beam_search_native import KINDS, same, search, triples


@pytest.mark.parametrize("changes", [
    {}, {"ensure_full_beam": True}, {"force_eos_in_last_step": True},
    {"eos_max_logit_delta": 0.5, "beam_gap": 0.5}, {"local_eos_threshold": -1.5, "beam_size": 2},
    {"force_eos_in_top_k": True, "beam_size": 2}, {"merge_paths": True, "eoc_id": 4},
    {"merge_paths": True, "eoc_id": 4, "beam_size": 1, "num_hypotheses": 1},
])  # fmt: skip
def test_lingvo_pruning_equals_its_description(changes):
    base = {"max_length": STEPS, "min_length": 0, "num_hypotheses": 2, "length_penalty": "lingvo"}
    options = BeamOptions(**base, lingvo_pruning=True).replace(**changes)
    found = 0
    for seed, kind in itertools.product(range(8), KINDS):
        table = tables.random_table(seed, kind, BATCH, STEPS, V)
        model = tables.TableModel(table)
        for i, have in enumerate(search(options, table)):
            want = lingvo_reference.search_sentence(
                model.sentence(i), V, options, STEPS, EOS, log_probabilities=True
            )
            same(triples(have), want, exact="merge_paths" not in changes)
            found += len(have)
    assert found > 50


def test_a_forced_end_may_be_worse_than_the_best_tokens():
    """Without the option, the end of sentence is never among the best two tokens."""
    table = np.full([1, STEPS, tables.ROWS, V], -4.0, np.float32)
    table[..., 3:6], table[..., EOS] = -1.0, -2.0
    options = BeamOptions(
        beam_size=1,
        max_length=STEPS,
        min_length=0,
        lingvo_pruning=True,
        beam_gap=0.0,
        length_penalty="none",
    )
    assert search(options, table) == [[]]
    (hypothesis,) = search(options.replace(force_eos_in_top_k=True), table)[0]
    assert hypothesis.ids == []
    assert hypothesis.token_scores.tolist() == [-2.0]


def test_merged_paths_add_their_probabilities():
    """Paths 3, 4 and 4, 3 are the same tokens if 4 is the empty token."""
    options = BeamOptions(
        beam_size=4, num_hypotheses=1, max_length=3, min_length=0, lingvo_pruning=True,
        length_penalty="none", merge_paths=True, eoc_id=4,
    )  # fmt: skip
    table = np.full([1, 3, tables.ROWS, V], -np.inf, np.float32)
    table[:, 0, :, 3], table[:, 0, :, 4] = np.log(0.6), np.log(0.4)
    after3, after4 = tables.hash_of([3]), tables.hash_of([4])
    table[:, 1, after3, 4], table[:, 1, after4, 3] = np.log(0.7), np.log(0.5)
    table[:, 2, :, EOS] = np.log(0.5)
    (merged,) = search(options, table)[0]
    assert merged.ids == [3, 4]  # The more probable path.
    np.testing.assert_allclose(np.exp(merged.log_probability), (0.42 + 0.2) / 2, rtol=1e-6)
    np.testing.assert_allclose(np.exp(merged.token_scores), [0.6, 0.7, 0.5], rtol=1e-6)
    (best,) = search(options.replace(merge_paths=False), table)[0]
    np.testing.assert_allclose(np.exp(best.log_probability), 0.21, rtol=1e-6)


def test_sentences_end_independently():
    """Lingvo's `terminate_beams_independently`: a sentence does not see the others."""
    table = tables.random_table(3, "random", BATCH, STEPS, V)
    options = BeamOptions(max_length=STEPS, lingvo_pruning=True, beam_gap=0.5, num_hypotheses=2)
    together = search(options, table)
    assert together == [search(options, table[i : i + 1])[0] for i in range(BATCH)]
    assert len({hypotheses[0].length for hypotheses in together if hypotheses}) > 1


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("consistent", [True, False])
def test_bias_mixes_the_target_into_the_probabilities(weight, consistent):
    """The reference mixes the distributions in float64 before the search."""
    options = BeamOptions(
        max_length=STEPS, min_length=0, num_hypotheses=3, bias_weight=weight,
        bias_only_if_consistent=consistent,
    )  # fmt: skip
    table = 2 * np.random.default_rng(8).normal(size=(BATCH, STEPS, tables.ROWS, V)).astype("f")
    biases = [[3, 4, 5, EOS], [7], [], [0, 0, 0, 0, 0, 0, 0], [8, EOS]]
    have = search(options, table, log_probabilities=False, biases=biases)
    model = tables.TableModel(table)

    def biased(i):
        def outputs(tokens):
            log_p = reference.log_softmax(model.sentence(i)(tokens)).astype(np.float64)
            step, bias = len(tokens), biases[i]
            if step < len(bias) and not (consistent and tokens != bias[:step]):
                target = np.eye(V)[bias[step]]
                with np.errstate(divide="ignore"):
                    log_p = np.log((1 - weight) * np.exp(log_p) + weight * target)
            return log_p.astype(np.float32)

        return outputs

    for i, hypotheses in enumerate(have):
        want = reference.search_sentence(biased(i), V, options, STEPS, EOS, (), True)
        same(triples(hypotheses), want, exact=False)
    if weight == 1.0 and consistent:
        assert have[0][0].ids == [3, 4, 5]
        assert have[0][0].ended
        assert have[4][0].score == 0.0
    if weight == 0.0:
        same(triples(have[0]), triples(search(options, table, False)[0]), exact=False)


def test_bad_options():
    core = library.core()
    for values, message in [
        ({"bias_weight": 1.5}, "bias_weight=1.5: give a number from 0 to 1"),
        ({"target_seq_length_ratio": 0.0}, "target_seq_length_ratio=0: give a finite number above"),
        ({"merge_paths": True}, "eoc_id=-1: merge_paths requires the id of an empty token"),
        ({"merge_paths": True, "eoc_id": EOS}, "eoc_id=2: merge_paths requires"),
    ]:
        with pytest.raises(InputError, match=message):
            core.BeamSearch(option_values({**values}), V, 1, EOS)
    table = tables.random_table(0, "ties", 1, STEPS, V)
    with pytest.raises(InputError, match="the bias of sentence 0 contains id 9: the ids"):
        search(BeamOptions(max_length=STEPS), table, biases=[[9]])
    with pytest.raises(InputError, match="biases has 2 entries, but there are 1 sentences"):
        search(BeamOptions(max_length=STEPS), table, biases=[[3], [3]])
