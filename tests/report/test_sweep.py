"""The report of a sweep: which runs it reads, what it computes from them, and what it shows."""

import dataclasses
import functools
import json
import math

import numpy as np
import pytest

from keras_mtl.cli.main import main
from keras_mtl.errors import DataError
from keras_mtl.evaluation.significance import bootstrap_scores, paired_bootstrap, paired_p_value
from keras_mtl.figures.trade_off import Point, draw_trade_off
from keras_mtl.report import panels, read_run
from keras_mtl.report.groups import Group
from keras_mtl.report.sweep.costs import clock
from keras_mtl.report.sweep.families import family_of, temperature_of, uses_scores
from keras_mtl.report.sweep.files import read_sweep
from keras_mtl.report.sweep.panels import curve_sets, trade_off_panel
from keras_mtl.report.sweep.scores import score_model
from keras_mtl.report.sweep.tables import same_tokens
from keras_mtl.report.sweep.writing import write_sweep_report
from tests.report.run_case import check_page, corrupt, make_run, references

TASKS = {"en-fr": 9000, "en-de": 8000, "en-gl": 90, "en-oc": 80}
HIGH, LOW = ["en-fr", "en-de"], ["en-gl", "en-oc"]
CURVE = ("temperature_5", "proportional")
# Share of right words on high-resource and low-resource tasks, and the schedule.
SETTINGS = {
    "proportional": (0.72, 0.30, "proportional", {}),
    "temperature_5": (0.60, 0.50, "temperature", {"temperature": 5.0}),
    "uniform": (0.50, 0.52, "uniform", {}),
    "good": (0.66, 0.75, "inverse_ratio", {"alpha": 1.0}),
}


def write_manifest(root, runs, baselines=()):
    content = {
        "kind": "keras_mtl sweep",
        "name": "test",
        "high_resource": HIGH,
        "low_resource": LOW,
        "runs": runs,
        "baselines": list(baselines),
    }
    (root / "sweep.json").write_text(json.dumps(content))


def trained(schedule, parameters, **more):
    section = {"name": schedule, "parameters": parameters}
    return {"trainer": {"train_steps": 300, "schedule": section, **more}}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Four settings with two seeds, a run that is not finished, and single-task models."""
    root = tmp_path_factory.mktemp("sweep")
    runs, baselines = [], []
    for setting, (high, low, schedule, parameters) in SETTINGS.items():
        for seed in (1, 2):
            directory = f"runs/tiny-full/{setting}-{seed}"
            kept = {**dict.fromkeys(HIGH, high), **dict.fromkeys(LOW, low)}
            make_run(
                root / directory,
                schedule,
                seed,
                kept=kept,
                tasks=TASKS,
                **trained(schedule, parameters),
            )
            runs.append({"directory": directory, "setting": setting, "seed": seed})
    runs.append({"directory": "runs/tiny-full/late-1", "setting": "late", "seed": 1})
    make_run(root / "runs/tiny-full/late-1", "bandit", 1, tasks=TASKS, tested=False)
    for task, size in TASKS.items():
        directory = f"baselines/tiny/{task}"
        make_run(root / directory, "uniform", 1, kept=0.6, tasks={task: size})
        baselines.append({"directory": directory, "size": "tiny", "task": task})
    write_manifest(root, [{**run, "size": "tiny", "sharing": "full"} for run in runs], baselines)
    return root


@pytest.fixture(scope="module")
def scored(root):
    sweep = read_sweep(root)
    return score_model(sweep, sweep.models[0], samples=100)


def setting(scored, name):
    return next(found for found in scored.settings if found.name == name)


def test_only_evaluated_runs_are_read_and_the_others_are_counted(root):
    (model,) = read_sweep(root).models
    assert [group.label for group in model.settings] == list(SETTINGS)
    assert [group.seeds for group in model.settings] == [[1, 2]] * 4
    assert (model.finished, model.planned) == (8, 9)
    assert set(model.baselines) == set(TASKS)


def test_means_are_over_the_tasks_of_a_part_and_over_seeds(root, scored):
    single = [read_run(root / f"runs/tiny-full/good-{seed}").test for seed in (1, 2)]
    for metric in ("chrf", "bleu"):
        means = [np.mean([test[metric][task] for task in LOW]) for test in single]
        found = setting(scored, "good").scores[metric]["low"]
        assert found.mean == pytest.approx(np.mean(means))
        assert found.spread == pytest.approx(np.std(means, ddof=1))
    assert scored.baselines["high"] == pytest.approx(
        np.mean([scored.baselines[task] for task in HIGH])
    )


def test_the_best_temperature_is_chosen_by_dev_scores(root, tmp_path, scored):
    # In the log of the runs, dev scores differ only by the seed, so the last name wins.
    assert scored.best_temperature == "uniform"
    runs = []
    for name in ("proportional", "uniform"):
        make_run(tmp_path / name, name, 1, kept=0.3, tasks=TASKS)
        runs.append({"directory": name, "setting": name, "size": "a", "sharing": "full"})
    log = tmp_path / "proportional/metrics.jsonl"
    log.write_text(log.read_text().replace('"en-oc": 61.0', '"en-oc": 80.0'))
    write_manifest(tmp_path, runs)
    sweep = read_sweep(tmp_path)
    assert score_model(sweep, sweep.models[0], samples=0).best_temperature == "proportional"


def test_validation_may_have_a_metric_that_the_test_does_not_have(tmp_path):
    runs = []
    for name, loss in (("proportional", -2.0), ("uniform", -3.0)):
        log = make_run(tmp_path / name, name, 1, kept=0.3, tasks=TASKS) / "metrics.jsonl"
        events = [json.loads(line) for line in log.read_text().splitlines()]
        for event in events:
            if event["event"] == "evaluation":
                event["metric"] = "neg_log_perplexity"
                event["scores"] = {"neg_log_perplexity": dict.fromkeys(TASKS, loss)}
        log.write_text("".join(json.dumps(event) + "\n" for event in events))
        runs.append({"directory": name, "setting": name, "size": "a", "sharing": "full"})
    write_manifest(tmp_path, runs)
    sweep = read_sweep(tmp_path)
    found = score_model(sweep, sweep.models[0], samples=0)
    assert (found.metric, found.dev_metric) == ("chrf", "neg_log_perplexity")
    assert found.best_temperature == "proportional"
    assert setting(found, "uniform").at_seconds["low"].mean == -3.0
    assert setting(found, "uniform").scores["chrf"]["low"].mean > 0


def test_a_difference_is_tested_over_sentences_and_compared_with_the_seeds(scored):
    low = setting(scored, "good").against_temperature["low"]
    own, others = (setting(scored, name).scores["chrf"]["low"] for name in ("good", "uniform"))
    assert low.value == pytest.approx(own.mean - others.mean)
    assert low.spread == pytest.approx(max(own.spread, others.spread))
    assert low.clear
    assert setting(scored, "good").beats_temperature
    assert setting(scored, "proportional").against_baselines["low"].value < 0
    assert not setting(scored, "temperature_5").beats_temperature
    assert setting(scored, "uniform").beats_temperature is None


def test_resamples_are_those_of_sacrebleu():
    right = references("en-fr")
    baseline, *others = [corrupt(right, kept, seed) for kept, seed in ((0.6, 1), (0.65, 2))]
    expected = dict(paired_bootstrap(baseline, others, right, 200))
    for metric in ("bleu", "chrf"):
        first, second = (
            bootstrap_scores(system, right, metric, 200) for system in (baseline, *others)
        )
        difference = second - first
        found = (float(difference[0]), paired_p_value(difference))
        assert found == pytest.approx(expected[metric][0])
        assert paired_p_value(first - first) == 1.0


def test_above_the_curve_is_measured_at_an_equal_high_resource_score(scored):
    x, y = (
        [setting(scored, name).scores["chrf"][part].mean for name in CURVE]
        for part in ("high", "low")
    )
    own = setting(scored, "good").scores["chrf"]
    height = np.interp(own["high"].mean, x, y)
    found = setting(scored, "good").above_curve
    assert found.value == pytest.approx(own["low"].mean - height)
    assert setting(scored, "temperature_5").above_curve is None
    single = [
        setting_of_seed(scored, "good", seed)[1]
        - np.interp(
            setting_of_seed(scored, "good", seed)[0],
            *zip(*(setting_of_seed(scored, name, seed) for name in CURVE), strict=True),
        )
        for seed in (1, 2)
    ]
    assert found.spread == pytest.approx(np.std(single, ddof=1))
    assert found.significant


def setting_of_seed(scored, name, seed):
    """Scores of high and low resource."""
    (run,) = (run for run in setting(scored, name).group.runs if run.seed == seed)
    return [np.mean([run.test["chrf"][task] for task in tasks]) for tasks in (HIGH, LOW)]


def test_a_setting_is_compared_with_the_runs_of_its_own_seeds(tmp_path):
    runs = []
    for name, seed, kept, schedule, parameters in (
        ("temperature_5", 1, 0.5, "temperature", {"temperature": 5.0}),
        ("temperature_5", 2, 0.3, "temperature", {"temperature": 5.0}),
        ("proportional", 1, 0.7, "proportional", {}),
        ("proportional", 2, 0.9, "proportional", {}),
        ("other", 1, 0.6, "bandit", {}),
    ):
        folder = f"{name}-{seed}"
        how = trained(schedule, parameters)
        make_run(tmp_path / folder, schedule, seed, kept=kept, tasks=TASKS, **how)
        runs.append({"directory": folder, "setting": name, "size": "a", "sharing": "full"})
    write_manifest(tmp_path, runs)
    sweep = read_sweep(tmp_path)
    scored = score_model(sweep, sweep.models[0], samples=0)
    found = setting(scored, "other")
    high, low = setting_of_seed(scored, "other", 1)
    curve = [setting_of_seed(scored, name, 1) for name in CURVE]
    best = setting_of_seed(scored, scored.best_temperature, 1)
    assert found.against_temperature["low"].value == pytest.approx(low - best[1])
    assert found.against_temperature["high"].value == pytest.approx(high - best[0])
    assert found.above_curve.value == pytest.approx(
        low - np.interp(high, *zip(*curve, strict=True))
    )


def test_a_setting_near_the_curve_is_not_significantly_above_it(tmp_path):
    runs = []
    for name, (kept, schedule, parameters) in {
        "temperature_5": (0.5, "temperature", {"temperature": 5.0}),
        "proportional": (0.7, "proportional", {}),
        "between": (0.6, "bandit", {}),
    }.items():
        directory = tmp_path / name
        make_run(directory, schedule, 1, kept=kept, tasks=TASKS, **trained(schedule, parameters))
        runs.append({"directory": name, "setting": name, "size": "a", "sharing": "full"})
    write_manifest(tmp_path, runs)
    sweep = read_sweep(tmp_path)
    found = setting(score_model(sweep, sweep.models[0], samples=200), "between").above_curve
    assert found.p_value > 0.05
    assert found.spread is None


def test_seconds_count_validation_only_for_schedules_that_need_it(scored):
    events = [
        {"event": "train", "step": 10, "tokens": {"a": 60, "b": 40}, "tokens_per_second": None},
        {"event": "evaluation", "step": 10, "seconds": 3.0},
        {"event": "train", "step": 20, "tokens": {"a": 200}, "tokens_per_second": 50.0},
        {"event": "evaluation", "step": 20, "seconds": 9.0, "waited_seconds": 1.0},
    ]
    counted, free = clock(events, True), clock(events, False)
    assert counted.at(np.array([5, 10, 20])).tolist() == [2.5, 5.0, 10.0]
    assert counted.validation_share == 0.4
    assert free.total == 6.0
    assert clock([{"event": "train", "step": 1}], True) is None
    # 10,000 tokens at 100 per second in each of 3 intervals, and 3 validations of 5 seconds.
    assert setting(scored, "proportional").seconds == 300.0
    assert setting(scored, "good").seconds == 315.0
    assert scored.budget == 300.0
    dev = setting(scored, "good").at_seconds["all"].mean
    # 300 of 315 seconds are spent at step 285.7, and dev scores rise by 0.1 a step.
    assert dev == pytest.approx(30 + 28.5714 + 1.5, abs=1e-3)


def test_temperatures_and_families(tmp_path):
    def run(name, schedule, parameters, **more):
        return read_run(
            make_run(tmp_path / name, schedule, 1, **trained(schedule, parameters, **more))
        )

    plain = run("plain", "temperature", {})
    capped = run("capped", "temperature", {"temperature": 2, "cap": 100})
    balanced = run("balanced", "temperature", {"temperature": 5}, balancing={"name": "famo"})
    implicit = run("implicit", "implicit", {})
    bandit = run("bandit", "bandit", {})
    uniform = run("uniform", "uniform", {})
    found = [temperature_of(r) for r in (plain, capped, balanced, implicit, uniform)]
    assert found == [5.0, None, None, None, math.inf]
    families = [family_of(r) for r in (plain, capped, balanced, implicit, bandit)]
    assert families == [
        "temperatures",
        "fixed in advance",
        "balanced gradients",
        "scaled updates",
        "adaptive",
    ]
    assert [uses_scores(r) for r in (capped, implicit, bandit)] == [False, True, False]
    for limit in ({"introduce_at": 100}, {"stop_at": 200}, {"max_epochs": 3}):
        directory = tmp_path / next(iter(limit))
        params = trained("uniform", {})
        params["task"] = {"pairs": [{"source": "en", "target": "fr"} | limit]}
        limited = read_run(make_run(directory, "uniform", 1, **params))
        assert temperature_of(limited) is None
        assert family_of(limited) == "fixed in advance"


def test_many_settings_have_learning_curves_by_family(scored, monkeypatch):
    assert list(curve_sets(scored)) == ["all settings"]
    monkeypatch.setattr("keras_mtl.report.sweep.panels.MOST_LINES", 3)
    sets = {title: [s.name for s in members] for title, members in curve_sets(scored).items()}
    assert sets == {
        "temperatures": ["uniform", "proportional", "temperature_5"],
        "adaptive": ["uniform", "good"],
    }


@pytest.mark.layout
def test_the_trade_off_plot_has_a_point_an_ellipse_and_the_line_of_temperatures(scored):
    from matplotlib.patches import Ellipse

    figure = panels.single_panel(trade_off_panel(scored), 1)
    (axes,) = figure.axes
    assert len([patch for patch in axes.patches if isinstance(patch, Ellipse)]) == len(SETTINGS)
    points = {
        name: [setting(scored, name).scores["chrf"][part].mean for part in ("high", "low")]
        for name in SETTINGS
    }
    line = max(axes.lines, key=lambda item: len(item.get_xdata()))
    curve = [points[name] for name in ("proportional", "temperature_5", "uniform")]
    np.testing.assert_allclose(np.array(line.get_xydata()), curve)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert sorted(text.get_text() for text in axes.texts) == sorted(SETTINGS)
    overlaps = [a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert not any(overlaps)


@pytest.mark.layout
def test_many_settings_of_the_trade_off_plot_are_numbered_and_listed():
    rng = np.random.default_rng(0)
    points = [
        Point(f"setting_{n}", *(rng.normal(30, 1, (2, 1)) + rng.normal(0, 0.1, (2, 3))), n % 3)
        for n in range(40)
    ]
    draw = functools.partial(draw_trade_off, points=points, labels=("x", "y"))
    figure = panels.single_panel(panels.Panel("", draw, 5.6), 1)
    (axes,) = figure.axes
    figure.draw_without_rendering()
    listed = [text for text in axes.texts if "  " in text.get_text()]
    highest = sorted(points, key=lambda point: -point.y.mean())
    names = [f"{number}  {point.name}" for number, point in enumerate(highest, 1)]
    assert [text.get_text() for text in listed] == names
    boxes = [text.get_window_extent() for text in listed]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(box.x0 > 0 and box.x1 <= figure.bbox.x1 and box.y0 > 0 for box in boxes)
    numbers = [text.get_text() for text in axes.texts if text not in listed]
    assert sorted(numbers, key=int) == [str(number) for number in range(1, 41)]


def test_the_page(root, tmp_path, capsys):
    assert main(["report", str(root), "--output", str(tmp_path), "--samples", "20"]) == 0
    shown = check_page(tmp_path / "index.html")
    for text in ("The same steps", "The same seconds", "Gain over single-task", "8 of 9 runs"):
        assert text in shown
    assert "1 of 3 settings are clearly better" in shown.replace("</small>", "").replace("  ", " ")
    results = json.loads((tmp_path / "results.json").read_text())
    (model,) = results["models"]
    assert model["best_temperature"] == "uniform"
    winners = [s["setting"] for s in model["settings"] if s["beats_best_temperature"]]
    assert winners == ["good"]
    assert model["settings"][2]["temperature"] == "infinity"
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out
    assert (tmp_path / "tiny-full-tradeoff.png").exists()


def test_the_table_has_the_numbers_of_seeds_if_they_differ(scored):
    assert "seeds" not in same_tokens(scored).header
    first, *others = scored.settings
    one = Group(first.group.label, first.group.runs[:1])
    settings = (dataclasses.replace(first, group=one), *others)
    table = same_tokens(dataclasses.replace(scored, settings=settings))
    assert table.header[-1] == "seeds"
    assert [row[-1] for row in table.rows] == ["", "1", "2", "2", "2"]


def test_models_are_compared_separately(tmp_path, monkeypatch):
    # Most of the time, and not what this test looks at.
    monkeypatch.setattr("keras_mtl.report.sweep.writing.curve_sets", lambda found: {})
    runs = []
    for size, kept in (("small", 0.3), ("large", 0.9)):
        make_run(tmp_path / size, "uniform", 1, kept=kept, tasks=TASKS)
        runs.append({"directory": size, "setting": "uniform", "size": size, "sharing": "full"})
    write_manifest(tmp_path, runs)
    path, markdown = write_sweep_report(read_sweep(tmp_path), tmp_path / "out", samples=0)
    shown = check_page(path)
    for name in ("small-full", "large-full"):
        assert f"{name}: trade-off" in shown
        assert f"{name}: 1 of 1 runs" in shown
        assert f"## {name}\n" in markdown
        assert (tmp_path / f"out/{name}-tradeoff.png").exists()
    models = json.loads((tmp_path / "out/results.json").read_text())["models"]
    small, large = (model["settings"][0]["test"]["chrf"]["all"]["mean"] for model in models)
    assert small < large


def test_wrong_sweeps_have_an_error(root, tmp_path, capsys):
    assert main(["report", str(root), str(root / "runs/tiny-full/good-1")]) == 2
    assert "has a report of its own" in capsys.readouterr().err
    assert main(["report", str(root), "--split", "dev", "--output", str(tmp_path / "r")]) == 2
    assert "--split dev" in capsys.readouterr().err
    write_manifest(tmp_path, [])
    with pytest.raises(DataError, match="no run of this sweep is finished"):
        read_sweep(tmp_path)
    (tmp_path / "sweep.json").write_text('{"kind": "keras_mtl sweep", "runs": [{"seed": 1}]}')
    with pytest.raises(DataError, match="runs must be a list of objects with directory"):
        read_sweep(tmp_path)
