"""Evaluates a trained model: scores every task and writes the report."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keras_mtl.evaluation import reports, trained_model
from keras_mtl.evaluation.compute_types import ComputeTypeChange, compare_compute_types
from keras_mtl.evaluation.evaluator import CopySource, Evaluator
from keras_mtl.evaluation.report_names import free_path, report_path, shortened
from keras_mtl.evaluation.results import ScoredPairs, TaskResult
from keras_mtl.evaluation.settings import EvaluationSettings, check_settings, with_suited_metrics
from keras_mtl.messages import to_stderr


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The scores of a trained model and the contents of its report.

    Attributes:
        results: the result of each task, in the order of the tasks.
        scored_pairs: which pairs were scored, by task.
        record: weights, settings, date and machine; see `keras_mtl.evaluation.reports`.
        path: the file of the report.
        copied: scores of the sources used as translations, by task. Empty unless `copy_source` was
            set.
        changes: comparison with another compute type, by task. Empty unless `compare_with` was set.
    """

    results: Mapping[str, TaskResult]
    scored_pairs: Mapping[str, ScoredPairs]
    record: Mapping[str, Any]
    path: Path
    copied: Mapping[str, TaskResult]
    changes: Mapping[str, ComputeTypeChange]

    def report(self) -> dict[str, Any]:
        """Returns the report as plain data for JSON."""
        return reports.report(self.results, self.scored_pairs, **self.record)

    def write(self) -> Path:
        """Writes the report and the translations.

        Returns:
            The path of the report.

        Raises:
            DataError: the disk is full, or the directory is not writable.
        """
        return reports.write_report(self.path, self.results, self.scored_pairs, **self.record)


def evaluate(
    model_dir: str | os.PathLike[str],
    settings: EvaluationSettings | None = None,
    output: str | os.PathLike[str] | None = None,
    log: Callable[[str], None] = to_stderr,
) -> Evaluation:
    """Scores the tasks of a trained model.

    All settings are checked before the first sentence is translated. `Evaluation.write` writes the
    report.

    Args:
        model_dir: directory of the run.
        settings: what to evaluate and how. None uses the defaults of `EvaluationSettings`.
        output: file of the report. None chooses a name in `model_dir`.
        log: function that receives lines for the user, one after each task.

    Returns:
        An `Evaluation`. Its `results` maps each task to its scores: BLEU and chrF from 0 to 100.

    Raises:
        ConfigError: a metric, task or corpus is unknown, or the report would replace another
            report.
        CheckpointError: the model cannot be read, or its data was prepared again after the
            training.
        DataError: a task has no pair to score, or the report cannot be written.
        InputError: a source is too long, and `on_long_line` is `error`.

    Example:
        ```python
        import keras_mtl

        settings = keras_mtl.EvaluationSettings(beam_size=1)
        evaluation = keras_mtl.evaluate("runs/demo", settings)
        print(evaluation.results["en-fr"].bleu)
        evaluation.write()
        ```
    """
    settings = settings or EvaluationSettings()
    check_settings(model_dir, settings)
    settings = with_suited_metrics(model_dir, settings, log)
    path = report_path(model_dir, settings) if output is None else Path(output)
    reports.check_writable(path)
    evaluator, record = trained_model.open_evaluator(model_dir, settings, log=log)
    path = free_path(path, settings, evaluator.scored_pairs, output is not None, log)
    if record["partial"]:
        log(f"a partial evaluation: {shortened(record['partial'])}")
    others: Mapping[str, TaskResult] = {}
    if settings.compare_with is not None:
        # First, so that unsuitable settings raise an error before the longer evaluation.
        other, _ = trained_model.open_evaluator(
            model_dir, settings.in_other_type(), evaluator.prepared, log
        )
        others = other.evaluate(log)
    results = evaluator.evaluate(log)
    changes = {
        name: compare_compute_types(results[name], other_result, settings.samples)
        for name, other_result in others.items()
    }
    if changes:
        record["compared"] = {
            "compute_type": settings.compare_with,
            "samples": settings.samples,
            "tasks": {name: dataclasses.asdict(change) for name, change in changes.items()},
        }
    copied = _copied(evaluator, settings) if settings.copy_source else {}
    if copied:
        record["copied_source"] = {name: dict(result.scores) for name, result in copied.items()}
    return Evaluation(results, evaluator.scored_pairs, record, path, copied, changes)


def _copied(evaluator: Evaluator, settings: EvaluationSettings) -> dict[str, TaskResult]:
    """Scores the sources as if they were translations. Empty without a text metric."""
    if not settings.text_metrics or not evaluator.translated_tasks:
        return {}
    return Evaluator(
        evaluator.prepared,
        CopySource(),
        settings.text_metrics,
        settings.max_pairs,
        settings.split,
        evaluator.translated_tasks,
    ).evaluate()
