"""The complete examples of the documentation run."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from keras_mtl.events import read_events

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.nightly  # Parts: docs/how-to/keras_fit.md, training/test_callbacks.py.
def test_images_of_three_tasks_in_fit(tmp_path):
    example = load("image_tasks")
    for name in example.SIZES:
        images, labels = example.make_task(name, 200, seed=1)
        means = [images[labels == label].mean(axis=0) for label in range(4)]
        assert np.abs(means[0] - means[3]).max() > 0.2, f"nothing to learn in {name}"
    words = ["--schedule", "implicit", "--steps", "12", "--directory", str(tmp_path)]
    example.main([*words, "--epochs", "1"])
    results = example.main([*words, "--epochs", "3"])
    assert results.keys() == example.SIZES.keys()
    # Chance is a quarter.
    assert results["stripes"][1] > 0.5
    events = read_events(tmp_path)
    evaluations = [event for event in events if event["event"] == "evaluation"]
    assert [event["step"] for event in evaluations] == [12, 24, 36]
    scales = [event["scales"]["stripes"] for event in events if "scales" in event]
    assert len(set(scales)) > 1


@pytest.mark.nightly  # docs/how-to/keras_fit.md trains two heads, too.
def test_a_head_for_each_task_in_fit(tmp_path, capsys):
    example = load("two_heads")
    model = example.make_model()
    arrays = {"point": np.ones((3, 2), np.float32), "label": np.array([2, 1, 0], np.int32)}
    batch = {"task": np.array([0, 1, 1]), "weight": np.array([1, 1, 0], np.float32), **arrays}
    _, labels, weights = example.for_heads(batch)
    # A head sees the labels of its own task, and learns only from rows that are not empty.
    assert np.array(labels["sector"]).tolist() == [2, 0, 0]
    assert np.array(labels["ring"]).tolist() == [0, 1, 0]
    assert np.array(weights["sector"]).tolist() == [1, 0, 0]
    assert np.array(weights["ring"]).tolist() == [0, 1, 0]
    assert {name: logits.shape[-1] for name, logits in model.output.items()} == example.CLASSES
    words = ["--directory", str(tmp_path), "--steps", "30"]
    example.main([*words, "--epochs", "4"])
    scores = example.main([*words, "--epochs", "10"])
    assert scores["sector"] > 0.85
    assert scores["ring"] > 0.75
    assert "sector" in capsys.readouterr().out
