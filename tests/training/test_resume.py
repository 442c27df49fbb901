"""A run that is killed again and again equals one that is not, bit for bit."""

import copy
import json
import random
import time
from pathlib import Path

import pytest
from same_run import assert_same_run, events, logged_batches, tensors
from tiny_run import CONFIG, STEPS

from tests import processes

MOMENTS = "moments/momentum/0/.ATTRIBUTES/VARIABLE_VALUE"
ADAPTIVE = {"name": "inverse_ratio", "parameters": {"ema": 0.5, "max_change": 0.2}}
IMPLICIT = {"name": "implicit", "parameters": {"ema": 0.5, "prior": "temperature"}}
SCHEDULES = {
    "example": ADAPTIVE,
    # First probabilities follow the scores, then learning rates do, with moments for each task.
    # What blend owes each task is in the checkpoint; the other run draws at random.
    "batch": {
        "name": "piecewise",
        "parameters": {"stages": [{**ADAPTIVE, "steps": 30}, IMPLICIT]},
        "application": "learning_rate",
        "draw": "blend",
    },
    "packed batch": ADAPTIVE,
}
# Three gradients to an update, and expected cosines that a checkpoint has to keep.
BALANCING = {"example": {"name": "gradvac"}, "batch": {}, "packed batch": {}}
# Validated at 15, 30 and 45, in effect at 22, 37 and 52; the checkpoints of 20, 30 and 50 lie
# between.
LAGS = {"example": 7, "batch": 0, "packed batch": 7}
PER_TASK = {"example": None, "batch": "per_task", "packed batch": None}
# A checkpoint keeps the loss scale.
PRECISIONS = {"example": "mixed_float16", "batch": "float32", "packed batch": "float32"}
# Between which steps: anywhere, or where such a checkpoint is the newest.
KILLS = {
    "example": ((21, 26), (31, 36)),
    "batch": ((0, STEPS),) * 5,
    "packed batch": ((12, 35), (36, 55)),
}
# Each process traces the step for seconds, so there is one kill, in the second stage. What other
# cases add to a checkpoint is restored exactly in test_lag.py, test_loss_scale.py,
# contracts/test_balancing.py and data/test_packing.py.
FEW_KILLS = [("batch", ((31, 45),))]
ALL_KILLS = [pytest.param(*kills, marks=pytest.mark.nightly) for kills in KILLS.items()]


def start(directory: Path, model_dir: Path, case: str) -> processes.Forked:
    config = copy.deepcopy(CONFIG)
    config["trainer"]["schedule"] = SCHEDULES[case]
    config["trainer"]["balancing"] = BALANCING[case]
    config["trainer"]["evaluation"]["lag"] = LAGS[case]
    config["trainer"]["optimizer"]["moments"] = PER_TASK[case]
    config["runtime"]["mixed_precision_dtype"] = PRECISIONS[case]
    config["trainer"] |= {"best": {"macro": 2, "worst": 1, "tasks": 1}}
    config["trainer"] |= {"stopping": {"patience": 9}, "checkpoint_minutes": 0.02}
    config["trainer"]["async_checkpointing"] = model_dir.name == "killed"
    config["trainer"]["optimizer"]["max_norm_deviation"] = 4.0
    config["trainer"]["schedule"] = {
        **SCHEDULES[case],
        "max_epochs": 20,
        "overfit_patience": 2,
    }
    config["trainer"]["optimizer"]["plateau"] = {"patience": 1, "min_delta": 0.3}
    config["task"]["pairs"][1]["introduce_at"] = 8
    config["task"]["pairs"][2]["max_epochs"] = 3
    if case.startswith("packed"):
        # Batches begin with the examples that earlier ones have left over.
        config["task"]["data"] |= {"packing": True, "bucket_lengths": []}
    file = directory / "config.json"  # JSON is YAML.
    file.write_text(json.dumps(config))
    overrides = f"task.data.data_dir={directory / 'data'},task.data.granularity={case.split()[-1]}"
    return processes.keras_mtl(
        *("train", "--config_file", file, "--model_dir", model_dir),
        *("--params_override", overrides),
    )


def finish(process: processes.Forked) -> str:
    code, output, error = process.finish()
    assert code == 0, output + error
    return output


@pytest.mark.slow
@pytest.mark.parametrize(("case", "kills"), [*FEW_KILLS, *ALL_KILLS])
def test_kills_change_nothing(tmp_path, case, kills):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    finish(start(tmp_path, undisturbed, case))
    chance = random.Random(case)
    # A logged batch, and a little later than that.
    moments = sorted(chance.randrange(*steps) for steps in kills)
    for moment in moments:
        process = start(tmp_path, killed, case)
        while process.running and logged_batches(killed) < moment:
            time.sleep(0.02)
        time.sleep(chance.random() * 0.5)
        process.kill()
    output = finish(start(tmp_path, killed, case))
    assert "resuming from" in output
    assert logged_batches(undisturbed) == STEPS
    assert_same_run(undisturbed, killed)
    # The test is of runs in which the schedule did something.
    last = [event for event in events(killed) if event["event"] == "train"][-1]
    assert len(set(last["probabilities"].values())) > 1
    assert ("scales" in last) == (case == "batch")
    assert (len(tensors(killed)[MOMENTS]) == len(last["probabilities"])) == (case == "batch")
