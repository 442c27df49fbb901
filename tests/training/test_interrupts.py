"""Signals during training: answered at once, saved within the step, and nothing is lost by them.

The number of signals, by turns SIGTERM and SIGINT, and the length of a step come from the
environment. Another test sends SIGINT. The full measure, of 25 minutes:

    KERAS_MTL_STOPS=40 KERAS_MTL_STEP_SECONDS=16 pytest tests/training/test_interrupts.py
"""

import copy
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import slow_train
from same_run import assert_same_run
from tiny_run import CONFIG

from tests import processes

STOPS = int(os.environ.get("KERAS_MTL_STOPS", "1"))
SECONDS = float(os.environ.get("KERAS_MTL_STEP_SECONDS", "1"))
ANSWER = {signal.SIGINT: "Ctrl-C: saving", signal.SIGTERM: "SIGTERM: saving"}
# What a run may need to save, on a busy machine.
SECONDS_TO_SAVE = 8.0
# Each takes at most four of the 24 steps.
STOPS_PER_RUN = 5


class Training:
    """A training in its own process."""

    def __init__(self, directory: Path, model_dir: Path, seconds: float, config: dict):
        file = directory / "config.json"  # JSON is YAML.
        file.write_text(json.dumps(config))
        words = ["--config_file", file, "--model_dir", model_dir]
        words += ["--params_override", f"task.data.data_dir={directory / 'data'}"]
        self.process = processes.Forked(slow_train.train, seconds, [str(word) for word in words])

    def wait_for(self, text: str, timeout: float = 300.0) -> float:
        """Returns when a text was printed, by the clock of `time.monotonic`."""
        deadline = time.monotonic() + timeout
        while True:
            running = self.process.running  # Before the look at what it has printed.
            if text in self.process.printed():
                return time.monotonic()
            assert running, f"ended without {text!r}: {self.process.printed()}"
            assert time.monotonic() < deadline, f"no {text!r}: {self.process.printed()}"
            time.sleep(0.01)

    def finish(self, timeout: float = 600.0) -> int | None:
        """Waits for the end; returns the exit code."""
        return self.process.finish(timeout)[0]


def configuration() -> dict:
    config = copy.deepcopy(CONFIG)
    config["trainer"]["train_steps"] = 24
    # Loops that are longer than the time between two signals, and stops inside and at their ends.
    config["trainer"]["steps_per_loop"] = 7
    config["trainer"]["checkpoint_interval"] = 100
    config["trainer"]["evaluation"]["interval"] = 6
    config["trainer"]["schedule"] = {"name": "inverse_ratio"}
    return config


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("undisturbed")
    training = Training(directory, directory / "run", 0.0, configuration())
    assert training.finish() == 0, training.process.printed()
    return directory


@pytest.mark.nightly
def test_signals_are_answered_at_once_and_change_nothing(undisturbed):
    chance, left = random.Random(STOPS), STOPS
    answers, saves = [], [0.0]
    while left:
        run = undisturbed / f"stopped-{left}"
        for _ in range(min(left, STOPS_PER_RUN)):
            number = (signal.SIGINT, signal.SIGTERM)[left % 2]
            training = Training(undisturbed, run, SECONDS, configuration())
            training.wait_for("compiling the training step")
            compiles = chance.random() < 0.2
            if not compiles:
                training.wait_for("including compilation")
            time.sleep(chance.random() * 1.5 * SECONDS)
            sent = time.monotonic()
            training.process.send(number)
            answers.append(training.wait_for(ANSWER[number]) - sent)
            saved = training.wait_for("; saved") - sent
            if not compiles:
                saves.append(saved)
            assert training.finish() == 128 + number, training.process.printed()
            left -= 1
        training = Training(undisturbed, run, 0.0, configuration())
        assert training.finish() == 0, training.process.printed()
        assert_same_run(undisturbed / "run", run)
    print(f"{STOPS} signals: answered in {max(answers):.2f} s, saved in {max(saves):.1f} s")
    if STOPS > 1:  # The full measure, on a free machine.
        assert max(answers) < 1.0
        assert max(saves) < SECONDS + SECONDS_TO_SAVE


def test_a_second_interrupt_does_not_wait_for_the_step(tmp_path):
    run = tmp_path / "ended"
    training = Training(tmp_path, run, 60.0, configuration())
    training.wait_for("compiling the training step")
    training.process.send(signal.SIGINT)
    training.wait_for("press Ctrl-C again")
    time.sleep(0.3)
    training.process.send(signal.SIGINT)
    assert training.finish(timeout=30) == 130
    assert not list(run.glob("ckpt-*"))
