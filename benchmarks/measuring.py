"""Measures what measurements of the model cost, for the schedules that learn from them.

    python benchmarks/measuring.py [--tasks 4] [--rounds 5] [--pairs 32]

The model, its batches and its update are those of benchmarks/balancing.py: tiny, a vocabulary of
3,000, 2,048 tokens in a batch. Each task has pairs of 28 tokens on both sides. In alternating
rounds in one process, a plain update is timed, and then a measurement of each quantity with the
defaults of its schedule. The medians over rounds of the ratios of CPU times are printed: a
measurement of one task in updates, and the share of training that all measurements take with the
default interval. Both depend on the size of a batch, and a measurement on `pairs`.

Measured on two cores of an Intel Xeon that also ran other programs, in updates for each task:
multi_uat 1.37, multi_dds_s 0.93, pike 0.44, aioli 0.15. With 4 tasks and the default intervals, all
measurements take 0.3, 0.4, 0.2 and 4.0 % of training.
"""

import argparse
import dataclasses
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from balancing import PLAIN, VOCABULARY, make_trainer, seconds

from keras_mtl.configuration.schema import RuntimeConfig, TransformerConfig
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.models.factory import build_transformer
from keras_mtl.schedules import Schedule, TaskInfo, create
from keras_mtl.training.run.measurements import Measurements
from keras_mtl.training.step.distribution import configure_runtime
from keras_mtl.training.step.optimizers import Adam

LENGTH = 28
SCHEDULES = {
    "multi_uat": {},
    "multi_dds_s": {},
    "pike": {"zeta1": 0.1, "zeta2": 0.1},
    "aioli": {},
}


class Words:
    """A vocabulary with only the ids that measurements use."""

    eos_id = 2

    def tag_id(self, language: str) -> int:
        return 3


@dataclasses.dataclass
class Reader:
    """Pairs of random ids."""

    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def gather(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.ids[indices, 0], self.ids[indices, 1]


class Pairs:
    """The same pairs for every task and split."""

    vocabulary = Words()

    def __init__(self, pairs: int) -> None:
        shape = (2 * pairs, 2, LENGTH)
        self._reader = Reader(np.random.default_rng(1).integers(4, VOCABULARY, shape))

    def reader(self, task: str, split: str) -> Reader:
        return self._reader


def measured(schedule: Schedule) -> int:
    """Returns how often a schedule measures the model within its interval."""
    step = first = schedule.next_update(-1)
    count = 0
    while step is not None and first is not None and step < first + schedule.interval:
        count, step = count + 1, schedule.next_update(step)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=32, help="pairs of a measurement of a task")
    options = parser.parse_args()
    strategy = configure_runtime(RuntimeConfig(deterministic=False))
    with strategy.scope():
        config = TransformerConfig(size="tiny", max_length=64)
        model = build_transformer(config, VOCABULARY, ("",))
        optimizer = Adam(1e-4)
        optimizer.build(model.trainable_variables)
    trainer = make_trainer(strategy, model, optimizer, PLAIN, 1, "batch", False)
    names = [f"en-t{index}" for index in range(options.tasks)]
    tasks = [TranslationTask(name, *name.split("-")) for name in names]
    infos = [TaskInfo(name, 1000) for name in names]
    made = {name: create(name, infos, pairs=options.pairs, **SCHEDULES[name]) for name in SCHEDULES}
    pairs = Pairs(options.pairs)
    takes = {
        name: Measurements(schedule.measures, model, strategy, tasks, pairs, seed=1)
        for name, schedule in made.items()
    }
    seconds(trainer, 1)  # Traces the functions.
    for take in takes.values():
        take.take(0)
    ratios = {name: [] for name in takes}
    for step in range(1, options.rounds + 1):
        _, plain = seconds(trainer, 1)
        for name, take in takes.items():
            start = time.process_time()
            take.take(step)
            ratios[name].append((time.process_time() - start) / plain)
    for name, found in ratios.items():
        ratio, schedule = statistics.median(found), made[name]
        times = measured(schedule)
        share = times * ratio / (schedule.interval + times * ratio)
        print(
            f"{name:12} {ratio / options.tasks:5.2f} updates for each task "
            f"({min(found) / options.tasks:.2f} to {max(found) / options.tasks:.2f}); with "
            f"{options.tasks} tasks {times} times in {schedule.interval} steps: {share:.1%} of "
            "training",
            flush=True,
        )


if __name__ == "__main__":
    main()
