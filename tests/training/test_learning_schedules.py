"""Runs whose schedules learn between validations, from losses or measurements of the model."""

import copy
import io
import json
import shutil
import time

import numpy as np
import pytest
from tiny_run import CONFIG

import keras_mtl
from tests import processes
from tests.training.same_run import assert_same_run, events, logged_batches, tensors

pytestmark = pytest.mark.nightly  # Runs; tests/contracts/test_schedules.py protects the schedules.

MIXED = {"granularity": "example", "packing": True, "bucket_lengths": []}
CASES = {
    "ado": ({"start": 1, "refit": 10, "interval": 2}, {}, {}),
    "dro_mt": ({"interval": 2, "rho": 0.5}, {}, {}),
    # Rounds of 9 updates, whose first 6 are trials; the checkpoint of step 10 is within a trial.
    "aioli": (
        {"pairs": 8, "lp_rounds": 1, "lp_steps": 2, "interval": 9, "eta": 3.0, "ema": 0.3},
        MIXED,
        {"gradient_accumulation_steps": 2},
    ),
    "multi_uat": ({"pairs": 4, "passes": 2, "interval": 3, "learning_rate": 0.01}, {}, {}),
    "multi_dds_s": (
        {"pairs": 4, "interval": 3, "learning_rate": 0.01},
        {},
        {"gradient_accumulation_steps": 2},
    ),
    "pike": ({"pairs": 4, "interval": 3, "zeta1": 0.05, "zeta2": 0.05}, MIXED, {}),
}


def saved_arrays(directory):
    """Returns the arrays of the newest checkpoint that are not variables."""
    (packed,) = (value for key, value in tensors(directory).items() if key.startswith("state/"))
    with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def make(name, directory, checkpoint_minutes=0.0, **other):
    parameters, data, optimizer = CASES[name]
    config = copy.deepcopy(CONFIG)
    task, trainer = config["task"], config["trainer"]
    task["model"]["dropout"] = 0.2
    task["data"] |= {"data_dir": str(directory / "data"), **data}
    trainer["schedule"] = {"name": name, "parameters": parameters, **other}
    trainer |= {"train_steps": 18, "checkpoint_interval": 5, "steps_per_loop": 9}
    trainer["evaluation"] = {"interval": 9, "metric": "neg_log_perplexity", "max_pairs": 4}
    trainer["optimizer"] |= {"learning_rate_schedule": "constant", "learning_rate": 0.01}
    trainer["optimizer"] |= optimizer
    trainer["checkpoint_minutes"] = checkpoint_minutes
    (directory / "config.json").write_text(json.dumps(config))
    return keras_mtl.load_config(directory / "config.json")


@pytest.mark.parametrize("name", CASES)
def test_a_stopped_run_is_that_of_an_unstopped_one(name, tmp_path):
    config, lines = make(name, tmp_path), []
    mode = "train" if name in ("ado", "dro_mt") else "train_and_eval"
    keras_mtl.train(config, tmp_path / "whole", mode=mode, log=lines.append)
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    for step in (15, 18):
        for file in (tmp_path / "again").glob(f"ckpt-{step}.*"):
            file.unlink()
    keras_mtl.train(config, tmp_path / "again", mode=mode, log=lines.append)
    assert sum("resuming" in line for line in lines) == 1
    expected, found = tensors(tmp_path / "whole"), tensors(tmp_path / "again")
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(value, found[key], err_msg=key)
    probabilities = [
        tuple(event["probabilities"].values())
        for event in events(tmp_path / "whole")
        if event["event"] == "train"
    ]
    # They change between validations.
    assert len(set(probabilities)) >= 3


@pytest.mark.parametrize("name", ["aioli", "multi_dds_s"])
def test_a_killed_run_is_that_of_an_undisturbed_one(name, tmp_path):
    config = make(name, tmp_path, checkpoint_minutes=0.01)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    batches = 18 * config.trainer.optimizer.gradient_accumulation_steps

    def start(directory):
        file = tmp_path / "config.json"
        return processes.keras_mtl("train", "--config_file", file, "--model_dir", directory)

    code, output, error = start(undisturbed).finish()
    assert code == 0, output + error
    for part in (0.3, 0.7):
        process = start(killed)
        while process.running and logged_batches(killed) < part * batches:
            time.sleep(0.02)
        process.kill()
    code, output, error = start(killed).finish()
    assert code == 0, output + error
    assert "resuming from" in output
    assert logged_batches(undisturbed) == batches
    assert_same_run(undisturbed, killed)


def test_a_measurement_does_not_change_the_training(tmp_path):
    name = "multi_uat"
    config = make(name, tmp_path, parameters={**CASES[name][0], "learning_rate": 1e-300})
    keras_mtl.train(config, tmp_path / "measured", log=lambda line: None)
    config.trainer.schedule.name, config.trainer.schedule.parameters = "proportional", {}
    keras_mtl.train(config, tmp_path / "not", log=lambda line: None)
    assert (saved_arrays(tmp_path / "measured")["mixture/book/measured/entropy"] > 0).all()
    measured, not_measured = tensors(tmp_path / "measured"), tensors(tmp_path / "not")
    for key, value in not_measured.items():
        if key.startswith(("model/", "optimizer/")):
            np.testing.assert_array_equal(value, measured[key], err_msg=key)
