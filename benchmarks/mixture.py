"""Measures how fast the mixture delivers batches, and the cost of drawing and scheduling per step.

    python benchmarks/mixture.py                    # 100 tasks, both granularities
    python benchmarks/mixture.py --tf-data          # also through tf.data
    python benchmarks/mixture.py --step-ms 35       # relative to a training step of 35 ms
    python benchmarks/mixture.py --schedules        # only the updates of each adaptive schedule

Makes 100 tasks of synthetic pairs (sizes 100 : 1, lengths log-normal with a mean near 25 tokens) in
a temporary directory, then reads batches as training does. Tokens are pieces, tags and ends of
sentence, without padding. Times are CPU seconds of this process, so they mean one core even on a
busy machine; wall time is printed next to them.

`--schedules` reads no batches. It gives each adaptive schedule scores, losses or measurements of
the model, and times its updates; measuring the model itself is not included. Measured on one core
of an Intel Xeon with 100 tasks and steps of 100 ms: ado 0.043 % of a step (a fit of all loss curves
takes 50 ms), dro_mt 0.014 %, multi_uat and multi_dds_s 0.004 %, all others at most 0.002 %.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

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


#: Adaptive schedules and the parameters that they need. Loss schedules update at every interval.
ADAPTIVE: dict[str, dict[str, Any]] = {
    "inverse_ratio": {},
    "simple_adaptive": {},
    "implicit": {},
    "bandit": {"interval": 100},
    "excess_loss": {"interval": 100},
    "ado": {"interval": 100},
    "dro_mt": {"interval": 100},
    "multi_uat": {"interval": 1000},
    "multi_dds_s": {"interval": 1000},
    "pike": {"interval": 1000, "zeta1": 0.1, "zeta2": 0.1},
}


def report_updates(
    infos: list[TaskInfo], steps: int, interval: int, step_ms: float
) -> dict[str, float]:
    """Times the updates of each adaptive schedule in a training of `steps` steps.

    Returns:
        The CPU time as a share of the time of the steps, by schedule.
    """
    shares = {}
    for name, parameters in ADAPTIVE.items():
        if name == "excess_loss":
            parameters = {**parameters, "reference_losses": [1.0] * len(infos)}
        schedule = schedules.create(name, infos, **parameters)
        adaptive = schedules.AdaptiveState(schedule)
        rng = np.random.default_rng(0)
        learns = schedule.interval or interval
        cpu = slowest = 0.0
        for step in range(learns, steps + 1, learns):
            numbers = rng.uniform(0.01, 0.5, len(infos))
            scores = dict(zip(adaptive.task_names, numbers.tolist(), strict=True))
            losses = 1 + numbers + 5 * (step / 1000) ** -0.3
            with Stopwatch() as watch:
                probabilities = adaptive.probabilities(step - 1)
                if schedule.uses_losses:
                    adaptive.observe_losses(step, losses, probabilities, learns * probabilities)
                elif schedule.measures:
                    names = (schedule.measures.quantity, "gradient_square", "gradient_variance")
                    adaptive.book.measure(dict.fromkeys(names, numbers))
                else:
                    adaptive.enter_scores(step, scores)
                adaptive.update(step)
                adaptive.forget_before(step)
            cpu += watch.cpu
            slowest = max(slowest, watch.cpu)
        share = shares[name] = cpu / (steps * step_ms / 1e3)
        print(
            f"{name:16} {cpu / steps * 1e6:8.1f} us per step, {share:.3%} of a step of "
            f"{step_ms:g} ms; an update every {learns} steps, the slowest {slowest * 1e3:.1f} ms"
        )
    return shares


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
    parser.add_argument(
        "--schedules", action="store_true", help="only measure the updates of adaptive schedules"
    )
    options = parser.parse_args()
    if options.interval > options.steps:
        parser.error(f"--interval {options.interval} is above --steps {options.steps}")

    if options.schedules:
        sizes = np.geomspace(100_000, 1000, options.tasks).astype(int).tolist()
        infos = [TaskInfo(f"task-{i}", size, baseline=0.5) for i, size in enumerate(sizes)]
        report_updates(infos, max(options.steps, 10_000), options.interval, options.step_ms)
        return

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
