"""Training with programs of static shapes, in processes of their own.

`count` writes counts.json to its directory, the numbers of compilations in a long run. `compare`
writes the losses of a run's first steps: losses0.npz from one graph of any shape, losses1.npz from
programs of static shapes.
"""

import copy
import json
import os
from pathlib import Path
from unittest import mock

import balance_case
import numpy as np
import tensorflow as tf
import tiny_run
from trainer_case import batch

from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.files import load_experiment
from keras_mtl.training.run import parts
from keras_mtl.training.run.planning import plan_training
from keras_mtl.training.run.setup import prepare_task_data
from keras_mtl.training.step.distribution import configure_runtime, to_all_replicas
from keras_mtl.training.step.optimizers import Adam
from keras_mtl.training.step.trainer import MultiTaskTrainer
from keras_mtl.training.step.workers import Workers

LENGTHS = (4, 6, 9)
ROWS = 8


def compilations(dump: Path) -> list[list[int]]:
    """Trains, with a new iterator after every few loops as changes of a schedule need.

    Returns:
        After each iterator the traces of the gradients, those of the loop, and the programs that
        XLA has compiled.
    """
    strategy = balance_case.strategy_of(1)
    with strategy.scope():
        model = balance_case.Model(1)
        optimizer = Adam(0.01)
        optimizer.build(model.trainable_variables)
    shapes = [(ROWS, length) for length in LENGTHS]
    trainer = MultiTaskTrainer(
        model, optimizer, strategy, 2, [0, 0], jit_compile=True, shapes=shapes
    )

    def elements():
        rng = np.random.default_rng(1)
        while True:
            yield batch(rng, 0, length=rng.choice(LENGTHS))

    def dataset():
        spec = {name: tf.TensorSpec([None, None], tf.int32) for name in ("source", "target")}
        spec["task"] = tf.TensorSpec([None], tf.int32)
        made = tf.data.Dataset.from_generator(elements, output_signature=spec)
        return made.apply(
            tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        ).map(trainer.mark)

    found = []
    for _ in range(4):
        trainer.set_dataset(to_all_replicas(strategy, lambda parts: dataset()))
        for steps in (10, 7, 1):
            trainer.train(tf.constant(steps))
        found.append(
            [
                trainer._gradients.experimental_get_tracing_count(),
                trainer._train_loop_fn.experimental_get_tracing_count(),
                len(list(dump.glob("*before_optimizations.txt"))),
            ]
        )
    return found


def losses(directory: Path, static: bool) -> dict[str, np.ndarray]:
    """Trains the first steps of a run as `keras-mtl train` does.

    Args:
        directory: directory of the data.
        static: give each bucket a program of its own, as on a TPU.

    Returns:
        Losses by task of each loop, and the batches of each task.
    """
    values = copy.deepcopy(tiny_run.CONFIG)
    values["task"]["data"] |= {"data_dir": str(directory / "data")}
    values["task"]["data"]["corpora"][0]["options"]["pairs"] = 300
    values["task"]["data"]["bucket_lengths"] = [16, 64]
    (directory / "config.json").write_text(json.dumps(values))
    config = load_experiment(None, [directory / "config.json"])
    plan = plan_training(Draft(config))
    strategy = configure_runtime(config.runtime)
    prepared = prepare_task_data(config.task, None, log=lambda line: None)

    def shapes(strategy, buckets):
        return [(bucket.rows, bucket.length) for bucket in buckets] if static else None

    with mock.patch.object(parts, "static_shapes", shapes):
        run = parts.build_parts(plan, prepared, Workers(strategy))
    found = []
    for steps in (4, 8):
        run.read_from(run.step)
        found.append(run.trainer.train(tf.constant(steps))["loss"])
    return {"loss": np.array(found), "consumed": run.consumed_by_task()}


def count(directory: Path) -> None:
    # Without tf.data's tuner, for whose thread an iterator that is deleted waits, up to a minute.
    tf.data.experimental.enable_debug_mode()
    dump = directory / "xla"
    os.environ["XLA_FLAGS"] = f"--xla_dump_to={dump} --xla_dump_hlo_as_text"
    (directory / "counts.json").write_text(json.dumps(compilations(dump)))


def compare(directory: Path) -> None:
    tf.data.experimental.enable_debug_mode()
    for static in (False, True):
        np.savez(directory / f"losses{static:d}.npz", **losses(directory, static))
