"""A run that is killed again and again equals one that is left alone, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

KILLS = 5
STEPS = 60
CONFIG = {
    "task": {
        "pairs": [
            {"source": "en", "target": "fr", "max_pairs": 900, "baseline": 60.0},
            {"source": "en", "target": "es", "max_pairs": 200, "baseline": 60.0},
            {"source": "en", "target": "gl", "max_pairs": 40, "baseline": 50.0},
        ],
        "data": {
            "corpora": [{"reader": "cldr", "options": {"pairs": 1500}}],
            "vocabulary": {"size": 700},
            "dev_fraction": 0.05,
            "test_fraction": 0.05,
            "dev_pairs": 16,
            "test_pairs": 16,
            "max_length": 64,
            "bucket_lengths": [32, 64],
            "tokens_per_batch": 512,
        },
        "model": {
            "size": "tiny",
            "hidden_dim": 32,
            "num_heads": 2,
            "intermediate_dim": 64,
            "encoder_layers": 1,
            "decoder_layers": 1,
        },
        "decoding": {"max_length": 12, "batch_size": 16},
    },
    "trainer": {
        "train_steps": STEPS,
        "steps_per_loop": 5,
        "checkpoint_interval": 10,
        "schedule": {"name": "inverse_ratio"},
        "optimizer": {"warmup_steps": 20, "learning_rate": 1.0, "ema_momentum": 0.9},
        "evaluation": {"interval": 15, "metric": "neg_log_perplexity", "max_pairs": 8},
        "log_batches": True,
    },
    # XLA would compile for longer than the run lasts.
    "runtime": {"jit_compile": False, "seed": 3},
}


def start(folder: Path, model_dir: Path, granularity: str) -> subprocess.Popen:
    config = folder / "config.json"  # JSON is YAML.
    config.write_text(json.dumps(CONFIG))
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "keras_mtl.cli.main", "train"),
            *("--config_file", str(config), "--model_dir", str(model_dir)),
            "--params_override",
            f"task.data.data_dir={folder / 'data'},task.data.granularity={granularity}",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


def lines(model_dir: Path) -> int:
    file = model_dir / "batches.tsv"
    return len(file.read_text().splitlines()) if file.exists() else 0


def tensors(model_dir: Path) -> dict:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(model_dir / f"ckpt-{STEPS}"))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if not name.startswith("_CHECKPOINTABLE")
    }


def events(model_dir: Path) -> list[dict]:
    unlike = ("tokens_per_second", "seconds")
    with (model_dir / "metrics.jsonl").open() as file:
        return [
            {key: value for key, value in json.loads(line).items() if key not in unlike}
            for line in file
        ]


@pytest.mark.slow
@pytest.mark.parametrize("granularity", ["batch", "example"])
def test_five_kills_change_nothing(tmp_path, granularity):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    finish(start(tmp_path, undisturbed, granularity))
    chance = random.Random(granularity)
    # Moments spread over the run: a logged batch, and a little later than that.
    moments = sorted(chance.randrange(STEPS) for _ in range(KILLS))
    for moment in moments:
        process = start(tmp_path, killed, granularity)
        while process.poll() is None and lines(killed) < moment:
            time.sleep(0.02)
        time.sleep(chance.random() * 0.5)
        process.send_signal(signal.SIGKILL)
        process.wait()
    output = finish(start(tmp_path, killed, granularity))
    assert "going on from" in output
    assert lines(undisturbed) == STEPS
    assert (undisturbed / "batches.tsv").read_text() == (killed / "batches.tsv").read_text()
    expected, found = tensors(undisturbed), tensors(killed)
    assert expected.keys() == found.keys()
    assert sum(name.startswith("model/") for name in expected) > 30  # All layers are in it.
    for name, value in expected.items():
        np.testing.assert_array_equal(value, found[name], err_msg=name)
    assert events(undisturbed) == events(killed)
