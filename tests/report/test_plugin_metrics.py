"""Metrics of plug-ins in a report: their direction, and what happens if they are not there."""

import json
import re

import pytest

from keras_mtl import errors, metrics
from keras_mtl.report import read_run, runs, tables, write_report
from keras_mtl.report.groups import Mean
from tests.report.run_case import check_page, make_run


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(metrics.registry, "_METRICS", dict(metrics.registry._METRICS))
    metrics.register_text_metric("wrong", title="wrong", unit="%", higher_is_better=False)(min)


def test_the_lowest_is_the_best_of_a_metric_of_which_lower_is_better(registered):
    cells = [tables.Cell(Mean(value, None, value, value, 1)) for value in (3.0, 1.0, 2.0)]
    best = [cell.best for cell in tables._with_best("wrong", cells)]
    assert best == [False, True, False]
    assert [cell.best for cell in tables._with_best("bleu", cells)] == [True, False, False]


def test_words_fit_a_metric_of_which_lower_is_better(tmp_path):
    found = {}
    for name, kept in (("uniform", 0.5), ("implicit", 0.8)):
        directory = make_run(tmp_path / name, name, 1, kept=kept)
        path = directory / "evaluation-test.json"
        report = json.loads(path.read_text())
        for result in report["tasks"].values():
            result["scores"]["perplexity"] = 10 * kept
        path.write_text(json.dumps(report))
        log = directory / "metrics.jsonl"
        log.write_text(log.read_text().replace('"chrf"', '"perplexity"'))
        found[name] = read_run(directory)
    _, markdown = write_report(list(found.values()), tmp_path / "out", samples=0)
    text = check_page(tmp_path / "out/index.html")
    assert re.search(r"lowest mean perplexity:\W+uniform", text)
    assert re.search(r"highest mean BLEU:\W+implicit", text)
    assert "highest mean perplexity" not in text
    assert "baseline / perplexity on dev" in text
    assert "| baseline / uniform |" in markdown
    assert metrics.ratio_title("ter") == "baseline / TER"
    assert metrics.ratio_title("neg_log_perplexity").startswith("baseline / ")
    assert metrics.ratio_title("bleu") == "BLEU / baseline"
    assert metrics.ratio_title("gone") == "gone / baseline"


def test_a_plug_in_that_is_gone_matters_only_for_its_metrics(tmp_path):
    (tmp_path / "params.yaml").write_text("imports: [plug_gone]\n")
    notes = []
    runs._load_plugins(tmp_path, ["bleu"], notes)
    assert len(notes) == 1
    assert "plug-in 'plug_gone'" in notes[0]
    with pytest.raises(errors.ConfigError, match="plug-in 'plug_gone'"):
        runs._load_plugins(tmp_path, ["bleu", "wrong"], notes)
    (tmp_path / "params.yaml").unlink()
    with pytest.raises(
        errors.ConfigError, match="metric 'wrong' is not registered; import its plug"
    ):
        runs._load_plugins(tmp_path, ["wrong"], notes)
