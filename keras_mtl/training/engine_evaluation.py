"""Validation of an engine file: the scores of the model that it was made of, without TensorFlow."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from keras_mtl.data.prepare import PreparedData
from keras_mtl.data.store import StoreReader
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.engine_translator import EngineSearch, open_engine
from keras_mtl.decoding.scoring import ScoreIds, engine_scores
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.decoding.text_translator import TextTranslator
from keras_mtl.metrics import TEXT_METRICS
from keras_mtl.training.evaluation import (
    Evaluator,
    text_metrics,
    translation_tasks,
    validation_options,
)

if TYPE_CHECKING:
    from keras_mtl.config import ExperimentConfig


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
    engine = open_engine(path, settings.workers or None, 1, "auto")
    if settings.metric not in TEXT_METRICS:
        likelihood = ScoredLikelihood.of_tasks(engine_scores(engine, batch_size), vocabulary, tasks)
        return Evaluator(
            prepared, None, [settings.metric], settings.max_pairs, split, likelihood=likelihood
        )
    search = EngineSearch(engine, vocabulary, validation_options(config))
    translator = TextTranslator(search, vocabulary, tasks, batch_size=batch_size)
    metrics = text_metrics(settings.metric)
    return Evaluator(prepared, translator, metrics, settings.max_pairs, split)


class ScoredLikelihood:
    """The loss of the references, from the log-probabilities of their tokens.

    Args:
      score_ids: the model.
      tag_ids: id of the language tag before the source, by task name.
      decoders: index of the decoder, by task name.
      eos_id: id of the end of sentence.
    """

    def __init__(
        self,
        score_ids: ScoreIds,
        tag_ids: Mapping[str, int],
        decoders: Mapping[str, int],
        eos_id: int,
    ):
        self._score_ids = score_ids
        self._tag_ids = tag_ids
        self._decoders = decoders
        self._eos_id = eos_id

    @classmethod
    def of_tasks(
        cls, score_ids: ScoreIds, vocabulary: Vocabulary, tasks: Sequence[TranslationTask]
    ) -> Self:
        """Makes the likelihood of some tasks."""
        return cls(
            score_ids,
            {task.name: vocabulary.tag_id(task.target) for task in tasks},
            {task.name: task.decoder for task in tasks},
            vocabulary.eos_id,
        )

    def total(self, task: str, reader: StoreReader, indices: np.ndarray) -> tuple[float, float]:
        """See ``keras_mtl.training.evaluation.Likelihood.total``."""
        sources, targets = reader.gather(indices)
        found = self._score_ids(
            [[self._tag_ids[task], *row, self._eos_id] for row in sources],
            [[*row, self._eos_id] for row in targets],
            self._decoders[task],
        )
        loss = -math.fsum(float(value) for row in found for value in row)
        return loss, float(sum(map(len, found)))
