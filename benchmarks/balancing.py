"""Measures the cost of each balancing method: the time of an update over that of the plain sum.

    python benchmarks/balancing.py [--tasks 2 4 8] [--rounds 5] [--granularities batch example]
        [--methods pcgrad famo]
    python benchmarks/balancing.py --weights 100 [--step-ms 100]

The model is that of the demo (configs/demo.yaml: tiny, vocabulary of 3,000). A batch has 2,048
tokens. An update is that of the trainer: forward, loss, gradients, balancing, clipping, Adam. All
methods run in one process in alternating rounds. Each ratio is to the plain sum of the same round,
and the median over rounds is printed, so a steady disturbance of the machine cancels out. The ratio
of CPU times is more reliable if the disturbance is not steady.

An update can contain all tasks in two ways. `batch`: N accumulated batches of one task each, whose
gradients are separate at no cost; the plain sum accumulates the same batches. `example`: one batch
that mixes N tasks, with a backward pass for each task if gradients are needed separately. Without
--methods, `example` measures only one method of each kind, because the passes dominate the cost.

Measured on two cores (AMD Zen 5) that also ran other programs, by CPU time, median of 3 to 5 rounds
(--methods in several calls; with so few rounds, differences of a tenth mean nothing):
`batch`, 4 tasks: dwa 1.00, uncertainty 1.03, random 1.04, gradnorm 1.01, mgda 1.02, cagrad 1.03,
gradvac 1.04, pcgrad 1.07, graddrop 1.20, famo 1.36. `batch`, 8 tasks: dwa 0.98, mgda 1.18, pcgrad
1.27, famo 1.46; the others were not measured. `example`, 2 tasks: dwa 0.99, famo 1.38, pcgrad 1.60.
`example`, 4 tasks: famo 1.40, pcgrad 2.28. `example`, 8 tasks: famo 1.44, graddrop 3.40, gradnorm
3.71, cagrad 3.98, mgda 4.19, pcgrad 4.93, gradvac 5.04; methods that need only losses were not
measured.

All methods in one run, `batch`, 4 tasks, on two cores of an Intel Xeon that also ran other
programs, by CPU time, median of 5 rounds: famo 1.45, fairgrad 1.08, gradvac 1.06, nash_mtl 1.05,
all others 0.98 to 1.04.

`--weights 100` times only the weights of 100 tasks, from losses and products of random gradients,
on one core of an Intel Xeon, in ms of CPU time: methods that need no gradients 0.04 to 0.11,
gradnorm 0.13, aligned_mtl 0.70, config 0.73, imtl_g 0.75, fairgrad 2.2, nash_mtl 3.2, mgda 3.6,
cagrad 4.7, pcgrad 10.4, gradvac 25, upgrad 52.
"""

import argparse
import gc
import json
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from keras_mtl.balancing import Balancing, available
from keras_mtl.balancing.base import GRADIENTS, Combiner
from keras_mtl.balancing.registry import METHODS
from keras_mtl.configuration.schema import RuntimeConfig, TransformerConfig
from keras_mtl.models.factory import build_transformer
from keras_mtl.training.step.distribution import configure_runtime, to_all_replicas
from keras_mtl.training.step.optimizers import Adam
from keras_mtl.training.step.trainer import MultiTaskTrainer

VOCABULARY = 3000
ROWS = 64
LENGTH = 32
PLAIN = "sum"
OF_EACH_KIND = ("dwa", "famo", "pcgrad")


def batches(num_tasks, granularity):
    """Returns the batches of one update, without padding."""
    rng = np.random.default_rng(1)
    for task in range(num_tasks if granularity == "batch" else 1):
        ids = rng.integers(4, VOCABULARY, (2, ROWS, LENGTH)).astype(np.int32)
        tasks = np.full(ROWS, task) if granularity == "batch" else np.arange(ROWS) % num_tasks
        yield {"source": ids[0], "target": ids[1], "task": tasks.astype(np.int32)}


def make_trainer(strategy, model, optimizer, method, num_tasks, granularity, jit):
    with strategy.scope():
        balancing = None if method == PLAIN else Balancing(method, num_tasks)
    trainer = MultiTaskTrainer(
        model,
        optimizer,
        strategy,
        num_tasks,
        [0] * num_tasks,
        accumulation=num_tasks if granularity == "batch" else 1,
        jit_compile=jit,
        balancing=balancing,
        mixed=granularity == "example",
    )
    whole = list(batches(num_tasks, granularity))
    columns = {name: np.stack([batch[name] for batch in whole]) for name in whole[0]}
    dataset = tf.data.Dataset.from_tensor_slices(columns).repeat()
    trainer.set_dataset(to_all_replicas(strategy, lambda _: dataset))
    return trainer


def seconds(trainer, steps):
    """Returns wall seconds and CPU seconds."""
    start, cpu_start = time.perf_counter(), time.process_time()
    trainer.train(tf.constant(steps))
    return time.perf_counter() - start, time.process_time() - cpu_start


def compare(strategy, model, optimizer, methods, num_tasks, granularity, arguments):
    trainers = {}
    for method in (PLAIN, *methods):
        trainer = make_trainer(
            strategy, model, optimizer, method, num_tasks, granularity, arguments.jit
        )
        seconds(trainer, arguments.steps)  # Traces the functions.
        trainers[method] = trainer
    rounds = []
    for _ in range(arguments.rounds):
        rounds.append({m: seconds(t, arguments.steps) for m, t in trainers.items()})
    plain = statistics.median(r[PLAIN][0] for r in rounds) / arguments.steps
    print(f"{num_tasks} tasks, {granularity}: plain sum: {plain * 1000:,.0f} ms per update")
    results = {"tasks": num_tasks, "granularity": granularity, "plain_seconds": plain}
    results |= {"ratios": {}, "cpu_ratios": {}}
    for method in methods:
        ratios, cpu_ratios = ([r[method][i] / r[PLAIN][i] for r in rounds] for i in range(2))
        results["ratios"][method] = statistics.median(ratios)
        results["cpu_ratios"][method] = statistics.median(cpu_ratios)
        print(
            f"  {method:12s} ratio {statistics.median(ratios):5.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}), "
            f"of CPU time {statistics.median(cpu_ratios):5.2f}",
            flush=True,
        )
    del trainers
    gc.collect()
    return results


def repeated_weights(method, num_tasks):
    """Returns a function that computes the weights of several steps in a row, and learns."""
    rng = np.random.default_rng(2)
    gradients = rng.normal(size=(num_tasks, 4 * num_tasks)).astype(np.float32) + 0.1
    gram = tf.constant(gradients @ gradients.T)
    losses = tf.constant(rng.uniform(1.0, 5.0, num_tasks).astype(np.float32))
    shares = tf.fill([num_tasks], 1.0 / num_tasks)
    balancing = Balancing(method, num_tasks)

    def step(number, total):
        # Other values in each step, so that nothing is computed only once.
        change = 1 + 1e-5 * tf.cast(number, tf.float32)
        needs_gram = balancing.balancer.uses == GRADIENTS
        seen = balancing.seen(shares, change * losses, change * gram if needs_gram else None)
        weights = balancing.weights_of(seen)
        balancing.learn(seen)
        if balancing.balancer.looks_back:
            balancing.look_back(seen, 0.99 * losses)
        return number + 1, total + tf.reduce_sum(weights)

    @tf.function(autograph=False)
    def run(steps):
        return tf.while_loop(lambda number, total: number < steps, step, [tf.constant(0), 0.0])

    return run


def report_weights(methods, num_tasks, step_ms, steps=50):
    """Prints the time to compute the weights of a step and to learn, without any gradients."""
    print(f"{num_tasks} tasks, only the weights:")
    found = {}
    for method in methods:
        if issubclass(METHODS.classes[method], Combiner):
            continue  # It works on each element of the gradients.
        run = repeated_weights(method, num_tasks)
        run(tf.constant(2))  # Traces the function.
        start = time.process_time()
        run(tf.constant(steps))[1].numpy()
        taken = found[method] = (time.process_time() - start) / steps
        print(
            f"  {method:12s} {taken * 1e3:8.2f} ms of CPU time, "
            f"{taken * 1e3 / step_ms:.2%} of a step of {step_ms:g} ms",
            flush=True,
        )
    return {"tasks": num_tasks, "weights_seconds": found}


def write_json(path, results):
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1, help="updates in each round")
    parser.add_argument("--methods", nargs="+", choices=available(), help="default: all")
    parser.add_argument(
        "--granularities", nargs="+", choices=("batch", "example"), default=["batch", "example"]
    )
    parser.add_argument("--jit", action="store_true", help="compile with XLA")
    parser.add_argument(
        "--weights", type=int, metavar="TASKS", help="only time the weights of this number of tasks"
    )
    parser.add_argument("--step-ms", type=float, default=100.0, help="a step, for --weights")
    parser.add_argument("--json", help="write the results to this file")
    arguments = parser.parse_args()
    strategy = configure_runtime(RuntimeConfig(deterministic=False))
    if arguments.weights:
        write_json(
            arguments.json,
            [
                report_weights(
                    arguments.methods or available(), arguments.weights, arguments.step_ms
                )
            ],
        )
        return
    with strategy.scope():
        config = TransformerConfig(size="tiny", max_length=64)
        model = build_transformer(config, VOCABULARY, ("",))
        optimizer = Adam(1e-4)
        optimizer.build(model.trainable_variables)
    count = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    print(f"{count:,} parameters, batches of {ROWS} x {LENGTH}", flush=True)
    results = []
    for granularity in arguments.granularities:
        of_kind = available() if granularity == "batch" else OF_EACH_KIND
        methods = arguments.methods or of_kind
        for num_tasks in arguments.tasks:
            results.append(
                compare(strategy, model, optimizer, methods, num_tasks, granularity, arguments)
            )
    write_json(arguments.json, results)


if __name__ == "__main__":
    main()
