"""Compares our training step with Model Garden's and PyTorch's, in target tokens per second.

    python benchmarks/training.py [--rounds 5] [--steps 4] [--sizes d128 d256] [--json FILE]
    python benchmarks/training.py --kinds demo full --torch_python TORCH_ENVIRONMENT/bin/python

The peers are Model Garden's Seq2SeqTransformer and, if `--torch_python` is an interpreter that has
PyTorch, `torch.nn.Transformer`. All models have the same sizes, tied embeddings, dropout, label
smoothing and Adam, and train on the same sentence pairs. Each step is forward, loss, gradients and
update, in float32. Each model is timed with and without a compiler (XLA, torch.compile), in
alternating rounds, and its better median counts. Model Garden's loss is that of its translation
task (`metrics.transformer_loss`): one-hot labels. keras_mtl trains without TensorFlow's graph
remapper on CPUs, and is timed so. Model Garden is timed with it and without it.

There are three kinds of batches. Padding does not count as tokens.

* `full`: every position of rows x length is a token.
* `ragged`: lengths drawn from 60 % to 100 % of the bucket, as in a bucket of similar lengths.
* `demo`: the batches of configs/demo.yaml, or of another file, in their order and with their
  padding. `ours packed` trains on packed batches of the same data (`task.data.packing`); the peers
  cannot pack.

A ratio by CPU time is more reliable on a machine that also runs other programs: it measures the
work, not how well two cores are used. With `--threads 1` it does not count waiting for threads
either.

Measured on two idle cores of a shared Intel Xeon with AVX-512, without compilers, medians of 3
rounds, target tokens per second (ours, Model Garden, PyTorch, and both ratios by wall clock):

    d128  full  8,917  6,051  4,571  1.47  1.95      demo, packed  8,489  5,431  3,774  1.56  2.25
    d256  full  3,233  2,804  2,191  1.15  1.48      demo, packed  4,070  2,391  1,853  1.70  2.20
"""

import argparse
import copy
import json
import os
import statistics
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from training_models import TensorFlowStep, TorchPeer, TorchStep, garden, ours

import keras_mtl
from keras_mtl.configuration.draft import Draft
from keras_mtl.data.packed_batch import PackedBatch
from keras_mtl.evaluation.task_metrics import TaskMetrics
from keras_mtl.training.run import building
from keras_mtl.training.run.planning import plan_training

VOCABULARY = 8000
SIZES = {
    "d128": {"dim": 128, "heads": 4, "ff": 512, "layers": 2},
    "d256": {"dim": 256, "heads": 4, "ff": 1024, "layers": 3},
}
KINDS = ("full", "ragged", "demo")
# Name: the function that makes the step, whether XLA compiles it, whether the remapper is on.
IN_TENSORFLOW = {
    "ours xla": (ours, True, False),
    "ours graph": (ours, False, False),
    "garden xla": (garden, True, True),
    "garden graph": (garden, False, True),
    "garden graph, no remapper": (garden, False, False),
}
PACKED = {"ours packed xla": (ours, True, False), "ours packed graph": (ours, False, False)}
IN_TORCH = {"torch eager": "eager", "torch compiled": "compiled"}


def drawn_batches(kind, count, rows, length, seed):
    """Returns batches of random tokens."""
    generator = np.random.default_rng(seed)
    batches = []
    for _ in range(count):
        batch = {}
        for side in ("source", "target"):
            ids = generator.integers(3, VOCABULARY, (rows, length)).astype(np.int32)
            if kind == "ragged":
                lengths = generator.integers(int(0.6 * length), length + 1, rows)
                ids[np.arange(length)[None] >= lengths[:, None]] = 0
            batch[side] = ids
        batches.append(batch)
    return batches


def demo_batches(config, prepared, packing, count):
    """Returns the first batches of a configuration, with or without packing."""
    config = copy.deepcopy(config)
    config.task.data.packing = packing
    if packing:
        config.task.data.bucket_lengths = []
    schedule = plan_training(Draft(config)).schedule
    mixture = building.build_mixture(
        config.task,
        config.trainer,
        TaskMetrics.of(config),
        config.runtime.seed,
        prepared,
        schedule.make({task.name: task.train_size for task in prepared.tasks}),
        1,
    )
    found = []
    for _, batch in zip(range(count), mixture.batches(0), strict=False):
        packed = isinstance(batch, PackedBatch)
        names = batch.arrays if packed else ("source", "target")
        found.append({name: batch.arrays[name] for name in names})
    return found


def make_contestants(size, batches, packed, options):
    """Returns the training steps by name, and the process of PyTorch or None."""
    known = {name: (value, batches) for name, value in IN_TENSORFLOW.items()}
    if packed:
        known |= {name: (value, packed) for name, value in PACKED.items()}
    contestants, data = {}, {}
    compiles = not options.no_compilers
    for name, ((build, jit, remapping), own) in known.items():
        if compiles or not jit:
            contestants[name] = TensorFlowStep(build, size, own, jit, remapping)
            data[name] = own
    peer = None
    if options.torch_python:
        names = {name: kind for name, kind in IN_TORCH.items() if compiles or kind == "eager"}
        peer = TorchPeer(
            options.torch_python, {**size, "threads": options.threads}, batches, [*names.values()]
        )
        contestants |= {name: TorchStep(peer, kind) for name, kind in names.items()}
        data |= dict.fromkeys(names, batches)
    return contestants, data, peer


def tokens_of(batches, steps):
    """Returns the target tokens of some steps."""
    counts = [int((batch["target"] != 0).sum()) for batch in batches]
    return sum(counts[i % len(counts)] for i in range(steps))


def compare(size, batches, packed, options):
    """Times all contestants; returns the medians by name for each clock."""
    contestants, data, peer = make_contestants(size, batches, packed, options)
    for name, contestant in contestants.items():
        # Once over all batches, because a compiler may compile each shape.
        seconds, _ = contestant.run(len(data[name]))
        print(f"  {name}: first steps {seconds:.1f} s", flush=True)
        contestant.run(2)
    rates = {name: ([], []) for name in contestants}
    for _ in range(options.rounds):
        for name, contestant in contestants.items():
            tokens = tokens_of(data[name], options.steps)
            for list_, seconds in zip(rates[name], contestant.run(options.steps), strict=True):
                list_.append(tokens / seconds)
    if peer:
        peer.close()
    for name, (wall, cpu) in rates.items():
        print(
            f"  {name:25} {statistics.median(wall):9,.0f} target tokens/s "
            f"({min(wall):,.0f} to {max(wall):,.0f}), {statistics.median(cpu):8,.0f} per CPU second"
        )
    clocks = zip(("wall", "cpu"), zip(*rates.values(), strict=True), strict=True)
    return {
        clock: dict(zip(rates, map(statistics.median, values), strict=True))
        for clock, values in clocks
    }


def best(medians, prefix):
    """Returns the best median of a family of contestants; None if there is none."""
    return max((v for name, v in medians.items() if name.startswith(prefix)), default=None)


def report(what, medians):
    """Prints the ratios to each peer, by both clocks; returns them."""
    ratios = {}
    for peer in ("garden", "torch"):
        for clock, figures in medians.items():
            if (other := best(figures, peer)) is not None:
                ratios[f"{peer}_{clock}"] = best(figures, "ours") / other
    line = ", ".join(f"{name.replace('_', ' by ')} {value:.2f}" for name, value in ratios.items())
    print(f"  {what}: our best over {line}", flush=True)
    return ratios


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="steps in each round")
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--sizes", nargs="+", choices=sorted(SIZES), default=sorted(SIZES))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["full"])
    parser.add_argument("--no_compilers", action="store_true", help="leave out XLA, torch.compile")
    parser.add_argument("--threads", type=int, default=0, help="of each step; 0 for all cores")
    parser.add_argument("--torch_python", help="interpreter that has PyTorch; none leaves it out")
    parser.add_argument("--experiment", default="translation/transformer_tiny")
    parser.add_argument("--config_file", default="configs/demo.yaml", help="data of kind demo")
    parser.add_argument("--data_dir", default="runs/training/data", help="its prepared data")
    parser.add_argument("--batches", type=int, default=12, help="number of batches of kind demo")
    parser.add_argument("--json", help="write the results to this file")
    options = parser.parse_args()
    if options.threads:
        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
        tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    results = []
    for name in options.sizes:
        for kind in options.kinds:
            size, packed = {**SIZES[name], "vocabulary": VOCABULARY}, None
            if kind == "demo":
                config = keras_mtl.load_config(options.config_file, experiment=options.experiment)
                config.task.data.data_dir = str(Path(options.data_dir))
                prepared = keras_mtl.prepare(config, log=lambda line: None)
                size["vocabulary"] = prepared.vocabulary.size
                batches, packed = (
                    demo_batches(config, prepared, packing, options.batches)
                    for packing in (False, True)
                )
            else:
                batches = drawn_batches(kind, 4, options.rows, options.length, seed=1)
            what = f"{name}, {kind}"
            print(
                f"{what}: d {size['dim']}, {size['layers']}+{size['layers']} layers, V "
                f"{size['vocabulary']}, {tokens_of(batches, len(batches)) / len(batches):,.0f} "
                "target tokens per batch"
                + (
                    f", {tokens_of(packed, len(packed)) / len(packed):,.0f} packed"
                    if packed
                    else ""
                )
            )
            medians = compare(size, batches, packed, options)
            results.append(
                {"size": name, "batch": kind, "tokens_per_second": medians} | report(what, medians)
            )
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
