"""The steps of preparation on a cluster, as functions without state that know no cluster.

They use the same functions as preparation on one machine, in the same order. An order number of
each pair takes the place of its position in files: 20 bits for the part of a corpus, 28 bits for
the chunk and 12 bits for the row. Pairs that return to training come after all others, so 4 bits
above these say why a pair returned.
"""

import dataclasses
import functools
import importlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl import errors
from keras_mtl.configuration.schema import CorpusConfig, DataConfig, PairConfig
from keras_mtl.data import corpora
from keras_mtl.data.language_check import sample_step
from keras_mtl.data.prepare_chunks import (
    CHUNK_PAIRS,
    PAIR,
    SOURCE,
    TARGET,
    Rules,
    chunks_of,
    clean_chunk,
    pairs_of,
)
from keras_mtl.data.prepare_settings import cleaning_of, given_settings
from keras_mtl.data.selection import (
    RETURNED,
    STORED,
    WAITING,
    HeldOut,
    Place,
    duplicates,
)

_ROW_BITS = 12
_CHUNK_BITS = 28
_UNIT_BITS = 20
_WHY_SHIFT = _ROW_BITS + _CHUNK_BITS + _UNIT_BITS
assert 1 << _ROW_BITS == CHUNK_PAIRS


@dataclasses.dataclass(frozen=True)
class Unit:
    """A part of a corpus: its number in the order of all parts, and where it is."""

    number: int
    task: int
    field: str
    corpus: int
    part: int

    @property
    def place(self) -> tuple[int, str, int]:
        """Task, field and number of the corpus."""
        return self.task, self.field, self.corpus


@dataclasses.dataclass(frozen=True)
class Plan:
    """What every step knows.

    Attributes:
        tasks: the tasks.
        data: the settings of their data.
        keep_train_text: whether training stores keep text.
        units: the parts of all corpora, in order.
        modules: modules that register the readers.
        buckets: number of groups in which duplicates are searched.
    """

    tasks: Sequence[PairConfig]
    data: DataConfig
    keep_train_text: bool
    units: Sequence[Unit]
    modules: Sequence[str]
    buckets: int

    def held_out(self, hashes: Iterable[np.ndarray] = ()) -> HeldOut:
        """Returns the sentences that no task may train on."""
        return HeldOut(self.tasks, self.data, hashes)

    def rules(self, unit: Unit) -> Rules:
        """Returns the rules of cleaning of a part."""
        task = self.tasks[unit.task]
        cleaning = cleaning_of(task, self.data)
        if unit.field != "corpora":
            cleaning = given_settings(cleaning)
        return Rules(cleaning, self.held_out().checks_targets(task))

    def limit(self, task: int, split: str) -> int | None:
        """Returns the cap of a split."""
        caps = {"dev": self.data.dev_pairs, "test": self.data.test_pairs}
        return self.tasks[task].max_pairs if split == "train" else caps[split]


@dataclasses.dataclass(frozen=True)
class Piece:
    """A cleaned chunk.

    Attributes:
        order: order number of its first row.
        unit: the part that it comes from.
        text: see `CleanChunk.text`.
        hashes: see `CleanChunk.hashes`.
        places: uint8[n], `Place` of each pair.
    """

    order: int
    unit: Unit
    text: bytes
    hashes: np.ndarray
    places: np.ndarray

    def orders(self, rows: np.ndarray, why: int = 0) -> np.ndarray:
        """Returns uint64[m], order numbers of rows."""
        first = np.uint64(self.order | why << _WHY_SHIFT)
        return first + rows.astype(np.uint64)

    def row(self, number: int) -> np.ndarray:
        """Returns a row of the hashes; zeros if there is none."""
        if number < len(self.hashes):
            return self.hashes[number]
        return np.zeros(len(self.places), np.uint64)


def _order(unit: int, chunk: int) -> int:
    if chunk >= 1 << _CHUNK_BITS or unit >= 1 << _UNIT_BITS:
        raise errors.DataError(
            f"part {unit} of the corpora, chunk {chunk}: there are more than {1 << _UNIT_BITS} "
            f"parts or {1 << _CHUNK_BITS} chunks; use fewer or smaller files"
        )
    return unit << (_CHUNK_BITS + _ROW_BITS) | chunk << _ROW_BITS


@functools.lru_cache(maxsize=4)
def _parts(
    reader: str, source: str, target: str, options: str, modules: tuple[str, ...]
) -> list[corpora.CorpusReader]:
    for module in modules:
        importlib.import_module(module)
    return corpora.create_reader(reader, source, target, json.loads(options)).parts()


def parts_of(
    task: PairConfig, corpus: CorpusConfig, modules: Sequence[str] = ()
) -> list[corpora.CorpusReader]:
    """Returns the readers of the parts of a corpus."""
    options = json.dumps(corpus.options)
    return _parts(corpus.reader, task.source, task.target, options, tuple(modules))


def read_unit(unit: Unit, plan: Plan) -> Iterator[tuple[str, Any]]:
    """Reads a part of a corpus.

    Yields:
        ("chunk", (unit, order, texts)), and at the end ("read", (number of the unit, (bad lines,
        dropped pairs by rule, lines for the user))) or ("error", (number, message)).
    """
    task = plan.tasks[unit.task]
    corpus = getattr(task, unit.field)[unit.corpus]
    try:
        reader = parts_of(task, corpus, plan.modules)[unit.part]
        stream = corpora.read_pairs(reader, plan.rules(unit).cleaning.max_bad_lines)
        for number, texts in enumerate(chunks_of(stream)):
            yield "chunk", (unit, _order(unit.number, number), texts)
        yield "read", (unit.number, (stream.bad, stream.dropped, stream.report()))
    except errors.KerasMtlError as error:
        yield "error", (unit.number, f"{error}")


def clean(element: tuple[Unit, int, Sequence[str]], plan: Plan) -> Iterator[tuple[str, Any]]:
    """Cleans a chunk; yields ("piece", piece) and ("cleaned", ((task, field), counts))."""
    unit, order, texts = element
    chunk = clean_chunk(texts, plan.rules(unit))
    places = np.full(chunk.hashes.shape[1], _first_place(unit.field), np.uint8)
    yield "piece", Piece(order, unit, chunk.text, chunk.hashes, places)
    yield "cleaned", ((unit.task, unit.field), chunk.counts)


def _first_place(field: str) -> Place:
    return {"dev_corpora": Place.DEV, "test_corpora": Place.TEST}.get(field, Place.TRAIN)


def in_buckets(piece: Piece, plan: Plan) -> Iterator[tuple[tuple[int, int], Any]]:
    """Yields ((task, bucket), (order numbers, hashes)) of the pairs that may be duplicates."""
    task = plan.tasks[piece.unit.task]
    if piece.unit.field != "corpora" or not cleaning_of(task, plan.data).drop_duplicates:
        return
    hashes = piece.hashes[PAIR]
    buckets = hashes % np.uint64(plan.buckets)
    for bucket in np.unique(buckets):
        rows = np.flatnonzero(buckets == bucket)
        yield (piece.unit.task, int(bucket)), (piece.orders(rows), hashes[rows])


def duplicate_rows(
    element: tuple[Any, Iterable[tuple[np.ndarray, np.ndarray]]],
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (order of a piece, rows that are duplicates) for a bucket."""
    found = list(element[1])
    orders = np.concatenate([orders for orders, _ in found])
    hashes = np.concatenate([hashes for _, hashes in found])
    ascending = np.argsort(orders)
    rows = np.sort(duplicates(hashes[ascending], orders[ascending]))
    mask = np.uint64((1 << _ROW_BITS) - 1)
    firsts = rows & ~mask
    for first in np.unique(firsts):
        yield int(first), (rows[firsts == first] & mask).astype(np.int64)


def given_sources(piece: Piece) -> Iterator[np.ndarray]:
    """Yields the hashes of the sources of given dev and test sets."""
    if piece.unit.field != "corpora":
        yield piece.hashes[SOURCE]


def union(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """Returns the different elements of arrays, sorted."""
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *arrays]))


def place(
    element: tuple[int, Mapping[str, Iterable[Any]]], given: np.ndarray, plan: Plan
) -> Iterator[Piece]:
    """Yields a piece with the places that splits and duplicates give it.

    Args:
        element: order of the piece, and `pieces` and `duplicates` of this order.
        given: `union` of the given sources.
        plan: the plan.
    """
    _, groups = element
    for piece in groups["pieces"]:
        places = piece.places
        if piece.unit.field == "corpora":
            task = plan.tasks[piece.unit.task]
            places = plan.held_out([given]).places(task, piece.row(SOURCE), piece.row(TARGET))
            for rows in groups["duplicates"]:
                places[rows] = Place.DUPLICATE
        yield dataclasses.replace(piece, places=places)


# Hashes, order numbers, and the number of pairs that they were chosen from.
_Lowest = tuple[int, np.ndarray, np.ndarray, int]


def capped(piece: Piece, plan: Plan) -> Iterator[tuple[tuple[int, str], _Lowest]]:
    """Yields ((task, split), what `lowest` combines) for splits with a cap."""
    for split, places in STORED.items():
        limit = plan.limit(piece.unit.task, split)
        rows = np.flatnonzero(piece.places == places[0])
        if limit is not None and len(rows):
            key = piece.unit.task, split
            yield key, (limit, piece.hashes[PAIR, rows], piece.orders(rows), len(rows))


def lowest(parts: Iterable[_Lowest]) -> _Lowest:
    """Keeps the pairs with the lowest hashes, of equal hashes those of the lowest order."""
    found = list(parts)
    if not found:
        return 0, np.zeros(0, np.uint64), np.zeros(0, np.uint64), 0
    limit = max(part[0] for part in found)
    hashes = np.concatenate([part[1] for part in found])
    orders = np.concatenate([part[2] for part in found])
    chosen = np.lexsort([orders, hashes])[:limit]
    return limit, hashes[chosen], orders[chosen], sum(part[3] for part in found)


def threshold(element: tuple[Any, _Lowest]) -> tuple[Any, tuple[int, int, int]]:
    """Returns the key, the highest hash that is kept, its order, and the number before."""
    key, (limit, hashes, orders, total) = element
    if total <= limit:
        return key, (-1, 0, total)
    if not limit:
        return key, (0, -1, total)
    return key, (int(hashes[-1]), int(orders[-1]), total)


def _over(hashes: np.ndarray, orders: np.ndarray, limit: tuple[int, int, int]) -> np.ndarray:
    """Returns bool[m], whether pairs are over a cap."""
    highest, order, _ = limit
    if highest < 0:
        return np.zeros(len(hashes), bool)
    if order < 0:
        return np.ones(len(hashes), bool)
    equal = (hashes == np.uint64(highest)) & (orders > np.uint64(order))
    return (hashes > np.uint64(highest)) | equal


def apply_caps(piece: Piece, limits: Mapping[tuple[int, str], tuple[int, int, int]]) -> Piece:
    """Returns the piece with the pairs over the caps in other places."""
    places = piece.places.copy()
    for split, stored in STORED.items():
        limit = limits.get((piece.unit.task, split))
        rows = np.flatnonzero(piece.places == stored[0])
        if limit is not None:
            over = _over(piece.hashes[PAIR, rows], piece.orders(rows), limit)
            places[rows[over]] = Place[f"OVER_{split.upper()}"]
    return dataclasses.replace(piece, places=places)


def chosen_sources(piece: Piece) -> Iterator[np.ndarray]:
    """Yields the hashes of all sources that no task may train on, after the caps."""
    if piece.unit.field != "corpora":
        yield piece.hashes[SOURCE]
    else:
        chosen = (piece.places == Place.DEV) | (piece.places == Place.TEST)
        yield piece.hashes[SOURCE, chosen]


def _room(
    task: int, limits: Mapping[tuple[int, str], tuple[int, int, int]], plan: Plan
) -> int | None:
    """Returns how many pairs may return to training; None for any number."""
    limit = plan.limit(task, "train")
    if limit is None:
        return None
    total = limits[task, "train"][2] if (task, "train") in limits else 0
    return max(limit - total, 0)


def give_back(
    piece: Piece,
    held_out: np.ndarray,
    limits: Mapping[tuple[int, str], tuple[int, int, int]],
    plan: Plan,
) -> Piece:
    """Returns the piece with pairs that return to training, before `max_pairs` limits them."""
    task = plan.tasks[piece.unit.task]
    if piece.unit.field != "corpora" or _room(piece.unit.task, limits, plan) == 0:
        return piece
    places = piece.places.copy()
    held = plan.held_out([held_out])
    allowed = held.allows(task, piece.row(SOURCE), piece.row(TARGET))
    for waiting, returned in zip(WAITING, RETURNED, strict=True):
        places[allowed & (piece.places == waiting)] = returned
    return dataclasses.replace(piece, places=places)


def _returned(piece: Piece) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows of pairs that returned to training, and their order numbers."""
    rows = [np.flatnonzero(piece.places == place) for place in RETURNED]
    orders = [piece.orders(found, why) for why, found in enumerate(rows, 1)]
    return np.concatenate(rows), np.concatenate(orders)


def returning(
    piece: Piece, limits: Mapping[tuple[int, str], tuple[int, int, int]], plan: Plan
) -> Iterator[tuple[int, _Lowest]]:
    """Yields (task, what `lowest` combines) for tasks with room for some pairs."""
    room = _room(piece.unit.task, limits, plan)
    rows, orders = _returned(piece)
    if room and len(rows):
        yield piece.unit.task, (room, piece.hashes[PAIR, rows], orders, len(rows))


def apply_room(piece: Piece, limits: Mapping[int, tuple[int, int, int]]) -> Piece:
    """Returns the piece without the returned pairs that are over `max_pairs`."""
    limit = limits.get(piece.unit.task)
    if limit is None:
        return piece
    rows, orders = _returned(piece)
    places = piece.places.copy()
    places[rows[_over(piece.hashes[PAIR, rows], orders, limit)]] = Place.OVER_TRAIN
    return dataclasses.replace(piece, places=places)


def place_counts(piece: Piece) -> tuple[tuple[int, str], np.ndarray]:
    """Returns (task, field) and int64[places], the number of pairs in each place."""
    counts = np.bincount(piece.places, minlength=len(Place))
    return (piece.unit.task, piece.unit.field), counts


def kept(piece: Piece) -> tuple[tuple[int, str, int], tuple[int, int]]:
    """Returns the corpus of a piece, its order, and its number of pairs without duplicates."""
    count = int((piece.places != Place.DUPLICATE).sum())
    return piece.unit.place, (piece.order, count)


def sample_ranks(
    element: tuple[Any, Iterable[tuple[int, int]]],
) -> Iterator[tuple[int, list[int]]]:
    """Yields (order of a piece, ranks among its pairs without duplicates) of a corpus' sample."""
    pieces = sorted(element[1])
    step = sample_step(sum(count for _, count in pieces))
    seen = 0
    for order, count in pieces:
        ranks = list(range(-seen % step, count, step))
        seen += count
        if ranks:
            yield order, ranks


def sampled(
    piece: Piece, ranks: Mapping[int, list[int]]
) -> Iterator[tuple[tuple[int, str, int], tuple[int, list[tuple[str, str]]]]]:
    """Yields the corpus of a piece, and its order and sampled pairs."""
    if piece.order in ranks:
        rows = np.flatnonzero(piece.places != Place.DUPLICATE)[ranks[piece.order]]
        mask = np.zeros(len(piece.places), bool)
        mask[rows] = True
        yield piece.unit.place, (piece.order, pairs_of(piece.text, mask))


def stored_rows(piece: Piece, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields rows in a split and their order numbers, first those that did not return."""
    for why, place in enumerate(STORED[split]):
        rows = np.flatnonzero(piece.places == place)
        if len(rows):
            yield rows, piece.orders(rows, why)


def pairs_at(piece: Piece, rows: np.ndarray) -> list[tuple[str, str]]:
    """Returns the pairs at ascending rows."""
    mask = np.zeros(len(piece.places), bool)
    mask[rows] = True
    return pairs_of(piece.text, mask)
