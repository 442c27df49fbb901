"""Four devices in several workers train exactly as four devices in one process, bit for bit."""

import json
from pathlib import Path

import pytest
from same_run import assert_same_run, events
from test_workers import train, write_config
from tiny_run import STEPS

from tests import processes

pytestmark = pytest.mark.nightly

# (granularity, packing, accumulation, lag, max_tasks), workers and their devices.
CASES = {
    "packed examples": ("example", True, 1, 7, 2, 4, 1),
    "accumulated batches": ("batch", False, 2, 0, 0, 4, 1),
    "packed batches": ("batch", True, 1, 7, 0, 2, 2),
    "examples": ("example", False, 2, 0, 2, 2, 2),
}


def train_on_devices(cluster: list[str], index: int, words: list[str], devices: int) -> int:
    """Runs in its own process, which takes logical CPUs for devices."""
    import tensorflow as tf
    from tensorflow.python.distribute import collective_all_reduce_strategy

    def local_devices(self, resolver, worker):
        return tuple(f"{worker}/device:CPU:{i}" for i in range(devices)), "CPU"

    if devices > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        logical = [tf.config.LogicalDeviceConfiguration()] * devices
        tf.config.set_logical_device_configuration(cpu, logical)
        extended = collective_all_reduce_strategy.CollectiveAllReduceExtended
        extended._initialize_local_devices = local_devices
    return train(cluster, index, words)


def changed(config: Path, packing: bool, accumulation: int, lag: int, max_tasks: int) -> Path:
    values = json.loads(config.read_text())
    values["task"]["data"] |= {
        "packing": packing,
        "bucket_lengths": [] if packing else [32, 64],
    }
    values["trainer"]["evaluation"] |= {"lag": lag, "max_tasks": max_tasks}
    values["trainer"]["optimizer"]["gradient_accumulation_steps"] = accumulation
    config.write_text(json.dumps(values))
    return config


@pytest.mark.parametrize("case", CASES)
def test_four_devices_in_workers_equal_four_in_one_process(tmp_path, case):
    granularity, packing, accumulation, lag, max_tasks, count, devices = CASES[case]
    config = write_config(tmp_path, granularity)
    changed(config, packing, accumulation, lag, max_tasks)
    one, several = tmp_path / "one", tmp_path / "several"
    code, output, error = processes.keras_mtl(
        *("train", "--config_file", config, "--model_dir", one, "--params_override"),
        "runtime.distribution_strategy=mirrored,runtime.num_replicas=4",
    ).finish()
    assert code == 0, output + error
    cluster = [f"127.0.0.1:{port}" for port in processes.free_ports(count)]
    words = ["--config_file", str(config), "--model_dir", str(several)]
    words += ["--params_override", "runtime.distribution_strategy=multi_worker_mirrored"]
    running = [
        processes.Forked(train_on_devices, cluster, index, words, devices) for index in range(count)
    ]
    ended = [worker.finish() for worker in running]
    assert [code for code, _, _ in ended] == [0] * count, ended
    assert_same_run(one, several)
    last = [event for event in events(several) if event["event"] == "train"][-1]
    assert last["step"] == STEPS
    assert len(set(last["probabilities"].values())) > 1
