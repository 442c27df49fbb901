"""The loss of the references under a model, teacher-forced: in TensorFlow and on the engine."""

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

# Rows of a batch of the teacher-forced pass. Because lengths are rounded up to powers of two, any
# data needs only a handful of traced shapes.
_ROWS = 32
_MIN_LENGTH = 16


class Likelihood(Protocol):
    """What evaluation needs of a model to score its likelihood."""

    def total(
        self,
        task: str,
        reader: PairReader,
        indices: np.ndarray,
        stopped: Callable[[], bool] | None = None,
    ) -> tuple[float, float]:
        """Adds up the loss of some pairs.

        Args:
            task: the task of the pairs.
            reader: their store.
            indices: int64[n], pairs of the store.
            stopped: called before each batch; returns whether to stop. None never stops.

        Returns:
            Sum of the negative log-probabilities in nats, and the number of tokens, including the
            end of sentence of each target.

        Raises:
            EvaluationStopped: `stopped` returned True.
        """


@dataclasses.dataclass(frozen=True)
class PairIds:
    """Pairs of a store as a model takes them.

    Attributes:
        tag_ids: id of the language tag before the source, by task name.
        decoders: index of the decoder, by task name.
        eos_id: id of the end of sentence.
    """

    tag_ids: Mapping[str, int]
    decoders: Mapping[str, int]
    eos_id: int

    @classmethod
    def of_tasks(cls, vocabulary: "Vocabulary", tasks: "Sequence[TranslationTask]") -> Self:
        """Takes the ids of some tasks."""
        return cls(
            {task.name: vocabulary.tag_id(task.target) for task in tasks},
            {task.name: task.decoder for task in tasks},
            vocabulary.eos_id,
        )

    def read(
        self, task: str, reader: PairReader, indices: np.ndarray
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Reads pairs of a task; returns (sources, targets)."""
        sources, targets = reader.gather(indices)
        return (
            [[self.tag_ids[task], *row, self.eos_id] for row in sources],
            [[*row, self.eos_id] for row in targets],
        )


class ModelLikelihood:
    """The likelihood under a Keras model.

    Args:
        model: called with {"source", "target", "decoder"} int32, gives logits [rows, length, V].
        ids: ids of the tasks.
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
            source, target = map(_pad, pairs)
            decoder = np.full(_ROWS, self._ids.decoders[task], np.int32)
            batch_nll, batch_tokens = self._step(*map(tf.constant, (source, target, decoder)))
            nll += float(batch_nll)
            tokens += float(batch_tokens)
        return nll, tokens

    @functools.cached_property
    def _step(self) -> Callable[..., Any]:
        import tensorflow as tf

        @tf.function
        def step(source: tf.Tensor, target: tf.Tensor, decoder: Any) -> Any:
            inputs = {"source": source, "target": target, "decoder": decoder}
            _, tokens, nll = self._model.token_losses(inputs, drop_padding=True)
            return tf.reduce_sum(nll), tf.reduce_sum(tokens)

        return step


class EngineLikelihood:
    """The likelihood under an engine, from the log-probabilities of the references' tokens.

    Args:
        score_ids: scores ids on the engine.
        ids: ids of the tasks.
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


def _pad(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Returns rows of ids as int32[_ROWS, length]; the length is a power of two."""
    longest = max(map(len, rows))
    length = max(_MIN_LENGTH, 1 << (longest - 1).bit_length())
    batch = np.zeros((_ROWS, length), np.int32)
    for place, row in enumerate(rows):
        batch[place, : len(row)] = row
    return batch
