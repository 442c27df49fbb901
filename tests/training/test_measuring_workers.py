"""Schedules that measure the model: two workers equal two devices of one process, bit for bit."""

import copy
import json

import pytest
from same_run import assert_same_run, events
from test_learning_schedules import CASES, saved_arrays
from test_workers import start
from tiny_run import CONFIG

from tests import processes

pytestmark = pytest.mark.nightly  # Three processes train; each traces the step.

STEPS = 18
MEASURED = {"aioli": "dev_loss", "multi_uat": "entropy", "pike": "gradient_square"}


@pytest.mark.parametrize("name", MEASURED)
def test_two_workers_equal_two_devices(name, tmp_path):
    parameters, data, optimizer = CASES[name]
    config = copy.deepcopy(CONFIG)
    task, trainer = config["task"], config["trainer"]
    task["model"]["dropout"] = 0.2
    task["data"] |= {"data_dir": str(tmp_path / "data"), **data}
    trainer["schedule"] = {"name": name, "parameters": parameters}
    trainer |= {"train_steps": STEPS, "checkpoint_interval": 5, "steps_per_loop": 9}
    trainer["evaluation"] = {"interval": 9, "metric": "neg_log_perplexity", "max_pairs": 4}
    trainer["optimizer"] |= optimizer
    file = tmp_path / "config.json"  # JSON is YAML.
    file.write_text(json.dumps(config))
    one, several = tmp_path / "one", tmp_path / "several"
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
    assert (values > 0).all()
