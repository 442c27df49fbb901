"""When training stops early, and which weights are kept."""

import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mtl.configuration.keeping import BestConfig, PlateauConfig, StoppingConfig
from keras_mtl.configuration.schema import ExperimentConfig, PairConfig, TranslationConfig
from keras_mtl.decoding.checkpoint_files import find_checkpoints
from keras_mtl.errors import CheckpointError
from keras_mtl.evaluation.task_metrics import TaskMetrics
from keras_mtl.training.run.averaging import checkpoints_to_average
from keras_mtl.training.run.best_weights import BestWeights, Ranking
from keras_mtl.training.run.early_stopping import EarlyStopping
from keras_mtl.training.run.loop import Run
from keras_mtl.training.run.plateau_decay import PlateauDecay
from keras_mtl.training.run.selected_scores import SelectedScores
from keras_mtl.training.run.step_loop import SaveClock

TASKS = ("a", "b")


def test_the_worst_task_is_the_furthest_from_its_baseline():
    scores = {"a": 40.0, "b": 30.0}
    selected = SelectedScores(TaskMetrics.same("chrf", TASKS), TASKS, {"a": 80.0, "b": 40.0})
    assert selected.value("macro", scores) == 35.0
    assert selected.value("worst", scores) == 0.5
    assert selected.value("b", scores) == 30.0
    assert selected.improvement("worst", 0.5, 0.25) == 0.25
    without = SelectedScores(TaskMetrics.same("chrf", TASKS), TASKS, {"a": 80.0, "b": None})
    assert without.value("worst", scores) == 30.0
    loss = SelectedScores(
        TaskMetrics.same("neg_log_perplexity", TASKS), TASKS, {"a": 2.0, "b": 2.0}
    )
    assert loss.value("worst", {"a": -4.0, "b": -2.5}) == 0.5
    assert loss.improvement("macro", -3.0, -4.0) == 1.0


@given(
    st.lists(st.integers(0, 9), max_size=20),
    st.integers(1, 4),
    st.integers(0, 2),
    st.integers(0, 12),
    st.integers(0, 20),
)
def test_training_stops_after_so_much_patience(values, patience, delta, min_steps, stop):
    """A resumed count equals one that was not stopped, and both the definition."""
    settings = StoppingConfig(
        score="a", patience=patience, min_delta=float(delta), min_steps=min_steps
    )
    selected = SelectedScores(TaskMetrics.same("chrf", TASKS), TASKS)
    stopping = EarlyStopping(settings, selected)
    best, waited = -math.inf, 0
    for step, value in enumerate(values):
        if step == stop:
            state, stopping = stopping.collect(), EarlyStopping(settings, selected)
            stopping.restore(state, ("macro", "worst"))  # A task's score does not depend on others.
        stopping.observe(step, {"a": float(value), "b": 0.0})
        if value > best and value >= best + delta:
            best, waited = value, 0
        else:
            waited += 1
        assert stopping.stops(step) == (waited >= patience and step >= min_steps)
        assert stopping.best == best


def test_training_stops_only_between_loops():
    """A run that resumes within a loop must not end there, but where it would have ended."""
    stopping = SimpleNamespace(stops=lambda step: True)
    run = SimpleNamespace(
        step=7,
        state=SimpleNamespace(validates=True, open_loop=object()),
        validation=SimpleNamespace(stopping=stopping),
    )
    assert not Run._stops_early(run)
    run.state.open_loop = None
    assert Run._stops_early(run)


def test_the_scores_of_a_run_are_in_the_unit_of_their_metrics():
    """Schedules have a log-perplexity, which is positive, where the metric is negative."""
    pairs = [PairConfig("a", "e", "f", metric="neg_log_perplexity"), PairConfig("b", "e", "g")]
    book = SimpleNamespace(scores=np.array([2.5, math.nan]))
    run = SimpleNamespace(
        step=7,
        plan=SimpleNamespace(config=ExperimentConfig(task=TranslationConfig(pairs=pairs))),
        parts=SimpleNamespace(
            task_names=TASKS,
            mixture=SimpleNamespace(adaptive=SimpleNamespace(book=book)),
            consumed_by_task=lambda: np.array([3, 4]),
        ),
        validation=SimpleNamespace(best=SimpleNamespace(score=1.0, step=7)),
        state=SimpleNamespace(skipped=0),
        workers=SimpleNamespace(chief=True),
        _stops_early=lambda: False,
    )
    assert Run._result(run).scores == {"a": -2.5}
    book.scores[1] = 30.0
    assert Run._result(run).scores == {"a": -2.5, "b": 30.0}


def test_a_count_of_another_score_is_forgotten():
    selected = SelectedScores(TaskMetrics.same("chrf", TASKS), TASKS)
    stopping = EarlyStopping(StoppingConfig(patience=1), selected)
    for step in (1, 2):
        stopping.observe(step, {"a": 1.0, "b": 1.0})
    assert stopping.stops(2)
    assert "chrf averaged over tasks has not improved in 1 validations" in stopping.reason
    state = stopping.collect()
    for score, others, kept in (
        ("macro", (), True),
        ("macro", ("macro",), False),
        ("a", (), False),
    ):
        again = EarlyStopping(StoppingConfig(score=score, patience=1), selected)
        again.restore(state, others)
        assert again.stops(2) == kept
    more = EarlyStopping(StoppingConfig(patience=2), selected)
    more.restore(state)
    assert not more.stops(2)  # A run continues if the patience is raised.
    off = EarlyStopping(StoppingConfig(), selected)
    off.observe(1, {})
    assert off.collect() == {}
    assert not off.stops(10**9)


@given(st.lists(st.integers(0, 3), max_size=15), st.integers(1, 3), st.integers(0, 15))
@settings(max_examples=50, deadline=None)
def test_the_learning_rate_decays_on_a_plateau(values, patience, stop):
    """Each time after that number of validations without an improvement, also after a restart."""
    section = PlateauConfig(patience=patience, factor=0.5, min_factor=0.2, score="a")
    selected = SelectedScores(TaskMetrics.same("chrf", TASKS), TASKS)
    factor = tf.Variable(1.0)
    plateau = PlateauDecay(section, selected, factor)
    best, waited, expected = -math.inf, 0, 1.0
    for step, value in enumerate(values):
        if step == stop:
            state = plateau.collect()
            factor = tf.Variable(1.0)
            plateau = PlateauDecay(section, selected, factor)
            plateau.restore(state, same_metric=True)
        assert plateau.observe(step, {"a": 9.0, "b": 0.0}, ["b"]) is None  # Not of this task.
        decayed = plateau.observe(step, {"a": float(value), "b": 0.0})
        best, waited = (value, 0) if value > best else (best, waited + 1)
        before = expected
        if waited >= patience:
            waited, expected = 0, max(0.2, expected / 2)
        assert (decayed is not None) == (expected < before)
        assert float(factor) == pytest.approx(expected)


def test_scores_of_another_metric_are_not_compared_but_the_learning_rate_stays_low():
    section = PlateauConfig(patience=1, score="a")
    selected = SelectedScores(TaskMetrics.same("chrf", TASKS), TASKS)
    plateau = PlateauDecay(section, selected, tf.Variable(1.0))
    plateau.observe(1, {"a": 50.0})
    assert plateau.observe(2, {"a": 50.0}) == 0.5
    again = PlateauDecay(section, selected, tf.Variable(1.0))
    again.restore(plateau.collect(), same_metric=False)
    assert again.collect()["plateau/factor"] == 0.5
    assert again.observe(3, {"a": 20.0}) is None  # The first score of the new metric.
    assert again.observe(4, {"a": 20.0}) == 0.25


def test_without_a_plateau_nothing_is_counted_or_saved():
    plateau = PlateauDecay(
        PlateauConfig(), SelectedScores(TaskMetrics.same("chrf", TASKS), TASKS), None
    )
    assert plateau.observe(1, {}) is None
    assert plateau.collect() == {}
    plateau.restore({}, same_metric=True)


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(1, 4))
def test_a_ranking_has_the_best_and_of_equal_ones_the_oldest(values, size):
    ranking = Ranking("macro", None, size)
    for step, value in enumerate(values):
        before = list(ranking.entries)
        entered = ranking.add(step, float(value), lambda a, b: a > b)
        assert entered == (ranking.entries != before)
    expected = sorted(((float(v), s) for s, v in enumerate(values)), key=lambda e: (-e[0], e[1]))
    assert ranking.entries == expected[:size]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The directory of the best weights after four validations, and what kept them."""
    directory = tmp_path_factory.mktemp("run") / "best"
    best = make_best(directory)
    model = tf.Module()
    model.weight = tf.Variable(0.0)
    for step, (a, b) in enumerate([(10, 50), (30, 20), (40, 30), (20, 60)], start=1):
        model.weight.assign(float(step))
        best.write(step, {"a": float(a), "b": float(b)}, model)
    return directory, best


def make_best(directory):
    settings = BestConfig(macro=3, worst=2, tasks=1)
    return BestWeights(
        directory, "chrf", SelectedScores(TaskMetrics.same("chrf", TASKS), TASKS), settings
    )


def test_the_best_weights_of_each_score_are_kept(kept):
    directory, best = kept
    lists = {
        ".": [4],
        "macro": [4, 3, 1],  # 40, 35, 30; the second has 25.
        "worst": [3, 2],  # 30 and 20, which the last one has too, but later.
        "tasks/a": [3],
        "tasks/b": [4],
    }
    for name, steps in lists.items():
        files = {path.name.split(".")[0] for path in (directory / name).glob("ckpt-*")}
        assert files == {f"ckpt-{step}" for step in steps}
        if name != ".":
            content = json.loads((directory / name / "scores.json").read_text())
            assert list(content["checkpoints"]) == [f"ckpt-{step}" for step in steps]
            # A user who chooses the directory gets the best one first.
            assert [p.rpartition("-")[2] for p in find_checkpoints(directory / name)] == [
                str(step) for step in steps
            ]
        for step in steps:
            reader = tf.train.load_checkpoint(str(directory / name / f"ckpt-{step}"))
            assert reader.get_tensor("model/weight/.ATTRIBUTES/VARIABLE_VALUE") == step
    data = "ckpt-4.data-00000-of-00001"
    assert (directory / data).samefile(directory / "tasks" / "b" / data)
    assert (best.score, best.step) == (40.0, 4)
    assert not (directory / "scores.json").exists()


@pytest.mark.parametrize("damaged", ["", "{", "[]", "null", '{"checkpoints": 7}', "\xff"])
def test_a_damaged_list_is_that_of_its_files(kept, tmp_path, damaged):
    shutil.copytree(kept[0] / "macro", tmp_path / "macro")
    (tmp_path / "macro" / "scores.json").write_text(damaged, encoding="latin-1")
    found = find_checkpoints(tmp_path / "macro")
    assert [prefix.rpartition("-")[2] for prefix in found] == ["4", "3", "1"]


def test_weights_that_were_not_scored_for_a_task_are_not_its_best(tmp_path):
    best, model = make_best(tmp_path), tf.Module()
    best.write(1, {"a": 10.0, "b": 10.0}, model)
    best.write(2, {"a": 90.0, "b": 10.0}, model, ["b"])  # The score of a is an older one.
    lists = best.collect(TASKS)
    assert lists["best_lists/task0"].tolist() == [[10.0, 1.0]]
    assert best.step == 2


def test_the_lists_are_restored_for_other_tasks(kept, tmp_path):
    _, best = kept
    state = best.collect(TASKS)
    again = make_best(tmp_path)
    again.restore(state, TASKS, np.array([0, 1]))
    assert again.collect(TASKS).keys() == state.keys()
    assert all(np.array_equal(value, state[key]) for key, value in again.collect(TASKS).items())
    again.restore(state, ("b", "a"), np.array([1, 0]))
    swapped = again.collect(("b", "a"))
    assert np.array_equal(swapped["best_lists/task0"], state["best_lists/task1"])
    assert again.forget(("macro", "worst"))
    assert not again.forget(("macro", "worst"))
    assert math.isnan(again.score)
    left = again.collect(("b", "a"))
    assert [len(left[key]) for key in sorted(left) if key != "best"] == [0, 1, 1, 0]
    again.forget()
    assert sum(len(v) for k, v in again.collect(TASKS).items() if k != "best") == 0
    # Of a version without lists.
    again.restore({"best": np.array([7.0, 3.0])}, TASKS, np.array([0, -1]))
    assert (again.score, again.step) == (7.0, 3)
    assert len(again.collect(TASKS)["best_lists/macro"]) == 0


def steps_in(directory):
    return sorted(int(path.name[5:-6]) for path in directory.glob("ckpt-*.index"))


def test_a_run_that_was_killed_has_the_best_weights_of_its_checkpoint(tmp_path):
    best, model = make_best(tmp_path / "best"), tf.Module()
    model.weight = tf.Variable(0.0)
    best.write(1, {"a": 50.0, "b": 50.0}, model)
    state = best.collect(TASKS)  # A checkpoint is saved here.
    best.write(2, {"a": 60.0, "b": 60.0}, model)
    # Weights that the checkpoint knows as the best ones stay until the next checkpoint.
    assert steps_in(tmp_path / "best") == [1, 2]
    assert list(json.loads((tmp_path / "best/tasks/a/scores.json").read_text())["checkpoints"]) == [
        "ckpt-2"
    ]
    shutil.copytree(tmp_path / "best", tmp_path / "killed")
    best.collect(TASKS)
    best.complete()
    assert steps_in(tmp_path / "best") == steps_in(tmp_path / "best/tasks/a") == [2]
    again = make_best(tmp_path / "killed")
    again.restore(state, TASKS, np.arange(2))
    again.resume(1)
    assert (again.score, again.step) == (50.0, 1)
    for name in (".", "macro", "tasks/a"):
        assert steps_in(tmp_path / "killed" / name) == [1]
    content = json.loads((tmp_path / "killed/macro/scores.json").read_text())
    assert content["checkpoints"] == {"ckpt-1": 50.0}
    # Without their files, scores would keep the next weights from becoming the best.
    for file in (tmp_path / "killed").glob("**/ckpt-1.*"):
        file.unlink()
    again.restore(state, TASKS, np.arange(2))
    again.resume(1)
    assert again.step == -1
    again.write(3, {"a": 40.0, "b": 40.0}, model)
    assert steps_in(tmp_path / "killed" / "tasks" / "b") == [3]


def test_weights_stay_until_a_checkpoint_without_them_is_complete(tmp_path):
    best, model = make_best(tmp_path), tf.Module()
    model.weight = tf.Variable(0.0)
    best.write(1, {"a": 50.0, "b": 50.0}, model)
    best.collect(TASKS)
    best.complete()
    best.write(2, {"a": 60.0, "b": 60.0}, model)
    state = best.collect(TASKS)  # It is written in the background.
    best.write(3, {"a": 70.0, "b": 70.0}, model)
    assert steps_in(tmp_path / "tasks" / "a") == [1, 2, 3]
    best.complete()
    assert steps_in(tmp_path / "tasks" / "a") == [2, 3]
    again = make_best(tmp_path)
    again.restore(state, TASKS, np.arange(2))
    again.forget()
    again.resume(2)
    again.write(4, {"a": 10.0, "b": 10.0}, model)  # The first one of another metric.
    assert steps_in(tmp_path / "tasks" / "a") == [2, 4]
    again.collect(TASKS)
    again.complete()
    assert steps_in(tmp_path / "tasks" / "a") == [4]


def test_a_list_that_has_not_changed_is_not_written_again(tmp_path):
    best, model = make_best(tmp_path), tf.Module()
    best.write(1, {"a": 50.0, "b": 50.0}, model)
    file = tmp_path / "tasks" / "a" / "scores.json"
    before = file.stat()
    best.collect(TASKS)
    best.complete()
    assert file.stat().st_ino == before.st_ino
    best.write(2, {"a": 60.0, "b": 40.0}, model)
    assert file.stat().st_ino != before.st_ino


def test_weights_of_forgotten_scores_stay_until_others_replace_them(tmp_path):
    best, model = make_best(tmp_path), tf.Module()
    model.weight = tf.Variable(0.0)
    best.write(1, {"a": 50.0, "b": 50.0}, model)
    again = make_best(tmp_path)
    again.restore(best.collect(TASKS), TASKS, np.arange(2))
    again.forget()
    again.resume(1)
    again.collect(TASKS)
    again.complete()
    assert steps_in(tmp_path) == steps_in(tmp_path / "macro") == [1]
    again.write(2, {"a": 1.0, "b": 1.0}, model)
    assert steps_in(tmp_path) == steps_in(tmp_path / "macro") == [2]


def test_a_task_may_be_called_best(tmp_path):
    tasks = ("best", "b")
    selected = SelectedScores(TaskMetrics.same("chrf", tasks), tasks)
    best = BestWeights(tmp_path / "best", "chrf", selected, BestConfig(tasks=2))
    model = tf.Module()
    for step, score in ((1, 70.0), (2, 60.0)):
        best.write(step, {"best": score, "b": 1.0}, model)
    # The best one first, not the newest.
    found = find_checkpoints(tmp_path / "best" / "tasks" / "best")
    assert [prefix.rpartition("-")[2] for prefix in found] == ["1", "2"]


def test_the_checkpoints_to_average(kept, tmp_path):
    run = kept[0].parent
    for step in (8, 20, 12):
        (run / f"ckpt-{step}.index").touch()

    def steps(*arguments):
        return [int(p.rpartition("-")[2]) for p in checkpoints_to_average(run, *arguments)]

    assert steps(2, None) == [20, 12]
    assert steps(None, 2) == [4, 3]
    assert steps(None, 1, "worst") == [3]
    assert steps(None, 1, "b") == [4]
    with pytest.raises(CheckpointError, match=r"has 3 checkpoints, not 4.*max_to_keep >= 4"):
        steps(4, None)
    with pytest.raises(CheckpointError, match=r"has 1 best checkpoints.*trainer\.best\.tasks >= 2"):
        steps(None, 2, "a")
    with pytest.raises(CheckpointError, match=r"no best checkpoints of the task 'aa'; did you .*a"):
        steps(None, 1, "aa")
    shutil.copytree(kept[0], tmp_path / "best")
    shutil.rmtree(tmp_path / "best" / "macro")  # As with trainer.best.macro = 1.
    # The newest checkpoint of the run may need the best weights before them.
    (tmp_path / "best" / "ckpt-3.index").touch()
    (only,) = checkpoints_to_average(tmp_path, None, 1)
    assert only == str(tmp_path / "best" / "ckpt-4")
    with pytest.raises(CheckpointError, match=r"best has 1 best checkpoints, not 2.*best\.macro"):
        checkpoints_to_average(tmp_path, None, 2)


def test_a_checkpoint_is_due_after_minutes():
    now = SimpleNamespace(seconds=0.0)
    clock = SaveClock(2.0, lambda: now.seconds)
    assert clock.used
    now.seconds = 119.0
    assert not clock.due
    now.seconds = 120.0
    assert clock.due
    clock.restart()
    assert not clock.due
    never = SaveClock(0.0, lambda: now.seconds)
    now.seconds = 1e9
    assert not never.used
    assert not never.due
