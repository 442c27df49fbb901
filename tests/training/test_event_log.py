"""The log of a run: what is written, what survives a kill, what a resumed run drops."""

import dataclasses
import importlib
import json
import math

import pytest

from keras_mtl.errors import DataError
from keras_mtl.events import read_events
from keras_mtl.training.run.event_file import EventFile
from keras_mtl.training.run.event_log import EventLog


@dataclasses.dataclass
class Result:
    scores: dict
    seconds: float = 1.5


def log_train(log, step):
    log.train(step, {"a": 1.0 / step}, {"a": 0.25, "b": 0.75}, 1000.0, 1e-3, 0.5, 0, {"a": step})


def test_events_are_lines_of_json_that_are_there_at_once(tmp_path):
    log = EventLog(tmp_path / "run", tensorboard=False)
    log_train(log, 10)
    results = {"a": Result({"chrf": 30.0, "bleu": 10.0}), "b": Result({"chrf": 50.0, "bleu": 20.0})}
    log.evaluation(10, results, {"a": 0.5}, metric="chrf")
    # Read while the log is still open: an event is flushed when it is logged.
    train, evaluation = map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines())
    assert train["loss"] == {"a": 0.1}
    assert train["probabilities"] == {"a": 0.25, "b": 0.75}
    assert train["batches"] == {"a": 10}
    assert evaluation["scores"] == {"chrf": {"a": 30.0, "b": 50.0}, "bleu": {"a": 10.0, "b": 20.0}}
    assert evaluation["macro_average"] == {"chrf": 40.0, "bleu": 15.0}
    assert evaluation["ratios"] == {"a": 0.5}
    assert evaluation["seconds"] == 3.0


def test_a_mean_over_tasks_of_which_one_has_no_finite_score_is_not_logged(tmp_path):
    with EventLog(tmp_path) as log:
        log.evaluation(1, {"a": Result({"chrf": 30.0}), "b": Result({"chrf": math.nan})})
    (event,) = read_events(tmp_path)
    assert event["scores"] == {"chrf": {"a": 30.0, "b": None}}
    assert event["macro_average"] == {"chrf": None}


def test_a_metric_that_not_all_tasks_have_is_not_averaged(tmp_path):
    with EventLog(tmp_path) as log:
        log.evaluation(1, {"a": Result({"chrf": 30.0}), "b": Result({"chrf": 40.0, "ter": 9.0})})
    (event,) = read_events(tmp_path)
    assert event["scores"]["ter"] == {"b": 9.0}
    assert event["macro_average"] == {"chrf": 35.0}


def test_a_resumed_run_leaves_the_file_of_an_undisturbed_one(tmp_path):
    undisturbed = EventLog(tmp_path / "undisturbed", tensorboard=False)
    for step in (10, 20, 30, 40):
        log_train(undisturbed, step)
    undisturbed.close()

    killed = EventLog(tmp_path / "killed", tensorboard=False)
    for step in (10, 20, 30):
        log_train(killed, step)
    killed.close()
    with open(killed.path, "a") as file:
        file.write('{"event": "train", "st')  # killed in the middle of a write
    resumed = EventLog(tmp_path / "killed", tensorboard=False)
    with pytest.warns(UserWarning, match="incomplete"):
        assert resumed.resume(20) == 2
    for step in (30, 40):
        log_train(resumed, step)
    resumed.close()
    assert resumed.path.read_bytes() == undisturbed.path.read_bytes()
    assert not list(tmp_path.glob("**/*.partial"))


def test_scores_that_took_effect_beyond_the_checkpoint_are_dropped(tmp_path):
    log = EventLog(tmp_path, tensorboard=False)
    log_train(log, 10)
    log_train(log, 20)
    log.evaluation(10, {"a": Result({"chrf": 30.0})}, effective_step=20, waited_seconds=0.25)
    log.close()
    assert log.resume(20) == 0
    event = read_events(tmp_path)[-1]
    assert (event["step"], event["effective_step"], event["waited_seconds"]) == (10, 20, 0.25)
    # A run that resumes from step 19 waits for these scores again.
    assert log.resume(19) == 2
    assert [event["step"] for event in read_events(tmp_path)] == [10]


def test_a_last_line_without_its_newline_is_completed(tmp_path):
    log = EventLog(tmp_path, tensorboard=False)
    log_train(log, 10)
    log.close()
    log.path.write_bytes(log.path.read_bytes().rstrip(b"\n"))
    log.resume(10)
    log_train(log, 20)
    assert [event["step"] for event in read_events(tmp_path)] == [10, 20]


def test_resuming_where_nothing_was_logged_is_nothing(tmp_path):
    assert EventLog(tmp_path, tensorboard=False).resume(0) == 0
    assert not (tmp_path / "metrics.jsonl").exists()


def test_values_that_json_lacks_become_null(tmp_path):
    log = EventLog(tmp_path, tensorboard=False)
    log.train(1, {"a": math.nan}, {"a": 1.0}, math.inf, 1e-3)
    (event,) = read_events(tmp_path)
    assert event["loss"] == {"a": None}
    assert event["tokens_per_second"] is None
    assert event["gradient_norm"] is None


def test_a_number_that_json_lacks_does_not_keep_a_run_from_resuming(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"event": "x", "step": 1, "a": [NaN, {"b": Infinity}]}\n{"step": 2}\n')
    assert EventFile(path).keep(lambda event: event["step"] == 1) == 1
    assert path.read_text() == '{"event": "x", "step": 1, "a": [null, {"b": null}]}\n'


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nrubbish\n{"step": 2}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: .*rubbish.*delete this line"):
        read_events(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_events(tmp_path / "nowhere")


def test_tensorboard_gets_losses_probabilities_and_scores(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with EventLog(tmp_path) as log:
        log_train(log, 10)
        log.evaluation(10, {"a": Result({"chrf": 30.0})}, {"a": 0.5})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {"loss/a", "probability/b", "chrf/a", "chrf/macro_average"} <= set(tags)
    assert {"score_over_baseline/a", "training/tokens_per_second"} <= set(tags)
    (event,) = events.Scalars("loss/a")
    assert event.step == 10
    assert event.value == pytest.approx(0.1)


@pytest.mark.parametrize("reader", ["event_accumulator", "plugin_event_accumulator"])
def test_tensorboard_shows_each_step_once_after_kills(tmp_path, reader):
    module = importlib.import_module(f"tensorboard.backend.event_processing.{reader}")

    def write(steps, loss, scored_at):
        for step in steps:
            log.train(step, {"a": loss}, {"a": 1.0}, 1.0, 1.0)
            if step == scored_at:
                # Of weights of an earlier step, which losses that stay are later than.
                log.evaluation(20, {"a": Result({"chrf": loss})}, effective_step=step)

    def shown(tag):
        # The first is for scripts and lists scalars; TensorBoard's own one lists all as tensors.
        events = module.EventAccumulator(str(tmp_path / "tensorboard"))
        events.Reload()
        if reader == "event_accumulator":
            return [(event.step, event.value) for event in events.Scalars(tag)]
        return [(event.step, event.tensor_proto.float_val[0]) for event in events.Tensors(tag)]

    log = EventLog(tmp_path)
    log.resume(0)
    write((10, 20, 30, 40, 50), 1.0, scored_at=40)
    for loss in (2.0, 3.0):  # Killed after step 50, and resumed from the checkpoint of step 30.
        log = EventLog(tmp_path)
        log.resume(30, -1)
        write((40, 50), loss, scored_at=40)
    log.close()
    losses = [(10, 1.0), (20, 1.0), (30, 1.0), (40, 3.0), (50, 3.0)]
    assert sorted(shown("loss/a")) == losses
    assert shown("chrf/a") == [(20, 3.0)]
    assert [event["step"] for event in read_events(tmp_path)] == [10, 20, 30, 40, 20, 50]

    log = EventLog(tmp_path)
    assert log.resume(50, 20) == 0  # A complete run that is started again.
    assert sorted(shown("loss/a")) == losses


def test_scores_that_a_stopped_run_did_not_wait_for_are_dropped(tmp_path):
    log = EventLog(tmp_path, tensorboard=False)
    log_train(log, 10)
    log.evaluation(10, {"a": Result({"chrf": 30.0})})
    log_train(log, 20)
    log.evaluation(20, {"a": Result({"chrf": 31.0})})
    assert log.resume(20, 10) == 1
    events = [(event["event"], event["step"]) for event in read_events(tmp_path)]
    assert events == [("train", 10), ("evaluation", 10), ("train", 20)]
