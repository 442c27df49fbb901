"""Every file that is written: an error of the disk names it."""

import contextlib
import os
import resource

import pytest

from keras_mtl import run_files
from keras_mtl.configuration import files as registry
from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.engine.model_file import write_model_file
from keras_mtl.errors import KerasMtlError
from keras_mtl.evaluation import evaluator as evaluation
from keras_mtl.evaluation import reports as evaluation_report
from keras_mtl.evaluation import translations
from keras_mtl.figures import charts
from keras_mtl.files import replace_file
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
    event_log.EventLog(directory, tensorboard=False)._append({"event": "train"})


def write_report(directory):
    result = evaluation.TaskResult(1, {"bleu": 1.0}, {"bleu": "s"}, 0.1)
    evaluation_report.write_report(directory / "evaluation-test.json", {"en-fr": result})


def write_translations(directory):
    result = type("Result", (), {"sources": ["a"], "hypotheses": ["b"], "references": ["c"]})
    translations.write_translations(directory, {"en-fr": result})


WRITERS = {
    "params.yaml": lambda directory: registry.save_params(ExperimentConfig(), directory),
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
