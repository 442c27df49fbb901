"""Measures how much asynchronous validation slows training down if a core is free for it.

    python benchmarks/validation_overhead.py
    python benchmarks/validation_overhead.py --rounds 5 --steps 300 --interval 100

The demo trains with one core for training and another for validation, alternately with
validation (`trainer.evaluation.lag`) and without (`--mode train`). Each run begins in a new
process. The times of the first steps, which are traced, are left out. Prints for each run the steps
and target tokens per second, and the median of the ratios of consecutive runs. With validation the
time includes copying the weights, waiting for scores and updating the schedule.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CONFIG = Path(__file__).parents[1] / "configs/demo.yaml"


def pin(cores: set[int]) -> None:
    """Limits the current thread, and threads that it will start, to some cores."""
    os.sched_setaffinity(threading.get_native_id(), cores)


def train(
    directory: Path, mode: str, arguments: argparse.Namespace, cores: tuple[int, int]
) -> None:
    """Trains in this process; writes the seconds and tokens after the first third of the steps."""
    pin({cores[0]})
    from keras_mtl.configuration.files import read_experiment
    from keras_mtl.training.run import loop, periodic_validation
    from keras_mtl.training.run.planning import plan_training

    overrides = (
        f"trainer.train_steps={arguments.steps},trainer.steps_per_loop={arguments.interval},"
        f"trainer.checkpoint_interval={arguments.steps},"
        f"trainer.evaluation.interval={arguments.interval},"
        f"trainer.evaluation.lag={arguments.interval},trainer.evaluation.workers=1,"
        f"task.data.data_dir={arguments.data},"
        # Without scores, no schedule can adapt to them.
        "trainer.schedule={name: uniform, baselines_file: }"
    )
    evaluator_of = periodic_validation.engine_evaluator

    def on_its_core(*words: Any) -> Any:
        pin({cores[1]})  # In the thread that validates; the engine's threads inherit it.
        return evaluator_of(*words)

    periodic_validation.engine_evaluator = on_its_core
    times: list[tuple[int, float, float]] = []
    write = loop.LoopLog.write

    def noted(self: Any, opened: Any, *rest: Any) -> None:
        write(self, opened, *rest)
        times.append((self._parts.step, time.perf_counter(), float(opened.sums["tokens"].sum())))

    loop.LoopLog.write = noted
    draft = read_experiment("translation/transformer_tiny", [CONFIG], [overrides])
    loop.run_experiment(plan_training(draft, mode), directory / mode, log=lambda line: None)
    (first, begin, _), (last, end, _) = times[0], times[-1]
    tokens = sum(count for _, _, count in times[1:])
    found = {"steps": last - first, "seconds": end - begin, "tokens": tokens}
    (directory / f"{mode}.json").write_text(json.dumps(found))


def in_process(function: Callable[..., None], *words: Any) -> None:
    process = multiprocessing.get_context("spawn").Process(target=function, args=words)
    process.start()
    process.join()
    if process.exitcode:
        sys.exit("a run failed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs (default: 3)")
    parser.add_argument("--steps", type=int, default=400, help="steps of a run (default: 400)")
    parser.add_argument(
        "--interval", type=int, default=100, help="steps between validations (default: 100)"
    )
    parser.add_argument("--data", help="directory for the prepared data")
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        parser.error("two cores are needed")
    ratios = []
    with tempfile.TemporaryDirectory() as kept:
        arguments.data = arguments.data or f"{kept}/data"
        for number in range(arguments.rounds):
            speeds = {}
            with tempfile.TemporaryDirectory() as name:
                modes = ("train_and_eval", "train")
                for mode in modes if number % 2 else reversed(modes):
                    in_process(train, Path(name), mode, arguments, (cores[0], cores[1]))
                    found = json.loads(Path(name, f"{mode}.json").read_text())
                    speeds[mode] = found["steps"] / found["seconds"]
                    print(
                        f"{mode:15} {speeds[mode]:6.2f} steps/s "
                        f"{found['tokens'] / found['seconds']:8,.0f} tokens/s",
                        flush=True,
                    )
            ratios.append(speeds["train_and_eval"] / speeds["train"])
    print(f"with validation / without: {statistics.median(ratios):.1%} (median of {len(ratios)})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
