"""A few steps of the trainer in its own process: strategies set devices once.

Usage: python trainer_case.py DIRECTORY, where cases.json lists what to run; writes <number>.npz,
the weights and the totals of each case.
"""

import json
import sys
from pathlib import Path

import fit_case
import keras
import numpy as np
import tensorflow as tf

from keras_mtl.configuration.schema import RuntimeConfig, TransformerConfig
from keras_mtl.models.factory import build_transformer
from keras_mtl.training.step.distribution import configure_runtime, make_strategy, to_all_replicas
from keras_mtl.training.step.loss_scale import DynamicLossScale
from keras_mtl.training.step.optimizers import Adam
from keras_mtl.training.step.trainer import MultiTaskTrainer

VOCABULARY = 23
# One of a kind in a process: sums over replicas are numbered from the same number on in each
# MirroredStrategy, and two of equal number have to be of equal shape.
STRATEGIES: dict = {}


def batch(rng, task, rows=8, length=6):
    ids = rng.integers(4, VOCABULARY, (2, rows, length)).astype(np.int32)
    # Rows of unequal length make the mean over replicas differ from the mean over tokens.
    for row in range(rows):
        ids[:, row, 1 + (row % length) :] = 0
    return {"source": ids[0], "target": ids[1], "task": np.full(rows, task, np.int32)}


def run(
    replicas=1,
    steps=3,
    accumulation=1,
    sharing="full",
    jit=False,
    dropout=0.0,
    tasks=(0, 1, 0),
    poison=-1,
    halves=False,
    precision="float32",
    moments="shared",
    scales=None,
    loss_scale=None,
):
    strategy = make_strategy_of(replicas, precision)
    knows_tasks = moments != "shared"
    with strategy.scope():
        model = make_model(sharing, dropout)
        # A large epsilon, so that weights whose true gradient is 0 (biases of keys) do not follow
        # the rounding of it.
        optimizer = Adam(0.01, epsilon=1e-3, num_tasks=2 if knows_tasks else 0, moments=moments)
        optimizer.build(model.trainable_variables)
        scale = DynamicLossScale(tokens=128) if precision == "mixed_float16" else None
        if loss_scale is not None:
            scale.restore({"loss_scale/value": loss_scale, "loss_scale/updates": 0})
    set_weights(model)
    trainer = MultiTaskTrainer(
        model,
        optimizer,
        strategy,
        2,
        [0, 1] if sharing == "encoder" else [0, 0],
        accumulation=accumulation,
        jit_compile=jit,
        scale_learning_rate=knows_tasks,
        loss_scale=scale,
    )
    if scales is not None:
        trainer.set_scales(scales)
    parts = replicas * (2 if halves else 1)
    trainer.set_dataset(to_all_replicas(strategy, lambda: make_dataset(tasks, parts)))
    names = [variable.path for variable in model.trainable_variables]
    before = [variable.numpy() for variable in model.trainable_variables]
    if poison >= 0:
        variable = model.trainable_variables[poison]
        variable.assign(np.full(variable.shape, np.nan, np.float32))
        before[poison] = variable.numpy()
    totals = trainer.train(tf.constant(steps))
    after = [variable.numpy() for variable in model.trainable_variables]
    result = {f"total/{name}": value for name, value in totals.items()}
    result |= {f"before/{name}": value for name, value in zip(names, before, strict=True)}
    result |= {f"after/{name}": value for name, value in zip(names, after, strict=True)}
    owners = model.variable_decoder_index()
    result["owners"] = np.array([-1 if owner is None else owner for owner in owners])
    result["step"] = trainer.global_step.numpy()
    result |= scale.collect() if scale else {}
    if knows_tasks:
        result["task_updates"] = optimizer.task_updates.numpy()
        result["factors"] = optimizer.factors.numpy()
    keras.backend.clear_session()
    return result


def make_strategy_of(replicas, precision):
    name = "mirrored" if replicas > 1 else "one_device"
    strategy = configure_runtime(
        RuntimeConfig(
            distribution_strategy=name,
            num_replicas=replicas,
            seed=5,
            mixed_precision_dtype=precision,
        )
    )
    return STRATEGIES.setdefault(name, strategy)


def make_model(sharing, dropout):
    config = TransformerConfig(
        size="tiny",
        hidden_dim=16,
        num_heads=2,
        intermediate_dim=32,
        encoder_layers=1,
        decoder_layers=1,
        dropout=dropout,
        attention_dropout=dropout,
        activation_dropout=dropout,
        sharing=sharing,
    )
    return build_transformer(config, VOCABULARY, ("fr", "de"))


def set_weights(model):
    """Sets the same numbers, whatever the strategy's way of creating variables."""
    for variable in model.trainable_variables:
        if len(variable.shape) > 1:
            variable.assign(
                np.random.default_rng(len(variable.shape))
                .normal(0, 0.1, variable.shape)
                .astype(np.float32)
            )


def make_dataset(tasks, parts):
    """Batches of the tasks, each cut into `parts` elements."""
    rng = np.random.default_rng(1)
    elements = []
    for task in tasks:
        whole = batch(rng, task)
        elements += [{k: np.split(v, parts)[i] for k, v in whole.items()} for i in range(parts)]
    spec = {
        "source": tf.TensorSpec([None, None], tf.int32),
        "target": tf.TensorSpec([None, None], tf.int32),
        "task": tf.TensorSpec([None], tf.int32),
    }
    return tf.data.Dataset.from_generator(lambda: iter(elements), output_signature=spec)


if __name__ == "__main__":
    directory = Path(sys.argv[1])
    for number, arguments in enumerate(json.loads((directory / "cases.json").read_text())):
        if "fit" in arguments:
            strategy = make_strategy(RuntimeConfig(**arguments["runtime"]))
            strategy = STRATEGIES.setdefault(
                arguments["runtime"]["distribution_strategy"], strategy
            )
            result = fit_case.train(strategy, **arguments["fit"])
        else:
            result = run(**arguments)
        np.savez(directory / f"{number}.npz", **result)
