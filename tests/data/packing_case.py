"""Small stores of pairs, and packed mixtures of them."""

import numpy as np

from keras_mtl import schedules
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.packing import PackedShape
from keras_mtl.data.store import StoreReader, StoreWriter
from keras_mtl.data.task_sources import TranslationSource
from keras_mtl.schedules import TaskInfo

EOS = 2
FIRST_TAG = 4
# The last task does not fill a batch.
SIZES = {"en-fr": 700, "en-de": 150, "en-gl": 40, "en-oc": 5}
SHAPE = PackedShape(rows=6, source_length=36, target_length=40)


def write_stores(directory, sizes=SIZES):
    """Writes a store for each task; returns the readers and (sources, targets) by task."""
    readers, pairs = {}, {}
    for index, (name, size) in enumerate(sizes.items()):
        rng = np.random.default_rng(index)
        sources = [rng.integers(300, 900, n).tolist() for n in rng.integers(1, 31, size)]
        targets = [rng.integers(300, 900, min(30, len(s) + index)).tolist() for s in sources]
        with StoreWriter(directory / name, "vocabulary", 1000) as writer:
            writer.add(sources, targets)
        readers[name] = StoreReader(directory / name, "vocabulary")
        pairs[name] = (sources, targets)
    return readers, pairs


def make_sources(readers, names=None, tagged=True):
    """Returns the sources; a task has the same tag whatever tasks there are."""
    tags = {name: FIRST_TAG + i if tagged else None for i, name in enumerate(readers)}
    return [
        TranslationSource(name, readers[name], eos_id=EOS, tag_id=tags[name])
        for name in names or readers
    ]


def make_mixture(readers, granularity="batch", names=None, schedule="temperature", **options):
    """Returns a packed mixture."""
    sources = make_sources(readers, names)
    infos = [TaskInfo(source.name, source.size, baseline=0.5) for source in sources]
    options = {"seed": 7, "buckets": SHAPE, **options}
    return Mixture(
        sources,
        schedules.create(schedule, infos),
        options.pop("buckets"),
        granularity=granularity,
        **options,
    )


def take(mixture, count, start=None):
    """Returns the next batches."""
    batches = mixture.batches(start)
    return [next(batches) for _ in range(count)]


def pairs_of(batch):
    """Returns (task, source ids, target ids) of each pair of a packed batch, row by row."""
    found = []
    for row in range(len(batch.tasks)):
        sides = {}
        for side in ("source", "target"):
            segments = batch.arrays[f"{side}_segments"][row]
            sides[side] = [
                np.flatnonzero(segments == number) for number in range(1, segments.max() + 1)
            ]
        assert len(sides["source"]) == len(sides["target"])
        for source, target in zip(sides["source"], sides["target"], strict=True):
            for side, cells in (("source", source), ("target", target)):
                assert np.array_equal(cells, np.arange(cells[0], cells[-1] + 1))
                positions = batch.arrays[f"{side}_positions"][row, cells]
                assert np.array_equal(positions, np.arange(len(cells)))
            (task,) = set(batch.tasks[row, target].tolist())
            found.append(
                (
                    task,
                    tuple(batch.arrays["source"][row, source].tolist()),
                    tuple(batch.arrays["target"][row, target].tolist()),
                )
            )
    return found
