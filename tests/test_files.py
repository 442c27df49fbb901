"""Every file that is written: an error of the disk names it."""

import contextlib
import itertools
import os
import resource
import threading
import time

import pytest

from keras_mtl import run_files
from keras_mtl.configuration import files
from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.engine.model_file import write_model_file
from keras_mtl.errors import KerasMtlError
from keras_mtl.evaluation import reports as evaluation_report
from keras_mtl.evaluation import translations
from keras_mtl.evaluation.results import TaskResult
from keras_mtl.figures import charts
from keras_mtl.files import finish_replacing, replace_file, replacing_directory, replacing_file
from keras_mtl.training.run import baselines, batch_log, event_log


@contextlib.contextmanager
def full_disk():
    """No file can get longer, as on a full disk: a write fails, and opening does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Fingerprints:
    """A mixture that handed out one batch."""

    def take_fingerprints(self, consumed):
        return [(0, 0, "00")]


def write_events(directory):
    log = event_log.EventLog(directory, tensorboard=False)
    try:
        log.train(1, {}, {})
    finally:
        with contextlib.suppress(OSError):
            log.close()


def write_report(directory):
    result = TaskResult(1, {"bleu": 1.0}, {"bleu": "s"}, 0.1)
    evaluation_report.write_report(directory / "evaluation-test.json", {"en-fr": result})


def write_translations(directory):
    result = type("Result", (), {"sources": ["a"], "hypotheses": ["b"], "references": ["c"]})
    translations.write_translations(directory, {"en-fr": result})


WRITERS = {
    "params.yaml": lambda directory: files.save_params(ExperimentConfig(), directory),
    "any": lambda directory: replace_file(directory / "any", "text"),
    "chart.png": lambda directory: charts.save_png(
        charts.new_figure(1, 1), directory / "chart.png"
    ),
    run_files.METRICS_FILE: write_events,
    batch_log.BATCHES_FILE: lambda directory: batch_log.BatchLog(directory).write(
        Fingerprints(), 1
    ),
    "evaluation-test.json": write_report,
    f"en-fr{translations.SUFFIX}": write_translations,
    "baselines.json": lambda directory: baselines._write(
        directory / "baselines.json", {"en-fr": 1.0}
    ),
    "model.kmtl": lambda directory: write_model_file(directory / "model.kmtl", {"a": 1}, {}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_an_error_that_names_the_file(name, tmp_path):
    with full_disk(), pytest.raises((OSError, KerasMtlError)) as caught:
        WRITERS[name](tmp_path)
    named = getattr(caught.value, "filename", None) or str(caught.value)
    assert os.path.join(tmp_path, name) in str(named)
    assert "partial" not in str(named)
    complete = [file.name for file in tmp_path.iterdir() if file.stat().st_size]
    assert not complete


def test_a_path_that_cannot_be_replaced_is_named_as_the_user_knows_it(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError) as caught:
        replace_file(tmp_path / "taken", "text")
    assert caught.value.filename == str(tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_block_that_fails_leaves_the_old_file(tmp_path):
    replace_file(tmp_path / "a", "old")
    with pytest.raises(TypeError), replacing_file(tmp_path / "a") as file:
        file.writelines([b"new", "text"])
    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_is_seen_when_it_is_complete(tmp_path):
    with replacing_file(tmp_path / "new" / "a") as file:
        file.write(b"12")
        file.flush()
        assert not (tmp_path / "new" / "a").exists()
        file.seek(0)
        file.write(b"3")
    assert (tmp_path / "new" / "a").read_bytes() == b"32"


def fill(directory, text):
    with replacing_directory(directory) as new:
        assert not list(new.iterdir())
        (new / "inner").mkdir()
        (new / "inner" / "file").write_text(text)


def test_a_directory_is_replaced_as_a_whole(tmp_path):
    fill(tmp_path / "a", "1")
    (tmp_path / "a" / "other").touch()
    (tmp_path / ".a.partial").mkdir()  # Left by a process that was killed.
    (tmp_path / ".a.partial" / "half").touch()
    fill(tmp_path / "a", "2")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == [
        "a",
        "a/inner",
        "a/inner/file",
    ]
    with pytest.raises(KeyError), replacing_directory(tmp_path / "a"):
        raise KeyError
    assert (tmp_path / "a" / "inner" / "file").read_text() == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


class KilledError(BaseException):
    """The process ends here; nothing after it runs."""


@pytest.mark.parametrize("call", [0, 1])
def test_a_kill_between_the_renames_loses_no_directory(tmp_path, monkeypatch, call):
    fill(tmp_path / "a", "1")
    rename, calls = os.rename, itertools.count()

    def killed(*paths):
        if next(calls) == call:
            raise KilledError
        rename(*paths)

    with monkeypatch.context() as patched:
        patched.setattr("os.rename", killed)
        with pytest.raises(KilledError):
            fill(tmp_path / "a", "2")
    finish_replacing(tmp_path / "a")
    assert (tmp_path / "a" / "inner" / "file").read_text() == "1"
    fill(tmp_path / "a", "3")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_error_in_a_new_directory_has_the_path_that_it_will_have(tmp_path):
    with pytest.raises(OSError) as caught, replacing_directory(tmp_path / "a") as new:
        (new / "missing" / "file").write_text("text")
    assert caught.value.filename == str(tmp_path / "a" / "missing" / "file")


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_writers_of_one_path_wait_for_each_other(tmp_path, kind):
    """Otherwise both would write the same partial file."""
    order, begun = [], threading.Event()

    def write(name):
        replacing = replacing_file if kind == "file" else replacing_directory
        with replacing(tmp_path / "a"):
            order.append(f"{name} begins")
            begun.set()
            time.sleep(0.05)
            order.append(f"{name} ends")

    first = threading.Thread(target=write, args=("first",))
    first.start()
    begun.wait()
    write("second")
    first.join()
    assert order == ["first begins", "first ends", "second begins", "second ends"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
