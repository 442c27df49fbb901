"""`keras-mtl simulate`: what it reads, prints and writes, without TensorFlow."""

import importlib.util
import json
import pathlib
import re

import numpy as np
import pytest
import yaml

from keras_mtl.cli.main import main
from keras_mtl.errors import ConfigError
from keras_mtl.figures import charts
from keras_mtl.schedules import available
from keras_mtl.schedules.registry import SCHEDULES
from keras_mtl.simulation.comparison import parse_schedule, schedule_of, size_groups
from keras_mtl.simulation.experiment import read_experiment

CONFIG = {
    "task": {
        "pairs": [
            {"source": "en", "target": "fr", "max_pairs": 9000, "baseline": 60},
            {"source": "en", "target": "es", "max_pairs": 2000, "baseline": 50.5},
            {"source": "en", "target": "gl", "max_pairs": 90, "name": "gl", "baseline": 20.0},
        ]
    },
    "trainer": {
        "train_steps": 400,
        "schedule": {"name": "inverse_ratio", "parameters": {"epsilon": "1e-1"}},
        "evaluation": {"interval": 100},
    },
}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(CONFIG).replace("'1e-1'", "1e-1"))
    return str(path)


def test_several_schedules_in_one_call(config, tmp_path, capsys):
    listed = tmp_path / "schedules.yaml"
    listed.write_text(
        "- config\n- {name: temperature, parameters: {temperature: 2}, label: warm}\n"
    )
    picture, numbers = tmp_path / "out/a.png", tmp_path / "a.json"
    words = ["simulate", "--config_file", config, "--schedules", str(listed)]
    words += ["--schedule", "implicit:gamma=0.5,prior=temperature", "--schedule", "proportional"]
    assert main([*words, "--output", str(picture), "--json", str(numbers)]) == 0
    out = capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
    lines = out.splitlines()
    assert lines[0] == "simulated score / baseline, mean over tasks:"
    header = "schedule all large medium small worst worst task"
    assert lines[1].split() == header.split()
    place = lines.index("share of batches, and passes over the data:")
    header = "schedule large medium small most passes task with most passes"
    assert lines[place + 1].split() == header.split()
    labels = ["implicit gamma=0.5 prior=temperature", "proportional"]
    labels.append("inverse_ratio epsilon=0.1")
    for label, line in zip([*labels, "warm"], lines[2:6], strict=True):
        assert line.startswith(label)
    assert "3 tasks, 400 batches, 4 schedules simulated in" in out
    data = json.loads(numbers.read_text())
    last = {"name": "gl", "size": 90, "baseline": 20.0, "baseline_source": "given"}
    assert data["tasks"][2] == last
    assert [item["label"] for item in data["schedules"]] == [*labels, "warm"]
    shares = {item["label"]: item["batches"][-1] for item in data["schedules"]}
    assert shares["proportional"] == pytest.approx([400 * n / 11090 for n in (9000, 2000, 90)])
    assert "modeled" not in out


def values_of(lines, title):
    """Cells of the table below a title, without its header."""
    start = lines.index(title) + 2
    end = lines.index("", start)
    return [line.split() for line in lines[start:end]]


def test_a_modeled_baseline_is_marked_and_a_cell_holds_one_value(tmp_path, capsys):
    path, numbers = tmp_path / "tasks.yaml", tmp_path / "a.json"
    path.write_text("- {name: a, size: 1000, baseline: 62.1}\n- {name: b, size: 10}\n")
    words = ["simulate", "--tasks", str(path), "--train_steps", "300", "--output", ""]
    words += ["--schedule", "uniform", "--schedule", "temperature", "--json", str(numbers)]
    assert main([*words, "--html", str(tmp_path / "page.html")]) == 0
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("task  examples  baseline")
    assert lines[place + 1].split() == ["a", "1,000", "62.1"]
    task, size, baseline = lines[place + 2].split()
    assert (task, size) == ("b", "10")
    assert re.fullmatch(r"\d+\.\d\*", baseline)
    assert lines[place + 3].startswith("* modeled, not measured: no baseline is given")
    for title, cell in (
        ("simulated score / baseline:", r"\d+\.\d\d"),
        ("share of batches:", r"\d+\.\d%"),
        ("passes over the data:", r"\d+\.\d"),
    ):
        rows = values_of(lines, title)
        assert [row[0] for row in rows] == ["a", "b"]
        assert all(re.fullmatch(cell, value) for row in rows for value in row[1:])
        assert {len(row) for row in rows} == {3}
    header = lines[lines.index("share of batches:") + 1]
    assert header.split("  ")[-1] == "temperature 5"
    page = (tmp_path / "page.html").read_text()
    assert f">{baseline}</span>" in page
    assert "* modeled, not measured" in page
    # Every cell of the page is a number, a percentage or a name.
    for cell in re.findall(r'<span class="value">([^<]*)</span>', page):
        assert re.fullmatch(r"[\d.,]+[%*]? ?|[ab]", cell), cell
    tasks = json.loads(numbers.read_text())["tasks"]
    assert [task["baseline_source"] for task in tasks] == ["given", "modeled"]


def test_panels_that_are_compared_have_one_range():
    from keras_mtl.figures.simulation import draw_simulations
    from keras_mtl.schedules import TaskInfo
    from keras_mtl.simulation import PlaySettings, PowerLawCurves
    from keras_mtl.simulation.comparison import play_all

    rows = np.array([64.0, 64.0])
    curves = PowerLawCurves([TaskInfo("a", 9000), TaskInfo("b", 90)], rows, 100)
    specs = [parse_schedule(name) for name in ("uniform", "proportional", "implicit")]
    played = play_all(specs, curves, rows, PlaySettings(100, 10))
    for columns in (1, 2):
        axes = np.array(draw_simulations(played, columns).axes).reshape(3, 2)
        uniform, proportional, implicit = (panel.get_ylim() for panel in axes[:, 0])
        assert uniform == proportional != implicit  # Factors are another unit.
        assert len({panel.get_ylim() for panel in axes[:, 1]}) == 1


def test_a_list_of_tasks_and_nothing_else(tmp_path, capsys):
    tasks = [{"name": f"t{i}", "size": 100_000 // (i + 1)} for i in range(charts.MAX_LINES + 1)]
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps(tasks))
    picture = tmp_path / "many.png"
    words = ["simulate", "--tasks", str(path), "--train_steps", "2000", "--output", str(picture)]
    assert main([*words, "--draws", "blend", "--noise", "0.05", "--schedule", "inverse_ratio"]) == 0
    out = capsys.readouterr().out
    # Eleven tasks have lines in a table; each baseline is marked there.
    assert len(re.findall(r"\d\*$", out, re.MULTILINE)) == len(tasks)
    assert picture.exists()


def test_sizes_come_from_prepared_data(config, tmp_path):
    data = tmp_path / "run/data"
    data.mkdir(parents=True)
    names = [("en-fr", 800), ("en-es", 300), ("gl", 20)]
    entries = [
        {"name": n, "train_size": s, "source_tokens": 10 * s, "target_tokens": 14 * s}
        for n, s in names
    ]
    manifest = {"kind": "keras_mtl prepared data", "tasks": entries}
    (data / "manifest.json").write_text(json.dumps(manifest))
    found = read_experiment([config], tmp_path / "run")
    assert [task.size for task in found.tasks] == [800, 300, 20]
    assert found.rows_known
    assert found.rows == pytest.approx(4096 / 16)
    later = tmp_path / "later.yaml"
    later.write_text("trainer: {schedule: {name: uniform}, train_steps: 7}\n")
    over = read_experiment([config, later])
    assert (over.steps, over.interval, over.schedule) == (7, 100, ("uniform", {}))
    (tmp_path / "run/params.yaml").write_text((tmp_path / "config.yaml").read_text())
    assert read_experiment([], tmp_path / "run").schedule == ("inverse_ratio", {"epsilon": 0.1})


def test_schedules_are_written_in_three_ways():
    for text in (
        "inverse_ratio:alpha=5,prior=temperature,ema=1e-1",
        "{name: inverse_ratio, parameters: {alpha: 5, prior: temperature, ema: 1e-1}}",
    ):
        spec = parse_schedule(text)
        assert spec.name == "inverse_ratio"
        assert spec.parameters == {"alpha": 5, "prior": "temperature", "ema": 0.1}
        assert spec.label == "inverse_ratio alpha=5 prior=temperature ema=0.1"
    nested = parse_schedule("sequential:stages=[{task: a, steps: 3}, {task: b}],floor=0.1")
    assert nested.parameters["stages"] == [{"task": "a", "steps": 3}, {"task": "b"}]
    assert nested.label == "sequential floor=0.1"
    assert schedule_of({"name": "uniform", "label": "even"}).label == "even"


def test_thirds_by_size():
    from keras_mtl.schedules import TaskInfo

    def groups(count):
        tasks = [TaskInfo(f"t{i}", 10 * (i + 1)) for i in range(count)]
        return {name: members.tolist() for name, members in size_groups(tasks).items()}

    assert groups(7) == {"large": [6, 5, 4], "medium": [3, 2], "small": [1, 0]}
    assert groups(2) == {"large": [1], "small": [0]}
    assert groups(1) == {"large": [0]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to simulate; give --config_file"),
        (["--config_file", "CONFIG", "--schedule", "inverse"], "did you mean 'inverse_ratio'"),
        (["--config_file", "CONFIG", "--schedule", "inverse_ratio:beta=2"], "no parameter 'beta'"),
        (["--config_file", "CONFIG", "--schedule", "inverse_ratio:alpha"], "has no '='"),
        (
            ["--config_file", "CONFIG", *["--schedule", "uniform"] * 2],
            "two schedules have the label",
        ),
        (["--config_file", "CONFIG", "--transfer", "2"], "transfer = 2.0 must be"),
        (["--config_file", "CONFIG", "--recorded", "CONFIG.none"], "does not exist"),
        (["--config_file", "CONFIG.none"], "no such file"),
    ],
)
def test_what_is_wrong_is_said(config, capsys, words, message):
    words = [word.replace("CONFIG", config) for word in words]
    assert main(["simulate", *words, "--output", ""]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "task: {pairs: [{source: en, target: fr}]}",
            "its size is not known yet.*keras-mtl prepare",
        ),
        ("task: {pairs: []}", "task.pairs is empty"),
        ("task: {pairs: [{source: en}]}", r"task.pairs\[0\].target = '': expected a language"),
        ("trainer: {train_steps: soon}", "train_steps = 'soon' is a string; expected an integer"),
        ("trainer: {evaluation: {interval: -1}}", "line 1: .*interval = -1: must be >= 0"),
        ("trainer: 3", "trainer = 3 is an integer; expected a mapping"),
        ("- a", "expected a mapping such as"),
        ("task:", "task.pairs is empty"),
        ("task: {pairs: 3}", "task.pairs = 3 is an integer; expected a list"),
        ("task: {pairs: [{source: a, target: b, max_pairs: .inf}]}", "max_pairs = inf is a number"),
        (
            "task: {pairs: [{source: a, target: b, max_pairs: many}]}",
            "max_pairs = 'many' is a string; expected an integer",
        ),
    ],
)
def test_a_configuration_that_cannot_be_simulated_is_named(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_experiment([path])


def test_files_are_put_together_as_training_does(config, tmp_path):
    def schedule_of_both(text):
        over = tmp_path / "over.yaml"
        over.write_text(text)
        found = read_experiment([config, over])
        return found.schedule, found.steps

    kept = ("inverse_ratio", {"epsilon": 0.1})
    assert schedule_of_both("trainer:\n  # train_steps: 5\n") == (kept, 400)
    assert schedule_of_both("trainer: {train_steps: 2e3}") == (kept, 2000)
    other = "{name: temperature, parameters: {temperature: 3}}"
    assert schedule_of_both(f"trainer: {{schedule: {other}}}")[0] == (
        "temperature",
        {"temperature": 3},
    )
    assert schedule_of_both("trainer: {schedule: {name: uniform}}")[0] == ("uniform", {})
    assert schedule_of_both("trainer: {schedule: {parameters: {}}}")[0] == ("inverse_ratio", {})
    both = {"epsilon": 0.1, "alpha": 2}
    assert schedule_of_both("trainer: {schedule: {parameters: {alpha: 2}}}")[0][1] == both
    baselines = tmp_path / "baselines.json"
    baselines.write_text("[1]")
    with pytest.raises(ConfigError, match=r"baselines_file .* holds \[1\]"):
        schedule_of_both(f"trainer: {{schedule: {{baselines_file: {baselines}}}}}")


def test_a_task_list_that_is_none_is_named(tmp_path):
    path = tmp_path / "tasks.yaml"
    for text, message in (("a: 1", "a list of"), ("- {name: a}", "entry 1 is"), ("- 3", "entry 1")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_experiment([], None, path)


def test_every_schedule_of_the_documentation_is_in_a_picture():
    root = pathlib.Path(__file__).parents[2]
    spec = importlib.util.spec_from_file_location(
        "schedule_pictures", root / "benchmarks/schedule_pictures.py"
    )
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    drawn = {name for family in pictures.FAMILIES.values() for name, *_ in family.values()}
    text = (root / "docs/reference/schedules.md").read_text(encoding="utf-8")
    # A simulation has no model to measure.
    simulated = {name for name in available() if not hasattr(SCHEDULES.classes[name], "measured")}
    described = set(re.findall(r"^### (\w+)$", text, re.MULTILINE)) & simulated
    assert drawn == described
    for family in pictures.FAMILIES:
        assert f"images/schedules_{family}.png" in text
        assert (root / f"docs/images/schedules_{family}.png").stat().st_size < 400_000
    result = pictures.play(*pictures.FAMILIES["over_time"]["cooldown at 12,000"])
    assert result.batches[-1].sum() == pytest.approx(pictures.STEPS)
