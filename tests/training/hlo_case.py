"""Lowers the programs of training steps to HLO, in a process of its own.

`main` reads from its directory cases.json, which lists what to lower, and writes for each program
<case>.<program>.txt, XLA's text before any optimization. No program is compiled.
"""

import dataclasses
import json
from pathlib import Path

from balance_case import Model
from trainer_case import VOCABULARY

from keras_mtl.balancing import Balancing
from keras_mtl.configuration.schema import RuntimeConfig, TransformerConfig
from keras_mtl.data.batch_plan import Bucket
from keras_mtl.data.packing import PackedShape
from keras_mtl.models.factory import build_transformer
from keras_mtl.tpu_check.lowering import lower
from keras_mtl.tpu_check.replicas import LoweringStrategy
from keras_mtl.training.step.distribution import configure_runtime
from keras_mtl.training.step.gradient_norm import GradientNormTracker
from keras_mtl.training.step.optimizers import Adam
from keras_mtl.training.step.trainer import MultiTaskTrainer

BUCKET = Bucket(length=6, rows=4)
PACKED = PackedShape(rows=2, source_length=12, target_length=8)


def make_trainer(
    transformer=False,
    method=None,
    mixed=False,
    accumulation=1,
    moments="shared",
    average=0.0,
    decay=0.0,
    precision="float32",
    decoders=1,
    saving=False,
    packed=False,
    replicas=1,
):
    """Makes a trainer of two tasks.

    Args:
        transformer: a small Transformer with dropout; False takes the least model.
        method: balancing method.
        mixed: whether a batch is of both tasks.
        accumulation: batches of an update.
        moments: kind of Adam's moments.
        average: momentum of the averaged weights; > 0 also skips updates of large gradients.
        decay: weight decay.
        precision: dtype policy.
        decoders: 1, or 2 for one of each task.
        saving: whether logits are computed in chunks and layers again in the backward pass.
        packed: whether rows have several pairs.
        replicas: number of replicas.
    """
    strategy = configure_runtime(
        RuntimeConfig(
            distribution_strategy="one_device",
            seed=5,
            mixed_precision_dtype=precision,
            deterministic=False,
        )
    )
    if replicas > 1:
        strategy = LoweringStrategy(replicas)
    tasks, shape = 2, PACKED if packed else BUCKET
    knows_tasks = moments != "shared"
    with strategy.scope():
        if transformer:
            sizes = {"size": "tiny", "hidden_dim": 16, "num_heads": 2, "intermediate_dim": 32}
            settings = TransformerConfig(
                **sizes,
                encoder_layers=1,
                decoder_layers=1,
                dropout=0.1,
                attention_dropout=0.1,
                activation_dropout=0.1,
                sharing="encoder" if decoders > 1 else "full",
                logits_chunk=5 if saving else 0,
                recompute="layer" if saving else "none",
            )
            model = build_transformer(settings, VOCABULARY, ("fr", "de"))
        else:
            model = Model(decoders)
        optimizer = Adam(
            0.01,
            num_tasks=tasks if knows_tasks else 0,
            moments=moments,
            average_momentum=average,
            decoupled_weight_decay=decay,
        )
        optimizer.build(model.trainable_variables)
        balancing = method and Balancing(method, tasks)
        tracker = GradientNormTracker(4.0) if average else None
    return MultiTaskTrainer(
        model,
        optimizer,
        strategy,
        tasks,
        list(range(decoders)) if decoders > 1 else [0, 0],
        accumulation=accumulation,
        scale_learning_rate=knows_tasks,
        balancing=balancing,
        mixed=mixed,
        shapes=[(shape.rows, shape.length)],
        norm_tracker=tracker,
    )


def main(directory: Path) -> None:
    for number, arguments in enumerate(json.loads((directory / "cases.json").read_text())):
        shape = PACKED if arguments.get("packed") else BUCKET
        replicas = arguments.get("replicas", 1)
        whole = dataclasses.replace(shape, rows=shape.rows * replicas)
        for program in lower(make_trainer(**arguments), whole):
            (directory / f"{number}.{program.name}.txt").write_text(program.text)
