"""Describes the devices of a run and explains why no GPU or TPU is used."""

import ctypes
import dataclasses
import glob
import os
import socket
from collections.abc import Sequence
from importlib import metadata

import tensorflow as tf
from tensorflow.python.framework import kernels  # Not available from a public module.

from keras_mtl import hardware
from keras_mtl.configuration.schema import RuntimeConfig
from keras_mtl.errors import ConfigError

# The default port of a TPU worker.
_TPU_PORT = 8470
_SECONDS_TO_CONNECT = 10.0
# Lines of an error that a compiled function raises: where it was, not what happened.
_NO_CAUSE = ("Graph execution error", "Detected at node", "<stack traces", "[[{{node")


@dataclasses.dataclass(frozen=True)
class GpuSupport:
    """The requirements for TensorFlow to use an NVIDIA GPU.

    Attributes:
        driver: whether the machine has NVIDIA's driver and a device.
        built_with_cuda: whether TensorFlow is built for NVIDIA GPUs.
        visible: the value of CUDA_VISIBLE_DEVICES; None if it is not set.
        missing_libraries: the CUDA libraries that cannot be loaded.
    """

    driver: bool
    built_with_cuda: bool
    visible: str | None
    missing_libraries: Sequence[str]

    @classmethod
    def of_this_process(cls) -> "GpuSupport":
        """Inspects the machine, the environment and the installed packages."""
        driver = os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/dxg")
        built = tf.test.is_built_with_cuda()
        missing = _missing_libraries() if driver and built else []
        return cls(driver, built, os.environ.get("CUDA_VISIBLE_DEVICES"), missing)

    def why_no_gpu(self) -> str:
        """Returns the reason why no GPU is used, and the remedy."""
        if not self.driver:
            return (
                "this machine has no NVIDIA GPU with a driver (in a container, pass --gpus all to "
                "docker run)"
            )
        if not self.built_with_cuda:
            return (
                "this TensorFlow is built without CUDA; to replace it, run "
                "pip install 'keras_mtl[gpu]'"
            )
        if self.visible is not None and self.visible.strip() in ("", "-1", "none", "NoDevFiles"):
            return f"CUDA_VISIBLE_DEVICES={self.visible!r} hides the GPUs; unset it"
        if self.missing_libraries:
            return (
                f"CUDA libraries are missing ({', '.join(self.missing_libraries)}); run "
                "pip install 'keras_mtl[gpu]'"
            )
        chosen = f"CUDA_VISIBLE_DEVICES={self.visible!r} may hide it; " if self.visible else ""
        return (
            f"TensorFlow cannot use the GPU: {chosen}set TF_CPP_MIN_LOG_LEVEL=0 to see "
            "TensorFlow's message"
        )


def _missing_libraries() -> list[str]:
    """Returns the CUDA libraries of this TensorFlow that neither the system nor a package has."""
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
    """Returns lines that describe the devices of a run.

    Args:
        runtime: the section `runtime`; its strategy must already exist.
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
                f"{used} of {len(gpus)} GPUs are used; to train on all, set "
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
            "logical devices, which share its processors. This is useful to test distributed "
            "training, but slower than one_device"
        )
    return lines


def make_tpu_strategy(tpu: str) -> tf.distribute.Strategy:
    """Connects to a TPU and makes its strategy.

    Args:
        tpu: `local` on a TPU VM, else the address or name of the TPU.

    Raises:
        ConfigError: no TPU was found, or this TensorFlow cannot use it.
    """
    try:
        if "://" in tpu:
            _check_reachable(tpu)
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        if tpu not in ("", "local"):
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except Exception as error:  # TensorFlow, its drivers and cloud clients raise many types.
        raise ConfigError(
            f"runtime.distribution_strategy is 'tpu', but no TPU can be used with runtime.tpu "
            f"{tpu!r}: {_why_no_tpu(tpu, error)}. To train on GPUs or CPUs, set "
            "runtime.distribution_strategy to one_device or mirrored"
        ) from error


def _check_reachable(address: str) -> None:
    """Raises OSError if no server listens at the address. TensorFlow would wait forever."""
    host, _, port = address.partition("://")[2].rstrip("/").partition(":")
    socket.create_connection((host, int(port or _TPU_PORT)), _SECONDS_TO_CONNECT).close()


def has_tpu_operations() -> bool:
    """Whether this TensorFlow is a build for TPUs."""
    # ConfigureDistributedTPU, without the underscore, has no kernel in any build: it is rewritten.
    return bool(kernels.get_registered_kernels_for_op("_ConfigureDistributedTPU").kernel)


def _has_tpu_chip() -> bool:
    """Whether the machine has the device file of a TPU: accel, or vfio from v5e on."""
    return bool(glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*"))


def _cause(text: str) -> str:
    """Returns the line of an error of TensorFlow that says what happened."""
    lines = [line.strip() for line in text.splitlines()]
    causes = [line for line in lines if line and not line.startswith(_NO_CAUSE)]
    return (causes or lines)[0][:300]


def _why_no_tpu(tpu: str, error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    # TensorFlow's message depends on the process's history, but the registered operations do not.
    local_without_support = tpu in ("", "local") and not has_tpu_operations()
    if not local_without_support and "No OpKernel was registered" not in text:
        if tpu in ("", "local") and not _has_tpu_chip():
            return "this machine has no TPU (neither /dev/accel* nor /dev/vfio/* exists)"
        return _cause(text)
    release = ".".join(tf.__version__.split(".")[:2])
    if _is_installed("tensorflow-tpu"):
        return (
            "the package tensorflow was installed after tensorflow-tpu and has overwritten its "
            "files. Run pip install "
            f"--force-reinstall --no-deps 'tensorflow-tpu=={release}.*'"
        )
    return (
        "the package tensorflow has no TPU support. On a TPU VM, run pip install "
        f"--no-deps 'tensorflow-tpu=={release}.*' (and install libtpu; see docs/how-to/tpu.md)"
    )
