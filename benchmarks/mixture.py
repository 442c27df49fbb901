"""Measures how fast the mixture delivers batches, and the cost of drawing and scheduling per step.

    python benchmarks/mixture.py                    # 100 tasks, both granularities
    python benchmarks/mixture.py --tf-data          # also through tf.data
    python benchmarks/mixture.py --step-ms 35       # relative to a training step of 35 ms

Makes 100 tasks of synthetic pairs (sizes 100 : 1, lengths log-normal with a mean near 25 tokens) in
a temporary directory, then reads batches as training does. Tokens are pieces, tags and ends of
sentence, without padding. Times are CPU seconds of this process, so they mean one core even on a
busy machine; wall time is printed next to them.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from keras_mtl import schedules
from keras_mtl.data.batch_plan import Bucket, make_buckets
from keras_mtl.data.mixture import Mixture
from keras_mtl.data.packing import PackedShape, packed_shape
from keras_mtl.data.pair_reading import mean_lengths
from keras_mtl.data.store import StoreReader, StoreWriter
from keras_mtl.data.task_sources import TranslationSource
from keras_mtl.schedules import TaskInfo

VOCABULARY_SIZE = 8000
FIRST_PIECE = 400
LONGEST = 126  # Pieces. With tag and end of sentence, they fill the bucket of 128.


def write_tasks(directory: Path, tasks: int, pairs: int, seed: int) -> list[StoreReader]:
    """Writes and opens `tasks` stores of `pairs` pairs in total, with sizes of 100 : 1."""
    rng = np.random.default_rng(seed)
    shares = np.geomspace(100, 1, tasks)
    readers = []
    for index, size in enumerate(np.maximum(1, pairs * shares / shares.sum()).astype(int)):
        source = np.clip(rng.lognormal(3.0, 0.6, size), 1, LONGEST)
        target = np.clip(source * rng.lognormal(0.0, 0.2, size), 1, LONGEST)
        lengths = np.stack([source, target], axis=1).astype(np.int64).reshape(-1)
        tokens = rng.integers(FIRST_PIECE, VOCABULARY_SIZE, lengths.sum()).astype(np.int32)
        path = directory / f"{index}.store"
        with StoreWriter(path, "benchmark", VOCABULARY_SIZE) as writer:
            writer.add_arrays(tokens, lengths)
        readers.append(StoreReader(path, "benchmark"))
    return readers


class Stopwatch:
    """Measures the CPU and wall seconds of a block."""

    def __enter__(self) -> "Stopwatch":
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu = time.process_time() - self._cpu
        self.wall = time.perf_counter() - self._wall


def count_tokens(batches: Iterator[dict[str, np.ndarray]], steps: int) -> tuple[int, int]:
    """Reads `steps` batches and returns the number of their source and target tokens."""
    source = target = 0
    for _ in range(steps):
        arrays = next(batches)
        source += np.count_nonzero(arrays["source"])
        target += np.count_nonzero(arrays["target"])
    return source, target


def report_feed(title: str, batches: Iterator[dict[str, np.ndarray]], steps: int) -> None:
    count_tokens(batches, max(10, steps // 10))  # Fills the page cache and starts the threads.
    with Stopwatch() as watch:
        source, target = count_tokens(batches, steps)
    print(
        f"{title:32} {(source + target) / watch.cpu:12,.0f} tokens/s of CPU time "
        f"({target / watch.cpu:,.0f} target tokens/s; {(source + target) / watch.wall:,.0f} of "
        f"wall time; {watch.cpu / steps * 1e6:,.0f} us per batch)"
    )


def report_scheduling(
    name: str, mixture: Mixture, infos: list[TaskInfo], steps: int, interval: int, step_ms: float
) -> None:
    """Times draws, state log and updates of a training step, without reading batches."""
    rng = np.random.default_rng(0)
    updates = 0
    with Stopwatch() as watch:
        for step in range(interval, steps + 1, interval):
            mixture.finish(step)  # Draws the tasks of all steps up to this one.
            scores = {info.name: float(rng.uniform(0.01, 0.5)) for info in infos}
            mixture.adaptive.enter_scores(step, scores)
            mixture.update(step)
            updates += 1
    micros = watch.cpu / (updates * interval) * 1e6
    print(
        f"{name + ': drawing + scheduling':32} {micros:12.1f} us per step, "
        f"{micros / (step_ms * 1e3):.2%} of a step of {step_ms:g} ms "
        f"(including an update of all {len(infos)} scores every {interval} steps)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument(
        "--pairs", type=int, default=200_000, help="total number of pairs of all tasks"
    )
    parser.add_argument("--tokens-per-batch", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=2000, help="number of batches to read")
    parser.add_argument("--interval", type=int, default=100, help="number of steps between updates")
    parser.add_argument(
        "--step-ms", type=float, default=100.0, help="time of a training step in ms"
    )
    parser.add_argument("--tf-data", action="store_true", help="also measure through tf.data")
    options = parser.parse_args()
    if options.interval > options.steps:
        parser.error(f"--interval {options.interval} is above --steps {options.steps}")

    buckets = make_buckets(128, options.tokens_per_batch)
    print("buckets (length x rows):", ", ".join(f"{b.length}x{b.rows}" for b in buckets))
    with tempfile.TemporaryDirectory() as directory:
        readers = write_tasks(Path(directory), options.tasks, options.pairs, seed=1)
        infos = [TaskInfo(f"task-{i}", len(r), baseline=0.5) for i, r in enumerate(readers)]

        sources = [
            TranslationSource(info.name, reader, eos_id=2, tag_id=4 + index)
            for index, (info, reader) in enumerate(zip(infos, readers, strict=True))
        ]
        packed = packed_shape(128, options.tokens_per_batch, 1, mean_lengths(sources))
        print(f"packed batches: {packed}")

        def make(granularity: str, shapes: Sequence[Bucket] | PackedShape) -> Mixture:
            schedule = schedules.create("inverse_ratio", infos)
            return Mixture(sources, schedule, shapes, seed=1, granularity=granularity)

        for granularity, shapes in itertools.product(("batch", "example"), (buckets, packed)):
            name = granularity + (", packed" if shapes is packed else "")
            mixture = make(granularity, shapes)
            arrays = (batch.arrays for batch in mixture.batches(0))
            report_feed(f"{name}: arrays", arrays, options.steps)
            if options.tf_data:
                elements = make(granularity, shapes).dataset(0).as_numpy_iterator()
                report_feed(f"{name}: tf.data", elements, options.steps)
            report_scheduling(
                name,
                make(granularity, shapes),
                infos,
                options.steps,
                options.interval,
                options.step_ms,
            )
            # At the start, which `mixture` has left behind.
            waste = make(granularity, shapes).padding_waste(0)
            print(f"{name + ': padding':32} {waste:12.1%} of the cells")


if __name__ == "__main__":
    main()
