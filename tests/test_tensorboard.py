"""TensorBoard starts in the locked environment and shows what a run has written."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from keras_mtl.training.event_log import EventLog

_ADDRESS = re.compile(r"http://(?:localhost|127\.0\.0\.1):\d+/")


@pytest.fixture
def address(tmp_path):
    """Starts TensorBoard on a run's directory; gives the address it serves."""
    with EventLog(tmp_path / "runs" / "one") as log:
        log.train(10, {"en-fr": 3.5}, {"en-fr": 1.0}, 100.0, 0.001)
    output = tmp_path / "output.txt"
    command = Path(sys.executable).with_name("tensorboard")
    with open(output, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [command, "--logdir", tmp_path / "runs", "--host", "127.0.0.1", "--port", "0"],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        deadline = time.monotonic() + 100
        while not (found := _ADDRESS.search(output.read_text(encoding="utf-8"))):
            assert process.poll() is None, output.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, output.read_text(encoding="utf-8")
            time.sleep(0.1)
        assert "pkg_resources" not in output.read_text(encoding="utf-8")
        yield found.group()
    finally:
        process.kill()
        process.wait()


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=30) as response:
        return response.read()


def test_tensorboard_serves_its_page_and_the_scalars_of_a_run(address):
    assert b"<title>TensorBoard</title>" in _get(address)
    deadline = time.monotonic() + 60
    while not (tags := json.loads(_get(f"{address}data/plugin/scalars/tags"))):
        assert time.monotonic() < deadline, "TensorBoard found no run"
        time.sleep(0.2)
    (run,) = tags
    assert any("en-fr" in tag for tag in tags[run])
