"""The int8 kernels against numpy, for every instruction set of this machine."""

import numpy as np
import pytest

from keras_mtl.engine import library

ISAS = library.ISAS[: library.ISAS.index(library.core().isa()) + 1]
# rows, columns, depth: ones, no multiples of anything, primes, tile edges.
SHAPES = [(1, 1, 1), (2, 5, 3), (3, 17, 17), (7, 131, 63), (13, 251, 129), (5, 2053, 512)]


@pytest.mark.parametrize("isa", ISAS)
def test_quantize_is_that_of_numpy(isa):
    random = np.random.default_rng(0)
    for rows, _, columns in SHAPES:
        x = random.normal(size=(rows, columns)).astype(np.float32)
        x[0] *= 1e-3
        data, scales = library.core().testing.quantize(isa, x)
        largest = np.abs(x).max(axis=1)
        np.testing.assert_array_equal(scales, largest / np.float32(127))
        np.testing.assert_array_equal(data, np.rint(x * (np.float32(127) / largest)[:, None]))


@pytest.mark.parametrize("isa", ISAS)
def test_int8_product_is_that_of_numpy(isa):
    random = np.random.default_rng(1)
    for rows, columns, depth in SHAPES:
        # The largest magnitude of each row is 127, so that rows are quantized to themselves.
        x = random.integers(-127, 128, (rows, depth))
        x[:, 0] = 127
        weights = random.integers(-128, 128, (columns, depth)).astype(np.int8)
        got = library.core().testing.dense_int8(
            isa, x, weights, np.ones(columns), np.zeros(columns), "none"
        )
        want = x @ weights.T.astype(np.int64)
        np.testing.assert_array_equal(got, want.astype(np.float32))


def test_dense_layers_are_equal_over_instruction_sets():
    random = np.random.default_rng(2)
    for rows, columns, depth in SHAPES:
        x = random.normal(size=(rows, depth)).astype(np.float32)
        weights = random.normal(size=(columns, depth)).astype(np.float32)
        bias = random.normal(size=columns).astype(np.float32)
        scales = np.abs(weights).max(axis=1) / np.float32(127)
        int8 = np.rint(weights / scales[:, None]).clip(-127, 127).astype(np.int8)
        for activation in ("none", "relu", "gelu", "silu"):
            testing = library.core().testing
            floats = [testing.dense_float(isa, x, weights, bias, activation) for isa in ISAS]
            ints = [testing.dense_int8(isa, x, int8, scales, bias, activation) for isa in ISAS]
            for results in (floats, ints):
                for result in results[1:]:
                    np.testing.assert_array_equal(result, results[0])
            if activation == "none":
                want = x.astype(np.float64) @ weights.T + bias
                np.testing.assert_allclose(floats[0], want, atol=1e-4 * depth**0.5)
                assert np.abs(ints[0] - want).max() <= 0.1 * depth**0.5
