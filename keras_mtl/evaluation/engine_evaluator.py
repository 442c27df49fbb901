"""Validation of an engine file: the scores of the model that it was made of, without TensorFlow."""

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from keras_mtl.data.prepare import PreparedData
from keras_mtl.data.store import StoreReader
from keras_mtl.decoding.engine_search import EngineSearch, open_engine
from keras_mtl.decoding.scoring import ScoreIds, engine_scores
from keras_mtl.decoding.text_translator import TextTranslator
from keras_mtl.evaluation.evaluator import (
    PAIRS_AT_ONCE,
    Evaluator,
    PairIds,
    raise_if_stopped,
    text_metrics,
    validation_options,
)
from keras_mtl.evaluation.tasks import translation_tasks
from keras_mtl.metrics import compares_text

if TYPE_CHECKING:
    from keras_mtl.configuration.schema import ExperimentConfig


def engine_evaluator(
    config: "ExperimentConfig",
    path: str | os.PathLike[str],
    prepared: PreparedData,
    split: str = "dev",
) -> Evaluator:
    """Makes the evaluator of a run's validation for an engine file.

    Its scores on text are those of ``Evaluator.from_model`` with the native backend.

    Args:
      config: the experiment; ``trainer.evaluation`` says what is scored, and on how many threads.
      path: the engine file; the evaluator keeps it open, its name is not needed any more.
      prepared: the prepared store.
      split: ``dev`` or ``test``.

    Raises:
      ExportError: the file cannot be used.
      NativeError: the engine cannot be loaded.
    """
    settings = config.trainer.evaluation
    vocabulary, batch_size = prepared.vocabulary, config.task.decoding.batch_size
    tasks = translation_tasks(config, prepared)
    engine = open_engine(path, settings.workers or None)
    if not compares_text(settings.metric):
        ids = PairIds.of_tasks(vocabulary, tasks)
        likelihood = ScoredLikelihood(engine_scores(engine, batch_size), ids)
        return Evaluator(
            prepared,
            None,
            [settings.metric],
            settings.max_pairs,
            split,
            settings.tasks or None,
            likelihood,
        )
    search = EngineSearch(engine, vocabulary, validation_options(config))
    translator = TextTranslator(search, vocabulary, tasks, batch_size=batch_size)
    metrics = text_metrics(settings.metric)
    tasks = settings.tasks or None
    return Evaluator(prepared, translator, metrics, settings.max_pairs, split, tasks)


class ScoredLikelihood:
    """The loss of the references, from the log-probabilities of their tokens.

    Args:
      score_ids: the model.
      ids: of the tasks.
    """

    def __init__(self, score_ids: ScoreIds, ids: PairIds):
        self._score_ids = score_ids
        self._ids = ids

    def total(
        self,
        task: str,
        reader: StoreReader,
        indices: np.ndarray,
        stopped: Callable[[], bool] | None = None,
    ) -> tuple[float, float]:
        """See ``keras_mtl.evaluation.evaluator.Likelihood.total``."""
        found: list[np.ndarray] = []
        for start in range(0, len(indices), PAIRS_AT_ONCE):
            raise_if_stopped(stopped, task)
            pairs = self._ids.read(task, reader, indices[start : start + PAIRS_AT_ONCE])
            found += self._score_ids(*pairs, self._ids.decoders[task])
        loss = -math.fsum(float(value) for row in found for value in row)
        return loss, float(sum(map(len, found)))
