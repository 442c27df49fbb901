"""Prints the time of one call of a Dense layer: float32, Keras' int8, and both backends of ours.

    python benchmarks/quantized_dense.py [--calls 60]

Layers have random weights and no bias. A call is eager code around one `tf.function`. The four
layers alternate, so a busy machine slows all of them equally.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from keras_mtl import QuantizedDense

SHAPES = ((512, 512, 1), (512, 2048, 32), (1024, 1024, 256))
NAMES = ("Dense", "Dense, Keras int8", "`native`", "`tf`")


def make_layers(features: int, units: int) -> list[keras.layers.Layer]:
    """Returns the four layers, with the same weights."""
    dense = keras.layers.Dense(units, use_bias=False)
    dense.build((None, features))
    quantized = keras.layers.Dense(units, use_bias=False)
    quantized.build((None, features))
    quantized.set_weights(dense.get_weights())
    quantized.quantize("int8")
    ours = []
    for backend in ("native", "tf"):
        layer = QuantizedDense(units, use_bias=False, backend=backend)
        layer.build((None, features))
        layer.set_weights(quantized.get_weights())
        ours.append(layer)
    return [dense, quantized, *ours]


def run(function: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor) -> np.ndarray:
    """Calls a layer and waits for its result."""
    return function(x).numpy()


def measure(calls: list[Callable[[], object]], repeats: int) -> list[float]:
    """Returns the median time of each call in µs."""
    times: list[list[float]] = [[] for _ in calls]
    for number in range(repeats + 3):  # The first three are for tracing and caches.
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            if number >= 3:
                taken.append(1e6 * (time.perf_counter() - start))
    return [statistics.median(taken) for taken in times]


def main() -> None:
    """Prints the table of docs/how-to/tensorflow_ops.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--calls", type=int, default=60, help="number of calls of each layer; prints the median"
    )
    args = parser.parse_args()
    print("| features → units, rows | " + " | ".join(NAMES) + " |")
    print("|---" * (len(NAMES) + 1) + "|")
    for features, units, rows in SHAPES:
        x = tf.constant(np.random.default_rng(0).normal(size=(rows, features)).astype("float32"))
        functions = [tf.function(layer) for layer in make_layers(features, units)]
        calls = [functools.partial(run, function, x) for function in functions]
        times = measure(calls, args.calls)
        print(f"| {features} → {units}, {rows} | " + " | ".join(f"{t:.0f}" for t in times) + " |")


if __name__ == "__main__":
    main()
