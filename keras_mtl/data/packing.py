"""Packing: several examples of two sides in one row, so that few cells are padding.

All arithmetic is in integers, so a plan is the same on every machine.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_mtl.data.sorting import stable_order
from keras_mtl.errors import ConfigError

# Longer rows waste less and cost more attention, which sees the whole row. With twice the longest
# example the demo pads 4 %, with once 6 %.
_ROW_FACTOR = 2
# Lengths of rows are multiples of it: small enough for a fine ratio of source to target.
_LENGTH_STEP = 4
# Rounds that fill the gaps of rows; later ones find next to nothing.
_FILLING_ROUNDS = 8
# Cells of the table of lengths that are in memory at once: 8 MiB.
_TABLE_CELLS = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class PackedShape:
    """The one static shape of packed batches.

    Attributes:
        rows: rows of a batch; >= 1.
        source_length: source cells of a row; >= 1.
        target_length: target cells of a row; >= 1.
    """

    rows: int
    source_length: int
    target_length: int

    def __str__(self) -> str:
        return (
            f"{self.rows} rows of {self.source_length} source and {self.target_length} target "
            "tokens"
        )

    @property
    def length(self) -> int:
        """The longer side of a row."""
        return max(self.source_length, self.target_length)

    @property
    def cells(self) -> int:
        """Source and target cells of a batch."""
        return self.rows * (self.source_length + self.target_length)

    def examples(self, means: np.ndarray) -> np.ndarray:
        """Returns about how many examples fill a batch, float64[...].

        Args:
            means: float64[..., 2], mean source and target length of an example.
        """
        return self.rows * np.min(np.array([self.source_length, self.target_length]) / means, -1)


def packed_shape(
    max_length: int,
    tokens_per_batch: int,
    replicas: int,
    means: np.ndarray | None,
    lengths: Sequence[int] = (),
) -> PackedShape:
    """Chooses the shape of packed batches.

    A row is full as soon as one of its sides is, so the ratio of the sides decides how much of the
    other one is wasted. The choice is the ratio that wastes least on average over the tasks.

    Args:
        max_length: longest source or target in tokens, tag and end of sentence included; >= 1.
        tokens_per_batch: budget of cells of the longer side; >= 1. One row for each replica may
            go over it.
        replicas: the rows are a multiple of it.
        means: float64[N, 2], mean source and target length of each task. None if `lengths` are
            given.
        lengths: source and target cells of a row; empty chooses them.

    Raises:
        ConfigError: `lengths` are not two numbers of at least `max_length`.
    """
    if lengths:
        if len(lengths) != 2 or min(lengths) < max_length:
            raise ConfigError(
                f"packed_lengths is {list(lengths)}; give the source and the target cells of a "
                f"row, each at least max_length = {max_length}"
            )
        source, target = lengths
    else:
        assert means is not None
        budget = max(max_length, tokens_per_batch // replicas)
        longer = _up(max_length, _LENGTH_STEP)
        longer = max(longer, min(_ROW_FACTOR * longer, budget // _LENGTH_STEP * _LENGTH_STEP))
        source, target = _sides(max_length, longer, means)
    rows = replicas * max(1, tokens_per_batch // (max(source, target) * replicas))
    return PackedShape(rows, source, target)


def _sides(max_length: int, longer: int, means: np.ndarray) -> tuple[int, int]:
    shorter = range(_up(max_length, _LENGTH_STEP), longer, _LENGTH_STEP)
    choices = [(longer, longer), *((s, longer) for s in shorter), *((longer, s) for s in shorter)]
    used = np.sum(means, axis=1)
    waste = []
    for sides in choices:
        full_at = np.max(means / np.array(sides), axis=1)
        waste.append(float(np.mean(1 - used / (sum(sides) * full_at))))
    return choices[int(np.argmin(waste))]


def _up(value: int, step: int) -> int:
    return -(-value // step) * step


def pack(lengths: np.ndarray, first: int, rows: int, shape: PackedShape) -> np.ndarray:
    """Puts examples into rows; some of them fit nowhere.

    The longest go first, each round one to every row: the rows with most room get the longest of a
    round, and in every other round the rows that lack source get those with more source. Then the
    gaps are filled, each row taking the longest example that fits.

    Args:
        lengths: int64[k, 2], source and target cells of each example, each at least 1 and at most
            those of a row.
        first: examples that go before all others, in their order. The first one is never left out.
        rows: rows to fill.
        shape: lengths of a row.

    Returns:
        int64[k], the row of each example, in [0, rows); -1 if it fits nowhere.
    """
    # In units of 1 / (source_length * target_length) of a row, which makes the sides comparable.
    full = shape.source_length * shape.target_length
    source = lengths[:, 0] * shape.target_length
    target = lengths[:, 1] * shape.source_length
    longest = np.maximum(source, target)
    order = np.arange(len(lengths))
    order[first:] = first + stable_order(full - longest[first:])
    source_room = np.full(rows, full, np.int64)
    target_room = source_room.copy()
    row_of = np.full(len(lengths), -1, np.int64)
    for number, start in enumerate(range(0, len(order), rows)):
        chosen = order[start : start + rows]
        where = stable_order(full - np.minimum(source_room, target_room))[: len(chosen)]
        if number % 2:
            chosen = chosen[stable_order(full + target[chosen] - source[chosen])]
            where = where[stable_order(full + target_room[where] - source_room[where])]
        fits = (source_room[where] >= source[chosen]) & (target_room[where] >= target[chosen])
        chosen, where = chosen[fits], where[fits]
        row_of[chosen] = where
        source_room[where] -= source[chosen]
        target_room[where] -= target[chosen]
    _fill_gaps(source, target, row_of, source_room, target_room)
    return row_of


def _fill_gaps(
    source: np.ndarray,
    target: np.ndarray,
    row_of: np.ndarray,
    source_room: np.ndarray,
    target_room: np.ndarray,
) -> None:
    """Lets each row take the longest examples that still fit.

    Args:
        source: int64[k], source cells of each example, in the units of the room.
        target: int64[k], target cells.
        row_of: int64[k], row of each example, -1 if it has none; written to.
        source_room: int64[rows], what is left of each row; written to.
        target_room: int64[rows]; written to.
    """
    left = np.flatnonzero(row_of < 0)
    if not len(left):
        return
    sums = source[left] + target[left]
    left = left[stable_order(sums.max() - sums)]
    # Examples have few different lengths, which are numbered.
    sources, source_of = np.unique(source[left], return_inverse=True)
    targets, target_of = np.unique(target[left], return_inverse=True)
    for _ in range(_FILLING_ROUNDS):
        some = (source_room >= source[left].min()) & (target_room >= target[left].min())
        gaps = np.flatnonzero(some)
        if not len(gaps):
            return
        # The row with the largest gap chooses first.
        rooms = source_room[gaps] + target_room[gaps]
        gaps = gaps[stable_order(rooms.max() - rooms)]
        first = _first_that_fits(
            source_of,
            target_of,
            np.searchsorted(sources, source_room[gaps], "right"),
            np.searchsorted(targets, target_room[gaps], "right"),
        )
        able = first >= 0
        if not able.any():
            return
        wanted, rows = first[able], gaps[able]
        # Of the rows that want an example, the first one is written last.
        chooser = np.full(len(left), -1, np.int64)
        chooser[wanted[::-1]] = rows[::-1]
        is_taken = chooser >= 0
        taken, rows = left[is_taken], chooser[is_taken]
        row_of[taken] = rows
        source_room[rows] -= source[taken]
        target_room[rows] -= target[taken]
        left, source_of, target_of = (each[~is_taken] for each in (left, source_of, target_of))
        if not len(left):
            return


def _first_that_fits(
    source: np.ndarray, target: np.ndarray, sources: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Returns int64[gaps], the first example that fits into each gap; -1 if none does.

    A table over the lengths of both sides has the first example that is at most as long, so a gap
    looks it up instead of trying all examples.

    Args:
        source: int64[k], number of the source length of each example; k >= 1. A larger number is a
            longer length.
        target: int64[k], number of its target length.
        sources: int64[gaps], how many source lengths fit into each gap.
        targets: int64[gaps], how many target lengths.
    """
    none = len(source)
    found = np.full(len(sources), none, np.int64)
    # Of examples of equal lengths, the first one is written last.
    backwards = np.arange(none)[::-1]
    width = int(target.max()) + 2
    height = int(source.max()) + 1
    targets = np.minimum(targets, width - 1)
    sources = np.minimum(sources, height)
    part = max(1, _TABLE_CELLS // width)
    above: np.ndarray = np.full(width, none, np.int64)
    for start in range(0, height, part):
        table = np.full((min(part, height - start) + 1, width), none, np.int64)
        table[0] = above
        own = backwards
        if height > part:
            own = own[(source[own] >= start) & (source[own] < start + part)]
        table[source[own] - start + 1, target[own] + 1] = own
        np.minimum.accumulate(table, axis=0, out=table)
        np.minimum.accumulate(table, axis=1, out=table)
        above = table[-1]
        within = np.flatnonzero((sources > start) & (sources <= start + part))
        found[within] = table[sources[within] - start, targets[within]]
    found[found == none] = -1
    return found
