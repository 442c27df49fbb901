"""Computes log-probabilities of given translations. Does not import TensorFlow."""

from collections.abc import Callable, Sequence

import numpy as np

from keras_mtl.data.cleaning import normalize
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.tasks import TranslationTask, find_task
from keras_mtl.engine import Engine
from keras_mtl.errors import InputError

ScoreIds = Callable[[list[list[int]], list[list[int]], int], list[np.ndarray]]
"""Function `(sources, targets, route)` that returns float32[T] per target.

`route` is `TranslationTask.route` of the task. A source is the ids of tag, pieces and end of
sentence; a target has no tag.
"""


class TextScorer:
    """Scores translations of lines.

    Args:
        score_ids: function that scores ids; see `engine_scores` and `model_scorer.model_scores`.
        vocabulary: the model's vocabulary.
        tasks: the model's tasks.
        max_length: number of the model's positions.
    """

    def __init__(
        self,
        score_ids: ScoreIds,
        vocabulary: Vocabulary,
        tasks: Sequence[TranslationTask],
        max_length: int,
    ) -> None:
        self.vocabulary = vocabulary
        self.tasks = tuple(tasks)
        self._score_ids = score_ids
        self._max_length = max_length

    def score(
        self, sources: Sequence[str], targets: Sequence[str], task: str, *, first_line: int = 1
    ) -> list[np.ndarray]:
        """Computes the log-probability of each token of given translations.

        Lines are cleaned and split into pieces as for translation. No token is suppressed.

        Args:
            sources: source lines.
            targets: the translation of each line.
            task: name of the task.
            first_line: number of the first line in messages.

        Returns:
            float32[T + 1] per line: natural logarithms for its T pieces and the end of sentence.
            Their sum is the log-probability of the translation with this segmentation.

        Raises:
            InputError: the task is unknown, the numbers of lines differ, or a line is too long.
        """
        chosen = find_task(self.tasks, task)
        if len(sources) != len(targets):
            raise InputError(
                f"there are {len(sources)} sources and {len(targets)} translations: give one "
                "translation per source"
            )
        own, vocabulary = self.vocabulary.sides
        tag, eos = own.tag_id(chosen.target), vocabulary.eos_id
        source = [[tag, *ids, eos] for ids in self._encode(own, sources, "", 2, first_line)]
        what = "translation of "
        target = [[*ids, eos] for ids in self._encode(vocabulary, targets, what, 1, first_line)]
        return self._score_ids(source, target, chosen.route) if source else []

    def pieces(self, targets: Sequence[str]) -> list[list[str]]:
        """Returns the pieces that `score` returns values for, including `</s>`."""
        ids = self.vocabulary.encode_batch([normalize(line) for line in targets])
        eos = self.vocabulary.eos_id
        return [[self.vocabulary.piece(token) for token in [*row, eos]] for row in ids]

    def _encode(
        self,
        vocabulary: Vocabulary,
        lines: Sequence[str],
        what: str,
        reserved: int,
        first_line: int,
    ) -> list[list[int]]:
        rows = vocabulary.encode_batch([normalize(line) for line in lines])
        for number, ids in enumerate(rows, first_line):
            if len(ids) > self._max_length - reserved:
                raise InputError(
                    f"{what}line {number} has {len(ids)} tokens, more than the model's maximum of "
                    f"{self._max_length - reserved}. Split the line"
                )
        return rows


def engine_scores(engine: Engine, batch_size: int = 64) -> ScoreIds:
    """Returns a function that scores with an engine, with `batch_size` sentences per worker."""

    def score(sources: list[list[int]], targets: list[list[int]], decoder: int) -> list[np.ndarray]:
        decoders = [decoder] * len(sources)
        return engine.score(sources, targets, decoders=decoders, max_batch_size=batch_size)

    return score
