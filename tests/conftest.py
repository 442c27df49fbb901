"""What every test starts from."""

import os
import subprocess
import sys

import hypothesis
import pytest

# Before anything imports TensorFlow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"

# The same examples in every run, and no failure because the machine was busy.
hypothesis.settings.register_profile("keras_mtl", derandomize=True, deadline=None)
hypothesis.settings.load_profile("keras_mtl")


@pytest.fixture
def run_python():
    """Runs code in a fresh interpreter; returns the completed process with text output."""

    def run(code: str, *args: str, **options) -> subprocess.CompletedProcess:
        options = {"capture_output": True, "text": True, "timeout": 120, **options}
        return subprocess.run([sys.executable, "-c", code, *args], **options)

    return run
