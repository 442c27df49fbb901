"""Measures the effects of packing: padding, the loss of each pair, target tokens per second.

    python benchmarks/packing.py                                    # configs/demo.yaml
    python benchmarks/packing.py --config_file my.yaml --rounds 0   # no training steps

Prints, for batches with and without packing:

* the padding of each granularity, as `keras-mtl train` prints it, and of each task;
* the largest difference between the loss of a pair in a packed row and in its own row, over the
  pairs of some batches, without dropout;
* target tokens per second, without padding, of complete training steps: reading, forward and
  backward pass, update. Steps with and without packing alternate in rounds; prints the medians.
"""

import argparse
import copy
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

import keras_mtl
from keras_mtl.configuration.draft import Draft
from keras_mtl.data.packed_batch import PackedBatch
from keras_mtl.evaluation.task_metrics import TaskMetrics
from keras_mtl.training.run import building
from keras_mtl.training.run.parts import RunParts, build_parts
from keras_mtl.training.run.planning import plan_training
from keras_mtl.training.step.distribution import configure_runtime
from keras_mtl.training.step.workers import Workers


def variant(config, packing, granularity=None):
    """Returns the experiment with or without packing."""
    config = copy.deepcopy(config)
    config.task.data.packing = packing
    if packing:
        config.task.data.bucket_lengths = []
    else:
        config.task.data.packed_lengths = []
    config.task.data.granularity = granularity or config.task.data.granularity
    return config


def report_padding(config, prepared):
    sizes = {task.name: task.train_size for task in prepared.tasks}
    names = list(sizes)
    for packing in (False, True):
        for granularity in ("batch", "example"):
            one = variant(config, packing, granularity)
            schedule = plan_training(Draft(one)).schedule.make(sizes)
            mixture = building.build_mixture(
                one.task,
                one.trainer,
                TaskMetrics.of(one),
                one.runtime.seed,
                prepared,
                schedule,
                1,
            )
            line = f"{granularity + (', packed' if packing else ''):16}"
            line += f" padding {mixture.padding_waste():6.1%}"
            if granularity == "batch":
                draws = mixture._draws
                place = draws.first()
                shares = [draws.padding_waste(row, place) for row in np.eye(len(names))]
                line += "  " + "  ".join(
                    f"{name} {share:.1%}" for name, share in zip(names, shares, strict=True)
                )
            print(line)
            if packing and granularity == "batch":
                print(f"packed batches: {mixture.buckets[0]}")


def pair_losses(parts: RunParts, batch: PackedBatch) -> tuple[np.ndarray, np.ndarray]:
    """Losses of the pairs of a batch, in packed rows and each in a row of its own."""
    arrays = batch.arrays
    decoder = tf.gather(tf.constant(parts.decoder_of_task), batch.tasks)
    packed, _, _ = parts.model.token_losses({**arrays, "decoder": decoder})
    found, sides, tasks = [], {"source": [], "target": []}, []
    for row, numbers in enumerate(arrays["target_segments"]):
        for number in range(1, numbers.max() + 1):
            cells = numbers == number
            found.append(packed.numpy()[row, cells].sum(dtype=np.float64))
            tasks.append(batch.tasks[row, cells][0])
            for side, lists in sides.items():
                mine = arrays[f"{side}_segments"][row] == number
                lists.append(arrays[side][row, mine])
    inputs = {}
    for side, lists in sides.items():
        inputs[side] = np.zeros((len(lists), max(map(len, lists))), np.int32)
        for row, ids in enumerate(lists):
            inputs[side][row, : len(ids)] = ids
    inputs["decoder"] = tf.gather(tf.constant(parts.decoder_of_task), np.array(tasks))
    single, _, _ = parts.model.token_losses(inputs)
    return np.array(found), single.numpy()


def report_losses(parts: RunParts, batches: int) -> None:
    worst, pairs = 0.0, 0
    for _, batch in zip(range(batches), parts.mixture.batches(0), strict=False):
        packed, single = pair_losses(parts, batch)
        worst = max(worst, float((np.abs(packed - single) / np.abs(single)).max()))
        pairs += len(packed)
    print(f"loss of {pairs:,} pairs, packed and unpacked: relative difference at most {worst:.1e}")


def report_speed(both: dict[str, RunParts], rounds: int, steps: int) -> None:
    speeds: dict[str, list[float]] = {name: [] for name in both}
    tokens: dict[str, float] = {}
    for parts in both.values():
        parts.read_from(0)
    for number in range(rounds + 1):
        for name, parts in both.items():
            start = time.perf_counter()
            sums = parts.trainer.train(tf.constant(steps))
            seconds = time.perf_counter() - start
            tokens[name] = float(sums["tokens"].sum()) / steps
            if number:  # The first round compiles.
                speeds[name].append(float(sums["tokens"].sum()) / seconds)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, median in medians.items():
        print(f"{name:9} {median:9,.0f} target tokens/s, {tokens[name]:,.0f} per batch")
    print(f"ratio     {medians['packed'] / medians['unpacked']:9.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiment", default="translation/transformer_tiny")
    parser.add_argument("--config_file", default="configs/demo.yaml")
    parser.add_argument("--params_override", default="", help="overrides of single fields")
    parser.add_argument("--data_dir", default="runs/packing", help="directory of the prepared data")
    parser.add_argument("--batches", type=int, default=8, help="number of batches for the losses")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="steps in each round")
    options = parser.parse_args()
    config = keras_mtl.load_config(
        options.config_file, experiment=options.experiment, overrides=options.params_override
    )
    config.task.data.data_dir = config.task.data.data_dir or str(Path(options.data_dir) / "data")
    workers = Workers(configure_runtime(config.runtime))
    prepared = keras_mtl.prepare(config, log=lambda line: None)
    report_padding(config, prepared)
    both = {}
    for name, packing in (("unpacked", False), ("packed", True)):
        one = variant(config, packing)
        both[name] = build_parts(plan_training(Draft(one)), prepared, workers)
    report_losses(both["packed"], options.batches)
    if options.rounds:
        report_speed(both, options.rounds, options.steps)


if __name__ == "__main__":
    main()
