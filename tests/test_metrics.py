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


def test_other_metrics_are_those_of_sacrebleu():
    from sacrebleu.metrics import BLEU, CHRF, TER

    hypotheses, references = ["the cat, sat on a mat"], ["the cat sat on the mat."]
    expected = {
        "chrf_pp": CHRF(word_order=2),
        "ter": TER(),
        "bleu_zh": BLEU(tokenize="zh"),
        "bleu_char": BLEU(tokenize="char"),
        "bleu_intl": BLEU(tokenize="intl"),
    }
    for name, scorer in expected.items():
        found = metrics.score(name, hypotheses, references)
        assert found.value == scorer.corpus_score(hypotheses, [references]).score
        assert found.signature == str(scorer.get_signature())


def test_tokens_follow_the_language():
    chinese = ["我爱北京天安门"], ["我爱北京的天安门"]
    by_language = metrics.score("bleu_by_language", *chinese, language="zh_TW")
    assert by_language == metrics.score("bleu_zh", *chinese)
    assert by_language.value > 30 > metrics.score("bleu", *chinese).value
    assert metrics.score("bleu_by_language", *chinese) == metrics.score("bleu", *chinese)


def test_what_a_metric_requires_is_checked_before(monkeypatch, tmp_path):
    import sacrebleu.utils

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"requires the package MeCab.*sacrebleu\[ja\]"):
        metrics.check_requirements("bleu_by_language", ["fr", "ja"])
    with pytest.raises(ConfigError, match=r"requires the package mecab_ko.*sacrebleu\[ko\]"):
        metrics.score("bleu_ko_mecab", ["a"], ["a"])
    metrics.check_requirements("bleu_by_language", ["fr", "zh"])
    # sacrebleu would download the file without asking.
    monkeypatch.setattr(sacrebleu.utils, "SACREBLEU_DIR", str(tmp_path))
    with pytest.raises(ConfigError, match=f"model of FLORES-200 in {tmp_path}.*Download it"):
        metrics.check_requirements("spbleu")


def test_a_score_does_not_depend_on_what_was_scored_before():
    first = metrics.score("chrf", ["abc"], ["abd"])
    metrics.score("chrf", ["x"] * 3, ["y"] * 3)
    assert metrics.score("chrf", ["abc"], ["abd"]) == first


def test_negative_log_perplexity():
    result = metrics.loss_score("neg_log_perplexity", total_nll=100 * math.log(8.0), tokens=100)
    assert result.value == pytest.approx(-math.log(8.0))
    perfect = metrics.loss_score("neg_log_perplexity", 0.0, 5).value
    assert (perfect, math.copysign(1.0, perfect)) == (0.0, 1.0)


@pytest.mark.parametrize(("nll", "tokens"), [(1.0, 0), (math.nan, 3), (math.inf, 3)])
def test_perplexity_of_nothing_is_an_error(nll, tokens):
    with pytest.raises(InputError):
        metrics.loss_score("neg_log_perplexity", nll, tokens)


def test_built_in_metrics_are_better_when_higher():
    assert metrics.available()[:2] == list(metrics.TEXT_METRICS)
    built_in = ("bleu", "chrf", "chrf_pp", "bleu_by_language", "spbleu", "neg_log_perplexity")
    assert all(metrics.higher_is_better(metric) for metric in built_in)
    assert not metrics.higher_is_better("ter")
    assert metrics.is_better("bleu", 2.0, 1.0)
    assert not metrics.is_better("bleu", math.nan, 1.0)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(metrics.registry, "_METRICS", dict(metrics.registry._METRICS))


def test_a_metric_of_text_is_scored_with_its_direction(registered):
    @metrics.register_text_metric(
        "wrong_share", title="wrong", unit="%", higher_is_better=False, decimals=2
    )
    def wrong_share(hypotheses, references):
        return 100 * sum(a != b for a, b in zip(hypotheses, references, strict=True)) / 2

    result = metrics.score("wrong_share", ["a", "b"], ["a", "c"])
    assert result == metrics.MetricResult(50.0, f"wrong_share|{__name__}")
    assert metrics.available()[-1] == "wrong_share"
    assert metrics.compares_text("wrong_share")
    assert metrics.is_better("wrong_share", 1.0, 2.0)
    assert not metrics.schedule_higher_is_better("wrong_share")
    assert metrics.schedule_score("wrong_share", 50.0) == 50.0
    assert (metrics.title("wrong_share"), metrics.decimals("wrong_share")) == ("wrong", 2)


def test_a_metric_of_the_loss_is_scored(registered):
    metrics.register_loss_metric("ppl", title="ppl", unit="", higher_is_better=False)(
        lambda nll, tokens: math.exp(nll / tokens)
    )
    assert metrics.loss_score("ppl", 10 * math.log(3.0), 10).value == pytest.approx(3.0)
    with pytest.raises(ConfigError, match="'ppl' does not compare text; use one of bleu, chrf"):
        metrics.score("ppl", ["a"], ["a"])
    with pytest.raises(ConfigError, match="'bleu' compares text, not losses"):
        metrics.loss_score("bleu", 1.0, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "1"])
def test_a_value_that_is_no_number_is_named(registered, value):
    metrics.register_text_metric("odd", title="odd", unit="")(lambda *_: value)
    with pytest.raises(
        InputError, match=r"metric 'odd' returned .*; it must return a finite number"
    ):
        metrics.score("odd", ["a"], ["a"])


def test_names_are_unique_and_plain(registered):
    def make():
        @metrics.register_text_metric("twice", title="", unit="")
        def function(hypotheses, references):
            return 0.0

    make()
    make()  # A module that is loaded again.
    with pytest.raises(
        ConfigError, match=r"'bleu' is taken by keras_mtl.metrics.translations; choose another"
    ):
        metrics.register_text_metric("bleu", title="", unit="")(lambda *_: 0.0)
    with pytest.raises(
        ConfigError, match="metric name 'My BLEU' is invalid; use lower-case letters"
    ):
        metrics.register_text_metric("My BLEU", title="", unit="")(lambda *_: 0.0)


def test_a_metric_that_is_not_registered_can_be_shown():
    assert (metrics.title("gone"), metrics.decimals("gone")) == ("gone", 2)
    with pytest.raises(ConfigError, match="unknown metric 'gone'"):
        metrics.higher_is_better("gone")


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
    with pytest.raises(InputError, match="there is no sentence to score"):
        metrics.score("bleu", [], [])
    with pytest.raises(InputError, match="2 hypotheses for 1 references"):
        metrics.score("bleu", ["a", "b"], ["a"])
    with pytest.raises(InputError, match="not one string"):
        metrics.score("bleu", "a", ["a"])


def test_importing_metrics_loads_no_scorer():
    # `keras-mtl --help` imports this module and has to stay fast.
    code = "import sys, keras_mtl.metrics; sys.exit('sacrebleu' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
