"""What a run has left behind, and whether two runs are the same, bit for bit."""

import json
from pathlib import Path

import numpy as np


def logged_batches(model_dir: Path) -> int:
    """Returns the number of batches in the log of batches."""
    file = model_dir / "batches.tsv"
    return len(file.read_text().splitlines()) if file.exists() else 0


def tensors(directory: Path) -> dict:
    """Reads the newest checkpoint of a directory."""
    import tensorflow as tf

    steps = [int(path.stem.removeprefix("ckpt-")) for path in directory.glob("ckpt-*.index")]
    reader = tf.train.load_checkpoint(str(directory / f"ckpt-{max(steps)}"))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if not name.startswith("_CHECKPOINTABLE")
    }


def events(model_dir: Path) -> list[dict]:
    """Reads the log, without what depends on the clock."""
    unlike = ("tokens_per_second", "seconds", "waited_seconds")
    with (model_dir / "metrics.jsonl").open() as file:
        return [
            {key: value for key, value in json.loads(line).items() if key not in unlike}
            for line in file
        ]


def assert_same_run(expected_dir: Path, found_dir: Path, least: int = 31) -> None:
    """Asserts that two runs have seen the same batches, and have the same weights and log.

    Args:
        expected_dir: directory of a run.
        found_dir: directory of another one.
        least: number of arrays that a checkpoint has at least: weights of all layers, however they
            are named.
    """
    batches = [(directory / "batches.tsv").read_text() for directory in (expected_dir, found_dir)]
    assert batches[0] == batches[1]
    for directory in (".", "best"):
        expected, found = tensors(expected_dir / directory), tensors(found_dir / directory)
        assert expected.keys() == found.keys()
        assert len(expected) >= least
        for name, value in expected.items():
            np.testing.assert_array_equal(value, found[name], err_msg=name)
    assert events(expected_dir) == events(found_dir)
