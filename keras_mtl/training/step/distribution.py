"""tf.distribute strategies from the `runtime` section of a configuration."""

from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

from keras_mtl.configuration.checks import STRATEGIES
from keras_mtl.configuration.schema import RuntimeConfig
from keras_mtl.data.batch_plan import Bucket
from keras_mtl.data.packing import PackedShape
from keras_mtl.errors import ConfigError, nearest
from keras_mtl.training.step.cluster import make_multi_worker_strategy
from keras_mtl.training.step.devices import has_tpu_operations, make_tpu_strategy

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def configure_runtime(
    runtime: RuntimeConfig, log: Callable[[str], None] = lambda line: None
) -> tf.distribute.Strategy:
    """Sets seeds, precision and determinism of the process and makes its strategy.

    Call it once, before any TensorFlow operation: logical devices cannot be added later.

    Args:
        runtime: the section `runtime` of the configuration.
        log: function that receives lines for the user, about other workers that are missing.

    Returns:
        The strategy under whose scope the model must be built.

    Raises:
        ConfigError: the strategy or precision is unknown, there are more replicas than devices, or
            no TPU was found.
        WorkerError: another worker did not start.
    """
    if runtime.mixed_precision_dtype not in PRECISIONS:
        raise ConfigError(
            f"runtime.mixed_precision_dtype is {runtime.mixed_precision_dtype!r}"
            f"{nearest(runtime.mixed_precision_dtype, PRECISIONS)}"
        )
    strategy = make_strategy(runtime, log)
    if not tf.config.list_physical_devices("GPU"):
        # On CPUs, the fused operations of the remapper are slower than separate ones: with it, the
        # demo's model needs 1.3 times the CPU time for a training step and 4.5 times for a forward
        # pass (two cores, AMD Zen 5).
        tf.config.optimizer.set_experimental_options({"remapping": False})
    keras.config.set_dtype_policy(runtime.mixed_precision_dtype)
    keras.utils.set_random_seed(runtime.seed)
    if runtime.deterministic and runtime.distribution_strategy != "tpu":
        # TPU programs are always deterministic, and this function rejects some of their operations.
        tf.config.experimental.enable_op_determinism()
    return strategy


def compiles_with_xla(runtime: RuntimeConfig) -> bool:
    """Returns whether XLA compiles the training step; by default only on GPUs and TPUs.

    Args:
        runtime: the section `runtime` of the configuration; its strategy must already exist.

    Raises:
        ConfigError: XLA is to compile for the host, and this TensorFlow is a build for TPUs.
    """
    if runtime.distribution_strategy == "tpu":
        return True
    if runtime.jit_compile is None:
        return bool(tf.config.list_logical_devices("GPU"))
    if runtime.jit_compile and has_tpu_operations():
        raise ConfigError(
            "runtime.jit_compile is true and runtime.distribution_strategy is "
            f"{runtime.distribution_strategy!r}: tensorflow-tpu cannot compile for the host's CPU; "
            "set runtime.jit_compile to false, or runtime.distribution_strategy to tpu"
        )
    return runtime.jit_compile


def static_shapes(
    strategy: tf.distribute.Strategy, buckets: Iterable[Bucket | PackedShape]
) -> list[tuple[int, int]] | None:
    """Returns the shapes of batches if the training step needs a program for each; else None.

    A TPU does: it pads and bounds dimensions that are not static. XLA on CPUs and GPUs compiles for
    the shape of each batch when the first batch of that shape arrives, so one traced step is
    enough. In a plain graph, a branch for each shape would only cost time to trace.

    Args:
        strategy: the strategy of the training step.
        buckets: shapes of batches by increasing length, for all replicas together.

    Returns:
        (rows of a replica, length) of each bucket.
    """
    if not isinstance(strategy, tf.distribute.TPUStrategy):
        return None
    replicas = strategy.num_replicas_in_sync
    return [(bucket.rows // replicas, bucket.length) for bucket in buckets]


def make_strategy(
    runtime: RuntimeConfig, log: Callable[[str], None] = lambda line: None
) -> tf.distribute.Strategy:
    """Makes the strategy that `runtime.distribution_strategy` names; see `configure_runtime`."""
    name = runtime.distribution_strategy
    if name == "off":
        return tf.distribute.get_strategy()
    if name == "one_device":
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        return tf.distribute.OneDeviceStrategy(f"/{kind}:0")
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(_mirrored_devices(runtime.num_replicas))
    if name == "multi_worker_mirrored":
        return make_multi_worker_strategy(log=log)
    if name == "tpu":
        return make_tpu_strategy(runtime.tpu)
    raise ConfigError(f"runtime.distribution_strategy is {name!r}{nearest(str(name), STRATEGIES)}")


def _mirrored_devices(num_replicas: int) -> list[str]:
    """Returns the devices of a MirroredStrategy; splits a host without GPUs into logical CPUs."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        if num_replicas > len(gpus):
            raise ConfigError(
                f"runtime.num_replicas is {num_replicas}, but there are only {len(gpus)} GPUs. Use "
                "0 for all of them"
            )
        return [f"/GPU:{i}" for i in range(num_replicas or len(gpus))]
    count = num_replicas or 1
    cpu = tf.config.list_physical_devices("CPU")[0]
    have = tf.config.get_logical_device_configuration(cpu)
    if not have or len(have) < count:
        try:
            tf.config.set_logical_device_configuration(
                cpu, [tf.config.LogicalDeviceConfiguration()] * count
            )
        except RuntimeError as error:
            raise ConfigError(
                f"runtime.num_replicas is {count}, but TensorFlow has already started with "
                f"{max(1, len(have or []))} logical CPUs. Start a new process and make the "
                "strategy first"
            ) from error
    return [f"/CPU:{i}" for i in range(count)]


def _accelerators() -> bool:
    return bool(tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"))


def to_all_replicas(
    strategy: tf.distribute.Strategy, make_dataset: Callable[[range], tf.data.Dataset]
) -> Any:
    """Distributes a dataset that yields one element for each replica in turn.

    Args:
        strategy: the strategy of the training step.
        make_dataset: function from the range of the replicas that this process feeds, for example
            range(2, 4) for the second of two workers with two GPUs each, to a `tf.data.Dataset`
            whose elements are for these replicas in turn, as those of `Mixture.dataset`.

    Returns:
        A dataset. If there are several devices, it is distributed, and each `next` gives every
        replica its element.
    """
    one_process = not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    if strategy.num_replicas_in_sync == 1 and one_process and not _accelerators():
        # A distributed iterator would add a useless copy to the device and a thread of tf.data's
        # autotuner. Each change of the schedule needs a new iterator, which waits for that thread
        # of the old one: several seconds on a busy host, up to a minute.
        return make_dataset(range(1))

    def of_pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
        replicas = strategy.num_replicas_in_sync // context.num_input_pipelines
        first = context.input_pipeline_id * replicas
        return make_dataset(range(first, first + replicas))

    # Replicas get whole elements instead of slices of one element, because rebatching requires
    # that the number of rows is known in advance.
    options = None
    if isinstance(strategy, tf.distribute.TPUStrategy):
        # The step reads a batch's bucket on the host, so batches stay there until it runs.
        options = tf.distribute.InputOptions(experimental_fetch_to_device=False)
    return strategy.distribute_datasets_from_function(of_pipeline, options)
