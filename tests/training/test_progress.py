"""Progress on stderr: readable in a log file, redrawn in place on a terminal."""

import io
import re

from keras_mtl.training.run.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_log_file_gets_a_line_every_so_many_seconds_and_the_last_step():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(100, stream=stream, interval=15, clock=clock)
    for step in range(1, 101):
        clock.now += 1.0
        progress.update(step, loss=2.0, tokens=500)
    progress.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 8  # steps 1, 16, ..., 91 and 100
    assert lines[1] == "step 16/100  loss 2.000  500 tokens/s  1:24 left  (16%)"
    assert lines[-1].startswith("step 100/100  loss 2.000  500 tokens/s  0:00 left")
    assert "\r" not in stream.getvalue()


def test_the_bar_gives_way_to_the_numbers(monkeypatch):
    for columns, bar in (("80", 16), ("62", 0), ("100", 24)):
        monkeypatch.setenv("COLUMNS", columns)
        clock, stream = Clock(), Terminal()
        progress = Progress(100_000, stream=stream, clock=clock)
        clock.now += 300.0
        progress.update(240, loss=1.504, tokens=3_486_000)
        line = stream.getvalue().strip("\r").removesuffix("\x1b[K")
        assert line.endswith("step 240/100,000  loss 1.504  11,620 tokens/s  34:38:20 left")
        assert len(line) < int(columns)
        assert (line.find("]") - 1 if bar else line.find("[") + 1) == bar


def test_a_terminal_gets_one_line_that_is_redrawn(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    clock, stream = Clock(), Terminal()
    progress = Progress(10, stream=stream, clock=clock)
    for step in range(1, 11):
        clock.now += 1.0
        progress.update(step, loss=1.0, tokens=10)
    progress.message("saved")
    progress.close()
    text = stream.getvalue()
    assert text.count("\r") == 11
    assert text.count("\n") == 2  # the message's and the end of the bar
    assert re.search(r"\[={8,}\] step 10/10 ", text)
    drawn = text.replace("\x1b[K", "").replace("\n", "\r").split("\r")
    assert max(map(len, drawn)) <= 59


def test_time_left_of_a_resumed_run_counts_this_process_alone():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(1000, start_step=900, stream=stream, clock=clock)
    clock.now += 10.0
    progress.update(910, loss=1.0)
    assert "1:30 left" in stream.getvalue()


def test_pauses_do_not_count():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(100, stream=stream, interval=0, clock=clock)
    clock.now += 10.0
    progress.update(10, loss=1.0, tokens=1000)
    progress.pause()
    clock.now += 300.0  # a validation
    progress.update(10, loss=1.0, tokens=0)
    clock.now += 10.0
    progress.update(20, loss=1.0, tokens=1000)
    assert progress.tokens_per_second == 100.0
    assert stream.getvalue().splitlines()[-1].endswith("1:20 left  (20%)")


def test_hours_are_written_out():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(100_000, stream=stream, clock=clock)
    clock.now += 10.0
    progress.update(100, loss=1.0)
    assert "2:46:30 left" in stream.getvalue()


def test_the_first_step_of_a_process_does_not_count():
    clock, stream = Clock(), io.StringIO()
    progress = Progress(1000, start_step=500, stream=stream, interval=0, clock=clock)
    clock.now += 300.0  # compilation
    progress.restart(501, tokens=100)
    progress.update(501, loss=1.0)
    clock.now += 10.0
    progress.update(511, loss=1.0, tokens=1000)
    first, second = stream.getvalue().splitlines()
    assert first == "step 501/1,000  loss 1.000  (50%)"
    assert second == "step 511/1,000  loss 1.000  100 tokens/s  8:09 left  (51%)"


def test_training_outlives_its_terminal():
    class Closed(Terminal):
        def write(self, text):
            raise OSError(5, "Input/output error")

    progress = Progress(10, stream=Closed())
    progress.update(1, loss=1.0)
    progress.message("SIGHUP: saving at the end of the current step")
    progress.close()
