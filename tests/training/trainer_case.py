"""A few steps of the trainer in a process of its own: strategies set devices once.

`main` reads from its directory cases.json, which lists what to run, and writes <number>.npz, the
weights and the totals of each case.
"""

import functools
import json
from pathlib import Path

import fit_case
import keras
import numpy as np
import tensorflow as tf
from tiny_run import OTHER_SUBLAYERS

from keras_mtl.balancing import Balancing
from keras_mtl.configuration.quantization import of_mapping
from keras_mtl.configuration.schema import RuntimeConfig, TransformerConfig
from keras_mtl.models.factory import build_transformer
from keras_mtl.models.quantizers import quantizers
from keras_mtl.training.step.distribution import configure_runtime, make_strategy, to_all_replicas
from keras_mtl.training.step.keras_optimizers import create_keras_optimizer
from keras_mtl.training.step.loss_scale import DynamicLossScale
from keras_mtl.training.step.optimizers import Adam
from keras_mtl.training.step.rate_factors import trained_by
from keras_mtl.training.step.trainer import MultiTaskTrainer

VOCABULARY = 23
# Ranges that are measured from the first step, and rounding from the second one.
QUANTIZATION = {"domains": [{"kind": "static", "start_step": 1, "ema_decay": 0.5}]}
# One of a kind in a process: sums over replicas are numbered from the same number on in each
# MirroredStrategy, and two of equal number have to be of equal shape.
STRATEGIES: dict = {}


def batch(rng, task, rows=8, length=6):
    ids = rng.integers(4, VOCABULARY, (2, rows, length)).astype(np.int32)
    # Rows of unequal length make the mean over replicas differ from the mean over tokens.
    for row in range(rows):
        ids[:, row, 1 + (row % length) :] = 0
    return {"source": ids[0], "target": ids[1], "task": np.full(rows, task, np.int32)}


def packed(whole):
    """Puts every two rows of a batch into one row, the second sentence right behind the first."""
    rows, length = whole["source"].shape
    result = {}
    for side in ("source", "target"):
        arrays = np.zeros((3, rows // 2, 2 * length), np.int32)
        tasks = np.repeat(whole["task"][::2, None], 2 * length, axis=1)
        for row, ids in enumerate(whole[side]):
            ids = ids[ids != 0]
            start = np.count_nonzero(arrays[0, row // 2])
            cells = slice(start, start + len(ids))
            values = (ids, row % 2 + 1, np.arange(len(ids)))
            for array, value in zip(arrays[:, row // 2], values, strict=True):
                array[cells] = value
            tasks[row // 2, cells] = whole["task"][row]
        for array, suffix in zip(arrays, ("", "_segments", "_positions"), strict=True):
            result[side + suffix] = array
        result["task"] = tasks
    return result


def dataset(elements):
    """Makes a dataset of batches, or of parts of batches, of any number and length of rows."""
    spec = {
        name: tf.TensorSpec([None] * value.ndim, tf.int32) for name, value in elements[0].items()
    }
    return tf.data.Dataset.from_generator(lambda: iter(elements), output_signature=spec)


def model_settings(dropout, sharing, saving, other_sublayers, quantization):
    return TransformerConfig(
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
        logits_chunk=7 if saving else 0,
        recompute="layer" if saving else "none",
        quantization=of_mapping(QUANTIZATION if quantization else None),
        **(OTHER_SUBLAYERS if other_sublayers else {}),
    )


class Program:
    """A trainer and what its cases start from; made once, because tracing takes seconds."""

    def __init__(
        self,
        replicas,
        accumulation,
        sharing,
        jit,
        dropout,
        precision,
        moments,
        balancing,
        optimizer,
        train_only,
        saving,
        other_sublayers,
        quantization,
    ):
        name = "mirrored" if replicas > 1 else "one_device"
        strategy = configure_runtime(
            RuntimeConfig(
                distribution_strategy=name,
                num_replicas=replicas,
                seed=5,
                mixed_precision_dtype=precision,
            )
        )
        self.strategy = STRATEGIES.setdefault(name, strategy)
        knows_tasks = moments != "shared"
        with self.strategy.scope():
            self.model = build_transformer(
                model_settings(dropout, sharing, saving, other_sublayers, quantization),
                VOCABULARY,
                ("fr", "de"),
            )
            # A large epsilon, so that weights whose true gradient is 0 (biases of keys) do not
            # follow the rounding of it.
            if optimizer:
                self.optimizer = create_keras_optimizer(optimizer, {}, 0.01, 0.5)
            else:
                self.optimizer = Adam(
                    0.01, epsilon=1e-3, num_tasks=2 if knows_tasks else 0, moments=moments
                )
            self.optimizer.build(self.model.trainable_variables)
            float16 = precision == "mixed_float16"
            self.loss_scale = DynamicLossScale(tokens=128) if float16 else None
            balance = Balancing(balancing, 2, seed=1) if balancing else None
        # The same numbers whatever the strategy's way of creating variables.
        for variable in self.model.trainable_variables:
            if len(variable.shape) > 1:
                generator = np.random.default_rng(len(variable.shape))
                variable.assign(generator.normal(0, 0.1, variable.shape).astype(np.float32))
        self.trainer = MultiTaskTrainer(
            self.model,
            self.optimizer,
            self.strategy,
            2,
            [0, 1] if sharing == "encoder" else [0, 0],
            accumulation=accumulation,
            jit_compile=jit,
            scale_learning_rate=knows_tasks,
            loss_scale=self.loss_scale,
            balancing=balance,
            mixed=True,
            trained_by=trained_by(self.model.trainable_variables, train_only, ["0", "1"]),
        )
        self._variables = [*self.model.variables, *self.optimizer.variables]
        self._values = [variable.numpy() for variable in self._variables]
        self._loss_scale = self.loss_scale.collect() if float16 else {}

    def reset(self):
        """Sets everything that a run changes to what it was when the program was made."""
        for variable, value in zip(self._variables, self._values, strict=True):
            variable.assign(value)
        if self.loss_scale:
            self.loss_scale.restore(self._loss_scale)
        self.trainer.global_step.assign(0)
        self.trainer.set_scales([1.0, 1.0])


program = functools.cache(Program)


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
    mixed=False,
    pack=False,
    balancing="",
    saving=False,
    optimizer="",
    train_only=((), ()),
    other_sublayers=False,
    quantization=False,
):
    case = program(
        replicas=replicas,
        accumulation=accumulation,
        sharing=sharing,
        jit=jit,
        dropout=dropout,
        precision=precision,
        moments=moments,
        balancing=balancing,
        saving=saving,
        optimizer=optimizer,
        train_only=tuple(map(tuple, train_only)),
        other_sublayers=other_sublayers,
        quantization=quantization,
    )
    case.reset()
    model, trainer = case.model, case.trainer
    if loss_scale is not None:
        case.loss_scale.restore({"loss_scale/value": loss_scale, "loss_scale/updates": 0})
    if scales is not None:
        trainer.set_scales(scales)
    rng = np.random.default_rng(1)
    elements = []
    for task in tasks:
        whole = batch(rng, task)
        if mixed:
            whole["task"][1::2] = 1 - task
        if pack:
            whole = packed(whole)
        parts = replicas * (2 if halves else 1)
        elements += [{k: np.split(v, parts)[i] for k, v in whole.items()} for i in range(parts)]
    trainer.set_dataset(to_all_replicas(case.strategy, lambda _: dataset(elements)))
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
    result |= {f"state/{each.name}": each.state.numpy() for each in quantizers(model)}
    result["step"] = trainer.global_step.numpy()
    result |= case.loss_scale.collect() if case.loss_scale else {}
    if moments != "shared":
        result["task_updates"] = case.optimizer.task_updates.numpy()
        result["factors"] = case.optimizer.factors.numpy()
    return result


def main(directory: Path) -> None:
    # Without tf.data's tuner, for whose thread an iterator that is deleted waits, up to a minute.
    tf.data.experimental.enable_debug_mode()
    # Each program runs for a few steps, less than the optimizer of graphs needs. XLA has its own.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    for number, arguments in enumerate(json.loads((directory / "cases.json").read_text())):
        if "fit" in arguments:
            keras.config.set_dtype_policy("float32")  # Other cases set the policy of the process.
            strategy = make_strategy(RuntimeConfig(**arguments["runtime"]))
            strategy = STRATEGIES.setdefault(
                arguments["runtime"]["distribution_strategy"], strategy
            )
            result = fit_case.train(strategy, **arguments["fit"])
        else:
            result = run(**arguments)
        np.savez(directory / f"{number}.npz", **result)
