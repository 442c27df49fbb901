"""Text is encoded and decoded with the vocabulary of its side, in TensorFlow and in the engine."""

import numpy as np
import pytest

import keras_mtl
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.errors import ExportError, InputError
from keras_mtl.export.engine_file import export_engine_file
from keras_mtl.training.fit.warm_start import warm_start
from tests.decoding.tiny_model import LINES, PAIRS, make_model_dir

TABLES = {"tie_embeddings": False, "tie_projection": True}
OPTIONS = BeamOptions(max_length=24, num_hypotheses=2)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("two") / "run"
    return path, *make_model_dir(path, separate=True, steps=0, **TABLES)


@pytest.fixture(scope="module")
def engine_file(model_dir):
    path, model, vocabulary, tasks = model_dir
    return export_engine_file(model, vocabulary, tasks, path / "model.kmtl", options=OPTIONS)


def test_sources_and_translations_have_their_own_pieces(model_dir, engine_file):
    _, _, vocabulary, _ = model_dir
    own = vocabulary.source
    translator = keras_mtl.load_translator(engine_file)
    assert translator.too_long([LINES[-1] * 9])[0][1] == len(own.encode(LINES[-1].strip() * 9))
    for line, (best, *_) in zip(
        LINES, translator.hypotheses(LINES, "en-fr", alignments=True), strict=True
    ):
        assert " ".join(vocabulary.decode(best.ids).split()) == best.text
        assert best.tokens == tuple(vocabulary.piece(each) for each in best.ids)
        if line.strip():
            tag, *pieces, end = best.source_tokens
            assert (tag, end) == ("<2fr>", "</s>")
            assert len(best.source_tokens) == best.alignment.shape[1]
            ids = [next(i for i in range(own.size) if own.piece(i) == each) for each in pieces]
            assert own.decode(ids).split() == translator.vocabulary.source.decode(ids).split()
    sources, targets = zip(*PAIRS["en-uk"], strict=True)
    scores = keras_mtl.load_scorer(engine_file).score(sources, targets, "en-uk")
    assert [len(row) for row in scores] == [len(vocabulary.encode(each)) + 1 for each in targets]


@pytest.mark.nightly  # Traces a search and a scorer; features.yaml has the same for a run.
def test_tensorflow_and_the_engine_agree(model_dir, engine_file):
    path, *_ = model_dir
    found = [
        translator.hypotheses(LINES, "en-ja", alignments=True)
        for translator in (
            keras_mtl.load_translator(path, backend="tf"),
            keras_mtl.load_translator(engine_file),
        )
    ]
    for ours, theirs in zip(*found, strict=True):
        assert [each.text for each in ours] == [each.text for each in theirs]
        scores = [[each.score for each in rows] for rows in (ours, theirs)]
        np.testing.assert_allclose(*scores, atol=1e-4)
        assert ours[0].source_tokens == theirs[0].source_tokens
    sources, targets = zip(*PAIRS["en-uk"], strict=True)
    scorers = keras_mtl.load_scorer(path, backend="tf"), keras_mtl.load_scorer(engine_file)
    for one, other in zip(*(s.score(sources, targets, "en-uk") for s in scorers), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_sizes_must_be_those_of_the_model(model_dir):
    path, model, vocabulary, _ = model_dir
    lines = warm_start(model, path, path)
    assert "vocabularies of 285 ids of sources and 317 of targets" in lines[0]
    with pytest.raises(InputError, match="of sources has 317 ids, but the model has 285"):
        warm_start(model, path / "vocabulary.model", path)
    with pytest.raises(ExportError, match="the vocabulary of sources has 317 tokens"):
        export_engine_file(model, type(vocabulary)(vocabulary.model_bytes), [], "model.kmtl")
