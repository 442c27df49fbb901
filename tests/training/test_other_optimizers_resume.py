"""Runs with other optimizers, sub-layers, frozen variables and metrics resume bit for bit."""

import copy
import json
import shutil

import numpy as np
import pytest
from tiny_run import CONFIG, OTHER_SUBLAYERS

import keras_mtl
from tests.training.same_run import tensors

pytestmark = pytest.mark.nightly  # Six runs; the tests of the parts protect the same.

EVALUATION = {"interval": 3, "metric": "chrf", "max_pairs": 4, "backend": "native"}
CASES = {
    "mixed and packed": {
        "data": {"granularity": "example", "packing": True, "bucket_lengths": []},
        "trainer": {"freeze": ["encoder/.*"]},
        "optimizer": {
            "name": "AdamW",
            "parameters": {"weight_decay": 0.01},
            "learning_rate_factors": [{"match": "embedding/.*", "factor": 0.1}],
        },
        "pairs": [{}, {}],
    },
    "batches of one task": {
        "data": {},
        "trainer": {},
        "optimizer": {"name": "muon", "gradient_accumulation_steps": 2},
        "pairs": [{}, {"metric": "bleu_char", "train_only": ["decoder/.*"]}],
    },
    "other sub-layers": {
        "data": {"granularity": "example", "packing": True, "bucket_lengths": []},
        "trainer": {},
        "optimizer": {},
        "pairs": [{}, {}],
        "model": OTHER_SUBLAYERS,
    },
    "quantization": {
        "data": {"granularity": "example", "packing": True, "bucket_lengths": []},
        "trainer": {},
        "optimizer": {"gradient_accumulation_steps": 2},
        "pairs": [{}, {}],
        "model": {
            "quantization": {
                "domains": [
                    {"kind": "static", "match": "encoder/.*", "start_step": 2},
                    {"kind": "passive_asymmetric", "match": "decoder/.*", "freeze_step": 4},
                    {"start_step": 4},
                ]
            }
        },
    },
    "recurrent": {
        "data": {},
        "trainer": {},
        "optimizer": {},
        "pairs": [{}, {}],
        "model": {"architecture": "rnmt", "intermediate_dim": None, "sharing": "encoder"},
        "evaluation": {"backend": "auto"},
    },
    "hybrid, mixed and packed": {
        "data": {"granularity": "example", "packing": True, "bucket_lengths": []},
        "trainer": {},
        "optimizer": {},
        "pairs": [{}, {}],
        "model": {"architecture": "hybrid", "recompute": "layer"},
        "evaluation": {"backend": "auto"},
    },
}


def make(case, directory):
    config = copy.deepcopy(CONFIG)
    task, trainer = config["task"], config["trainer"]
    task["pairs"] = [pair | own for pair, own in zip(task["pairs"][:2], case["pairs"], strict=True)]
    task["model"] |= case.get("model", {})
    task["data"] |= {"data_dir": str(directory / "data"), **case["data"]}
    trainer["schedule"] = {"name": "uniform"}
    trainer |= {"train_steps": 6, "checkpoint_interval": 3, "steps_per_loop": 3, **case["trainer"]}
    trainer["evaluation"] = EVALUATION | case.get("evaluation", {})
    trainer["optimizer"] |= {"learning_rate_schedule": "constant", "learning_rate": 0.01}
    trainer["optimizer"] |= case["optimizer"]
    (directory / "config.json").write_text(json.dumps(config))
    return keras_mtl.load_config(directory / "config.json")


@pytest.mark.parametrize("name", CASES)
def test_a_stopped_run_is_that_of_an_unstopped_one(name, tmp_path, capsys):
    config, lines = make(CASES[name], tmp_path), []
    keras_mtl.train(config, tmp_path / "whole", log=lines.append)
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    for file in (tmp_path / "again").glob("ckpt-6.*"):
        file.unlink()
    keras_mtl.train(config, tmp_path / "again", log=lines.append)
    assert sum("resuming" in line for line in lines) == 1
    expected, found = tensors(tmp_path / "whole"), tensors(tmp_path / "again")
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(value, found[key], err_msg=key)
    if name == "batches of one task":
        printed = capsys.readouterr().err.splitlines()
        shown = [line for line in printed if line.startswith("step 6: score / baseline")]
        assert len(shown) == 2
        assert shown[0] == shown[1]
        assert "(bleu_char)" in shown[0]
