"""What a run computes on, in words; and why it is not a GPU or a TPU."""

import ctypes
import dataclasses
import os
import socket
from collections.abc import Sequence
from importlib import metadata

import tensorflow as tf
from tensorflow.python.framework import kernels  # No public module lists them.

from keras_mtl import hardware
from keras_mtl.configuration.schema import RuntimeConfig
from keras_mtl.errors import ConfigError

# Where a TPU worker listens when its address names no port.
_TPU_PORT = 8470
_SECONDS_TO_CONNECT = 10.0


@dataclasses.dataclass(frozen=True)
class GpuSupport:
    """What has to be there for TensorFlow to use an NVIDIA GPU.

    Attributes:
        driver: the machine has NVIDIA's driver, and a device.
        built_with_cuda: TensorFlow is built for NVIDIA GPUs.
        visible: the value of CUDA_VISIBLE_DEVICES; None when it is not set.
        missing_libraries: CUDA's libraries that cannot be loaded.
    """

    driver: bool
    built_with_cuda: bool
    visible: str | None
    missing_libraries: Sequence[str]

    @classmethod
    def of_this_process(cls) -> "GpuSupport":
        """Looks at the machine, the environment and the installed packages."""
        driver = os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/dxg")
        built = tf.test.is_built_with_cuda()
        missing = _missing_libraries() if driver and built else []
        return cls(driver, built, os.environ.get("CUDA_VISIBLE_DEVICES"), missing)

    def why_no_gpu(self) -> str:
        """Returns why no GPU is used, and what to do."""
        if not self.driver:
            return (
                "this machine has no NVIDIA GPU with a driver (a container gets the host's with "
                "--gpus all)"
            )
        if not self.built_with_cuda:
            return (
                "this TensorFlow is built without CUDA; replace it with "
                "pip install 'keras_mtl[gpu]'"
            )
        if self.visible is not None and self.visible.strip() in ("", "-1", "none", "NoDevFiles"):
            return f"CUDA_VISIBLE_DEVICES={self.visible!r} hides the GPUs; unset it"
        if self.missing_libraries:
            return (
                f"CUDA's libraries are missing ({', '.join(self.missing_libraries)}); "
                "pip install 'keras_mtl[gpu]'"
            )
        chosen = f"CUDA_VISIBLE_DEVICES={self.visible!r} may hide it; " if self.visible else ""
        return (
            f"TensorFlow cannot use it: {chosen}set TF_CPP_MIN_LOG_LEVEL=0 to see TensorFlow's "
            "reason"
        )


def _missing_libraries() -> list[str]:
    """Returns the CUDA libraries of this TensorFlow that are neither installed nor in a package."""
    build = tf.sysconfig.get_build_info()
    cuda = str(build.get("cuda_version", "")).partition(".")[0]
    cudnn = str(build.get("cudnn_version", "")).partition(".")[0]
    wanted = {
        f"libcudart.so.{cuda}": f"nvidia-cuda-runtime-cu{cuda}",
        f"libcublas.so.{cuda}": f"nvidia-cublas-cu{cuda}",
        f"libcudnn.so.{cudnn}": f"nvidia-cudnn-cu{cuda}",
    }
    return [
        library
        for library, package in wanted.items()
        if not _is_installed(package) and not _loads(library)
    ]


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def describe(runtime: RuntimeConfig, compiles: bool) -> list[str]:
    """Returns lines that say what a run computes on.

    Args:
        runtime: `keras_mtl.configuration.schema.RuntimeConfig`, whose strategy is made already.
        compiles: whether XLA compiles the training step.
    """
    threading = tf.config.threading
    processors = hardware.processor_count()
    within = threading.get_intra_op_parallelism_threads() or processors
    between = threading.get_inter_op_parallelism_threads() or processors
    return [
        *_devices(runtime, processors),
        f"TensorFlow {tf.__version__}: {runtime.mixed_precision_dtype}, "
        f"{'compiled with XLA' if compiles else 'not compiled with XLA'}, {within} threads within "
        f"an operation, {between} between operations",
    ]


def _devices(runtime: RuntimeConfig, processors: int) -> list[str]:
    if runtime.distribution_strategy == "tpu":
        return [f"device: {len(tf.config.list_logical_devices('TPU'))} TPU cores"]
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        names = [
            tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
            for gpu in gpus
        ]
        used = 1 if runtime.distribution_strategy == "one_device" else runtime.num_replicas
        used = used or len(gpus)
        lines = [f"device: GPU, {', '.join(names[:used])}"]
        if used < len(gpus):
            lines.append(
                f"{used} of {len(gpus)} GPUs used; to train on all, set "
                "runtime.distribution_strategy=mirrored and runtime.num_replicas=0"
            )
        return lines
    lines = [
        f"device: CPU, {hardware.processor_name()}, {processors} processors",
        f"no GPU is used: {GpuSupport.of_this_process().why_no_gpu()}",
    ]
    if runtime.distribution_strategy == "mirrored" and runtime.num_replicas > 1:
        lines.append(
            f"runtime.num_replicas is {runtime.num_replicas}: the CPU is split into that number of "
            "devices, which share its processors; that tests a distributed run, and is slower than "
            "one_device"
        )
    return lines


def make_tpu_strategy(tpu: str) -> tf.distribute.Strategy:
    """Connects to a TPU and makes its strategy.

    Args:
        tpu: `local` on a TPU VM, else the address or name of the TPU.

    Raises:
        ConfigError: no TPU is found, or this TensorFlow cannot use one.
    """
    try:
        if "://" in tpu:
            _check_reachable(tpu)
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        if tpu not in ("", "local"):
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except Exception as error:  # TensorFlow, its drivers and its cloud clients raise all kinds.
        raise ConfigError(
            "runtime.distribution_strategy is 'tpu', and no TPU can be used with runtime.tpu "
            f"{tpu!r}: {_why_no_tpu(tpu, error)}. To train on GPUs or CPUs set "
            "runtime.distribution_strategy to one_device or mirrored"
        ) from error


def _check_reachable(address: str) -> None:
    """Raises OSError if no server listens at an address; TensorFlow would wait forever."""
    host, _, port = address.partition("://")[2].rstrip("/").partition(":")
    socket.create_connection((host, int(port or _TPU_PORT)), _SECONDS_TO_CONNECT).close()


def _has_tpu_operations() -> bool:
    """Whether this TensorFlow is a build for TPUs."""
    return bool(kernels.get_registered_kernels_for_op("ConfigureDistributedTPU").kernel)


def _why_no_tpu(tpu: str, error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    # The text depends on what the process has done before; the operations that there are do not.
    local_without_support = tpu in ("", "local") and not _has_tpu_operations()
    if not local_without_support and "No OpKernel was registered" not in text:
        return text.splitlines()[0][:300]
    release = ".".join(tf.__version__.split(".")[:2])
    if _is_installed("tensorflow-tpu"):
        return (
            "the packages tensorflow and tensorflow-tpu have the same files, and those of "
            "tensorflow were installed last; install the others over them: pip install "
            f"--force-reinstall --no-deps 'tensorflow-tpu=={release}.*'"
        )
    return (
        "the package tensorflow has no TPU support; on a TPU VM install over it: pip install "
        f"--no-deps 'tensorflow-tpu=={release}.*' (and its libtpu; see docs/how-to/training.md)"
    )
