"""The best candidates come in the order of a stable sort, as a graph and under XLA."""

import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.decoding.graph_search.top_candidates import top_candidates


@pytest.mark.parametrize("size", [8, 1024, 1030, 5000])
@pytest.mark.parametrize("jit", [False, True])
def test_equals_a_stable_sort(size, jit):
    search = tf.function(lambda values: top_candidates(values, 8), jit_compile=jit)
    generator = np.random.default_rng(size)
    for levels, hole in [(2, 0.0), (4, 0.5), (10**6, 0.0), (1, 0.999), (1, 1.0)]:
        values = -generator.integers(0, levels, (6, size)).astype(np.float32)
        values[generator.random(values.shape) < 0.3] *= -0.0 if levels == 1 else 1.0
        values[generator.random(values.shape) < hole] = -np.inf
        best, index = search(tf.constant(values))
        want = np.argsort(-values, axis=1, kind="stable")[:, :8]
        np.testing.assert_array_equal(index, want)
        np.testing.assert_array_equal(best, np.take_along_axis(values, want, 1))
    values[:] = np.nan
    assert (search(tf.constant(values))[1].numpy() < size).all()
