"""What trains, and why it is not a GPU or a TPU."""

import re

import pytest
import tensorflow as tf
from tensorflow.config import PhysicalDevice

from keras_mtl.configuration.schema import RuntimeConfig
from keras_mtl.errors import ConfigError
from keras_mtl.training.step import devices, distribution
from keras_mtl.training.step.devices import GpuSupport


@pytest.mark.parametrize(
    ("support", "expected"),
    [
        (GpuSupport(False, True, None, []), "no NVIDIA GPU with a driver"),
        (GpuSupport(True, False, None, []), "built without CUDA; to replace it, run pip install"),
        (GpuSupport(True, True, "", []), "CUDA_VISIBLE_DEVICES='' hides the GPUs; unset it"),
        (GpuSupport(True, True, "-1", ["libcudnn.so.9"]), "CUDA_VISIBLE_DEVICES='-1' hides"),
        (
            GpuSupport(True, True, "0", ["libcudnn.so.9"]),
            r"missing \(libcudnn.so.9\); run pip install 'keras_mtl\[gpu\]'",
        ),
        (GpuSupport(True, True, "7", []), "CUDA_VISIBLE_DEVICES='7' may hide it; set TF_CPP_MIN"),
        (GpuSupport(True, True, None, []), "cannot use the GPU: set TF_CPP_MIN_LOG_LEVEL=0"),
    ],
)
def test_each_reason_for_no_gpu_names_its_remedy(support, expected):
    assert re.search(expected, support.why_no_gpu())


def test_libraries_that_are_not_there_are_named(monkeypatch):
    monkeypatch.setattr(devices, "_is_installed", lambda package: "cublas" in package)
    monkeypatch.setattr(devices, "_loads", lambda library: "cudart" in library)
    assert devices._missing_libraries() == ["libcudnn.so.9"]


def test_the_build_for_tpus_never_compiles_for_the_host(monkeypatch):
    monkeypatch.setattr(distribution, "has_tpu_operations", lambda: True)
    compiles = distribution.compiles_with_xla
    assert compiles(RuntimeConfig(distribution_strategy="tpu"))
    assert not compiles(RuntimeConfig())
    assert not compiles(RuntimeConfig(jit_compile=False))
    with pytest.raises(ConfigError, match="compile for the host"):
        compiles(RuntimeConfig(jit_compile=True))


def test_devices_precision_compilation_and_threads_are_described(monkeypatch):
    monkeypatch.setattr(devices.tf.config, "list_physical_devices", lambda kind: [])
    lines = devices.describe(RuntimeConfig(), compiles=False)
    assert lines[0].startswith("device: CPU, ")
    assert lines[1].startswith("no GPU is used: ")
    assert "float32, not compiled with XLA" in lines[2]
    assert "threads within an operation" in lines[2]
    runtime = RuntimeConfig(distribution_strategy="mirrored", num_replicas=4)
    text = "\n".join(devices.describe(runtime, compiles=True))
    assert "runtime.num_replicas is 4: the CPU is split" in text
    assert "float32, compiled with XLA" in text


ONE_OF_TWO = (
    "1 of 2 GPUs are used; to train on all, set runtime.distribution_strategy=mirrored and "
    "runtime.num_replicas=0"
)


@pytest.mark.parametrize(
    ("names", "runtime", "expected"),
    [
        (["A100"], {}, ["device: GPU, A100"]),
        (["A100", "H100"], {}, ["device: GPU, A100", ONE_OF_TWO]),
        (["A100", "H100"], {"num_replicas": 0}, ["device: GPU, A100, H100"]),
        (["A100", "H100"], {"num_replicas": 1}, ["device: GPU, A100", ONE_OF_TWO]),
        (
            ["A", "B", "C", "D"],
            {"num_replicas": 2},
            ["device: GPU, A, B", ONE_OF_TWO.replace("1 of 2", "2 of 4")],
        ),
        ([None], {}, ["device: GPU, GPU:0"]),  # A driver that does not tell the name.
    ],
)
def test_gpus_are_named_and_those_that_are_not_used_are_counted(
    names, runtime, expected, monkeypatch
):
    found = {PhysicalDevice(f"GPU:{i}", "GPU"): name for i, name in enumerate(names)}
    config = devices.tf.config
    monkeypatch.setattr(config, "list_physical_devices", lambda kind: list(found))
    monkeypatch.setattr(
        config.experimental,
        "get_device_details",
        lambda gpu: {"device_name": found[gpu]} if found[gpu] else {},
    )
    monkeypatch.setattr(config.threading, "get_intra_op_parallelism_threads", lambda: 3)
    monkeypatch.setattr(config.threading, "get_inter_op_parallelism_threads", lambda: 2)
    settings = RuntimeConfig(mixed_precision_dtype="mixed_float16", **runtime)
    settings.distribution_strategy = "mirrored" if runtime else "one_device"
    assert devices.describe(settings, compiles=True) == [
        *expected,
        f"TensorFlow {tf.__version__}: mixed_float16, compiled with XLA, 3 threads within an "
        "operation, 2 between operations",
    ]


def test_tpu_cores_are_counted(monkeypatch):
    monkeypatch.setattr(devices.tf.config, "list_logical_devices", lambda kind: [kind] * 8)
    lines = devices.describe(RuntimeConfig(distribution_strategy="tpu"), compiles=True)
    assert lines[0] == "device: 8 TPU cores"
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        (False, r"no TPU support. On a TPU VM, run pip install .*tensorflow-tpu=="),
        (True, "was installed after tensorflow-tpu.*--force-reinstall --no-deps 'tensorflow-tpu=="),
    ],
)
def test_a_machine_without_a_tpu_gets_one_error(monkeypatch, installed, expected):
    monkeypatch.setattr(devices, "_is_installed", lambda package: installed)
    with pytest.raises(ConfigError, match=rf"runtime\.tpu 'local': .*{expected}.*one_device"):
        devices.make_tpu_strategy("local")


@pytest.mark.parametrize(
    ("chip", "expected"),
    [
        (False, r"this machine has no TPU \(neither /dev/accel\* nor /dev/vfio/\* exists\)"),
        (True, r"RET_CHECK failure \(tpu_node\.cc:432\) \*platform"),
    ],
)
def test_a_build_for_tpus_says_what_is_wrong_with_the_machine(monkeypatch, chip, expected):
    def fail(resolver):
        raise tf.errors.InternalError(
            None,
            None,
            "Graph execution error:\n\nDetected at node tpu/_1 defined at (most recent call):\n"
            "<stack traces unavailable>\nRET_CHECK failure (tpu_node.cc:432) *platform\n"
            "\t [[{{node tpu/_1}}]] [Op:__inference_4]",
        )

    monkeypatch.setattr(devices, "has_tpu_operations", lambda: True)
    monkeypatch.setattr(devices, "_has_tpu_chip", lambda: chip)
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", fail)
    with pytest.raises(ConfigError, match=rf"runtime\.tpu 'local': {expected}\. To train"):
        devices.make_tpu_strategy("local")


def test_the_error_does_not_depend_on_what_the_process_did_before():
    tf.zeros([]).numpy()  # With a device in use, TensorFlow's own error is another one.
    with pytest.raises(ConfigError, match="no TPU support"):
        devices.make_tpu_strategy("local")


def test_an_address_where_nobody_listens_is_an_error_at_once():
    with pytest.raises(ConfigError, match=r"'grpc://127\.0\.0\.1:9'.*[Rr]efused"):
        devices.make_tpu_strategy("grpc://127.0.0.1:9")
