"""A few balanced steps of the trainer in its own process: strategies set devices once.

`main` reads from its directory cases.json, which lists what to run, and writes <number>.npz, the
weights, the totals and the state of the method of each case.
"""

import functools
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from trainer_case import VOCABULARY, batch, dataset

from keras_mtl.balancing import Balancing
from keras_mtl.configuration.schema import RuntimeConfig
from keras_mtl.models.losses import projected_cross_entropy
from keras_mtl.training.step.distribution import configure_runtime, to_all_replicas
from keras_mtl.training.step.optimizers import Adam
from keras_mtl.training.step.trainer import MultiTaskTrainer


class Model(keras.Model):
    """The least that the trainer takes: a shared table, and a projection for each decoder."""

    def __init__(self, decoders):
        super().__init__(name="model")
        draw = keras.initializers.RandomNormal(stddev=0.5, seed=3)
        names = ["table", *(f"head_{i}" for i in range(decoders))]
        self.tables = [
            self.add_weight(shape=(VOCABULARY, 6), initializer=draw, name=name) for name in names
        ]
        self.built = True

    def variable_decoder_index(self):
        heads = range(len(self.tables) - 1)
        return [None, *(i if len(heads) > 1 else None for i in heads)]

    def token_losses(self, inputs, smoothing=0.0, training=False, drop_padding=False):
        table, *heads = [tf.convert_to_tensor(table) for table in self.tables]
        states = tf.tanh(tf.gather(table, inputs["source"]))
        head = tf.gather(tf.stack(heads), inputs["decoder"][0])
        return projected_cross_entropy(
            states, head, inputs["target"], smoothing, drop_padding=drop_padding
        )


@functools.cache
def strategy_of(replicas):
    name = "mirrored" if replicas > 1 else "one_device"
    return configure_runtime(
        RuntimeConfig(distribution_strategy=name, num_replicas=replicas, seed=5)
    )


def run(
    method=None,
    parameters=None,
    tasks=(0, 1, 0, 1, 1, 1),
    mixed=False,
    replicas=1,
    decoders=1,
    jit=False,
    poison=False,
    scales=None,
    accumulation=2,
    lengths=(6,),
    static=False,
):
    """Updates of two batches each, accumulated or, when mixed, as one batch.

    Args:
        method: balancing method; None sums.
        parameters: its parameters.
        tasks: task of each batch.
        mixed: make one batch of two.
        replicas: number of replicas.
        decoders: 1, or 2 for one of each task.
        jit: compile with XLA.
        poison: make a weight NaN before the last step.
        scales: the schedule's factors.
        accumulation: batches of an update, if they are not mixed.
        lengths: of the batches, in turn.
        static: give each length its own program.
    """
    strategy = strategy_of(replicas)
    with strategy.scope():
        model = Model(decoders)
        optimizer = Adam(0.01, epsilon=1e-3)
        optimizer.build(model.trainable_variables)
        balancing = method and Balancing(method, 2, parameters, seed=4)
    trainer = MultiTaskTrainer(
        model,
        optimizer,
        strategy,
        2,
        [0, 1] if decoders > 1 else [0, 0],
        accumulation=1 if mixed else accumulation,
        jit_compile=jit,
        balancing=balancing,
        mixed=mixed,
        shapes=[(8 * (1 + mixed) // replicas, n) for n in sorted(lengths)] if static else None,
    )
    if scales:
        trainer.set_scales(scales)
    rng = np.random.default_rng(1)
    batches = [
        batch(rng, task, length=lengths[i // (1 + mixed) % len(lengths)])
        for i, task in enumerate(tasks)
    ]
    if mixed:
        pairs = zip(batches[::2], batches[1::2], strict=True)
        batches = [{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in pairs]
    elements = [
        {name: column[replica::replicas] for name, column in whole.items()}
        for whole in batches
        for replica in range(replicas)
    ]
    mark = trainer.mark or (lambda element: element)
    trainer.set_dataset(to_all_replicas(strategy, lambda _: dataset(elements).map(mark)))
    steps = len(tasks) // (2 if mixed else accumulation)
    totals = trainer.train(tf.constant(steps - 1))
    result = {"before/state": json.dumps(_state(balancing))}
    if poison:
        model.tables[0].assign(np.full(model.tables[0].shape, np.nan, np.float32))
    last = trainer.train(tf.constant(1))
    result |= {f"total/{name}": totals[name] + last[name] for name in totals}
    result |= {f"after/{v.path}": v.numpy() for v in model.trainable_variables}
    result["after/state"] = json.dumps(_state(balancing))
    return result


def custom_loop(custom_loop, replicas=1):
    """Gradients of `Balancing.gradients` in a loop of one's own, summed over replicas.

    Args:
        custom_loop: the method.
        replicas: number of replicas, which share two rows.
    """
    strategy = strategy_of(replicas)
    rows = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
    with strategy.scope():
        theta = tf.Variable([1.0, -1.0])
        balancing = Balancing(custom_loop, 2)

    @tf.function(autograph=False)
    def step():
        def replica():
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            own = tf.gather(rows, tf.range(number, 2, replicas))
            with tf.GradientTape(persistent=True) as tape:
                first = tf.reduce_sum(tf.square(theta - own)) / 2
                second = tf.reduce_sum(tf.square(theta + 2 * own + 1)) / 2
            gradients, seen = balancing.gradients(tape, [first, second], [theta])
            balancing.look_back(seen, tf.stack([1.0, 5.0]))
            return gradients[0]

        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(replica), axis=None)

    gradients = np.stack([step().numpy() for _ in range(3)])
    return {"gradients": gradients, "after/state": json.dumps(_state(balancing))}


def _state(balancing):
    return {k: v.tolist() for k, v in balancing.state_dict().items()} if balancing else {}


def main(directory: Path) -> None:
    # Without tf.data's tuner, for whose thread an iterator that is deleted waits, up to a minute.
    tf.data.experimental.enable_debug_mode()
    for number, arguments in enumerate(json.loads((directory / "cases.json").read_text())):
        case = custom_loop if "custom_loop" in arguments else run
        np.savez(directory / f"{number}.npz", **case(**arguments))
