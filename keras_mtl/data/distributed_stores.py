"""The second half of preparation on a cluster: vocabulary, encoding and stores.

Like `distributed_steps`, functions without state that know no cluster.
"""

import dataclasses
import functools
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl import errors
from keras_mtl.data.distributed_steps import Piece, Plan, pairs_at, stored_rows
from keras_mtl.data.prepare_settings import max_pieces, stored_pairs
from keras_mtl.data.prepare_stores import encode_pairs
from keras_mtl.data.prepare_vocabulary import VocabularyPart, complete, of_models, parts
from keras_mtl.data.sharded_store import open_store
from keras_mtl.data.store import StoreWriter
from keras_mtl.data.store_runs import sort_keys
from keras_mtl.data.store_writer import shard_names
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.data.vocabulary_training import (
    BOTH_SIDES,
    copied,
    mean_copies,
    sampled_copies,
    train_on,
)

# Lowest bits of a sort key that the histogram for the limits of files ignores.
_IGNORED_BITS = np.uint64(24)

# (task, split)
Store = tuple[int, str]


def train_ranges(piece: Piece) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yields the task, and order number and number of consecutive training pairs."""
    for rows, orders in stored_rows(piece, "train"):
        yield piece.unit.task, (int(orders[0]), len(rows))


def draw(
    element: tuple[int, Iterable[tuple[int, int]]], sizes: Mapping[int, int], plan: Plan
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (order number, int64[n] copies) of the training pairs that train the vocabulary.

    Args:
        element: a task and all its `train_ranges`.
        sizes: number of training pairs of each task.
        plan: the plan.
    """
    task, ranges = element
    settings = plan.data.vocabulary
    copies = mean_copies(
        [sizes.get(number, 0) for number in range(len(plan.tasks))],
        settings.temperature,
        settings.max_sentences,
        len(parts(plan.tasks, plan.data)[0].sides),
    )
    drawn = sampled_copies(plan.tasks[task].name, sizes[task], copies[task])
    left = np.zeros(0, np.int64)
    for order, count in sorted(ranges):
        while len(left) < count:
            left = np.concatenate([left, next(drawn)])
        found, left = left[:count], left[count:]
        if found.any():
            yield order, found


def drawn_text(
    piece: Piece, copies: Mapping[int, np.ndarray]
) -> Iterator[tuple[int, tuple[int, list[tuple[str, str]], list[int]]]]:
    """Yields the task, and order number, pairs and copies of drawn training pairs."""
    for rows, orders in stored_rows(piece, "train"):
        found = copies.get(int(orders[0]))
        if found is not None:
            chosen = np.flatnonzero(found)
            pairs = pairs_at(piece, rows[chosen])
            yield piece.unit.task, (int(orders[0]), pairs, found[chosen].tolist())


def train_model(
    groups: Iterable[tuple[int, tuple[int, list[tuple[str, str]], list[int]]]],
    plan: Plan,
    given: Sequence[bytes | None],
) -> Iterator[tuple[str, Any]]:
    """Trains the vocabulary on all that was drawn.

    Args:
        groups: the text that was drawn.
        plan: the plan.
        given: the models of the vocabulary that are not trained.

    Yields:
        ("models", their bytes) or ("error", (a number after those of all units, message)).
    """
    drawn = sorted(groups, key=lambda group: (group[0], group[1][0]))

    def sentences(part: VocabularyPart) -> Iterator[str]:
        for task, (_, pairs, copies) in drawn:
            if part.sides != BOTH_SIDES:
                pairs = stored_pairs(plan.tasks[task], pairs, True)
            for pair, count in zip(pairs, copies, strict=True):
                yield from copied(pair, count, part.sides)

    def train(part: VocabularyPart) -> Vocabulary:
        return train_on(
            sentences(part),
            part.languages,
            size=part.settings.size,
            model_type=part.settings.model_type,
            character_coverage=part.settings.character_coverage,
            section=part.section,
        )

    try:
        yield "models", complete(plan.tasks, plan.data, given, train)
    except errors.KerasMtlError as error:
        yield "error", (len(plan.units), str(error))


@functools.lru_cache(maxsize=1)
def _vocabulary(models: tuple[bytes, ...]) -> Vocabulary:
    return of_models(models)


@dataclasses.dataclass(frozen=True)
class Batch:
    """Encoded pairs of a store.

    Attributes:
        orders: uint64[n], order numbers, ascending.
        tokens: see `Encoded`.
        lengths: see `Encoded`.
        pairs: the pairs; None if the store keeps no text.
    """

    orders: np.ndarray
    tokens: np.ndarray
    lengths: np.ndarray
    pairs: list[tuple[str, str]] | None

    def chosen(self, mask: np.ndarray) -> "Batch":
        """Returns the pairs of a bool[n]."""
        both = np.repeat(mask, 2)
        pairs = None
        if self.pairs is not None:
            pairs = [self.pairs[row] for row in np.flatnonzero(mask).tolist()]
        tokens = self.tokens[np.repeat(both, self.lengths)]
        return Batch(self.orders[mask], tokens, self.lengths[both], pairs)


def encode(
    piece: Piece, models: Sequence[Sequence[bytes]], plan: Plan
) -> Iterator[tuple[str, Any]]:
    """Encodes the pairs of a piece.

    Yields:
        ("batch", ((task, split), batch)) and ("encoded", ((task, split), int64[2])): pairs that
        were too long, and byte pieces.
    """
    if not models:  # Training it was an error, which is reported.
        return
    vocabulary = _vocabulary(tuple(models[0]))
    for split in ("train", "dev", "test"):
        keeps_text = split != "train" or plan.keep_train_text
        for rows, orders in stored_rows(piece, split):
            task = plan.tasks[piece.unit.task]
            pairs = stored_pairs(task, pairs_at(piece, rows), vocabulary.has_source)
            found, fits = encode_pairs(pairs, vocabulary, max_pieces(plan.data))
            store = piece.unit.task, split
            yield "encoded", (store, np.array([found.too_long, found.in_bytes]))
            kept = found.pairs if keeps_text else None
            yield "batch", (store, Batch(orders[fits], found.tokens, found.lengths, kept))


def fine_counts(element: tuple[Store, Batch]) -> tuple[Store, tuple[np.ndarray, np.ndarray]]:
    """Returns the store, and numbers of pairs by the high bits of their sort keys."""
    store, batch = element
    keys = sort_keys(batch.tokens, batch.lengths) >> _IGNORED_BITS
    found, counts = np.unique(keys, return_counts=True)
    return store, (found, counts)


def merged_counts(
    parts: Iterable[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sum of `fine_counts`."""
    found = list(parts)
    keys = np.concatenate([np.zeros(0, np.uint64), *(part[0] for part in found)])
    counts = np.concatenate([np.zeros(0, np.int64), *(part[1] for part in found)])
    unique, places = np.unique(keys, return_inverse=True)
    sums = np.zeros(len(unique), np.int64)
    np.add.at(sums, places, counts)
    return unique, sums


def cut_bins(
    element: tuple[Store, tuple[np.ndarray, np.ndarray]], plan: Plan
) -> tuple[Store, tuple[int, list[tuple[int, int]]]]:
    """Returns the store, its size, and for each further file a key and a rank.

    The first pair of a file has this rank, from 0, among the pairs whose keys have these high bits.
    """
    store, (keys, counts) = element
    total = int(counts.sum())
    ends = np.cumsum(counts)
    cuts = []
    for rank in range(plan.data.shard_pairs, total, plan.data.shard_pairs):
        place = int(np.searchsorted(ends, rank, "right"))
        cuts.append((int(keys[place]), rank - int(ends[place] - counts[place])))
    return store, (total, cuts)


def near_cuts(
    element: tuple[Store, Batch], cuts: Mapping[Store, tuple[int, list[tuple[int, int]]]]
) -> Iterator[tuple[Store, tuple[np.ndarray, np.ndarray]]]:
    """Yields the store, and keys and order numbers of the pairs that may begin a file."""
    store, batch = element
    wanted = np.array([key for key, _ in cuts[store][1]], np.uint64)
    if len(wanted):
        keys = sort_keys(batch.tokens, batch.lengths)
        mask = np.isin(keys >> _IGNORED_BITS, wanted)
        if mask.any():
            yield store, (keys[mask], batch.orders[mask])


def exact_cuts(
    element: tuple[Store, Iterable[tuple[np.ndarray, np.ndarray]]],
    cuts: Mapping[Store, tuple[int, list[tuple[int, int]]]],
) -> tuple[Store, list[tuple[int, int]]]:
    """Returns the store, and key and order number of the first pair of each further file."""
    store, parts = element
    found = list(parts)
    keys = np.concatenate([keys for keys, _ in found])
    orders = np.concatenate([orders for _, orders in found])
    ascending = np.lexsort([orders, keys])
    keys, orders = keys[ascending], orders[ascending]
    first = []
    for key, rank in cuts[store][1]:
        place = int(np.searchsorted(keys >> _IGNORED_BITS, np.uint64(key))) + rank
        first.append((int(keys[place]), int(orders[place])))
    return store, first


def in_shards(
    element: tuple[Store, Batch], firsts: Mapping[Store, list[tuple[int, int]]]
) -> Iterator[tuple[tuple[int, str, int], Batch]]:
    """Yields ((task, split, number of the file), the pairs of a batch in this file)."""
    store, batch = element
    keys = sort_keys(batch.tokens, batch.lengths)
    shards = np.zeros(len(keys), np.int64)
    for key, order in firsts.get(store, ()):
        later = (keys == np.uint64(key)) & (batch.orders >= np.uint64(order))
        shards += (keys > np.uint64(key)) | later
    for shard in np.unique(shards).tolist():
        yield (*store, shard), batch.chosen(shards == shard)


def write_store(
    element: tuple[tuple[int, str, int], Iterable[Batch]],
    models: Sequence[Sequence[bytes]],
    firsts: Mapping[Store, list[tuple[int, int]]],
    plan: Plan,
    upload: Any,
) -> Iterator[tuple[Store, tuple[int, np.ndarray]]]:
    """Writes a file of a store.

    Args:
        element: the file and all its batches.
        models: the models of the vocabulary; empty if training it was an error.
        firsts: `exact_cuts` of the stores with several files.
        plan: the plan.
        upload: function that copies a local file to the result, under a name.

    Yields:
        The store, and its number of files and int64[3]: pairs, tokens of sources and of targets.
    """
    if not models:
        return
    (task, split, shard), batches = element
    vocabulary = _vocabulary(tuple(models[0]))
    shards = len(firsts.get((task, split), ())) + 1
    keep_text = split != "train" or plan.keep_train_text
    name = shard_names(f"{plan.tasks[task].name}.{split}", shards)[shard]
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, name)
        with StoreWriter(path, vocabulary.hash, vocabulary.id_limit, keep_text=keep_text) as writer:
            for batch in sorted(batches, key=_first_order):
                writer.add_arrays(batch.tokens, batch.lengths, batch.pairs)
        reader = open_store(directory, name.removesuffix(".store"), 1)
        sizes = np.array([len(reader), reader.source_tokens, reader.target_tokens])
        upload(path, name)
    yield (task, split), (shards, sizes)


def _first_order(batch: Batch) -> int:
    return int(batch.orders[0]) if len(batch.orders) else -1


def empty_batches(plan: Plan) -> list[tuple[tuple[int, str, int], Batch]]:
    """Returns an empty batch for the first file of each store, so that empty stores are written."""
    nothing = np.zeros(0, np.int64)
    return [
        ((task, split, 0), Batch(nothing, nothing, nothing, [] if text else None))
        for task in range(len(plan.tasks))
        for split, text in (("train", plan.keep_train_text), ("dev", True), ("test", True))
    ]
