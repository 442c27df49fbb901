"""The evaluators of a run's validation: of the model in memory, and of an engine file."""

import dataclasses
import os
from typing import Any

from keras_mtl import metrics as metrics_lib
from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.configuration.sublayers import only_tensorflow
from keras_mtl.data.prepared import PreparedData
from keras_mtl.decoding.engine_search import EngineSearch, open_engine
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.scoring import engine_scores
from keras_mtl.decoding.text_translator import TextTranslator
from keras_mtl.decoding.translators import choose_backend, make_translator
from keras_mtl.evaluation.evaluator import Evaluator, Translates
from keras_mtl.evaluation.likelihood import (
    EngineLikelihood,
    Likelihood,
    ModelLikelihood,
    PairIds,
)
from keras_mtl.evaluation.stopping import PAIRS_AT_ONCE
from keras_mtl.evaluation.tasks import translation_tasks


def model_evaluator(
    config: ExperimentConfig, model: Any, prepared: PreparedData, split: str = "dev"
) -> Evaluator:
    """Makes the evaluator of a run's validation for a Keras model.

    A metric on text also computes the other text metrics, which cost nothing compared to
    translating.

    Args:
        config: the experiment; `trainer.evaluation` says what is scored.
        model: built model; its weights are read at each evaluation.
        prepared: the prepared store.
        split: `dev` or `test`.
    """
    settings = config.trainer.evaluation
    tasks = translation_tasks(config, prepared)
    if not metrics_lib.compares_text(settings.metric):
        likelihood = ModelLikelihood(model, PairIds.of_tasks(prepared.vocabulary, tasks))
        return _evaluator(config, prepared, split, likelihood=likelihood)
    backend = choose_backend(settings.backend, only_tensorflow=only_tensorflow(model))
    batch_size = config.task.decoding.batch_size
    translator = make_translator(
        model,
        prepared.vocabulary,
        tasks,
        validation_options(config),
        backend=backend,
        compute_type=settings.compute_type,
        workers=settings.workers or None,
        batch_size=batch_size,
    )
    # TensorFlow's search is slow, and translates one batch at a time.
    pairs_at_once = batch_size if backend == "tf" else PAIRS_AT_ONCE
    return _evaluator(config, prepared, split, translator, pairs_at_once=pairs_at_once)


def engine_evaluator(
    config: ExperimentConfig,
    path: str | os.PathLike[str],
    prepared: PreparedData,
    split: str = "dev",
) -> Evaluator:
    """Makes the evaluator of a run's validation for an engine file.

    Its scores on text are those of `model_evaluator` with the native backend.

    Args:
        config: the experiment; `trainer.evaluation` says what is scored, and on how many threads.
        path: the engine file; the evaluator keeps it open, so it may be removed.
        prepared: the prepared store.
        split: `dev` or `test`.

    Raises:
        ExportError: the file cannot be used.
        NativeError: the engine cannot be loaded.
    """
    settings = config.trainer.evaluation
    vocabulary, batch_size = prepared.vocabulary, config.task.decoding.batch_size
    tasks = translation_tasks(config, prepared)
    engine = open_engine(path, settings.workers or None)
    if not metrics_lib.compares_text(settings.metric):
        ids = PairIds.of_tasks(vocabulary, tasks)
        likelihood = EngineLikelihood(engine_scores(engine, batch_size), ids)
        return _evaluator(config, prepared, split, likelihood=likelihood)
    search = EngineSearch(engine, vocabulary, validation_options(config))
    translator = TextTranslator(search, vocabulary, tasks, batch_size=batch_size)
    return _evaluator(config, prepared, split, translator)


def validation_options(config: ExperimentConfig) -> BeamOptions:
    """Returns the beam search of a run's validation."""
    return BeamOptions.from_config(
        dataclasses.replace(
            config.task.decoding,
            beam_size=config.trainer.evaluation.beam_size,
            num_hypotheses=1,
            patience=1.0,
        )
    )


def _evaluator(
    config: ExperimentConfig,
    prepared: PreparedData,
    split: str,
    translator: Translates | None = None,
    likelihood: Likelihood | None = None,
    pairs_at_once: int = PAIRS_AT_ONCE,
) -> Evaluator:
    settings = config.trainer.evaluation
    metrics = [settings.metric]
    if translator is not None:
        metrics = list(dict.fromkeys((settings.metric, *metrics_lib.TEXT_METRICS)))
    return Evaluator(
        prepared,
        translator,
        metrics,
        settings.max_pairs,
        split,
        settings.tasks or None,
        likelihood,
        pairs_at_once,
    )
