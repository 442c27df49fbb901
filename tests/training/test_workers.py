"""Several workers train exactly as the same number of devices in one process, bit for bit."""

import copy
import json
import os
import signal
import time
from pathlib import Path

import pytest
import tensorflow as tf
from same_run import assert_same_run, events, logged_batches
from tiny_run import CONFIG, STEPS

from keras_mtl.errors import WorkerError
from keras_mtl.training.step.workers import Workers
from tests import processes

# Validated at 15, 30 and 45, in effect 7 steps later; checkpoints at 10, 20, ...
CHANGES: dict[str, dict] = {
    "example": {
        "data": {"packing": True, "bucket_lengths": []},
        "trainer": {"schedule": {"name": "inverse_ratio", "parameters": {"ema": 0.5}}},
        "evaluation": {"lag": 7, "max_tasks": 2},
    },
    "batch": {
        "trainer": {"schedule": {"name": "inverse_ratio", "parameters": {"ema": 0.5}}},
        "evaluation": {"lag": 0},
        "optimizer": {"gradient_accumulation_steps": 2},
    },
}


def write_config(directory: Path, granularity: str) -> Path:
    config = copy.deepcopy(CONFIG)
    changes = CHANGES[granularity]
    config["task"]["data"] |= {"granularity": granularity, "data_dir": str(directory / "data")}
    config["task"]["data"] |= changes.get("data", {})
    config["trainer"] |= changes["trainer"]
    config["trainer"]["evaluation"] |= changes["evaluation"]
    config["trainer"]["optimizer"] |= changes.get("optimizer", {})
    file = directory / f"{granularity}.json"  # JSON is YAML.
    file.write_text(json.dumps(config))
    return file


def train(cluster: list[str], index: int, words: list[str]) -> int:
    """Runs in its own process."""
    task = {"type": "worker", "index": index}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": cluster}, "task": task})
    from keras_mtl.cli.main import main

    return main(["train", *words])


def start(config: Path, model_dir: Path, workers: int = 2) -> list[processes.Forked]:
    cluster = [f"127.0.0.1:{port}" for port in processes.free_ports(workers)]
    words = ["--config_file", str(config), "--model_dir", str(model_dir)]
    words += ["--params_override", "runtime.distribution_strategy=multi_worker_mirrored"]
    return [processes.Forked(train, cluster, index, words) for index in range(workers)]


def fail_alone(cluster: list[str], index: int) -> None:
    """Runs in its own process. The second worker fails while the first one waits for it."""
    task = {"type": "worker", "index": index}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": cluster}, "task": task})
    from keras_mtl.errors import DataError
    from keras_mtl.training.step.cluster import make_multi_worker_strategy

    workers = Workers(make_multi_worker_strategy())
    try:
        with workers.reporting():
            workers.barrier()
            if index:
                raise DataError("pairs.tsv:\n  the disk is broken")
            workers.barrier()
    except (DataError, WorkerError) as error:
        print(type(error).__name__, error, sep=": ", flush=True)


def test_an_error_of_one_worker_ends_the_others_at_once():
    cluster = [f"127.0.0.1:{port}" for port in processes.free_ports(2)]
    running = [processes.Forked(fail_alone, cluster, index) for index in range(2)]
    ended = [each.finish(60) for each in running]
    text = "pairs.tsv:\n  the disk is broken\n"
    assert [output for _, output, _ in ended] == [
        f"WorkerError: worker 1 failed: {text}",
        f"DataError: {text}",
    ], ended


def test_a_collective_operation_that_fails_is_the_loss_of_a_worker():
    workers = Workers(None)
    workers.count = 2
    closed = tf.errors.UnavailableError(None, None, "Socket closed\nmore")
    message = r"a worker has ended .*\(Socket closed\)"
    with pytest.raises(WorkerError, match=message), workers.reporting():
        raise closed
    workers.count = 1
    with pytest.raises(tf.errors.UnavailableError), workers.reporting():
        raise closed


def wait_for_batches(workers: list[processes.Forked], model_dir: Path, count: int) -> None:
    while logged_batches(model_dir) < count:
        assert all(worker.running for worker in workers), [each.finish() for each in workers]
        time.sleep(0.02)


def kill_one(running: list[processes.Forked]) -> None:
    """The other ends with an error."""
    running[1].kill()
    code, output, error = running[0].finish()
    assert code == 2, output + error
    assert "error: a worker has ended or cannot be reached" in error
    assert "resume from the last checkpoint" in error


def stop_one(running: list[processes.Forked]) -> None:
    """Both save and end."""
    running[1].send(signal.SIGTERM)
    ended = [worker.finish() for worker in running]
    assert [code for code, _, _ in ended] == [128 + signal.SIGTERM] * 2, ended
    assert "stopped by SIGTERM" in ended[0][2]


# When which worker is disturbed: after a checkpoint, while a validation is pending.
KILL, STOP = (31, kill_one), (31, stop_one)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("granularity", "disturbances"),
    [
        ("example", ()),
        pytest.param("example", (KILL,), marks=pytest.mark.nightly),
        pytest.param("batch", ((24, kill_one), STOP), marks=pytest.mark.nightly),
    ],
)
def test_two_workers_equal_two_devices(tmp_path, granularity, disturbances):
    """Also (nightly) if one is killed, and if a signal to one of them stops both."""
    config = write_config(tmp_path, granularity)
    devices, workers = tmp_path / "devices", tmp_path / "workers"
    accumulation = 2 if granularity == "batch" else 1
    code, output, error = processes.keras_mtl(
        *("train", "--config_file", config, "--model_dir", devices, "--params_override"),
        "runtime.distribution_strategy=mirrored,runtime.num_replicas=2",
    ).finish()
    assert code == 0, output + error

    for batches, disturb in disturbances:
        running = start(config, workers)
        wait_for_batches(running, workers, batches * accumulation)
        disturb(running)
    ended = [worker.finish() for worker in start(config, workers)]
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert ("resuming from" in ended[0][1]) == bool(disturbances)
    assert ended[1][1] == ""  # The chief speaks for all.
    assert logged_batches(workers) == STEPS * accumulation
    assert_same_run(devices, workers)
    # The test is of a run in which the schedule did something.
    last = [event for event in events(workers) if event["event"] == "train"][-1]
    assert len(set(last["probabilities"].values())) > 1
