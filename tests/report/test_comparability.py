"""Scores that are not comparable are flagged above the table, and no winner is marked."""

import json

import pytest

from keras_mtl.cli.main import main
from keras_mtl.report import comparability, group_runs, read_run, write_report
from tests.report.run_case import TASKS, check_page, evaluate, make_run, write_log

RECORD = {
    "checkpoint": "best/ckpt-200",
    "checkpoint_choice": "best",
    "step": 200,
    "trained_steps": 300,
    "weights_hash": "0123456789abcdef",
    "beam_size": 4,
    "compute_type": "float32",
    "date": "2026-01-02T03:04:05+00:00",
    "keras_mtl": "0.2.0",
    "hardware": {"processor": "Fast Processor", "processors": 8},
    "partial": [],
}


def recorded_run(directory, schedule, kept=0.6, count=60, trained=300, **changes):
    """A run of `trained` steps whose evaluation recorded everything."""
    steps = tuple(range(100, trained + 1, 100))
    make_run(directory, schedule, 1, tested=False, steps=steps)
    record = {**RECORD, "trained_steps": trained, **changes}
    evaluate(directory, TASKS, kept, 1, count=count, record=record)
    return directory


def warnings_of(*folders):
    groups = group_runs([read_run(directory) for directory in folders])
    return comparability.check(groups, list(TASKS)).warnings


@pytest.fixture
def first(tmp_path):
    return recorded_run(tmp_path / "first", "uniform")


def test_equal_runs_compare(first, tmp_path):
    second = recorded_run(tmp_path / "second", "implicit")
    groups = group_runs([read_run(first), read_run(second)])
    found = comparability.check(groups, list(TASKS))
    assert found.compares
    assert not found.unknown
    # The best checkpoint may be an earlier one: both have had 300 steps.
    third = recorded_run(tmp_path / "third", "constant", step=300, checkpoint="best/ckpt-300")
    assert not warnings_of(first, third)


def test_unequal_steps_are_flagged(first, tmp_path):
    shorter = recorded_run(tmp_path / "shorter", "implicit", trained=200)
    assert warnings_of(first, shorter) == (
        "Unequal steps: uniform after 300 steps; implicit after 200 steps. Train all runs for the "
        "same number of steps, or evaluate checkpoints of equal steps with --checkpoint.",
    )
    # A checkpoint that was asked for stands for its own step.
    given = {"checkpoint_choice": "given", "step": 200}
    equal = recorded_run(tmp_path / "equal", "constant", **given)
    assert not warnings_of(shorter, equal)
    assert "Unequal steps" in warnings_of(first, equal)[0]
    # One seed of a configuration that was stopped early, too.
    other = tmp_path / "other"
    trainer = {"train_steps": 300, "schedule": {"name": "uniform", "parameters": {}}}
    make_run(other, "uniform", 2, tested=False, steps=(100,), trainer=trainer)
    evaluate(other, TASKS, 0.6, 2, record={**RECORD, "trained_steps": 100})
    assert "uniform (seed 2) after 100 steps" in warnings_of(first, other)[0]


def test_scores_of_a_run_that_was_trained_further_are_stale(first, tmp_path):
    second = recorded_run(tmp_path / "second", "implicit")
    write_log(second, (400,), 1)
    (warning,) = warnings_of(first, second)
    assert warning.startswith(
        "Stale scores: implicit was scored when it was trained for 300 steps, and has 400 now. "
        f"Run `keras-mtl evaluate --model_dir {second}`."
    )
    # Checkpoints say more than the log, which a killed run has written beyond them.
    (second / "ckpt-300.index").write_text("")
    assert not warnings_of(first, second)
    (second / "ckpt-400.index").write_text("")
    assert warnings_of(first, second) == (warning,)


def test_partial_evaluations_are_flagged(first, tmp_path):
    part = ["20 of 60 pairs of en-fr", "without task en-oc"]
    second = recorded_run(tmp_path / "second", "implicit", partial=part)
    (warning,) = warnings_of(first, second)
    assert "A partial evaluation: implicit was scored 20 of 60 pairs of en-fr, without" in warning
    # One by an older version shows it by the size of the prepared test set.
    older = make_run(tmp_path / "older", "constant", 1)
    path = older / "data/manifest.json"
    manifest = json.loads(path.read_text())
    for task in manifest["tasks"]:
        task["test_size"] = 100
    path.write_text(json.dumps(manifest))
    (warning,) = warnings_of(first, older)
    assert "constant was scored 60 of 100 pairs of en-fr, 60 of 100 pairs of en-gl" in warning


def test_other_sentences_are_flagged(first, tmp_path):
    second = recorded_run(tmp_path / "second", "implicit", count=30)
    (warning,) = warnings_of(first, second)
    assert warning.startswith("Different test sets: the runs were not scored on the same")
    assert "en-fr, en-gl (of en-fr: uniform on 60 pairs; implicit on 30 pairs)" in warning
    # The same number of other sentences; an older version's are known by its translations.
    older = make_run(tmp_path / "older", "constant", 1)
    assert not warnings_of(first, older)
    rows = (older / "evaluation-test/en-gl.jsonl").read_text().splitlines()
    rows[0] = json.dumps({**json.loads(rows[0]), "reference": "another"})
    (older / "evaluation-test/en-gl.jsonl").write_text("\n".join(rows) + "\n")
    (warning,) = warnings_of(first, older)
    assert "sentences of en-gl (" in warning


def test_other_decoding_is_flagged(first, tmp_path):
    second = recorded_run(tmp_path / "second", "implicit", beam_size=1, compute_type="int8")
    assert warnings_of(first, second) == (
        "Different decoding: uniform with a beam of 4; implicit with a beam of 1.",
        "Different decoding: uniform in float32; implicit in int8.",
    )


def test_older_evaluations_compare_and_what_they_do_not_tell_is_said(first, tmp_path):
    older = make_run(tmp_path / "older", "implicit", 1)
    groups = group_runs([read_run(first), read_run(older)])
    found = comparability.check(groups, list(TASKS))
    assert found.compares
    (unknown,) = found.unknown
    assert "did not record checkpoint and step, weights, date, version, hardware: impl" in unknown
    # Their logs still tell that one was trained for longer.
    shorter = make_run(tmp_path / "shorter", "constant", 1, steps=(100, 200))
    assert "implicit after 300 steps; constant after 200 steps" in warnings_of(older, shorter)[0]


def test_no_winner_is_crowned_and_the_reason_stands_first(first, tmp_path, capsys):
    better = recorded_run(tmp_path / "better", "implicit", kept=0.95)
    shorter = recorded_run(tmp_path / "shorter", "constant", kept=0.95, trained=200)
    winners = ('class="best"', "most tasks won", "highest mean", 'class="up"')
    page, markdown = write_report([read_run(first), read_run(better)], tmp_path / "a", samples=50)
    assert all(text in page.read_text() for text in winners)
    assert "**" in markdown
    assert "▲" in markdown
    words = ["report", str(first), str(shorter), "--output", str(tmp_path / "b"), "--samples", "50"]
    assert main(words) == 0
    markdown = (tmp_path / "b/table.md").read_text()
    assert capsys.readouterr().out.startswith(markdown)
    html = (tmp_path / "b/index.html").read_text()
    check_page(tmp_path / "b/index.html")
    assert not any(text in html for text in winners)
    assert html.index("no winner is marked") < html.index("Unequal steps") < html.index("<table")
    lines = markdown.splitlines()
    assert lines[0] == "> **Warning: These scores are not comparable, so no winner is marked.**"
    assert lines[1].startswith("> * Unequal steps: uniform after 300 steps; constant after 200")
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) > 5
    assert not any("**" in row or "▲" in row for row in rows)
    assert "No winner is marked, because these scores are not comparable." in html


def test_what_was_evaluated_is_shown(first, tmp_path):
    page, _ = write_report([read_run(first)], tmp_path / "out", made="Made today.")
    text = check_page(page)
    for expected in (
        *("best/ckpt-200 (step 200)", "0123456789abcdef", "2026-01-02 03:04:05 UTC", "0.2.0"),
        *("Fast Processor, 8 processors", "float32", "120", "Made today."),
    ):
        assert expected in text, expected
