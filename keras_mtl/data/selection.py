"""Decides for each pair of a task where it belongs, from hashes only.

All functions work on arrays of hashes and never see text. Their result does not depend on how the
pairs are divided into blocks, so one process, several processes and a cluster decide alike.
"""

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from keras_mtl.configuration.schema import DataConfig, PairConfig
from keras_mtl.data import split


class Place(enum.IntEnum):
    """Where a pair is."""

    TRAIN = 0
    DEV = 1
    TEST = 2
    # May return to training, in this order.
    OVER_DEV = 3
    OVER_TEST = 4
    HELD_OUT = 5
    # Returned to training.
    FROM_DEV = 6
    FROM_TEST = 7
    FROM_HELD_OUT = 8
    # In no store.
    OVER_TRAIN = 9
    DUPLICATE = 10


WAITING = (Place.OVER_DEV, Place.OVER_TEST, Place.HELD_OUT)
RETURNED = (Place.FROM_DEV, Place.FROM_TEST, Place.FROM_HELD_OUT)
# The places whose pairs are in a store, in the order in which they are added to it.
STORED: dict[str, tuple[Place, ...]] = {
    "train": (Place.TRAIN, *RETURNED),
    "dev": (Place.DEV,),
    "test": (Place.TEST,),
}
_BIN_BITS = 16


class HeldOut:
    """The sentences that no task may train on: the dev and test sources of all tasks.

    If a task translates into the source language of another task, its targets are checked too:
    otherwise fr-en would train on the reversed test pairs of en-fr.

    Args:
        tasks: all tasks.
        data: fractions of the split.
        hashes: uint64, hashes of sources of given dev and test sets.
    """

    def __init__(
        self, tasks: Sequence[PairConfig], data: DataConfig, hashes: Iterable[np.ndarray] = ()
    ) -> None:
        self._fractions = data.dev_fraction, data.test_fraction
        self._languages = {task.source for task in tasks}
        self._by_split = np.array(
            [False, *(any(not given for given in fields) for fields in _given(tasks))]
        )
        self._hashes = np.zeros(0, np.uint64)
        self.add(hashes)

    def add(self, hashes: Iterable[np.ndarray]) -> None:
        """Adds sources of dev or test sets."""
        self._hashes = np.unique(np.concatenate([self._hashes, *hashes]))

    def checks_targets(self, task: PairConfig) -> bool:
        """Whether the hashes of a task's targets are needed."""
        return task.target in self._languages

    def _contains(self, hashes: np.ndarray) -> np.ndarray:
        if not len(self._hashes):
            return np.zeros(len(hashes), bool)
        places = np.searchsorted(self._hashes, hashes)
        return self._hashes[np.minimum(places, len(self._hashes) - 1)] == hashes

    def _forbids(self, hashes: np.ndarray) -> np.ndarray:
        return self._by_split[split.splits_of(hashes, *self._fractions)] | self._contains(hashes)

    def places(self, task: PairConfig, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Returns uint8[n], TRAIN, DEV, TEST or HELD_OUT for pairs of a task's `corpora`.

        Args:
            task: the task.
            source: uint64[n], hashes of the sources.
            target: uint64[n], hashes of the targets; not used unless `checks_targets`.
        """
        own = np.array([False, not task.dev_corpora, not task.test_corpora])
        where = split.splits_of(source, *self._fractions)
        forbidden = self._forbids(source)
        if self.checks_targets(task):
            forbidden |= self._forbids(target)
        other = np.where(forbidden, np.uint8(Place.HELD_OUT), np.uint8(Place.TRAIN))
        return np.where(own[where], where, other)

    def allows(self, task: PairConfig, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Returns bool[n], whether a task may train on pairs, after all sources are added."""
        allowed = ~self._contains(source)
        if self.checks_targets(task):
            allowed &= ~self._contains(target)
        return allowed


def _given(tasks: Sequence[PairConfig]) -> tuple[list[bool], list[bool]]:
    return [bool(task.dev_corpora) for task in tasks], [bool(task.test_corpora) for task in tasks]


def duplicates(hashes: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Returns the positions of pairs whose hash occurs at a lower position too.

    Args:
        hashes: uint64[n], hashes of pairs.
        positions: int64[n], ascending.
    """
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    return positions[order[1:][ordered[1:] == ordered[:-1]]]


def bins(hashes: np.ndarray) -> np.ndarray:
    """Returns int64[65536], numbers of hashes by their highest bits."""
    places = (hashes >> np.uint64(64 - _BIN_BITS)).astype(np.int64)
    return np.bincount(places, minlength=1 << _BIN_BITS)


def bin_of_rank(counts: np.ndarray, rank: int) -> tuple[int, int]:
    """Returns the bin with the hash of a rank, and the number of hashes before the bin.

    Args:
        counts: the sum of `bins`.
        rank: rank in ascending order, from 0, below the number of hashes.
    """
    sums = np.cumsum(counts)
    found = int(np.searchsorted(sums, rank, "right"))
    return found, int(sums[found] - counts[found])


def in_bin(hashes: np.ndarray, number: int) -> np.ndarray:
    """Returns the hashes in a bin."""
    return hashes[(hashes >> np.uint64(64 - _BIN_BITS)) == np.uint64(number)]


def lowest(blocks: Callable[[], Iterator[np.ndarray]], limit: int) -> Iterator[np.ndarray]:
    """Yields for each block bool[m], whether a hash is among the `limit` lowest of all blocks.

    Of equal hashes, the first ones are chosen. Memory holds one block and a 65,536th of all hashes.

    Args:
        blocks: function that returns a new iterator over uint64[m].
        limit: number of hashes to choose; below their number.
    """
    threshold, ties = np.uint64(0), 0
    if limit:
        counts = np.zeros(1 << _BIN_BITS, np.int64)
        for hashes in blocks():
            counts += bins(hashes)
        number, before = bin_of_rank(counts, limit - 1)
        inside = np.sort(np.concatenate([in_bin(hashes, number) for hashes in blocks()]))
        threshold = inside[limit - 1 - before]
        ties = limit - before - int(np.searchsorted(inside, threshold))
    for hashes in blocks():
        equal = np.flatnonzero(hashes == threshold)[:ties]
        ties -= len(equal)
        chosen = hashes < threshold
        chosen[equal] = True
        yield chosen
