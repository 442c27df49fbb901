"""Packed mixed batches: a pool of examples is packed into rows, which are dealt out to batches."""

from collections.abc import Sequence

import numpy as np

from keras_mtl.data.packed_draws import check_lengths
from keras_mtl.data.packing import PackedShape, pack
from keras_mtl.data.pair_reading import PairSources
from keras_mtl.data.pools import PoolBatch, shuffled
from keras_mtl.data.sorting import stable_order
from keras_mtl.data.task_sources import TaskSource

_BATCHES = 32
# Examples in a pool, as a multiple of those that fill its batches.
_CHOICE = 1.03


class PackedCutter:
    """Packs a pool into full batches; a row may hold several tasks.

    Args:
        sources: the tasks.
        pairs: their pairs.
        shape: the shape of a batch.
        seed: seed of the run.
        pool_examples: examples in a pool; None takes what fills 32 batches.

    Raises:
        DataError: an example does not fit into a row.
    """

    def __init__(
        self,
        sources: Sequence[TaskSource],
        pairs: PairSources,
        shape: PackedShape,
        seed: int,
        pool_examples: int | None = None,
    ) -> None:
        check_lengths(sources, shape)
        self._shape = shape
        self._seed = seed
        self._pairs = pairs
        self._pool_examples = pool_examples

    def examples(self, probabilities: np.ndarray) -> int:
        if self._pool_examples is not None:
            return self._pool_examples
        mean = probabilities @ self._pairs.means / probabilities.sum()
        return int(np.ceil(_CHOICE * _BATCHES * self._shape.examples(mean)))

    def cut(
        self, index: int, tasks: np.ndarray, indices: np.ndarray, carried: int
    ) -> tuple[list[PoolBatch], np.ndarray]:
        shape = self._shape
        lengths = self._pairs.lengths(tasks, indices)
        sides = np.array([shape.source_length, shape.target_length])
        full = float((lengths.sum(0) / (shape.rows * sides)).max())
        rows = shape.rows * max(1, int(full / _CHOICE))
        row_of = pack(lengths, carried, rows, shape)
        # The first rows have the longest examples; a batch has some of all.
        dealt = shuffled(rows, self._seed, index, "packed rows")
        packed = np.flatnonzero(row_of >= 0)
        places = dealt[row_of[packed]]
        order = stable_order(places)
        packed, places = packed[order], places[order]
        edges = np.searchsorted(places, np.arange(shape.rows, rows, shape.rows))
        batches = [
            PoolBatch(
                shape, shape.cells, positions, where % shape.rows, int(lengths[positions].sum())
            )
            for positions, where in zip(
                np.split(packed, edges), np.split(places, edges), strict=True
            )
        ]
        return batches, np.flatnonzero(row_of < 0)

    def identity(self) -> list[int]:
        shape = self._shape
        packed = [shape.rows, shape.source_length, shape.target_length]
        return [self._pool_examples or 0, *packed]
