"""The endless sequences of the examples of many tasks, read together."""

from collections.abc import Sequence

import numpy as np

from keras_mtl.data.batch_plan import ExamplePlan
from keras_mtl.data.permutation import Permutations


class ExampleStreams:
    """The `ExamplePlan` of every task; a call for many tasks costs about as much as for one.

    Args:
        seed: seed of the run.
        names: the tasks' names.
        sizes: examples of each task; >= 1.

    Attributes:
        sizes: int64[N], examples of each task.
        identities: int64[N], `ExamplePlan.identity` of each task.

    Raises:
        DataError: a task has no examples.
    """

    def __init__(self, seed: int, names: Sequence[str], sizes: Sequence[int]) -> None:
        plans = [ExamplePlan(seed, name, size) for name, size in zip(names, sizes, strict=True)]
        self.sizes: np.ndarray = np.array(sizes, np.int64)
        self.identities: np.ndarray = np.array([plan.identity() for plan in plans], np.int64)
        self._permutations = Permutations(sizes, seed, names, "examples")

    def take(self, tasks: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Returns the examples at some places of the sequences.

        Args:
            tasks: int64[k], the task of each number.
            numbers: int64[k], each >= 0.

        Returns:
            int64[k], the index of each example in its task.
        """
        epochs, positions = np.divmod(numbers, self.sizes[tasks])
        return self._permutations(tasks, epochs, positions)
