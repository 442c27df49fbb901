"""Mixtures of tasks that have different arrays."""

import itertools

import numpy as np
import pytest
from packing_case import make_sources, write_stores

from keras_mtl import schedules
from keras_mtl.data.batch_plan import make_buckets
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.task_sources import ArraySource
from keras_mtl.schedules import TaskInfo

BUCKETS = make_buckets(36, 256, multiple_of=4)


def prints(mixture, count, start=None):
    return [batch.fingerprint() for batch in itertools.islice(mixture.batches(start), count)]


@pytest.mark.parametrize("granularity", ["batch", "example"])
def test_tasks_may_have_other_arrays_and_shapes(tmp_path, granularity):
    """Text and two kinds of images; each row has what its task has, and 0 elsewhere."""
    text = make_sources(write_stores(tmp_path)[0], ["en-gl"])[0]
    images = [
        ArraySource("small", {"small": np.ones((30, 2, 2)), "label": np.arange(1, 31)}),
        ArraySource("large", {"large": np.ones((20, 5), np.float32), "label": np.arange(1, 21)}),
    ]
    sources = [text, *images]
    infos = [TaskInfo(source.name, source.size) for source in sources]
    schedule = schedules.create("uniform", infos)
    mixture = Mixture(sources, schedule, BUCKETS, 3, granularity)
    assert set(mixture.spec) == {"source", "target", "small", "large", "label"}
    owned = [{"source", "target"}, {"small", "label"}, {"large", "label"}]
    seen = set()
    for batch in itertools.islice(mixture.batches(), 40):
        length = batch.arrays["source"].shape[1]
        shapes = {name: array.shape[1:] for name, array in batch.arrays.items()}
        of_text = {"source": (length,), "target": (length,)}
        assert shapes == {**of_text, "small": (2, 2), "large": (5,), "label": ()}
        for row, task in enumerate(batch.tasks[: batch.rows_used].tolist()):
            filled = {name for name, array in batch.arrays.items() if array[row].any()}
            assert filled == owned[task]
            seen.add(task)
        for array in batch.arrays.values():
            assert not array[batch.rows_used :].any()
    assert seen == {0, 1, 2}
    again = Mixture(sources, schedule, BUCKETS, 3, granularity)
    again.restore(mixture.state(25))
    assert prints(again, 15) == prints(mixture, 15, 25)
