"""A run that stops early, continues with more patience, and whose checkpoints are averaged."""

import copy
import json

import numpy as np
import pytest
from same_run import tensors
from tiny_run import CONFIG

from tests import processes

pytestmark = pytest.mark.nightly  # Whole runs; the parts are tested in test_keeping.py.


def train(directory, **trainer):
    config = copy.deepcopy(CONFIG)
    config["trainer"] |= {"train_steps": 12, "max_to_keep": 3, "checkpoint_interval": 3, **trainer}
    config["trainer"]["evaluation"]["interval"] = 3
    config["trainer"]["optimizer"]["ema_momentum"] = 0.0
    (directory / "config.json").write_text(json.dumps(config))
    process = processes.keras_mtl(
        *("train", "--config_file", directory / "config.json", "--model_dir", directory / "run")
    )
    code, output, error = process.finish()
    assert code == 0, output + error
    return output


def average(directory, *words):
    process = processes.keras_mtl("average", "--model_dir", directory / "run", *words)
    return process.finish()


def test_a_run_that_stops_early(tmp_path):
    stopping = {"patience": 1, "min_delta": 1e6, "score": "en-fr"}
    output = train(tmp_path, stopping=stopping, best={"macro": 2})
    assert "stopped early at step 6: neg_log_perplexity of en-fr has not improved" in output
    assert "step 6 in" in output
    # The same command does not train on.
    output = train(tmp_path, stopping=stopping, best={"macro": 2})
    assert "stopped early at step 6" in output
    output = train(tmp_path, stopping=stopping | {"patience": 3}, best={"macro": 2})
    assert "resuming from" in output
    assert "stopped early at step 12" in output
    check_averages(tmp_path)


def check_averages(tmp_path):
    run = tmp_path / "run"
    code, output, error = average(tmp_path, "--last", "3", "--output", tmp_path / "mean")
    assert code == 0, error
    assert "average of ckpt-12, ckpt-9, ckpt-6 in" in output
    mean = tensors(tmp_path / "mean" / "best")
    of_steps = [tensors_at(run, step) for step in (6, 9, 12)]
    weights = [name for name, value in mean.items() if value.dtype == np.float32]
    assert len(weights) > 30
    for name in weights:
        expected = np.mean([values[name].astype(np.float64) for values in of_steps], axis=0)
        np.testing.assert_array_equal(mean[name], expected.astype(np.float32), err_msg=name)
    code, output, _ = average(tmp_path, "--best", "2", "--output", tmp_path / "best_mean")
    assert code == 0
    assert output.count("best/macro/ckpt-") == 2
    code, _, error = average(tmp_path, "--last", "9", "--output", tmp_path / "no")
    assert code == 2
    assert "Average fewer, or train with trainer.max_to_keep >= 9" in error
    code, _, error = average(tmp_path, "--last", "1", "--output", tmp_path / "mean")
    assert code == 2
    assert "exists" in error
    code, _, error = processes.keras_mtl("evaluate", "--model_dir", tmp_path / "mean").finish()
    assert code == 0, error


def tensors_at(run, step):
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(run / f"ckpt-{step}"))
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith("model/")]
    return {name: reader.get_tensor(name) for name in names}
