"""The interface of the pairs that evaluation scores, in prepared data or in memory."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from keras_mtl.data.vocabulary import Vocabulary


class PairReader(Protocol):
    """The pairs of one task."""

    @property
    def has_text(self) -> bool:
        """Whether `text` is available. If not, text is decoded from tokens."""

    def __len__(self) -> int:
        """Number of pairs."""

    def text(self, index: int) -> tuple[str, str]:
        """Returns the source and target of a pair."""

    def gather(self, indices: np.ndarray) -> tuple[Sequence[np.ndarray], Sequence[np.ndarray]]:
        """Returns the ids of sources and targets, without tag and end of sentence."""


class NamedTask(Protocol):
    """A task."""

    @property
    def name(self) -> str:
        """The unique name of the task."""


class PairSet(Protocol):
    """The pairs of several tasks."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the ids."""

    @property
    def tasks(self) -> Sequence[NamedTask]:
        """The tasks, in order."""

    def reader(self, task: str, split_name: str) -> PairReader:
        """Returns the pairs of a split of a task."""
