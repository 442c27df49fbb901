"""Labels, headings, baselines, axes, sample translations and the narrow page of a report."""

import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_mtl.figures import charts
from keras_mtl.report import group_runs, panels, read_run, write_report
from keras_mtl.report.samples import samples_of
from keras_mtl.report.tables import final_table, to_markdown
from tests.report.run_case import TASKS, check_page, make_run


def labels_of(tmp_path, *configurations):
    runs = []
    for i, (name, parameters, more) in enumerate(configurations):
        schedule = {"name": name, "parameters": parameters}
        trainer = {"train_steps": 300, "schedule": schedule, **more}
        runs.append(read_run(make_run(tmp_path / f"r{i}", name, 1, tested=False, trainer=trainer)))
    return [group.label for group in group_runs(runs)]


def test_a_label_shows_what_differs(tmp_path):
    many = {"alpha": 1.0, "epsilon": 0.05, "prior": "temperature", "ema": 0.5, "max_change": 0.1}
    assert labels_of(tmp_path / "a", ("inverse_ratio", many, {}), ("temperature", {}, {})) == [
        "inverse_ratio",
        "temperature 5",
    ]
    two, five = {"temperature": 2.0}, {"temperature": 5}
    assert labels_of(tmp_path / "b", ("temperature", two, {}), ("temperature", five, {})) == [
        "temperature 2",
        "temperature 5",
    ]
    # A parameter that is not set has its default.
    alpha = ("inverse_ratio", many | {"alpha": 5}, {})
    labels = labels_of(tmp_path / "c", ("inverse_ratio", many, {}), alpha)
    assert labels == ["inverse_ratio alpha=1", "inverse_ratio alpha=5"]
    sharp = ("inverse_ratio", {"alpha": 5}, {})
    labels = labels_of(tmp_path / "d", ("inverse_ratio", {}, {}), sharp)
    assert labels == ["inverse_ratio alpha=1", "inverse_ratio alpha=5"]
    # Where more differs, the directory tells them apart.
    labels = labels_of(tmp_path / "e", ("inverse_ratio", many, {}), sharp)
    assert labels == ["inverse_ratio (r0)", "inverse_ratio (r1)"]
    lag = {"evaluation": {"lag": 10}}
    labels = labels_of(tmp_path / "f", ("uniform", {}, {}), ("uniform", {}, lag))
    assert labels[1] == "uniform lag=10"


def test_one_run_is_not_a_comparison(tmp_path):
    make_run(tmp_path / "run", "temperature", 1)
    page, markdown = write_report([read_run(tmp_path / "run")], tmp_path / "out")
    text = check_page(page)
    assert "Report of temperature 5" in text
    assert "1 run on 2 tasks." in text
    assert "What the schedule gave the tasks" in text
    assert "mean chrF / baseline" in text
    visible = text[text.index("Report of") :]
    for word in ("compared", "best of each row", "most tasks", "highest mean", "each schedule"):
        assert word not in visible, word
    assert 'class="best"' not in page.read_text()
    assert "**" not in markdown
    # Two seeds of one configuration are still one configuration.
    make_run(tmp_path / "two", "temperature", 2)
    runs = [read_run(tmp_path / name) for name in ("run", "two")]
    text = check_page(write_report(runs, tmp_path / "out")[0])
    assert "2 runs of 1 configuration on 2 tasks." in text


def test_baselines_are_in_the_table(tmp_path):
    names = list(TASKS)
    file = tmp_path / "baselines.json"
    file.write_text(json.dumps({names[0]: 50.0}))
    schedule = {"name": "uniform", "parameters": {}, "baselines_file": str(file)}
    pairs = [{"source": "en", "target": "fr"}, {"source": "en", "target": "gl", "baseline": 40}]
    more = {"task": {"pairs": pairs}, "trainer": {"train_steps": 300, "schedule": schedule}}
    one = read_run(make_run(tmp_path / "one", "uniform", 1, **more))
    assert one.baselines == {"en-fr": 50.0, "en-gl": 40.0}
    # A baseline in the unit of another metric says nothing of chrF.
    pairs[1]["metric"] = "bleu_zh"
    other = read_run(make_run(tmp_path / "other", "uniform", 1, **more))
    assert other.baselines == {"en-fr": 50.0}
    # Without either, the ratios in the log imply them.
    two = read_run(make_run(tmp_path / "two", "implicit", 1))
    assert two.baselines == pytest.approx({"en-fr": 60.0, "en-gl": 60.0})
    table = final_table(group_runs([one]), names, "chrf", TASKS, {})
    score = one.test["chrf"]["en-gl"]
    assert table.rows[1].baseline == 40
    assert table.rows[1].cells[0].ratio.mean == pytest.approx(score / 40)
    ratios = [one.test["chrf"]["en-fr"] / 50, score / 40]
    assert table.rows[2].cells[0].ratio.mean == pytest.approx(sum(ratios) / 2)
    line = to_markdown(table).splitlines()[3]
    assert line == f"| en-gl | 90 | 40.0 | {score:.1f} | {score / 40:.2f} |"
    # In the unit of chrF they say nothing of BLEU.
    assert not final_table(group_runs([one]), names, "bleu", TASKS, {}).has_ratios
    # Two that differ have no common baseline, which is said.
    groups = group_runs([one, two])
    assert final_table(groups, names, "chrf", TASKS, {}).rows[0].baseline is None
    text = check_page(write_report([one, two], tmp_path / "out", samples=0)[0])
    assert "the configurations have different baselines of en-fr, en-gl" in text


def test_of_many_groups_score_over_baseline_is_a_table(tmp_path):
    names = ("uniform", "proportional", "implicit", "constant", "annealed")
    runs = [read_run(make_run(tmp_path / name, name, 1)) for name in names]
    table = final_table(group_runs(runs), list(TASKS), "chrf", TASKS, {})
    text = to_markdown(table)
    assert f"| task | training pairs | baseline | {' | '.join(names)} |" in text
    assert f"Score / baseline:\n\n| task | {' | '.join(names)} |" in text


def test_panels_that_are_compared_have_one_range(tmp_path):
    runs = []
    for name, high in (("uniform", 2.0), ("implicit", 6.0)):
        directory = make_run(tmp_path / name, name, 1, tested=False, scales=(high, 0.5))
        log = directory / "metrics.jsonl"
        text = log.read_text().replace('"loss": {"en-fr": 3.0', f'"loss": {{"en-fr": {high}')
        log.write_text(text)
        runs.append(read_run(directory))
    groups = group_runs(runs)
    _, scores = panels.score_panels(groups, list(TASKS))
    given = panels.probability_panels(groups, list(TASKS))
    factors = [panel for panel in given if "factors" in panel.title]
    probabilities = [panel for panel in given if "factors" not in panel.title]
    for drawn in (scores, panels.loss_panels(groups, list(TASKS)), factors, probabilities):
        assert len(drawn) == 2
        limits = []
        for panel in drawn:
            axes = Figure().add_subplot()
            panel.draw(axes)
            limits.append(axes.get_ylim())
        assert limits[0] == limits[1]
        assert limits[0][0] == 0
    assert limits[0][1] < 1  # Probabilities and factors have ranges of their own.


def test_sample_translations_are_the_same_sentences(tmp_path):
    runs = [
        read_run(make_run(tmp_path / n, n, 1, kept=k))
        for n, k in (("uniform", 0.5), ("implicit", 0.9))
    ]
    groups = group_runs(runs)
    samples = samples_of(groups, "en-fr")
    assert [sample.source for sample in samples] == ["source 10", "source 30", "source 50"]
    rows = [run.translations["en-fr"][30] for run in runs]
    assert samples[1].reference == rows[0].reference
    assert samples[1].outputs == tuple(row.hypothesis for row in rows)
    # A run that has none of a task is passed over; sentences that others lack are not chosen.
    (tmp_path / "implicit/evaluation-test/en-fr.jsonl").unlink()
    groups = group_runs([runs[0], read_run(tmp_path / "implicit")])
    assert [sample.outputs[1] for sample in samples_of(groups, "en-fr")] == [None] * 3
    lines = (tmp_path / "uniform/evaluation-test/en-gl.jsonl").read_text().splitlines()
    (tmp_path / "uniform/evaluation-test/en-gl.jsonl").write_text("\n".join(lines[:2]) + "\n")
    groups = group_runs([read_run(tmp_path / "uniform"), runs[1]])
    assert [sample.source for sample in samples_of(groups, "en-gl")] == ["source 0", "source 1"]
    text = check_page(write_report(runs, tmp_path / "out", samples=0)[0])
    assert all(sample.outputs[0] in text for sample in samples)


def test_a_telephone_sees_all_of_a_table_and_of_a_chart(tmp_path):
    make_run(tmp_path / "run", "uniform", 1)
    page, _ = write_report([read_run(tmp_path / "run")], tmp_path / "out")
    html = page.read_text()
    # Every chart that is wider than a telephone has a narrow version.
    wide = html.count('<div class="screen">')
    assert wide == html.count('<div class="telephone">') > 0
    for part in re.findall(r'<div class="telephone">\s*<svg[^>]*viewBox="0 0 ([\d.]+)', html):
        assert float(part) == pytest.approx(72 * panels.NARROW)
    # Every cell has its heading, because rows become blocks.
    assert html.count('<span class="label">baseline</span>') == len(TASKS)
    style = html[html.index("@media(max-width:640px)") : html.index("@media print")]
    assert "min-width" not in style
    assert "td{display:flex" in style


def test_names_of_rows_are_written_if_there_is_room():
    for height, shown in ((5.0, 20), (2.5, 0)):
        axes = charts.new_figure(4, height).subplots()
        names = [f"task {i}" for i in range(20)]
        charts.draw_heat(axes, names, np.arange(3), np.zeros((20, 3)), "loss")
        assert len(axes.get_yticklabels()) == shown
    assert axes.get_ylabel() == "20 tasks, the largest above"


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (3, 3), (4, 2), (5, 3), (6, 3)])
def test_panels_use_the_width(count, columns):
    drawn = [panels.Panel("a", lambda axes: None) for _ in range(count)]
    assert panels.columns_of(drawn) == columns
    assert panels.columns_of([*drawn, panels.Panel("wide", lambda axes: None, 3.0)]) == 1
