"""Signals during training: answered at once, saved within the step, and nothing is lost by them.

The number of signals, by turns SIGINT and SIGTERM, and the length of a step come from the
environment. The full measure, of 25 minutes:

    KERAS_MTL_STOPS=40 KERAS_MTL_STEP_SECONDS=16 pytest tests/training/test_interrupts.py
"""

import copy
import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from same_run import assert_same_run
from tiny_run import CONFIG

STOPS = int(os.environ.get("KERAS_MTL_STOPS", "2"))
SECONDS = float(os.environ.get("KERAS_MTL_STEP_SECONDS", "1"))
ANSWER = {signal.SIGINT: "Ctrl-C: saving", signal.SIGTERM: "SIGTERM: saving"}
# What a run may need to save, on a busy machine.
SECONDS_TO_SAVE = 8.0
# Each takes at most four of the 24 steps.
STOPS_PER_RUN = 5


class Training:
    """A training in its own process, and the lines that it prints with their times."""

    def __init__(self, directory: Path, model_dir: Path, seconds: float, config: dict):
        file = directory / "config.json"  # JSON is YAML.
        file.write_text(json.dumps(config))
        script = Path(__file__).with_name("slow_train.py")
        self.process = subprocess.Popen(
            [
                *(sys.executable, str(script), str(seconds), "train"),
                *("--config_file", str(file), "--model_dir", str(model_dir)),
                *("--params_override", f"task.data.data_dir={directory / 'data'}"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        self.output = []
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self._lines.put((time.monotonic(), line))
        self._lines.put((time.monotonic(), ""))

    def wait_for(self, text: str, timeout: float = 300.0) -> float:
        """Returns when a line with a text was printed, by the clock of `time.monotonic`."""
        deadline = time.monotonic() + timeout
        while True:
            at, line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            self.output.append(line)
            if text in line:
                return at
            assert line, f"ended without {text!r}: {''.join(self.output)}"

    def finish(self) -> int:
        """Waits for the end; returns the exit code."""
        code = self.process.wait(timeout=600)
        while line := self._lines.get(timeout=10)[1]:
            self.output.append(line)
        return code


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
    assert training.finish() == 0, "".join(training.output)
    return directory


@pytest.mark.slow
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
                training.wait_for("compilation included")
            time.sleep(chance.random() * 1.5 * SECONDS)
            sent = time.monotonic()
            training.process.send_signal(number)
            answers.append(training.wait_for(ANSWER[number]) - sent)
            saved = training.wait_for("; saved") - sent
            if not compiles:
                saves.append(saved)
            assert training.finish() == 128 + number, "".join(training.output)
            left -= 1
        training = Training(undisturbed, run, 0.0, configuration())
        assert training.finish() == 0, "".join(training.output)
        assert_same_run(undisturbed / "run", run)
    print(f"{STOPS} signals: answered in {max(answers):.2f} s, saved in {max(saves):.1f} s")
    assert max(answers) < 1.0
    assert max(saves) < SECONDS + SECONDS_TO_SAVE


@pytest.mark.slow
def test_a_second_interrupt_ends_within_a_second(undisturbed):
    run = undisturbed / "ended"
    training = Training(undisturbed, run, 30.0, configuration())
    training.wait_for("compiling the training step")
    training.process.send_signal(signal.SIGINT)
    training.wait_for("press Ctrl-C again")
    time.sleep(0.3)
    sent = time.monotonic()
    training.process.send_signal(signal.SIGINT)
    assert training.process.wait(timeout=10) == 130
    assert time.monotonic() - sent < 1.0
    assert not list(run.glob("ckpt-*"))
