"""Validation on the engine: TensorFlow's scores, of the weights that the model has each time."""

import dataclasses

import numpy as np
import pytest

from keras_mtl.configuration.overriding import set_values
from keras_mtl.configuration.schema import ExperimentConfig, TransformerConfig
from keras_mtl.evaluation.run_evaluators import engine_evaluator, model_evaluator
from keras_mtl.evaluation.stopping import EvaluationStopped
from keras_mtl.evaluation.tasks import translation_tasks
from keras_mtl.export.engine_file import export_engine_file
from tests.decoding import tiny_model
from tests.decoding.tiny_model import PAIRS


@dataclasses.dataclass
class Task:
    name: str
    source: str
    target: str


class Reader:
    """The pairs of a task, all of them held out."""

    has_text = True

    def __init__(self, pairs, vocabulary):
        self.pairs = pairs
        self.vocabulary = vocabulary

    def __len__(self):
        return len(self.pairs)

    def text(self, index):
        return self.pairs[index]

    def gather(self, indices):
        pairs = [self.pairs[index] for index in indices]
        return [self.vocabulary.encode_batch(side) for side in zip(*pairs, strict=True)]


class Prepared:
    def __init__(self, vocabulary):
        self.vocabulary = vocabulary
        self.tasks = [Task(name, *name.split("-")) for name in PAIRS]

    def reader(self, task, split):
        return Reader(PAIRS[task], self.vocabulary)


@pytest.fixture(scope="module")
def trained(copy_trained_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("backend") / "model"
    model, vocabulary, _ = tiny_model.load(copy_trained_model(path))
    return model, Prepared(vocabulary)


def configuration(backend, **changes):
    config = ExperimentConfig()
    set_values(config.task.decoding, {"max_length": 24})
    set_values(config.trainer.evaluation, {"backend": backend, "beam_size": 2, **changes})
    return config


def evaluator(trained, backend, **changes):
    config = configuration(backend, **changes)
    tasks = translation_tasks(TransformerConfig(), trained[1].tasks)
    return model_evaluator(config.trainer.evaluation, config.task.decoding, tasks, *trained)


def of_engine_file(config, path, prepared):
    tasks = translation_tasks(TransformerConfig(), prepared.tasks)
    evaluation, decoding = config.trainer.evaluation, config.task.decoding
    return engine_evaluator(evaluation, decoding, tasks, path, prepared)


def engine_file(trained, path, weight_type):
    model, prepared = trained
    tasks = translation_tasks(TransformerConfig(), prepared.tasks)
    return export_engine_file(model, prepared.vocabulary, tasks, path, weight_type=weight_type)


def test_native_validation_is_that_of_tensorflow_and_follows_the_weights(trained):
    model = trained[0]
    in_tensorflow, on_engine = (evaluator(trained, backend) for backend in ("tf", "native"))
    first = [e.evaluate() for e in (in_tensorflow, on_engine)]
    weight = model.decoders[0].final_norm.gamma
    old = weight.numpy()
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


@pytest.mark.parametrize("compute_type", ["float32", "int8"])
def test_an_engine_file_is_validated_as_its_model_is(trained, tmp_path, compute_type):
    path = engine_file(trained, tmp_path / "model.kmtl", compute_type)
    expected = evaluator(trained, "native", compute_type=compute_type).evaluate()
    found = of_engine_file(configuration("native"), path, trained[1]).evaluate()
    for name in PAIRS:
        assert found[name].hypotheses == expected[name].hypotheses
        assert found[name].scores == expected[name].scores
        assert list(found[name].scores) == list(expected[name].scores)


def test_the_engine_gives_the_likelihood_of_the_model(trained, tmp_path):
    path = engine_file(trained, tmp_path / "model.kmtl", "float32")
    expected = evaluator(trained, "native", metric="neg_log_perplexity").evaluate()
    config = configuration("native", metric="neg_log_perplexity", max_pairs=3)
    found = of_engine_file(config, path, trained[1]).evaluate()
    config.trainer.evaluation.max_pairs = 200
    whole = of_engine_file(config, path, trained[1]).evaluate()
    for name in PAIRS:
        value = expected[name].neg_log_perplexity
        assert whole[name].neg_log_perplexity == pytest.approx(value, rel=1e-5)
        assert found[name].neg_log_perplexity != pytest.approx(value, rel=1e-5)


def test_an_evaluation_stops_before_its_next_task(trained, tmp_path):
    path = engine_file(trained, tmp_path / "model.kmtl", "float32")
    evaluation = of_engine_file(configuration("native"), path, trained[1])
    answers = iter([False, False, True])
    with pytest.raises(EvaluationStopped, match=list(PAIRS)[2]):
        evaluation.evaluate(stopped=lambda: next(answers))
