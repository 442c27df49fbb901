"""Scores: their values, their signatures, and the errors of unusable input."""

import math
import subprocess
import sys

import pytest

from keras_mtl import metrics
from keras_mtl.errors import ConfigError, InputError


def test_perfect_and_hopeless_translations_take_the_ends_of_the_scale():
    references = ["the cat sat on the mat", "a second sentence of six words"]
    for metric in metrics.TEXT_METRICS:
        assert metrics.score(metric, references, references).value == pytest.approx(100.0)
        assert metrics.score(metric, ["", ""], references).value == 0.0


def test_values_equal_sacrebleus_own_and_carry_its_signature():
    import sacrebleu

    hypotheses = ["the cat sat on a mat", "one more sentence of six words"]
    references = ["the cat sat on the mat", "a second sentence of six words"]
    bleu = metrics.score("bleu", hypotheses, references)
    chrf = metrics.score("chrf", hypotheses, references)
    assert bleu.value == sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert chrf.value == sacrebleu.corpus_chrf(hypotheses, [references]).score
    assert 0 < bleu.value < 100
    assert 0 < chrf.value < 100
    assert bleu.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert chrf.signature.startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")


def test_a_score_does_not_depend_on_what_was_scored_before():
    first = metrics.score("chrf", ["abc"], ["abd"])
    metrics.score("chrf", ["x"] * 3, ["y"] * 3)
    assert metrics.score("chrf", ["abc"], ["abd"]) == first


def test_negative_log_perplexity():
    result = metrics.neg_log_perplexity(total_nll=100 * math.log(8.0), tokens=100)
    assert result.value == pytest.approx(-math.log(8.0))
    perfect = metrics.neg_log_perplexity(0.0, 5).value
    assert (perfect, math.copysign(1.0, perfect)) == (0.0, 1.0)


@pytest.mark.parametrize(("nll", "tokens"), [(1.0, 0), (math.nan, 3), (math.inf, 3)])
def test_perplexity_of_nothing_is_an_error(nll, tokens):
    with pytest.raises(InputError):
        metrics.neg_log_perplexity(nll, tokens)


def test_every_metric_is_better_when_higher():
    assert all(metrics.higher_is_better(metric) for metric in metrics.METRICS)


def test_schedules_get_a_score_that_can_be_divided_by_a_baseline():
    from keras_mtl.schedules import ScoreBook, TaskInfo

    for metric, worse, better, baseline in (
        ("bleu", 10.0, 20.0, 40.0),
        ("neg_log_perplexity", -4.0, -2.0, 1.0),
    ):
        higher = metrics.schedule_higher_is_better(metric)
        book = ScoreBook([TaskInfo("a", 1, baseline), TaskInfo("b", 1, baseline)], higher)
        book.set(0, 0, metrics.schedule_score(metric, worse))
        book.set(1, 0, metrics.schedule_score(metric, better))
        assert book.ratios() == pytest.approx([0.25, 0.5])


def test_unusable_input_is_named():
    with pytest.raises(ConfigError, match=r"'blue'.*did you mean 'bleu'"):
        metrics.score("blue", ["a"], ["a"])
    with pytest.raises(ConfigError, match="does not compare text"):
        metrics.score("neg_log_perplexity", ["a"], ["a"])
    with pytest.raises(InputError, match="empty"):
        metrics.score("bleu", [], [])
    with pytest.raises(InputError, match="2 hypotheses for 1 references"):
        metrics.score("bleu", ["a", "b"], ["a"])
    with pytest.raises(InputError, match="not one string"):
        metrics.score("bleu", "a", ["a"])


def test_importing_metrics_loads_no_scorer():
    # `keras-mtl --help` imports this module and has to stay fast.
    code = "import sys, keras_mtl.metrics; sys.exit('sacrebleu' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
