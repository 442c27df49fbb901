"""Asynchronous validation: in effect a fixed number of steps later, whatever happens between."""

import json
import signal
import threading
import time

import lag_case
import pytest

from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.engine import NativeError, library
from keras_mtl.errors import ConfigError, KerasMtlError
from keras_mtl.evaluation.background import BackgroundEvaluation
from keras_mtl.training.run.planning import check_lag
from tests import processes

pytestmark = pytest.mark.slow  # A process that resumes a run 15 times; guards exact resumption.


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    directory = tmp_path_factory.mktemp("lag")
    processes.run(lag_case.main, directory)
    return json.loads((directory / "found.json").read_text())


def test_training_goes_on_while_a_thread_validates(case):
    assert case["in_main_thread"] is False
    assert case["went_on"] is True


def test_scores_take_effect_at_their_step(case):
    order = [(e["event"], e["step"], e.get("effective_step")) for e in case["events"]]
    assert order == [
        *(("train", step, None) for step in range(1, 8)),
        ("evaluation", 4, 7),
        *(("train", step, None) for step in range(8, 11)),
        # The end of training waits for what is not known yet, then validates the last weights.
        ("evaluation", 8, 10),
        ("evaluation", 10, 10),
    ]
    probabilities = [event["probabilities"] for event in case["events"]]
    # Those of step 7 are from before the scores, which the next step is drawn by.
    assert probabilities[:7] == [probabilities[0]] * 7
    assert probabilities[7] != probabilities[6]
    assert probabilities[8] == probabilities[7]


def test_the_second_of_three_validations_scores_two_of_three_tasks(case):
    evaluations = [event for event in case["events"] if event["event"] == "evaluation"]
    scored = [set(event["scores"]["chrf"]) for event in evaluations]
    assert list(map(len, scored)) == [3, 2, 3]
    # The third task counts with its score of the first validation.
    first, second = (event["scores"]["chrf"] for event in evaluations[:2])
    mean = sum({**first, **second}.values()) / 3
    assert evaluations[1]["macro_average"]["chrf"] == pytest.approx(mean)
    assert [set(event["ratios"]) for event in evaluations] == scored


def test_a_run_stopped_before_the_scores_take_effect_goes_on_as_if_it_had_not(case):
    for step in ("4", "5", "6", "7"):
        assert case["differences"][step] == []
    # The checkpoints of steps 4 to 6, and of 8 to 10, are there and may be gone on from.
    assert case["pending"] == ["4-7", "8-11"]


def test_the_best_weights_are_those_that_were_validated(case):
    scores = {
        event["step"]: event["macro_average"]["chrf"]
        for event in case["events"]
        if event["event"] == "evaluation"
    }
    best = f"ckpt-{max(scores, key=scores.get)}"
    assert case["best_step"] == best
    assert case["best_of"] == [best]


def test_a_checkpoint_without_the_weights_in_validation_gives_way_to_the_one_before(case):
    assert [line.split(" ")[1].rsplit("/")[-1] for line in case["missing"]] == ["ckpt-5", "ckpt-4"]
    assert "pending/4-7 is missing" in case["missing"][0]
    assert case["differences"]["missing"] == []


def test_an_error_of_the_thread_ends_training_where_its_scores_are_due(case):
    assert case["error"] == ["no scores", 7]


@pytest.mark.parametrize(("lag", "steps"), [(3, [7, 10, 10]), (0, [4, 8, 10])])
def test_a_signal_does_not_wait_for_a_validation_and_the_next_run_makes_it_again(case, lag, steps):
    assert case[f"stopped_with_lag_{lag}"] == [[128 + signal.SIGTERM, step, []] for step in steps]


def test_without_the_engine_the_field_is_named(monkeypatch):
    def missing():
        raise NativeError("the C++ core is not built")

    monkeypatch.setattr(library, "core", missing)
    draft = Draft(ExperimentConfig())
    check_lag(draft)
    draft.finish()
    draft.config.trainer.evaluation.lag = 7
    check_lag(draft)
    with pytest.raises(ConfigError, match=r"evaluation\.lag = 7.*not built.* set .* to 0"):
        draft.finish()


def test_an_interrupt_is_not_held_up_and_the_thread_ends_soon():
    background = BackgroundEvaluation()
    ended = threading.Event()

    def evaluate(stopped):
        while not stopped():
            time.sleep(0.01)
        ended.set()
        return {}

    background.start(evaluate)
    main = threading.main_thread().ident
    assert main is not None
    # A job of a script's background ignores the signal; then Python has no handler for it either.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            background.wait(60)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not ended.is_set()
    background.stop()
    assert ended.is_set()


def test_the_thread_can_be_used_again_after_an_error_and_after_a_stop():
    background = BackgroundEvaluation()

    def fail(stopped):
        raise KerasMtlError("no scores")

    background.start(fail)
    assert background.wait(60)
    assert background.failed()
    with pytest.raises(KerasMtlError, match="no scores"):
        background.result()
    background.start(lambda stopped: {})
    background.stop()
    background.start(lambda stopped: {"stopped": stopped()})
    assert background.wait(60)
    assert not background.failed()
    assert background.result() == {"stopped": False}
    background.stop()
    assert background.wait(0)
    assert background.result() == {}
