"""The reader of a run's log: what it takes from events, and what it does about damaged lines."""

import json
import math

import pytest

from keras_mtl.errors import DataError
from keras_mtl.events import (
    effective_step,
    of_kind,
    read_events,
    read_log,
    task_curves,
    validation_metric,
)


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_curves_hold_finite_values_in_the_order_of_steps():
    events = [
        {"event": "train", "step": 20, "loss": {"a": 2.0, "b": None, "c": math.nan}},
        {"event": "train", "step": 10, "loss": {"a": 3.0, "b": "high"}},
        {"event": "train", "step": 30, "loss": None},
        {"event": "evaluation", "step": 20, "scores": {"bleu": {"b": 5, "a": 4}}},
    ]
    curves = task_curves(events, "loss")
    assert curves == {"a": {10: 3.0, 20: 2.0}}
    assert list(curves["a"]) == [10, 20]
    assert task_curves(events, "scores", "bleu") == {"b": {20: 5.0}, "a": {20: 4.0}}
    assert task_curves(events, "scores", "chrf") == {}


def test_the_metric_is_that_of_the_last_evaluation():
    older = {"event": "evaluation", "step": 1, "scores": {"chrf": {"a": 1.0}, "bleu": {"a": 2.0}}}
    newer = {"event": "evaluation", "step": 2, "metric": "bleu", "scores": {}}
    train = {"event": "train", "step": 3, "metric": "loss"}
    assert validation_metric([older, train]) == "chrf"
    assert validation_metric([older, newer, train]) == "bleu"
    assert validation_metric([newer, {**older, "scores": None}]) == "bleu"
    assert validation_metric([train]) == ""
    assert of_kind([older, train], "train") == [train]


def test_damaged_lines_are_returned_or_refused(tmp_path):
    good = json.dumps({"event": "train", "step": 1})
    path = write(tmp_path / "metrics.jsonl", good, "{", '{"step": "two"}', "[1]")
    path.write_bytes(path.read_bytes() + b'{"step": 2')
    events, damaged = read_log(tmp_path)
    assert [event["step"] for event in events] == [1]
    assert [(line.number, line.torn) for line in damaged] == [
        (2, False), (3, False), (4, False), (5, True),
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: not an event .*delete this line"):
        read_events(path)


@pytest.mark.parametrize("value", ["x", [1], True, math.nan, 10**400])
def test_values_that_cannot_be_used_are_left_out(tmp_path, value):
    train = {"event": "train", "step": 1, "loss": {"a": 2.0, "b": None, "c": value}}
    train |= {"batches": {"a": None, "b": 3}, "seconds": value, "probabilities": value}
    evaluation = {"event": "evaluation", "step": 1, "effective_step": value, "metric": [1]}
    evaluation |= {"scores": {"bleu": value, "chrf": {"a": value, "b": 5}}, "own": value}
    path = write(tmp_path / "metrics.jsonl", json.dumps(train), json.dumps(evaluation))
    (first, second), damaged = read_log(path)
    assert first == {
        "event": "train", "step": 1, "loss": {"a": 2.0, "b": None}, "batches": {"b": 3},
    }  # fmt: skip
    assert second.pop("own") is not None
    assert second == {"event": "evaluation", "step": 1, "scores": {"chrf": {"b": 5}}}
    assert [(line.number, line.skipped) for line in damaged] == [(1, False), (2, False)]
    assert "batches.a is null" in damaged[0].reason
    assert "scores.chrf.a is " in damaged[1].reason
    with pytest.warns(UserWarning, match=r"jsonl:1 and 1 more lines: values that cannot be used"):
        assert read_events(path)[0] == first
    # For code that writes the events again.
    assert read_events(path, as_written=True)[0]["batches"] == train["batches"]
    assert effective_step({"step": 1, "effective_step": value}) == 1
    path = write(tmp_path / "steps.jsonl", json.dumps({"step": value}))
    assert read_log(path)[1][0].skipped


def test_an_incomplete_last_line_is_skipped(tmp_path):
    path = write(tmp_path / "metrics.jsonl", '{"step": 1}')
    path.write_bytes(path.read_bytes() + b'{"step": 2')
    with pytest.warns(UserWarning, match="the last line is incomplete"):
        assert read_events(path) == [{"step": 1}]
