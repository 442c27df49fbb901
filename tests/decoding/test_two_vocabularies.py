"""Text is encoded and decoded with the vocabulary of its side, in TensorFlow and in the engine."""

import dataclasses

import numpy as np
import pytest

import keras_mtl
from keras_mtl.configuration.adapters import AdapterConfig, adapter_choices, adapter_sets
from keras_mtl.data.vocabulary_map import map_vocabulary
from keras_mtl.decoding.adapter_file import add_adapters, write_adapter_file
from keras_mtl.decoding.engine_file import write_engine_file
from keras_mtl.decoding.loading import load_model
from keras_mtl.decoding.options import BeamOptions
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.errors import ExportError, InputError
from keras_mtl.export.engine_file import export_engine_file
from keras_mtl.models import Transformer
from keras_mtl.models.variables import variables_by_name
from keras_mtl.training.fit.warm_start import warm_start
from tests.decoding.tiny_model import LINES, PAIRS, make_model_dir, make_vocabulary

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


@pytest.mark.nightly  # Builds models; tests/native/test_engine_adapters.py has one vocabulary.
def test_a_file_of_adapters_adds_tags_to_the_vocabulary_of_sources(
    model_dir, engine_file, tmp_path
):
    _, model, vocabulary, tasks = model_dir
    own = vocabulary.with_languages(["ca"])
    assert own.model_bytes == vocabulary.model_bytes
    assert own.source.languages == (*vocabulary.source.languages, "ca")
    settings = [AdapterConfig("language", dim=5, groups={"ca": ["ca"]})]
    tasks = [*tasks, TranslationTask("en-ca", "en", "ca")]
    choices = adapter_choices(settings, tasks)
    tasks = [dataclasses.replace(t, adapters=c) for t, c in zip(tasks, choices, strict=True)]
    config = {**model.get_config(), "source_vocabulary_size": own.source.size}
    bigger = Transformer.from_config(config | {"adapters": adapter_sets(settings, tasks)})
    theirs = variables_by_name(model)
    for name, variable in variables_by_name(bigger).items():
        if name in theirs and theirs[name].shape == variable.shape:
            variable.assign(theirs[name])
    rows = map_vocabulary(vocabulary.source, own.source)
    table = bigger.source_embedding.embeddings
    table.assign(rows.apply(model.source_embedding.embeddings.numpy(), table.numpy()))
    whole = write_engine_file(bigger, own, tasks, tmp_path / "whole.kmtl", options=OPTIONS)
    path = write_adapter_file(bigger, own, tasks, engine_file, tmp_path / "ca.adapters")
    added = add_adapters(engine_file, [path], tmp_path / "added.kmtl")
    files = [keras_mtl.load_translator(each) for each in (engine_file, whole, added)]
    for task in ("en-fr", "en-ca"):
        found = [
            [[h.ids for h in row] for row in each.hypotheses(LINES, task)]
            for each in files[task == "en-ca" :]
        ]
        assert all(each == found[0] for each in found)
    one = make_vocabulary()
    sizes = {"vocabulary_size": one.size, "source_vocabulary_size": None}
    shared = write_engine_file(
        Transformer.from_config(config | sizes), one, tasks[:1], tmp_path / "shared.kmtl"
    )
    with pytest.raises(ExportError, match="has one vocabulary, but the model has a vocabulary of"):
        write_adapter_file(bigger, own, tasks, shared, tmp_path / "no.adapters")


@pytest.mark.nightly  # Builds models; tests/data/test_source_vocabulary.py has the maps.
def test_tables_follow_from_one_vocabulary_to_two_and_back(model_dir, tmp_path):
    path, model, vocabulary, _ = model_dir
    shared, one, _ = make_model_dir(tmp_path / "one", steps=0)
    both = [f"{side}_embedding/embeddings" for side in ("source", "target")]
    match = "(source|target)_embedding/embeddings"
    rules = [{"match": match, "to": "embedding/embeddings"}, {"match": ".*", "to": r"\g<0>"}]
    warm_start(model, vocabulary, {"from": str(tmp_path / "one"), "rules": rules})
    old = shared.source_embedding.embeddings.numpy()
    for name, own in zip(both, vocabulary.sides, strict=True):
        new = variables_by_name(model)[name].numpy()
        ids = {one.piece(i): i for i in range(one.size)}
        kept = [i for i in range(own.size) if own.piece(i) in ids]
        assert len(kept) > 260
        np.testing.assert_array_equal(new[kept], old[[ids[own.piece(i)] for i in kept]])
    # The other way, the table takes the rows of the targets.
    rules[0] = {"match": "embedding/embeddings", "to": both[1]}
    warm_start(shared, one, {"from": str(path), "rules": rules})
    theirs = load_model(path).model.target_embedding.embeddings.numpy()
    ids = {vocabulary.piece(i): i for i in range(vocabulary.size)}
    kept = [i for i in range(one.size) if one.piece(i) in ids]
    found = shared.source_embedding.embeddings.numpy()
    np.testing.assert_array_equal(found[kept], theirs[[ids[one.piece(i)] for i in kept]])
