"""The loss of references under a model with teacher forcing, in TensorFlow and in the engine."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from keras_mtl.evaluation.pairs import PairReader
from keras_mtl.evaluation.stopping import PAIRS_AT_ONCE, raise_if_stopped

if TYPE_CHECKING:
    from keras_mtl.data.vocabulary import Vocabulary
    from keras_mtl.decoding.scoring import ScoreIds
    from keras_mtl.decoding.tasks import TranslationTask

# Number of rows in a batch. Lengths are rounded up to powers of two, so TensorFlow traces only a
# few shapes for any data.
_ROWS = 32
_MIN_LENGTH = 16


class Likelihood(Protocol):
    """Computes the likelihood of references under a model."""

    def total(
        self,
        task: str,
        reader: PairReader,
        indices: np.ndarray,
        stopped: Callable[[], bool] | None = None,
    ) -> tuple[float, float]:
        """Computes the total loss of some pairs.

        Args:
            task: the task of the pairs.
            reader: reads the pairs.
            indices: int64 `[N]`, the indices of the pairs.
            stopped: called before each batch; returns whether to stop. None never stops.

        Returns:
            The sum of the negative log-probabilities in nats, and the number of tokens, including
            the end of sentence of each target.

        Raises:
            EvaluationStopped: `stopped` returned True.
        """


@dataclasses.dataclass(frozen=True)
class PairIds:
    """Adds the ids that a model requires to the ids of pairs.

    Attributes:
        tag_ids: id of the language tag in front of the source, by task.
        decoders: `TranslationTask.route`, by task.
        eos_id: id of the end of sentence.
    """

    tag_ids: Mapping[str, int]
    decoders: Mapping[str, int]
    eos_id: int

    @classmethod
    def of_tasks(cls, vocabulary: "Vocabulary", tasks: "Sequence[TranslationTask]") -> Self:
        """Creates the object for some tasks."""
        return cls(
            {task.name: vocabulary.source.tag_id(task.target) for task in tasks},
            {task.name: task.route for task in tasks},
            vocabulary.eos_id,
        )

    def read(
        self, task: str, reader: PairReader, indices: np.ndarray
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Reads pairs of a task and returns (sources, targets)."""
        sources, targets = reader.gather(indices)
        return (
            [[self.tag_ids[task], *row, self.eos_id] for row in sources],
            [[*row, self.eos_id] for row in targets],
        )


class ModelLikelihood:
    """The likelihood under a Keras model.

    Args:
        model: a `keras_mtl.Transformer`. Its inputs are int32 tensors {"source", "target",
            "decoder"}, its outputs logits `[rows, length, vocabulary size]`.
        ids: the ids of the tasks.
    """

    def __init__(self, model: Any, ids: PairIds):
        self._model = model
        self._ids = ids

    def total(
        self,
        task: str,
        reader: PairReader,
        indices: np.ndarray,
        stopped: Callable[[], bool] | None = None,
    ) -> tuple[float, float]:
        """See `Likelihood.total`."""
        import tensorflow as tf

        nll, tokens = 0.0, 0.0
        for start in range(0, len(indices), _ROWS):
            raise_if_stopped(stopped, task)
            pairs = self._ids.read(task, reader, indices[start : start + _ROWS])
            limit = getattr(self._model, "max_length", None)
            source, target = (padded(side, limit, _ROWS) for side in pairs)
            decoder = np.full(_ROWS, self._ids.decoders[task], np.int32)
            batch_nll, batch_tokens = self._step(*map(tf.constant, (source, target, decoder)))
            nll += float(batch_nll)
            tokens += float(batch_tokens)
        return nll, tokens

    @functools.cached_property
    def _step(self) -> Callable[..., Any]:
        import tensorflow as tf

        @tf.function(autograph=False)
        def step(source: tf.Tensor, target: tf.Tensor, decoder: Any) -> Any:
            inputs = {"source": source, "target": target, "decoder": decoder}
            _, tokens, nll = self._model.token_losses(inputs, drop_padding=True)
            return tf.reduce_sum(nll), tf.reduce_sum(tokens)

        return step


class EngineLikelihood:
    """The likelihood under an engine, from the log-probabilities of the tokens of the references.

    Args:
        score_ids: scores ids with the engine.
        ids: the ids of the tasks.
    """

    def __init__(self, score_ids: "ScoreIds", ids: PairIds):
        self._score_ids = score_ids
        self._ids = ids

    def total(
        self,
        task: str,
        reader: PairReader,
        indices: np.ndarray,
        stopped: Callable[[], bool] | None = None,
    ) -> tuple[float, float]:
        """See `Likelihood.total`."""
        found: list[np.ndarray] = []
        for start in range(0, len(indices), PAIRS_AT_ONCE):
            raise_if_stopped(stopped, task)
            pairs = self._ids.read(task, reader, indices[start : start + PAIRS_AT_ONCE])
            found += self._score_ids(*pairs, self._ids.decoders[task])
        loss = -math.fsum(float(value) for row in found for value in row)
        return loss, float(sum(map(len, found)))


def padded(rows: Sequence[Sequence[int]], limit: int | None, count: int) -> np.ndarray:
    """Returns rows of ids as int32 `[count, length]`, padded with 0.

    Args:
        rows: the ids of each row, at most `count`.
        limit: number of positions of the model; None for no limit. The length is the next power of
            two, or the limit if that is shorter.
        count: number of rows of the result.
    """
    longest = max(map(len, rows))
    length = max(_MIN_LENGTH, 1 << (longest - 1).bit_length())
    if limit is not None and longest <= limit < length:
        length = limit
    batch = np.zeros((count, length), np.int32)
    for place, row in enumerate(rows):
        batch[place, : len(row)] = row
    return batch
