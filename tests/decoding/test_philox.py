"""The random numbers of sampling in TensorFlow are NumPy's."""

import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.decoding.graph_search.philox import philox, uniform

KEYS = np.array([[0, 0], [5, 2**63], [2**64 - 3, 2], [7, 2**64 - 1]], np.uint64)


@pytest.mark.parametrize("jit", [False, True])
def test_equals_numpy(jit):
    counters = np.array([[0, 0, 17, 2**40], [0, 3, 1, 2**33]], np.uint64)
    draw = tf.function(lambda *words: philox(*words), jit_compile=jit)
    words = [part[:, None] for part in KEYS.T] + [part[None] for part in counters]
    have = draw(*map(tf.constant, words)).numpy()
    for i, key in enumerate(KEYS):
        for j, (first, second) in enumerate(counters.T):
            counter = np.array([first, second, 0, 0], np.uint64)
            assert have[i, j] == np.random.Philox(key=key, counter=counter).random_raw()
    numbers = uniform(tf.constant(have)).numpy()
    np.testing.assert_array_equal(numbers, (have >> np.uint64(11)) * 2.0**-53)
