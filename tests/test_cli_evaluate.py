"""What `evaluate` and `demo` print, and what they refuse before TensorFlow is needed."""

from types import SimpleNamespace

import pytest

from keras_mtl import metrics
from keras_mtl.cli import demo
from keras_mtl.cli.evaluate import print_results
from keras_mtl.cli.main import main
from keras_mtl.errors import ConfigError
from keras_mtl.evaluation.compute_types import ComputeTypeChange, compare_compute_types
from keras_mtl.evaluation.records import partial_fields
from keras_mtl.evaluation.report_names import obstacle, selection_name
from keras_mtl.evaluation.reports import report
from keras_mtl.evaluation.results import ScoredPairs, TaskResult
from keras_mtl.evaluation.settings import EvaluationSettings, check_settings


def result(pairs, **scores):
    return TaskResult(pairs, scores, dict.fromkeys(scores, "signature"), 1.0)


def test_the_table_has_every_task_the_mean_and_the_signatures(capsys):
    results = {
        "en-fr": result(1500, bleu=30.0, chrf=60.0),
        "en-oc": result(9, bleu=10.0, chrf=41.0),
    }
    copied = {"en-fr": result(1500, chrf=20.0), "en-oc": result(9, chrf=30.0)}
    print_results(results, copied)
    assert capsys.readouterr().out.splitlines() == [
        "task   pairs   BLEU   chrF  chrF of source",
        "en-fr  1,500  30.00  60.00           20.00",
        "en-oc      9  10.00  41.00           30.00",
        "mean       -  20.00  50.50           25.00",
        "BLEU: signature",
        "chrF: signature",
    ]


def test_the_table_shows_how_far_another_compute_type_is(capsys):
    results = {"en-fr": result(9, bleu=29.9, chrf=60.0), "en-oc": result(9, bleu=10.0, chrf=41.1)}
    compared = {
        "en-fr": ComputeTypeChange(0.25, {"bleu": -0.1, "chrf": 0.0}, {"bleu": 0.04, "chrf": 1.0}),
        "en-oc": ComputeTypeChange(0.0, {"bleu": 0.0, "chrf": 0.1}, {"bleu": 1.0, "chrf": 0.3}),
    }
    print_results(results, None, compared, "float32")
    assert capsys.readouterr().out.splitlines()[:4] == [
        "task   pairs   BLEU   chrF  changed %  BLEU against float32     p  "
        "chrF against float32     p",
        "en-fr      9  29.90  60.00      25.00                 -0.10  0.04  "
        "               +0.00  1.00",
        "en-oc      9  10.00  41.10       0.00                 +0.00  1.00  "
        "               +0.10  0.30",
        "mean       -  19.95  50.55      12.50                 -0.05     -  "
        "               +0.05     -",
    ]


def test_p_values_distinguish_a_change_beyond_chance():
    references = [f"the {n} of {n} and {n + 1} words are here" for n in range(60)]

    def scored(hypotheses):
        chrf = metrics.score("chrf", hypotheses, references).value
        return TaskResult(60, {"chrf": chrf}, {}, 1.0, hypotheses, references, references)

    same, one = scored(references), scored(["no", *references[1:]])
    half = scored(
        [line.replace("words", "things") if i % 2 else line for i, line in enumerate(references)]
    )
    none = compare_compute_types(same, same, samples=200)
    assert (none.changed, none.differences) == (0.0, {"chrf": 0.0})
    chance = compare_compute_types(one, same, samples=200)
    loss = compare_compute_types(half, same, samples=200)
    assert chance.changed == 1 / 60
    assert chance.p_values["chrf"] > 0.05
    assert loss.changed == 0.5
    assert loss.differences["chrf"] == pytest.approx(half.chrf - 100)
    assert loss.p_values["chrf"] < 0.01


def test_a_report_is_replaced_only_by_one_that_covers_it():
    scored = {"en-fr": ScoredPairs(60, 60, "aa"), "en-oc": ScoredPairs(9, 9, "bb")}
    both = ["bleu", "chrf"]
    whole = report(
        {"en-fr": result(60, bleu=1.0, chrf=2.0), "en-oc": result(9, bleu=1.0, chrf=2.0)},
        scored,
        split="test",
    )
    assert obstacle(whole, scored, both, "test") is None
    assert obstacle(whole, scored, [*both, "neg_log_perplexity"], "test") is None
    for fewer, metrics_, reason in (
        ({"en-fr": scored["en-fr"]}, both, "it has task en-oc"),
        ({**scored, "en-fr": ScoredPairs(20, 60, "cc")}, both, "it has 60 pairs of en-fr instead"),
        (scored, ["chrf"], "it has metric bleu"),
    ):
        found = obstacle(whole, fewer, metrics_, "test")
        assert found.reason.startswith(reason)
        assert not found.other_sentences
    for other in (ScoredPairs(60, 60, "cc"), ScoredPairs(60, 70, "cc"), ScoredPairs(10, 30, "cc")):
        found = obstacle(whole, {**scored, "en-fr": other}, both, "test")
        assert found.other_sentences
        assert found.reason == "its sentences of en-fr are different"
    # Fewer pairs may be replaced by more of the same test set.
    part = report({"en-fr": result(20, chrf=2.0)}, {"en-fr": ScoredPairs(20, 60, "cc")})
    assert obstacle(part, scored, both, "test") is None
    # Older versions wrote neither hashes nor the size of the test set.
    older = {"split": "a.yaml", "signatures": {}, "tasks": {"en-fr": {"pairs": 60}}}
    assert obstacle(older, scored, both, "a.yaml") is None
    assert obstacle(older, scored, both, "b.yaml").reason == "its sentences are from a.yaml"


def test_a_partial_evaluation_says_what_it_lacks():
    scored = {"en-fr": ScoredPairs(20, 1060, "aa"), "en-oc": ScoredPairs(9, 9, "bb")}
    assert partial_fields(scored, ["chrf"], ["en-ca", "en-gl"]) == [
        "without tasks en-ca, en-gl",
        "20 of 1,060 pairs of en-fr",
        "without bleu",
    ]
    assert partial_fields({"en-oc": scored["en-oc"]}, ["bleu", "chrf", "neg_log_perplexity"]) == []
    name = selection_name("evaluation-test", ["en-fr", "en-oc"], 20, ["chrf"])
    assert name == "evaluation-test-en-fr+en-oc-20_pairs-chrf.json"
    assert selection_name("evaluation-test", None, None, ["bleu", "chrf"]) == "evaluation-test.json"
    many = selection_name("evaluation-test", [f"en-{i:03}" for i in range(90)], None, ["bleu"])
    assert len(many) < 60


def test_a_missing_model_is_a_message(tmp_path, capsys):
    assert main(["evaluate", "--model_dir", str(tmp_path / "none")]) == 2
    assert "none does not exist" in capsys.readouterr().err


def test_the_demo_finds_its_configuration_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert demo.find_config().name == "demo.yaml"
    monkeypatch.setattr(demo, "__file__", str(tmp_path / "a/b/c/demo.py"))
    with pytest.raises(ConfigError, match="Give --config_file"):
        demo.find_config()


def test_warnings_of_prepare_are_repeated(monkeypatch):
    from keras_mtl.configuration import files
    from keras_mtl.configuration.schema import ExperimentConfig
    from keras_mtl.data import prepare
    from keras_mtl.evaluation.trained_model import load_run_data

    vocabulary = SimpleNamespace(hash="1")
    found = SimpleNamespace(vocabulary=vocabulary, warnings=["en-fr: the sides seem exchanged"])
    monkeypatch.setattr(files, "load_params", lambda _: ExperimentConfig())
    monkeypatch.setattr(prepare, "load_prepared", lambda *_: found)
    lines: list[str] = []
    assert load_run_data("run", vocabulary, lines.append) is found
    assert lines == ["warning: en-fr: the sides seem exchanged"]


def test_a_comparison_of_translations_needs_a_metric_of_text():
    settings = EvaluationSettings(metrics=["neg_log_perplexity"], compare_with="float32")
    with pytest.raises(ConfigError, match="Add bleu or chrf"):
        check_settings("run", settings)
