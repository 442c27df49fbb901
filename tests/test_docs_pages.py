"""Every Python block of pages about APIs runs, in the order of the page."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.core import config_definitions as cfg
from official.modeling.multitask import multitask

from tests.test_garden import ToyModel, ToyTask

DOCS = Path(__file__).parents[1] / "docs"


def run(page, names):
    """Runs the blocks of a page as one program; returns its names."""
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.M)
    assert blocks
    for number, block in enumerate(blocks):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
    return names


@pytest.fixture(autouse=True)
def in_a_directory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_keras_fit(tmp_path):
    names = run("how-to/keras_fit.md", {})
    history = names["history"]
    weights = {
        name: 1 / (np.minimum(1, np.array(history[f"score/{name}"]) / baseline) + 0.05)
        for name, baseline in names["baselines"].items()
    }
    expected = weights["letters"] / (weights["digits"] + weights["letters"])
    np.testing.assert_allclose(history["probability/letters"], expected)
    assert history["score/letters"][-1] > 0.5
    assert names["two_heads"].predict(np.ones((1, 2)), verbose=0)["letters"].shape == (1, 26)
    # A checkpoint of batch 90, and an epoch of 50 steps from there.
    assert names["scheduling"].step == 140
    assert (tmp_path / "run.png").stat().st_size > 10_000


def test_tensorflow_ops():
    names = run("how-to/tensorflow_ops.md", {})
    exact = names["x"] @ (names["weights"] * names["scales"])
    np.testing.assert_allclose(names["product"], exact, atol=0.02)
    served = names["serve"](x=tf.constant(names["x"]))["product"]
    np.testing.assert_array_equal(served, names["product"])
    x = np.random.default_rng(1).normal(size=(5, 40)).astype(np.float32)
    ours, theirs = (names[name].predict(x, verbose=0) for name in ("fast", "model"))
    np.testing.assert_allclose(ours, theirs, atol=0.05)


def test_model_garden(tmp_path):
    tasks = {name: ToyTask(cfg.TaskConfig(), name=name) for name in ("digits", "letters")}
    weights = {"digits": 30, "letters": 10}
    names = run(
        "how-to/model_garden.md",
        {
            "multi_task": multitask.MultiTask(tasks, task_weights=weights),
            "eval_tasks": list(tasks.values()),
            "model": ToyModel(tuple(tasks)),
            "optimizer": tf_keras.optimizers.SGD(0.1),
        },
    )
    assert int(names["trainer"].global_step.numpy()) == 2000
    assert names["sampler"].book.counts.tolist() == [4, 4]
    assert (tmp_path / "run" / "checkpoint").exists()
