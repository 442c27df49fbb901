"""A TensorBoard process for tests."""

import contextlib
import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

_ADDRESS = re.compile(r"http://(?:localhost|127\.0\.0\.1):\d+/")
_SECONDS = 100.0


@contextlib.contextmanager
def serve(
    python: str | Path, logdir: Path, output: Path, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Starts TensorBoard; gives its address; ends it.

    Args:
      python: interpreter of the environment that has TensorBoard.
      logdir: directory of runs.
      output: file that gets what TensorBoard prints.
      environment: variables of the process; None takes those of this one.
    """
    words = ["-m", "tensorboard.main", "--logdir", logdir, "--host", "127.0.0.1", "--port", "0"]
    with open(output, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [str(word) for word in (python, *words)],
            env={**(os.environ if environment is None else environment), "PYTHONUNBUFFERED": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + _SECONDS
        while not (found := _ADDRESS.search(output.read_text(encoding="utf-8"))):
            assert process.poll() is None, output.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, output.read_text(encoding="utf-8")
            time.sleep(0.1)
        yield found.group()
    finally:
        process.kill()
        process.wait()


def get(url: str) -> bytes:
    """Fetches a page."""
    with urllib.request.urlopen(url, timeout=30) as response:
        return response.read()


def scalar_tags(address: str) -> dict[str, list[str]]:
    """The names of scalars by run, as soon as TensorBoard has found a run."""
    deadline = time.monotonic() + _SECONDS
    while not (tags := json.loads(get(f"{address}data/plugin/scalars/tags"))):
        assert time.monotonic() < deadline, "TensorBoard found no run"
        time.sleep(0.2)
    return tags
