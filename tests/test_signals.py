"""Ctrl-C and other signals are answered at once, whatever the main thread is doing."""

import os
import signal
import subprocess
import sys
import time

import pytest

from keras_mtl.interrupts import StopRequest, prompt_interrupts, stop_on_signals

# Far below the minute that native code or cleaning up takes, and far above what an answer takes
# on a busy machine.
TIMEOUT = 25
# A job in the background of a script ignores Ctrl-C; then Python has no handler for it.
HEARD = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
# Native code that keeps the main thread without Python's global lock; signals do not interrupt it.
STUCK = """
import ctypes, time

def stuck(seconds):
    library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    library.pthread_mutex_lock(mutex)
    end = (ctypes.c_long * 2)(int(time.time()) + seconds, 0)
    library.pthread_mutex_timedlock(mutex, end)
"""
COMMAND = f"""{STUCK}
from keras_mtl.interrupts import prompt_interrupts
with prompt_interrupts():
    print("ready", flush=True)
    stuck(60)
"""
TRAINING = f"""{STUCK}
import sys
from keras_mtl.interrupts import stop_on_signals
with stop_on_signals(lambda text: print(text, flush=True)) as stop:
    print("ready", flush=True)
    for _ in range(3):
        stuck(60)
        if stop():
            sys.exit(128 + stop.signal)
"""
CLEANING = """
import time
from keras_mtl.interrupts import prompt_interrupts
with prompt_interrupts():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        time.sleep(1)
        print("cleaned", flush=True)
"""
FORWARDING = """
import subprocess, sys
from keras_mtl.interrupts import forwarded_to, prompt_interrupts
with prompt_interrupts():
    child = subprocess.Popen([sys.executable, "-c", CODE])
    with forwarded_to(child.send_signal):
        code = child.wait()
    print("child ended with", code, flush=True)
    sys.exit(code)
"""


@pytest.fixture
def start():
    processes = []

    def start(code, *wrapper):
        process = subprocess.Popen(
            [*wrapper, sys.executable, "-c", HEARD + code],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        assert "ready" in process.stdout.readline()
        time.sleep(0.2)  # Into native code.
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_command_ends_while_native_code_keeps_the_main_thread(start):
    process = start(COMMAND)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=TIMEOUT)
    assert process.returncode == 130
    assert process.stdout.read() == "interrupted\n"


def test_a_command_may_clean_up(start):
    process = start(CLEANING)
    process.send_signal(signal.SIGINT)
    assert "cleaned" in process.communicate(timeout=TIMEOUT)[0]


def test_a_second_interrupt_does_not_wait_for_the_clean_up(start):
    process = start(CLEANING.replace("sleep(1)", "sleep(60)"))
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=TIMEOUT)
    # By the thread, or by a second KeyboardInterrupt, whichever comes first.
    assert process.returncode in (130, -signal.SIGINT)
    assert "cleaned" not in process.stdout.read()


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        (signal.SIGINT, "Ctrl-C: saving at the end of the current step; press Ctrl-C again"),
        (signal.SIGTERM, "SIGTERM: saving at the end of the current step\n"),
        (signal.SIGHUP, "SIGHUP: saving at the end of the current step\n"),
    ],
)
def test_training_answers_while_native_code_keeps_the_main_thread(start, number, answer):
    process = start(TRAINING)
    process.send_signal(number)
    assert answer in process.stdout.readline()
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)  # changes nothing
    process.send_signal(signal.SIGINT)
    process.wait(timeout=TIMEOUT)
    # An answer after the native code would have ended the step, and so the process.
    assert process.returncode == 130
    assert process.stdout.read() == "stopped without saving\n"


def test_one_press_that_arrives_twice_is_one(start):
    process = start(TRAINING.replace("stuck(60)", "stuck(2)"))
    process.send_signal(signal.SIGINT)
    time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=TIMEOUT)
    assert "stopped without saving" not in output
    assert process.returncode == 130


@pytest.mark.parametrize("send", [os.kill, os.killpg])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_waits_for_the_training_that_it_has_started(start, send, number):
    code = HEARD + TRAINING.replace("stuck(60)", "stuck(3)")
    process = start(f"CODE = {code!r}\n{FORWARDING}")
    send(process.pid, number)  # A terminal sends to both, `kill` only to the first.
    output, _ = process.communicate(timeout=TIMEOUT)
    assert "saving at the end" in output
    assert f"child ended with {128 + number}" in output
    assert process.returncode == 128 + number


def test_a_signal_that_is_ignored_stays_ignored(start):
    process = start(TRAINING.replace("stuck(60)", "stuck(1)"), "nohup")
    process.send_signal(signal.SIGHUP)
    output, _ = process.communicate(timeout=TIMEOUT)
    assert "saving" not in output
    assert process.returncode == 0


def test_handlers_are_those_of_before_afterwards():
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with prompt_interrupts(), stop_on_signals(print):
        assert all(signal.getsignal(number) not in before for number in numbers)
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_handler_of_the_caller_stays():
    came = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        with stop_on_signals(print) as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
        assert came == [signal.SIGTERM]
        assert not stop()
    finally:
        signal.signal(signal.SIGTERM, previous)


@pytest.fixture
def hears_ctrl_c():
    """Tests that run in the background of a script ignore it."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def test_an_interrupt_that_a_library_turns_into_an_error_stays_an_interrupt(hears_ctrl_c):
    @prompt_interrupts()
    def call_library():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise RuntimeError("INTERNAL: KeyboardInterrupt") from error

    with pytest.raises(KeyboardInterrupt):
        call_library()


def test_an_error_before_any_interrupt_stays_an_error():
    @prompt_interrupts()
    def call_library():
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        call_library()


def test_a_request_names_its_signal():
    request = StopRequest()
    assert (request(), request.name) == (False, "")
    request.signal = signal.SIGTERM
    assert (request(), request.name) == (True, "SIGTERM")
