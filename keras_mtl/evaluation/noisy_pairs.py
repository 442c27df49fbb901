"""Held-out pairs of denoising tasks: the store has the text, and each reading adds the noise.

The noise of a dev or test pair is always the same, so scores are comparable.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from keras_mtl.configuration.schema import PairConfig
from keras_mtl.data.pair_changes import PairChanges, held_out_changes
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.evaluation.pairs import NamedTask, PairReader, PairSet


class _NoisyReader:
    """The pairs of one task; see `PairReader`."""

    def __init__(self, reader: PairReader, changes: PairChanges) -> None:
        self._reader = reader
        self._changes = changes

    @property
    def has_text(self) -> bool:
        return self._reader.has_text

    def __len__(self) -> int:
        return len(self._reader)

    def text(self, index: int) -> tuple[str, str]:
        """Returns the stored source and the text; a noisy source has blanks, which are no text."""
        return self._reader.text(index)

    def gather(self, indices: np.ndarray) -> tuple[Sequence[np.ndarray], Sequence[np.ndarray]]:
        both = [side for pair in zip(*self._reader.gather(indices), strict=True) for side in pair]
        sizes = np.array([len(side) for side in both], np.int64)
        tokens = np.concatenate(both) if both else np.zeros(0, np.int32)
        tokens, sizes = self._changes(tokens, sizes, np.asarray(indices, np.int64), 0)
        parts = np.split(tokens, np.cumsum(sizes)[:-1])
        return parts[0::2], parts[1::2]


class NoisyPairs:
    """The pairs of several tasks, those of denoising tasks with noise.

    Args:
        pairs: the pairs without noise.
        changes: the noise of tasks.
    """

    def __init__(self, pairs: PairSet, changes: Mapping[str, PairChanges]) -> None:
        self._pairs = pairs
        self._changes = changes

    @property
    def vocabulary(self) -> Vocabulary:
        return self._pairs.vocabulary

    @property
    def tasks(self) -> Sequence[NamedTask]:
        return self._pairs.tasks

    def reader(self, task: str, split_name: str) -> PairReader:
        reader = self._pairs.reader(task, split_name)
        return _NoisyReader(reader, self._changes[task]) if task in self._changes else reader


def with_noise(pairs: PairSet, tasks: Sequence[PairConfig]) -> PairSet:
    """Returns pairs with the noise of the denoising tasks of a configuration.

    Args:
        pairs: the pairs as stored.
        tasks: the tasks of the run.
    """
    changes = held_out_changes(tasks, pairs.vocabulary)
    return NoisyPairs(pairs, changes) if changes else pairs
