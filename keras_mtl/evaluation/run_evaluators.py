"""The evaluators for the validation of a run: of the model in memory, and of an engine file."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from keras_mtl import metrics as metrics_lib
from keras_mtl.configuration.other_tasks import TRANSLATION
from keras_mtl.configuration.schema import EvaluationConfig
from keras_mtl.configuration.search_options import DecodingConfig
from keras_mtl.configuration.sublayers import only_tensorflow
from keras_mtl.decoding.engine_search import EngineSearch, open_engine
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.scoring import engine_scores
from keras_mtl.decoding.tasks import TranslationTask, translated
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


def model_evaluator(
    evaluation: EvaluationConfig,
    decoding: DecodingConfig,
    tasks: Sequence[TranslationTask],
    model: Any,
    prepared: PairSet,
    split: str = "dev",
    metrics: Sequence[str] = (),
) -> Evaluator:
    """Creates the evaluator of a Keras model for the validation of a run.

    If the metric compares text, the other text metrics are computed, too; their cost is negligible
    compared to translation.

    Args:
        evaluation: the settings of the evaluation.
        decoding: the settings of the beam search.
        tasks: the tasks of the model.
        model: a built model. Each evaluation reads its current weights.
        prepared: the prepared data.
        split: `dev` or `test`.
        metrics: the metrics of the tasks; empty means `trainer.evaluation.metric`.
    """
    metrics = metrics or [evaluation.metric]
    likelihood = None
    if not all(map(metrics_lib.compares_text, metrics)):
        likelihood = ModelLikelihood(model, PairIds.of_tasks(prepared.vocabulary, tasks))
    if not _translates(tasks, metrics):
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
    metrics: Sequence[str] = (),
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
        metrics: the metrics of the tasks; empty means `trainer.evaluation.metric`.

    Raises:
        ExportError: the file cannot be used.
        NativeError: the engine cannot be loaded.
    """
    vocabulary, batch_size = prepared.vocabulary, decoding.batch_size
    engine = open_engine(path, evaluation.workers or None)
    metrics = metrics or [evaluation.metric]
    likelihood = None
    if not all(map(metrics_lib.compares_text, metrics)):
        ids = PairIds.of_tasks(vocabulary, tasks)
        likelihood = EngineLikelihood(engine_scores(engine, batch_size), ids)
    if not _translates(tasks, metrics):
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


def _translates(tasks: Sequence[TranslationTask], metrics: Sequence[str]) -> bool:
    """Whether the metrics of tasks need translations."""
    return bool(translated(tasks)) and any(map(metrics_lib.compares_text, metrics))


def _evaluator(
    evaluation: EvaluationConfig,
    tasks: Sequence[TranslationTask],
    prepared: PairSet,
    split: str,
    metrics: Sequence[str],
    translator: Translates | None = None,
    likelihood: Likelihood | None = None,
    pairs_at_once: int = PAIRS_AT_ONCE,
) -> Evaluator:
    if translator is not None:
        metrics = list(dict.fromkeys((*metrics, *metrics_lib.TEXT_METRICS)))
    return Evaluator(
        prepared,
        translator,
        metrics,
        evaluation.max_pairs,
        split,
        evaluation.tasks or None,
        likelihood,
        pairs_at_once,
        [task.name for task in tasks if task.kind != TRANSLATION],
    )
