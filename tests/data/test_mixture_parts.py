"""Each of several processes reads its own rows of the batches that all of them draw."""

import numpy as np
import pytest
from packing_case import SHAPE, make_mixture, write_stores

from keras_mtl.data.batch_plan import Bucket
from keras_mtl.errors import ConfigError

BUCKETS = (Bucket(16, 12), Bucket(32, 6))
REPLICAS = 3
STEPS = 20
PROCESSES = (range(0, 1), range(1, 3))  # The second one has two devices.


def elements(readers, shape, granularity, parts):
    mixture = make_mixture(readers, granularity, buckets=shape)
    count = STEPS * (REPLICAS if parts is None else len(parts))
    dataset = mixture.dataset(0, replicas=REPLICAS, parts=parts)
    return list(dataset.take(count).as_numpy_iterator())


@pytest.mark.parametrize("shape", [BUCKETS, SHAPE], ids=["padded", "packed"])
@pytest.mark.parametrize("granularity", ["batch", "example"])
def test_processes_together_read_what_one_reads(tmp_path, shape, granularity):
    readers, _ = write_stores(tmp_path)
    whole = elements(readers, shape, granularity, None)
    for parts in PROCESSES:
        own = elements(readers, shape, granularity, parts)
        for number, element in enumerate(own):
            step, replica = divmod(number, len(parts))
            expected = whole[step * REPLICAS + parts[replica]]
            used = expected["weight"] > 0
            assert element.keys() == expected.keys()
            for name, array in expected.items():
                if name == "task":  # On padding it has no meaning.
                    np.testing.assert_array_equal(element[name][used], array[used])
                else:
                    np.testing.assert_array_equal(element[name], array, err_msg=name)


def test_only_own_rows_are_read(tmp_path):
    readers, _ = write_stores(tmp_path)
    read = []
    for source in (mixture := make_mixture(readers, buckets=BUCKETS))._sources:
        gather = source.gather
        source.gather = lambda indices, length, gather=gather: (
            read.append(len(indices)) or gather(indices, length)
        )
    batches = mixture.batches(0, lambda rows: np.arange(rows // 3))
    used = [next(batches).rows_used for _ in range(STEPS)]
    assert 0 < sum(read) <= sum(used) / 2


@pytest.mark.parametrize("parts", [range(0), range(2, 4), range(-1, 1), range(0, 3, 2)])
def test_wrong_parts_are_refused(tmp_path, parts):
    readers, _ = write_stores(tmp_path)
    with pytest.raises(ConfigError, match=r"within range\(3\), not empty"):
        make_mixture(readers, buckets=BUCKETS).dataset(0, replicas=REPLICAS, parts=parts)
