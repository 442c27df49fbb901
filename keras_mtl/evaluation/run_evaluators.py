"""The evaluators for the validation of a run: of the model in memory, and of an engine file."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from keras_mtl import metrics as metrics_lib
from keras_mtl.configuration.other_tasks import TRANSLATION
from keras_mtl.configuration.schema import EvaluationConfig
from keras_mtl.configuration.search_options import DecodingConfig
from keras_mtl.configuration.sublayers import only_tensorflow
from keras_mtl.decoding.engine_search import EngineSearch, open_engine
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.scoring import engine_scores
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.decoding.text_translator import TextTranslator
from keras_mtl.decoding.translators import choose_backend, make_translator
from keras_mtl.evaluation.evaluator import Evaluator, Translates
from keras_mtl.evaluation.likelihood import (
    EngineLikelihood,
    Likelihood,
    ModelLikelihood,
    PairIds,
)
from keras_mtl.evaluation.pairs import PairSet
from keras_mtl.evaluation.stopping import PAIRS_AT_ONCE
from keras_mtl.evaluation.task_metrics import TaskMetrics


def model_evaluator(
    evaluation: EvaluationConfig,
    decoding: DecodingConfig,
    tasks: Sequence[TranslationTask],
    model: Any,
    prepared: PairSet,
    split: str = "dev",
    task_metrics: TaskMetrics | None = None,
) -> Evaluator:
    """Creates the evaluator of a Keras model for the validation of a run.

    A task is scored by its metric. If that compares text, the default text metrics are computed,
    too; their cost is negligible compared to translation.

    Args:
        evaluation: the settings of the evaluation.
        decoding: the settings of the beam search.
        tasks: the tasks of the model.
        model: a built model. Each evaluation reads its current weights.
        prepared: the prepared data.
        split: `dev` or `test`.
        task_metrics: the metrics of the tasks; None means `trainer.evaluation.metric`.
    """
    metrics = _metrics(evaluation, tasks, task_metrics)
    likelihood = None
    if not all(_compare_text(metrics)):
        likelihood = ModelLikelihood(model, PairIds.of_tasks(prepared.vocabulary, tasks))
    if not any(_compare_text(metrics)):
        return _evaluator(evaluation, tasks, prepared, split, metrics, likelihood=likelihood)
    backend = choose_backend(evaluation.backend, only_tensorflow=only_tensorflow(model))
    batch_size = decoding.batch_size
    translator = make_translator(
        model,
        prepared.vocabulary,
        tasks,
        validation_options(decoding, evaluation.beam_size),
        backend=backend,
        compute_type=evaluation.compute_type,
        workers=evaluation.workers or None,
        batch_size=batch_size,
    )
    # The search in TensorFlow is slow and translates one batch at a time.
    pairs_at_once = batch_size if backend == "tf" else PAIRS_AT_ONCE
    return _evaluator(
        evaluation, tasks, prepared, split, metrics, translator, likelihood, pairs_at_once
    )


def engine_evaluator(
    evaluation: EvaluationConfig,
    decoding: DecodingConfig,
    tasks: Sequence[TranslationTask],
    path: str | os.PathLike[str],
    prepared: PairSet,
    split: str = "dev",
    task_metrics: TaskMetrics | None = None,
) -> Evaluator:
    """Creates the evaluator of an engine file for the validation of a run.

    Its text scores equal those of `model_evaluator` with the native backend.

    Args:
        evaluation: the settings of the evaluation, including the number of threads.
        decoding: the settings of the beam search.
        tasks: the tasks of the model.
        path: the engine file. The evaluator keeps it open, so the file may be deleted.
        prepared: the prepared data.
        split: `dev` or `test`.
        task_metrics: the metrics of the tasks; None means `trainer.evaluation.metric`.

    Raises:
        ExportError: the file cannot be used.
        NativeError: the engine cannot be loaded.
    """
    vocabulary, batch_size = prepared.vocabulary, decoding.batch_size
    engine = open_engine(path, evaluation.workers or None)
    metrics = _metrics(evaluation, tasks, task_metrics)
    likelihood = None
    if not all(_compare_text(metrics)):
        ids = PairIds.of_tasks(vocabulary, tasks)
        likelihood = EngineLikelihood(engine_scores(engine, batch_size), ids)
    if not any(_compare_text(metrics)):
        return _evaluator(evaluation, tasks, prepared, split, metrics, likelihood=likelihood)
    search = EngineSearch(engine, vocabulary, validation_options(decoding, evaluation.beam_size))
    translator = TextTranslator(search, vocabulary, tasks, batch_size=batch_size)
    return _evaluator(evaluation, tasks, prepared, split, metrics, translator, likelihood)


def validation_options(decoding: DecodingConfig, beam_size: int) -> BeamOptions:
    """Returns the beam search options for the validation of a run."""
    return BeamOptions.from_config(
        dataclasses.replace(
            decoding,
            beam_size=beam_size,
            num_hypotheses=1,
            patience=1.0,
        )
    )


def _metrics(
    evaluation: EvaluationConfig,
    tasks: Sequence[TranslationTask],
    task_metrics: TaskMetrics | None,
) -> dict[str, str]:
    """Returns the metric of each validated task."""
    names = [task.name for task in tasks]
    chosen = task_metrics or TaskMetrics.same(evaluation.metric, names)
    return {name: chosen.by_task.get(name, chosen.default) for name in evaluation.tasks or names}


def _compare_text(metrics: Mapping[str, str]) -> list[bool]:
    return [metrics_lib.compares_text(metric) for metric in metrics.values()]


def _evaluator(
    evaluation: EvaluationConfig,
    tasks: Sequence[TranslationTask],
    prepared: PairSet,
    split: str,
    metrics: Mapping[str, str],
    translator: Translates | None = None,
    likelihood: Likelihood | None = None,
    pairs_at_once: int = PAIRS_AT_ONCE,
) -> Evaluator:
    def of_task(metric: str) -> tuple[str, ...]:
        return (metric, *(metrics_lib.TEXT_METRICS if metrics_lib.compares_text(metric) else ()))

    return Evaluator(
        prepared,
        translator,
        (),
        evaluation.max_pairs,
        split,
        list(metrics),
        likelihood,
        pairs_at_once,
        [task.name for task in tasks if task.kind != TRANSLATION],
        {task: of_task(metric) for task, metric in metrics.items()},
        evaluation.samples,
        evaluation.attention,
    )
