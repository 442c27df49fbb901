"""Measures the memory of writing and reading the store, which does not grow with its size.

    python benchmarks/store_memory.py                     # 50k, 500k and 5M synthetic pairs
    python benchmarks/store_memory.py --text --pairs 50000  # real text of the built-in corpus

For each size, one process writes a store and another reads random batches from it. Both print their
resident memory: anonymous (allocated by the process) and file-backed (pages of the mapped store,
which the kernel takes back when memory is short).
"""

import argparse
import multiprocessing
import os
import shutil
import tempfile
import time
from typing import Any

import numpy as np

from keras_mtl.configuration.schema import CorpusConfig, PairConfig
from keras_mtl.data.prepare import prepare
from keras_mtl.data.store import StoreReader, StoreWriter

_VOCABULARY_SIZE = 32_000
_MEAN_LENGTH = 20
_BATCH_PAIRS = 256


def memory() -> dict[str, float]:
    """Returns the resident memory of this process in MB: anonymous, file-backed, and their peak."""
    fields = {"RssAnon": "anonymous", "RssFile": "file", "VmHWM": "peak"}
    values = {}
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in fields:
                values[fields[name]] = int(rest.split()[0]) / 1024
    return values


def write(path: str, pairs: int, results: Any) -> None:
    """Writes synthetic pairs: geometric lengths, random ids."""
    begin, before = time.perf_counter(), memory()
    rng = np.random.default_rng(pairs)
    with StoreWriter(path, "benchmark", _VOCABULARY_SIZE) as writer:
        for start in range(0, pairs, 50_000):
            count = min(50_000, pairs - start)
            lengths = np.minimum(rng.geometric(1 / _MEAN_LENGTH, 2 * count), 120)
            tokens = rng.integers(262, _VOCABULARY_SIZE, int(lengths.sum()), np.int32)
            writer.add_arrays(tokens, lengths)
    results.put((time.perf_counter() - begin, before, memory()))


def write_text(path: str, pairs: int, results: Any) -> None:
    """Prepares pairs of the built-in corpus, from text to store."""
    begin, before = time.perf_counter(), memory()
    directory = f"{path}.data"
    task = PairConfig("en-fr", "en", "fr", [CorpusConfig("cldr", {"pairs": pairs})])
    prepare([task], directory, log=lambda line: None)
    os.replace(os.path.join(directory, "en-fr.train.store"), path)
    shutil.rmtree(directory)
    results.put((time.perf_counter() - begin, before, memory()))


def read(path: str, batches: int, results: Any) -> None:
    """Reads batches as in training: random pairs from a window of similar lengths."""
    before = memory()
    reader = StoreReader(path)
    rng = np.random.default_rng(1)
    tokens = 0
    begin = time.perf_counter()
    for _ in range(batches):
        # The window represents a length bucket with a tenth of the pairs.
        window = max(len(reader) // 10, _BATCH_PAIRS)
        start = rng.integers(0, max(len(reader) - window, 1))
        indices = np.minimum(start + rng.integers(0, window, _BATCH_PAIRS), len(reader) - 1)
        tokens += len(reader.gather_flat(indices)[0])
    seconds = time.perf_counter() - begin
    results.put((tokens / seconds, before, memory()))


def measure(function: Any, *arguments: Any) -> Any:
    """Runs a function in its own process."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=function, args=(*arguments, results))
    process.start()
    value = results.get()
    process.join()
    return value


def main() -> None:
    """Prints one line for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, nargs="+", default=[50_000, 500_000, 5_000_000])
    parser.add_argument("--batches", type=int, default=20_000)
    parser.add_argument("--text", action="store_true", help="prepare real text instead")
    args = parser.parse_args()
    print(
        "    pairs  file MB | write s  peak MB | start MB  anonymous MB  file-backed MB  tokens/s"
    )
    directory = tempfile.mkdtemp(prefix="store_memory.")
    try:
        for pairs in args.pairs:
            path = os.path.join(directory, f"{pairs}.store")
            seconds, _, written = measure(write_text if args.text else write, path, pairs)
            speed, before, after = measure(read, path, args.batches)
            print(
                f"{pairs:>9,} {os.path.getsize(path) / 2**20:>8.1f} | {seconds:>7.1f} "
                f"{written['peak']:>8.0f} | {before['anonymous']:>8.0f} "
                f"{after['anonymous']:>13.0f} {after['file']:>15.0f} {speed:>9,.0f}",
                flush=True,
            )
            os.remove(path)
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
