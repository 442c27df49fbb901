"""Validation on the engine: TensorFlow's scores, of the weights that the model has each time."""

import dataclasses

import numpy as np
import pytest

from keras_mtl.config import ExperimentConfig
from keras_mtl.training.evaluation import Evaluator
from tests.decoding import tiny_model
from tests.decoding.tiny_model import PAIRS


@dataclasses.dataclass
class Task:
    name: str
    source: str
    target: str


class Reader:
    """The pairs of a task, all of them held out."""

    def __init__(self, pairs):
        self.pairs = pairs

    def __len__(self):
        return len(self.pairs)

    def text(self, index):
        return self.pairs[index]


class Prepared:
    def __init__(self, vocabulary):
        self.vocabulary = vocabulary
        self.tasks = [Task(name, *name.split("-")) for name in PAIRS]

    def reader(self, task, split):
        return Reader(PAIRS[task])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("backend") / "model"
    model, vocabulary, _ = tiny_model.make_model_dir(path, steps=10)
    return model, Prepared(vocabulary)


def evaluator(trained, backend, **changes):
    config = ExperimentConfig()
    config.task.decoding.override({"max_length": 24})
    config.trainer.evaluation.override({"backend": backend, "beam_size": 2, **changes})
    return Evaluator.from_model(config, *trained)


def test_native_validation_is_that_of_tensorflow_and_follows_the_weights(trained):
    model = trained[0]
    in_tensorflow, on_engine = (evaluator(trained, backend) for backend in ("tf", "native"))
    first = [e.evaluate() for e in (in_tensorflow, on_engine)]
    weight = model.decoders[0].final_norm.gamma
    old = np.array(weight)
    weight.assign(old[::-1] * np.linspace(-1, 1, old.size))
    try:
        second = [e.evaluate() for e in (in_tensorflow, on_engine)]
    finally:
        weight.assign(old)
    for have in (first, second):
        for name in PAIRS:
            assert have[0][name].hypotheses == have[1][name].hypotheses
            assert have[0][name].scores == have[1][name].scores
    assert first[1]["en-fr"].hypotheses != second[1]["en-fr"].hypotheses


def test_int8_and_threads(trained):
    found = [
        evaluator(trained, "native", compute_type="int8", workers=workers).evaluate()
        for workers in (1, 3)
    ]
    for name in PAIRS:
        assert found[0][name].hypotheses == found[1][name].hypotheses
