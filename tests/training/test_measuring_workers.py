"""Schedules that measure the model: two workers equal two devices of one process, bit for bit."""

import numpy as np
import pytest
from same_run import assert_same_run, events
from test_learning_schedules import make, saved_arrays
from test_workers import start

from tests import processes

pytestmark = pytest.mark.nightly  # Three processes train; each traces the step.

MEASURED = {
    "aioli": "dev_loss",
    "multi_uat": "entropy",
    "multi_dds_s": "alignment",
    "pike": "gradient_variance",
}


@pytest.mark.parametrize("name", MEASURED)
def test_two_workers_equal_two_devices(name, tmp_path):
    make(name, tmp_path)
    file, one, several = tmp_path / "config.json", tmp_path / "one", tmp_path / "several"
    code, output, error = processes.keras_mtl(
        *("train", "--config_file", file, "--model_dir", one, "--params_override"),
        "runtime.distribution_strategy=mirrored,runtime.num_replicas=2",
    ).finish()
    assert code == 0, output + error
    ended = [worker.finish() for worker in start(file, several)]
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert_same_run(one, several)
    # The schedule did something, and the chief measured for both.
    train = [event for event in events(several) if event["event"] == "train"]
    assert len({tuple(event["probabilities"].values()) for event in train}) >= 3
    values = saved_arrays(several)[f"mixture/book/measured/{MEASURED[name]}"]
    assert np.isfinite(values).all()
    assert (np.abs(values) > 0).all()
