"""What every test starts from."""

import fcntl
import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import hypothesis
import pytest

from keras_mtl.cli import optional_packages

# As in a terminal, also under nohup, which makes programs ignore it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Before anything imports TensorFlow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"
# LLVM's optimizations double the time of XLA's compilations. `make test-all` has them.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

# As the program does.
optional_packages.hide_from_keras()

# The same examples in every run, and no failure because the machine was busy.
hypothesis.settings.register_profile("keras_mtl", derandomize=True, deadline=None)
hypothesis.settings.load_profile("keras_mtl")


# No test of these takes long, but all of a file's together do: most compile with XLA or trace.
_LONG_FILES = {
    "test_layers.py",
    "test_beam_search.py",
    "test_translator.py",
    "test_transformer.py",
    "test_ctranslate2.py",
    "test_native_saved_model.py",
    "test_translators.py",
    "test_features.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts files that take long first, so that no worker begins one when the others finish."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow and item.path.name not in _LONG_FILES)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Gives layers and data without a seed of their own the same numbers in every run."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "tensorflow" in sys.modules and "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)


@pytest.fixture(scope="session")
def run_python():
    """Runs code in a fresh interpreter; returns the completed process with text output."""

    def run(code: str, *args: str, **options) -> subprocess.CompletedProcess:
        options = {"capture_output": True, "text": True, "timeout": 120, **options}
        return subprocess.run([sys.executable, "-c", code, *args], **options)

    return run


@pytest.fixture(scope="module")
def import_from_benchmarks():
    """A function that imports modules as the scripts of benchmarks/ do.

    It takes their names and returns the modules by the last part of the name.
    """
    directory = str(Path(__file__).parents[1] / "benchmarks")

    def import_modules(*names: str) -> dict[str, types.ModuleType]:
        return {name.rpartition(".")[2]: importlib.import_module(name) for name in names}

    sys.path.insert(0, directory)
    yield import_modules
    sys.path.remove(directory)


@pytest.fixture(scope="session")
def copy_trained_model(tmp_path_factory):
    """A function that copies a model directory, which is trained once for all workers, to a path.

    It takes the path and the model's sharing, "full" or "encoder", and returns the path.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def copy(path: Path, sharing: str = "full") -> Path:
        from tests.decoding import tiny_model

        trained = shared / f"trained-{sharing}"
        with (shared / "trained.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not trained.exists():
                tiny_model.make_model_dir(shared / f"new-{sharing}", sharing)
                (shared / f"new-{sharing}").rename(trained)
        return Path(shutil.copytree(trained, path))

    return copy
