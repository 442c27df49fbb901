"""The HLO of the programs that a run would start on a TPU."""

from collections.abc import Callable, Collection
from typing import Any

import keras
import tensorflow as tf

from keras_mtl.data.batch_plan import Bucket
from keras_mtl.data.packed_batch import packed_spec
from keras_mtl.data.packing import PackedShape
from keras_mtl.models.factory import check_sublayers
from keras_mtl.tpu_check.replicas import LoweringStrategy
from keras_mtl.tpu_check.results import Program
from keras_mtl.training.run.parts import StepParts, build_step
from keras_mtl.training.run.planning import TrainingPlan
from keras_mtl.training.step.balancing import check_balancing
from keras_mtl.training.step.trainer import MultiTaskTrainer


def build(
    plan: TrainingPlan,
    vocabulary_sizes: tuple[int, int | None],
    shapes: Collection[Bucket | PackedShape],
    replicas: int,
) -> StepParts:
    """Makes model, optimizer, balancing and training step of a run on a TPU.

    Sets the dtype policy and the seeds of the process.

    Args:
        plan: the plan of a training with the strategy `tpu`.
        vocabulary_sizes: number of ids, and that of sources if they have their own vocabulary.
        shapes: shapes of batches by increasing length, for all replicas together.
        replicas: number of replicas.

    Raises:
        ConfigError: a balancing method or a sub-layer is invalid.
    """
    runtime = plan.config.runtime
    check_balancing(plan.config.trainer.balancing, plan.updates)
    check_sublayers(plan.config.task.model, runtime.mixed_precision_dtype)
    keras.config.set_dtype_policy(runtime.mixed_precision_dtype)
    keras.utils.set_random_seed(runtime.seed)
    return build_step(
        plan,
        LoweringStrategy(replicas),
        vocabulary_sizes[0],
        [(shape.rows // replicas, shape.length) for shape in shapes],
        vocabulary_sizes[1],
    )


def lower(
    trainer: MultiTaskTrainer, shape: Bucket | PackedShape, skipped: Collection[str] = ()
) -> list[Program]:
    """Lowers the programs of an update for batches of one shape.

    Args:
        trainer: a trainer with static shapes.
        shape: shape of a batch of all replicas.
        skipped: names of programs that are left out.
    """
    assert trainer.static is not None
    batch = batch_of(shape, trainer.strategy.num_replicas_in_sync)
    return [
        Program(name, shape, *_lower(trainer.strategy, function, args))
        for name, (function, args) in trainer.static.programs(batch).items()
        if name not in skipped
    ]


def batch_of(shape: Bucket | PackedShape, replicas: int) -> dict[str, tf.Tensor]:
    """Returns a replica's batch of zeros.

    Args:
        shape: shape of a batch of all replicas.
        replicas: number of replicas.
    """
    sizes: dict[str, tuple[int | None, ...]]
    if isinstance(shape, PackedShape):
        sizes = {name: size for name, (_, size) in packed_spec(shape).items()}
        sizes["task"] = (shape.target_length,)
    else:
        sizes = {"source": (shape.length,), "target": (shape.length,), "task": ()}
    rows = shape.rows // replicas
    return {name: tf.zeros([rows, *size], tf.int32) for name, size in sizes.items()}


def _lower(
    strategy: tf.distribute.Strategy, function: Callable[..., Any], args: Any
) -> tuple[str, dict[int, int]]:
    """Returns XLA's text of a program and the sizes of its variables."""
    program = tf.function(
        lambda *given: strategy.run(function, args=given), jit_compile=True, autograph=False
    )
    text = program.experimental_get_compiler_ir(*args)(stage="hlo")
    # Not its `variables`: an operation that gets a variable's handle is not in that list.
    handles = program.get_concrete_function(*args).captured_inputs
    sizes = {id(handle): _size(handle) for handle in handles if handle.dtype == tf.resource}
    return str(text), sizes


def _size(handle: tf.Tensor) -> int:
    """Returns the bytes of a variable."""
    (held,) = handle._handle_data.shape_and_type  # There is no public accessor.
    shape = tf.TensorShape(held.shape)
    return int(shape.num_elements()) * int(tf.as_dtype(held.dtype).size)
