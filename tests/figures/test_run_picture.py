"""The picture of a run: drawn for few and many tasks; refused with a reason if there is no log."""

import dataclasses
import math

import numpy as np
import pytest

from keras_mtl.errors import DataError
from keras_mtl.events import read_events, task_curves
from keras_mtl.figures.charts import MAX_LINES, spread_labels
from keras_mtl.figures.run import plot_run
from keras_mtl.report.runs import read_run
from keras_mtl.training.run.event_log import EventLog


@dataclasses.dataclass
class Result:
    scores: dict
    seconds: float = 1.0


def write_run(model_dir, tasks, baseline=True, evaluations=8):
    log = EventLog(model_dir, tensorboard=False)
    for step in range(100, 100 * evaluations + 1, 100):
        weights = {
            task: 1 / (0.1 + 1 - math.exp(-step / (150.0 * (i + 1))))
            for i, task in enumerate(tasks)
        }
        total = sum(weights.values())
        log.train(step, {}, {t: w / total for t, w in weights.items()}, 1e4, 1e-3)
        ratios = {t: 1 - math.exp(-step / (150.0 * (i + 1))) for i, t in enumerate(tasks)}
        results = {
            t: Result({"chrf": 60 * ratio, "bleu": 30 * ratio}) for t, ratio in ratios.items()
        }
        log.evaluation(
            step,
            results,
            ratios if baseline else None,
            metric="chrf",
            probabilities={task: 1 / len(tasks) for task in tasks},
        )
    log.close()


def size(path):
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_few_tasks_are_lines_and_many_are_rows(tmp_path):
    heights = {}
    for count in (2, MAX_LINES, 50):
        write_run(tmp_path / str(count), [f"en-x{i}" for i in range(count)])
        heights[count] = size(plot_run(tmp_path / str(count), tmp_path / f"out/{count}.png"))[1]
    assert heights[2] == heights[MAX_LINES]
    assert heights[50] > 2 * heights[2]  # a row of a heat map keeps its height


def test_probabilities_of_an_update_are_part_of_the_curve(tmp_path):
    write_run(tmp_path, ["a", "b"], evaluations=2)
    curve = task_curves(read_events(tmp_path), "probabilities")["a"]
    # A train event and the update of the schedule after it share a step; the update holds.
    assert curve == {100: 0.5, 200: 0.5}


def test_scores_are_drawn_at_their_weights_and_probabilities_where_they_hold(tmp_path):
    log = EventLog(tmp_path, tensorboard=False)
    for step in (10, 20, 30):
        log.train(step, {}, {"a": step / 100}, 1.0, 1.0)
        if step == 20:
            results = {"a": Result({"chrf": 7.0})}
            log.evaluation(10, results, metric="chrf", probabilities={"a": 0.9}, effective_step=20)
    log.close()
    events = read_events(tmp_path)
    assert task_curves(events, "probabilities")["a"] == {10: 0.1, 20: 0.9, 30: 0.3}
    assert task_curves(events, "scores", "chrf")["a"] == {10: 7.0}
    run = read_run(tmp_path)
    assert run.probabilities["a"] == {10: 0.1, 20: 0.9, 30: 0.3}
    assert run.scores["chrf"]["a"] == {10: 7.0}


def test_what_is_missing_is_left_out(tmp_path):
    write_run(tmp_path / "no_baseline", ["a", "b"], baseline=False)
    size(plot_run(tmp_path / "no_baseline", tmp_path / "a.png", tasks=["b"]))
    log = EventLog(tmp_path / "no_evaluation", tensorboard=False)
    log.train(1, {"a": 1.0}, {"a": 1.0}, 1.0, 1.0)
    log.close()
    size(plot_run(tmp_path / "no_evaluation", tmp_path / "b.png"))
    many = EventLog(tmp_path / "many", tensorboard=False)
    many.train(1, {}, {f"t{i}": 0.05 for i in range(20)}, 1.0, 1.0)
    many.evaluation(1, {"t0": Result({"bleu": 1.0})})
    many.close()
    size(plot_run(tmp_path / "many", tmp_path / "c.png"))


def test_labels_are_moved_apart_as_little_as_can_be():
    ends = np.array([0.0, 0.5, 0.5, 0.9])
    assert spread_labels(ends, 0.1) == pytest.approx([0.0, 0.45, 0.55, 0.9])
    crowded = spread_labels(np.full(5, 1.0), 0.1)
    assert crowded == pytest.approx([0.6, 0.7, 0.8, 0.9, 1.0])


def test_a_plot_of_the_same_run_is_the_same_file(tmp_path):
    write_run(tmp_path, ["a", "b"])
    first = plot_run(tmp_path, tmp_path / "1.png").read_bytes()
    assert plot_run(tmp_path, tmp_path / "2.png").read_bytes() == first


def test_a_run_without_events_is_an_error(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        plot_run(tmp_path, tmp_path / "x.png")
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(DataError, match="no training event"):
        plot_run(tmp_path, tmp_path / "x.png")
    write_run(tmp_path, ["a", "b"])
    with pytest.raises(DataError, match="unknown task 'c'; the tasks are a, b"):
        plot_run(tmp_path, tmp_path / "x.png", tasks=["c"])
    assert not (tmp_path / "x.png").exists()
