"""The report: what it reads, how it groups and tests, and that the page stands by itself."""

import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_mtl.cli.main import main
from keras_mtl.errors import ConfigError, DataError
from keras_mtl.report import group_runs, panels, read_run, write_report
from keras_mtl.report.significance import compare_groups, paired_bootstrap
from keras_mtl.report.tables import final_table, to_markdown
from tests.report.run_case import STEPS, TASKS, check_page, corrupt, evaluate, make_run, references


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds of a schedule and of a clearly better one."""
    root = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        make_run(root / f"uniform-{seed}", "uniform", seed, kept=0.5)
        make_run(root / f"implicit-{seed}", "implicit", seed, kept=0.8, scales=(1.2, 0.8))
    return root


def two_groups(runs):
    return group_runs(
        [read_run(runs / f"{name}-{seed}") for name in ("uniform", "implicit") for seed in (1, 2)]
    )


def change_evaluations(directory, change):
    """Applies `change` to each logged validation of a run, and returns the log."""
    log = directory / "metrics.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    for event in events:
        if event["event"] == "evaluation":
            change(event)
    log.write_text("".join(json.dumps(event) + "\n" for event in events))
    return log


def test_runs_that_differ_by_their_seed_alone_are_one_group(runs, tmp_path):
    names = ["uniform-1", "implicit-1", "uniform-2", "implicit-2"]
    groups = group_runs([read_run(runs / name) for name in names])
    assert [group.label for group in groups] == ["uniform", "implicit"]
    assert [group.seeds for group in groups] == [[1, 2], [1, 2]]
    value = groups[0].test("chrf", "en-fr")
    single = [run.test["chrf"]["en-fr"] for run in groups[0].runs]
    assert value.mean == pytest.approx(np.mean(single))
    assert value.spread == pytest.approx(np.std(single, ddof=1))
    curve = groups[0].curve(lambda run: run.ratios.get("en-gl"))
    assert curve.steps.tolist() == list(STEPS)
    assert curve.low[0] == pytest.approx(41 / 60)
    assert curve.mean[0] == pytest.approx(41.5 / 60)
    assert groups[0].curve(lambda run: run.scales.get("en-gl")) is None
    # A changed field, and the same seed again, make other groups with other labels.
    other = make_run(tmp_path / "balanced", "uniform", 1, balancing={"name": "dwa"})
    log = other / "metrics.jsonl"
    log.write_text(log.read_text().replace('"loss"', '"weights": {"en-fr": 1.5}, "loss"'))
    assert read_run(other).weights == {"en-fr": dict.fromkeys(STEPS, 1.5)}
    again = make_run(tmp_path / "again", "uniform", 1)
    labels = [g.label for g in group_runs([read_run(f) for f in (runs / names[0], other, again)])]
    assert len(set(labels)) == 3
    assert labels[1] == "uniform balancing=dwa"


@pytest.mark.parametrize(
    ("stopping", "finished"),
    [
        ({}, False),
        ({"patience": 1}, False),  # Every validation is better by 10.
        ({"patience": 1, "min_delta": 25}, True),
        ({"patience": 2, "min_delta": 15, "score": "worst"}, True),  # Of the ratios, 0.17.
        ({"patience": 2, "min_delta": 15, "score": "en-gl"}, False),  # By 20 at step 300.
        ({"patience": 2, "min_delta": 25, "score": "en-gl"}, True),
        ({"patience": 2, "min_delta": 25, "min_steps": 400}, False),
        ({"patience": 1, "min_delta": 20, "score": "en-xx"}, False),
    ],
)
def test_a_run_that_stopped_early_is_finished(tmp_path, stopping, finished):
    schedule = {"name": "uniform", "parameters": {}}
    trainer = {"train_steps": 1000, "schedule": schedule, "stopping": stopping}
    run = read_run(make_run(tmp_path / "run", "uniform", 1, trainer=trainer))
    assert run.finished == finished
    assert list(run.notes) == ([] if finished else ["not finished: step 300 of 1,000"])


@pytest.mark.parametrize(
    ("score", "baselines", "finished"),
    [
        ("macro", (60.0, 2.0), True),
        ("worst", (60.0, 2.0), True),
        ("macro", (60.0, None), True),  # The other follows from the logged ratios.
        ("en-gl", (None, None), True),
    ],
)
def test_scores_of_different_metrics_stop_as_ratios(tmp_path, score, baselines, finished):
    pairs = [
        {"source": "en", "target": "fr", "baseline": baselines[0]},
        {"source": "en", "target": "gl", "baseline": baselines[1], "metric": "perplexity"},
    ]
    trainer = {"train_steps": 1000, "stopping": {"patience": 2, "score": score}}
    trainer |= {"schedule": {"name": "uniform", "parameters": {}}}
    directory = make_run(tmp_path / "run", "uniform", 1, trainer=trainer, task={"pairs": pairs})

    def same_ratios(event):
        # Raw scores improve (the lowest number grows), but no score / baseline does.
        event["scores"] = {"chrf": {"en-fr": 45.0}, "perplexity": {"en-gl": 4.0}}
        event["ratios"] = {"en-fr": 0.75, "en-gl": 0.5}

    log = change_evaluations(directory, same_ratios)
    run = read_run(directory)
    assert run.finished == finished
    assert run.baselines == {"en-fr": pytest.approx(60.0)}
    # Without ratios, a baseline is not known, and then the mean has no value.
    log.write_text(log.read_text().replace('"ratios"', '"unknown"'))
    known = score == "en-gl" or None not in baselines
    assert read_run(directory).finished == known


def test_the_worst_of_different_metrics_is_not_the_lowest_number(tmp_path):
    pairs = [
        {"source": "en", "target": "fr", "baseline": 60.0},
        {"source": "en", "target": "gl", "baseline": 2.0, "metric": "perplexity"},
    ]
    trainer = {"train_steps": 1000, "stopping": {"patience": 2, "score": "worst"}}
    trainer |= {"schedule": {"name": "uniform", "parameters": {}}}
    directory = make_run(tmp_path / "run", "uniform", 1, trainer=trainer, task={"pairs": pairs})

    def same_perplexity(event):
        # The perplexity does not improve, but its ratio of 1 is not the worst.
        event["scores"] = {"chrf": {"en-fr": event["step"] / 10}, "perplexity": {"en-gl": 2.0}}

    change_evaluations(directory, same_perplexity)
    assert not read_run(directory).finished


def test_averaged_weights_are_finished(tmp_path):
    trainer = {"train_steps": 1000, "schedule": {"name": "uniform", "parameters": {}}}
    directory = make_run(tmp_path / "run", "uniform", 1, trainer=trainer)
    assert not read_run(directory).finished
    (directory / "metrics.jsonl").unlink()
    run = read_run(directory)
    assert run.finished
    assert not any("not finished" in note for note in run.notes)
    # So that a page that is written again until the runs end is written once.
    words = ["report", str(directory), "--output", str(tmp_path / "out"), "--refresh", "1"]
    assert main(words) == 0


def test_a_field_that_older_runs_lack_has_its_default_there(tmp_path):
    schedule = {"name": "uniform", "parameters": {}}
    runs = []
    for seed, more in enumerate([{}, {"evaluation": {"lag": 0}}, {"evaluation": {"lag": 10}}]):
        trainer = {"train_steps": STEPS[-1], "schedule": schedule, **more}
        runs.append(read_run(make_run(tmp_path / str(seed), "uniform", seed, trainer=trainer)))
    older, newer = group_runs(runs)
    assert (older.label, older.seeds) == ("uniform lag=0", [0, 1])
    assert (newer.label, newer.seeds) == ("uniform lag=10", [2])


def test_tokens_add_up_and_batches_are_the_last(runs):
    run = read_run(runs / "uniform-1")
    assert run.tokens == {"en-fr": 3000, "en-gl": 6000}
    assert run.batches == {"en-fr": 150, "en-gl": 150}
    assert run.sizes == TASKS
    assert run.last_step == 300
    assert not run.notes


def test_significance_is_that_of_sacrebleu(runs):
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.significance import PairedTest

    groups = group_runs(
        [read_run(runs / f"{n}-{s}") for n in ("uniform", "implicit") for s in (1, 2)]
    )
    found, notes = compare_groups(groups, groups[0], list(TASKS), samples=200)
    assert not notes
    assert set(found) == {("implicit", t, m) for t in TASKS for m in ("bleu", "chrf")}
    comparison = found["implicit", "en-fr", "chrf"]
    assert (comparison.above, comparison.below) == (2, 0)
    systems = [
        (group.label, [row.hypothesis for row in group.runs[1].translations["en-fr"]])
        for group in groups
    ]
    _, scores = PairedTest(systems, {"chrF2": CHRF()}, [references("en-fr")], "bs", 200)()
    assert comparison.p_values[1] == scores["chrF2"][1].p_value
    # A run against itself differs by nothing.
    same = group_runs([read_run(runs / "uniform-1"), read_run(runs / "uniform-1")])
    for comparison in compare_groups(same, same[0], list(TASKS), samples=100)[0].values():
        assert (comparison.above, comparison.below) == (0, 0)


def test_equal_translations_are_no_difference():
    right = references("en-fr")
    made = corrupt(right, 0.6, 1)
    for _, [(same, p_same), (other, p_other)] in paired_bootstrap(
        made, [list(made), corrupt(right, 0.9, 2)], right, samples=100
    ):
        assert (same, p_same) == (0.0, 1.0)
        assert other > 0
        assert p_other < 0.05


def test_the_table_in_markdown(runs):
    groups = group_runs(
        [read_run(runs / f"{n}-{s}") for n in ("uniform", "implicit") for s in (1, 2)]
    )
    found, _ = compare_groups(groups, groups[0], list(TASKS), samples=100)
    lines = to_markdown(final_table(groups, list(TASKS), "chrf", TASKS, found)).splitlines()
    header = ["task", "training pairs", "baseline"]
    header += ["uniform", "uniform / baseline", "implicit", "implicit / baseline"]
    assert lines[0] == f"| {' | '.join(header)} |"
    score = r"[\d.]+ ± [\d.]+"
    assert re.fullmatch(
        rf"\| en-fr \| 9,000 \| 60.0 \| {score} \| 0\.\d\d "
        rf"\| \*\*{score}\*\* ▲2/2 \| [01]\.\d\d \|",
        lines[2],
    )
    assert lines[4].startswith("| mean |  |  |")
    assert "▲" not in lines[4]


@pytest.mark.layout
def test_the_page_stands_by_itself(runs, tmp_path, capsys):
    folders = [str(runs / f"{n}-{s}") for n in ("uniform", "implicit") for s in (1, 2)]
    assert main(["report", *folders, "--output", str(tmp_path / "out"), "--samples", "50"]) == 0
    out = capsys.readouterr().out
    assert "| en-gl | 90 | 60.0 |" in out
    assert out.splitlines()[-1] == f"page: {tmp_path / 'out/index.html'}"
    text = check_page(tmp_path / "out/index.html")
    for expected in (
        *("4 runs of 2 configurations on 2 tasks", "Scores on test", "chrF / baseline on dev"),
        *("implicit: factors on updates", "share of batches", "share of target tokens"),
        *("nrefs:1|case:mixed", "trainer.schedule.name", "highest mean chrF", "Made on 20"),
        *("Training loss over steps", "Sample translations", "baseline"),
    ):
        assert expected in text, expected
    for name in ("final", "scores", "losses", "probabilities", "shares"):
        assert (tmp_path / f"out/{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out/table.md").read_text() in out


def test_damaged_and_missing_parts_are_named_and_the_rest_is_shown(runs, tmp_path, capsys):
    untested = make_run(tmp_path / "untested", "uniform", 1, tested=False)
    lines = (untested / "metrics.jsonl").read_text().splitlines()
    lines[1] = lines[1][:30]
    lines.append("[1, 2]")
    (untested / "metrics.jsonl").write_text("\n".join(lines))
    other_tasks = {"en-fr": 9000, "en-oc <b>": 12}
    other = make_run(tmp_path / "other", "constant", 1, tasks=other_tasks)
    (other / "evaluation-test/en-fr.jsonl").write_text("{")
    log = other / "metrics.jsonl"
    log.write_text(log.read_text().replace('"ratios"', '"unknown"'))
    unfinished = make_run(tmp_path / "unfinished", "temperature", 1, tested=False)
    kept = (unfinished / "metrics.jsonl").read_text().splitlines()[:4]
    (unfinished / "metrics.jsonl").write_text("\n".join(kept))
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "metrics.jsonl").write_text(kept[0] + "\n")
    folders = [untested, runs / "uniform-2", other, unfinished, bare]
    words = ["report", *map(str, folders), "--output", str(tmp_path / "out"), "--samples", "20"]
    assert main(words) == 0
    printed = capsys.readouterr()
    for expected in (
        "untested: metrics.jsonl: 2 lines are damaged and skipped (line 2, 7)",
        "untested: no test outputs; run `keras-mtl evaluate --model_dir",
        "en-fr.jsonl:1: not a translation",
        "unfinished: not finished: step 200 of 300",
        "bare: params.yaml cannot be read",
    ):
        assert expected in printed.err, expected
    text = check_page(tmp_path / "out/index.html")
    assert "constant does not have en-gl" in text
    assert "constant has no baselines" in text
    assert "line 2, 7" in text
    assert "The mean excludes en-gl, en-oc <b>" in text
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has neither events"):
        read_run(tmp_path / "empty")
    with pytest.raises(DataError, match="is not a directory"):
        read_run(tmp_path / "none")


def test_wrong_values_are_named_and_the_rest_is_shown(tmp_path):
    directory = make_run(tmp_path / "run", "uniform", 1)
    log = directory / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[4]["batches"] = {"en-fr": None, "en-gl": 3}
    lines[3]["effective_step"] = "x"
    lines[5]["effective_step"] = None
    lines[5]["ratios"] = {"en-fr": "x", "en-gl": 0.5}
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = directory / "evaluation-test.json"
    report = json.loads(path.read_text()) | {"beam_size": [1], "compute_type": {"a": 1}, "step": 7}
    report["tasks"]["en-gl"]["scores"]["chrf"] = None
    path.write_text(json.dumps(report))
    run = read_run(directory)
    assert run.batches == {"en-gl": 3}
    assert run.ratios["en-fr"].keys() == {100, 200}
    assert run.test["chrf"].keys() == {"en-fr"}
    assert run.evaluation.record.keys() == {"step"}
    write_report([run], tmp_path / "out", samples=0)
    text = check_page(tmp_path / "out/index.html")
    assert "values that cannot be used are skipped (line 4, 5, 6): effective_step is" in text
    assert "skipped: chrf of en-gl, beam_size, compute_type" in text


def test_without_any_test_outputs_the_curves_are_shown(tmp_path):
    run = make_run(tmp_path / "run", "uniform", 1, tested=False)
    path, markdown = write_report([read_run(run)], tmp_path / "out")
    assert markdown == "No run has test outputs.\n"
    text = check_page(path)
    assert "no test outputs" in text
    assert "chrF / baseline on dev" in text
    assert not (tmp_path / "out/final.png").exists()
    # The same runs give the same files.
    write_report([read_run(run)], tmp_path / "again")
    for name in ("index.html", "scores.png", "table.md"):
        first, second = (tmp_path / directory / name for directory in ("out", "again"))
        assert first.read_bytes() == second.read_bytes()


def test_other_test_sentences_are_not_compared(runs, tmp_path):
    other = make_run(tmp_path / "other", "constant", 1, tested=False)
    evaluate(other, TASKS, 0.6, 1, count=30)
    groups = group_runs([read_run(runs / "uniform-1"), read_run(other)])
    found, notes = compare_groups(groups, groups[0], list(TASKS), samples=20)
    assert not found
    assert len(notes) == 2
    assert "different sentences of en-fr, so they are not compared" in notes[0]


def test_many_tasks_become_heat_maps(tmp_path):
    tasks = {f"en-x{i:02}": 10 * (i + 1) for i in range(33)}
    make_run(tmp_path / "many", "temperature", 1, tasks=tasks, tested=False)
    evaluate(tmp_path / "many", list(tasks)[:31], 0.6, 1, count=2)
    path, _ = write_report([read_run(tmp_path / "many")], tmp_path / "out")
    text = check_page(path)
    assert "mean over tasks" in text
    assert "Rows: tasks, the largest above" in text
    assert "25 others" in text
    assert path.stat().st_size < 1_000_000


def test_log_perplexities_are_shown_as_they_are(tmp_path):
    tasks = {f"en-x{i:02}": 10 * (i + 1) for i in range(33)}
    directory = make_run(tmp_path / "many", "temperature", 1, tasks=tasks, tested=False)
    log = directory / "metrics.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    for event in events:
        if event["event"] == "evaluation":
            event["metric"], event["ratios"] = "neg_log_perplexity", None
            scores = dict.fromkeys(tasks, -600 / event["step"])
            event["scores"] = {"neg_log_perplexity": scores}
    log.write_text("".join(json.dumps(event) + "\n" for event in events))
    results = {
        task: {"pairs": 9, "scores": {"neg_log_perplexity": -1.52 + i / 1000}}
        for i, task in enumerate(tasks)
    }
    report = {"tasks": results, "signatures": {"neg_log_perplexity": "nats"}}
    (directory / "evaluation-test.json").write_text(json.dumps(report))
    groups = group_runs([read_run(directory)])
    table = final_table(groups, list(tasks), "neg_log_perplexity", tasks, {})
    assert [row.cells[0].number for row in table.rows[:2]] == ["-1.520", "-1.519"]
    figure = Figure()
    _, drawn = panels.score_panels(groups, list(tasks))
    axes = figure.add_subplot()
    drawn[-1].draw(axes)
    (mesh,) = axes.collections
    assert (mesh.norm.vmin, mesh.norm.vmax) == (-6.0, -2.0)
    axes = Figure().add_subplot()
    panels.final_panel(groups, list(tasks), "neg_log_perplexity", tasks).draw(axes)
    low, high = axes.get_ylim()
    assert low < -1.52 < -1.488 < high < 0


def test_the_group_to_compare_with_is_chosen_by_its_label(runs, tmp_path):
    found = [read_run(runs / "uniform-1"), read_run(runs / "implicit-1")]
    _, markdown = write_report(found, tmp_path / "out", "implicit", samples=50)
    assert "▼" in markdown
    assert "below implicit" in markdown
    with pytest.raises(
        ConfigError, match=r"'implict' is not a configuration.*did you mean 'implicit'"
    ):
        write_report(found, tmp_path / "out", "implict")
    with pytest.raises(ConfigError, match="nothing to report"):
        write_report([], tmp_path / "out")


def test_a_simulation_has_a_page_too(tmp_path):
    path = tmp_path / "tasks.yaml"
    path.write_text("- {name: a, size: 1000}\n- {name: b, size: 10}\n")
    words = ["simulate", "--tasks", str(path), "--train_steps", "300", "--output", ""]
    words += ["--schedule", "uniform", "--schedule", "inverse_ratio", "--interval", "50"]
    assert main([*words, "--html", str(tmp_path / "page.html")]) == 0
    text = check_page(tmp_path / "page.html")
    assert "Schedules simulated" in text
    assert "inverse_ratio" in text
