"""Sources with a vocabulary of their own: each side of the data has the pieces of its own."""

import dataclasses
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from test_distributed_steps import RUNNER, local
from test_prepare import SETTINGS, run, task
from test_prepare_processes import assert_same

from keras_mtl import errors
from keras_mtl.configuration.files import load_experiment
from keras_mtl.configuration.other_tasks import SubwordSamplingConfig
from keras_mtl.configuration.schema import ExperimentConfig, TranslationConfig
from keras_mtl.configuration.vocabulary_sections import SourceVocabularyConfig, VocabularyConfig
from keras_mtl.data.batch_shapes import training_sources
from keras_mtl.data.evaluation_sets import EvaluationCorpus, read_evaluation_set
from keras_mtl.data.pair_changes import held_out_changes, training_changes
from keras_mtl.data.vocabulary import UNK_ID, Vocabulary
from keras_mtl.data.vocabulary_files import read_vocabulary
from keras_mtl.data.vocabulary_map import VocabularyMaps
from keras_mtl.evaluation.noisy_pairs import with_noise
from keras_mtl.training.run.directory import RunDirectory

__all__ = ["local"]  # A fixture.
SEPARATE = dataclasses.replace(
    SETTINGS,
    vocabulary=VocabularyConfig(size=283),
    source_vocabulary=SourceVocabularyConfig(size=288, model_type="bpe"),
)
TASKS = [
    task(),
    task(target="de"),
    task(kind="denoising", name="fr-noise"),
    task(kind="language_model", name="fr-lm"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return run(tmp_path_factory.mktemp("data"), TASKS, SEPARATE)


def decoded(data, name, part):
    """The text of both sides, each decoded with its own vocabulary."""
    reader = data.reader(name, part)
    sides = reader.gather(np.arange(len(reader)))
    return list(
        zip(
            *(own.decode_batch(ids) for own, ids in zip(data.vocabulary.sides, sides, strict=True)),
            strict=True,
        )
    )


def test_each_side_has_its_own_pieces(data):
    source, target = data.vocabulary.sides
    assert (source.size, target.size) == (288, 283)
    assert source.languages == ("de", "fr")
    assert target.languages == ()
    assert data.manifest["source_vocabulary_size"] == 288
    pieces = [{own.piece(i).strip("▁") for i in range(own.size)} for own in (source, target)]
    assert "one" not in pieces[1]  # No English is a target.
    for name in ("en-fr", "en-de"):
        assert decoded(data, name, "dev") == list(data.reader(name, "dev").texts())
        assert decoded(data, name, "dev")[0][0] != decoded(data, name, "dev")[0][1]
    data.verify()
    tags = [each.tag_id for each in training_sources(data, TranslationConfig(pairs=TASKS))]
    assert tags == [source.tag_id(each.target) for each in TASKS]


def test_tasks_with_one_side(data):
    noisy, plain = decoded(data, "fr-noise", "dev"), decoded(data, "fr-lm", "dev")
    assert sorted(target for _, target in noisy) == sorted(target for _, target in plain)
    assert all(source == target for source, target in noisy)
    assert {source for source, _ in plain} == {""}
    # The noise is added to the source, and the target stays as it is.
    reader = with_noise(data, TASKS).reader("fr-noise", "dev")
    sources, targets = reader.gather(np.arange(len(reader)))
    stored_sources, stored_targets = data.reader("fr-noise", "dev").gather(np.arange(len(reader)))
    for own, before in zip(targets, stored_targets, strict=True):
        np.testing.assert_array_equal(own, before)
    for own, before in zip(sources, stored_sources, strict=True):
        assert len(own) <= len(before)
        assert set(own.tolist()) <= {UNK_ID, *before.tolist()}
    assert any(UNK_ID in own for own in sources)
    assert list(held_out_changes(TASKS, data.vocabulary)) == ["fr-noise"]


def test_subwords_of_each_side_are_sampled(data):
    """The sources have BPE and the targets a unigram model."""
    settings = dataclasses.replace(
        SEPARATE,
        subword_sampling=SubwordSamplingConfig(enabled=True, dropout=0.5, growth=3.0),
    )
    changes = training_changes(TASKS, settings, data.vocabulary, seed=1)
    reader = data.reader("en-fr", "train")
    indices = np.arange(40)
    before = reader.gather_flat(indices)
    found = changes["en-fr"](*before, indices, 0)
    bounds = changes["en-fr"].reserve(before[1].reshape(-1, 2))
    assert (found[1].reshape(-1, 2) <= bounds).all()
    for side, own in enumerate(data.vocabulary.sides):
        rows = [
            np.split(tokens, np.cumsum(lengths)[:-1])[side::2]
            for tokens, lengths in (before, found)
        ]
        assert own.decode_batch(rows[0]) == own.decode_batch(rows[1])
        assert any(len(one) != len(two) for one, two in zip(*rows, strict=True))


def test_prepared_data_is_used_as_it_is(tmp_path, data):
    prepared = run(tmp_path, [task()], SEPARATE)
    assert run(tmp_path, [task()], SEPARATE).log[0].endswith("used as it is")
    absent = SourceVocabularyConfig()
    with pytest.raises(errors.DataError, match=r"settings.source_vocabulary: .*288.* -> ..absent"):
        run(
            tmp_path,
            [task()],
            dataclasses.replace(SEPARATE, source_vocabulary=absent),
        )
    larger = dataclasses.replace(SEPARATE.source_vocabulary, size=289)
    with pytest.raises(errors.DataError, match=r"settings.source_vocabulary.size: 288 -> 289"):
        run(tmp_path, [task()], dataclasses.replace(SEPARATE, source_vocabulary=larger))
    # Given files, of which that of the sources gets the tag of a new language.
    target, source = (
        os.path.join(prepared.data_dir, name)
        for name in ("vocabulary.model", "source_vocabulary.model")
    )
    given = dataclasses.replace(
        SEPARATE,
        vocabulary=VocabularyConfig(model_file=target),
        source_vocabulary=SourceVocabularyConfig(model_file=source),
    )
    again = run(tmp_path / "given", [task(), task(target="de")], given)
    assert again.vocabulary.model_bytes == prepared.vocabulary.model_bytes
    assert again.vocabulary.source.languages == ("fr", "de")
    assert again.vocabulary.hash != prepared.vocabulary.hash
    assert run(tmp_path / "given", [task()], given).log[0].endswith("used as it is")
    # The hash of both is that of the stores.
    os.replace(os.path.join(again.data_dir, "source_vocabulary.model"), source)
    with pytest.raises(errors.DataError, match=r"field vocabulary_hash"):
        run(tmp_path, [task()], SEPARATE)


def test_a_run_records_both(tmp_path, data):
    config = ExperimentConfig()
    config.task.pairs, config.task.data = TASKS, SEPARATE
    config.task.model.tie_embeddings = False
    RunDirectory(tmp_path).write(config, data)
    (tmp_path / "ckpt-1.index").touch()
    assert read_vocabulary(tmp_path).hash == data.vocabulary.hash
    directory = RunDirectory(tmp_path)
    assert directory.check(config, data) == []
    changed = Vocabulary(data.vocabulary.model_bytes, source=data.vocabulary)
    other = SimpleNamespace(vocabulary=changed, tasks=data.tasks)
    with pytest.raises(errors.CheckpointError, match=r"source_vocabulary.model_file=.*source_voc"):
        directory.check(config, other)
    # A run with one vocabulary has one file.
    RunDirectory(tmp_path).write(config, SimpleNamespace(vocabulary=data.vocabulary.source))
    assert not (tmp_path / "source_vocabulary.model").exists()


def test_a_cluster_gives_the_same_files(tmp_path, local, data):
    many = run(tmp_path / "many", TASKS, SEPARATE, runner=RUNNER)
    assert_same(many.data_dir, data.data_dir)


def test_other_corpora_are_encoded_by_side(data):
    corpus = EvaluationCorpus("counting_test", {"begin": 100, "end": 140})
    found = read_evaluation_set(data.tasks[:1], [corpus], data.vocabulary, lambda line: None, data)
    reader = found.reader("en-fr", "test")
    sides = reader.gather(np.arange(len(reader)))
    for side, (own, ids) in enumerate(zip(data.vocabulary.sides, sides, strict=True)):
        assert own.decode_batch(ids) == [reader.text(i)[side] for i in range(len(reader))]
    # Most sentences of the corpus are sources of training.
    assert 0 < len(reader) < 20


def test_tables_follow_the_vocabulary_of_their_side(data, tmp_path):
    shared = run(tmp_path, [task()]).vocabulary
    old, new = shared, data.vocabulary
    maps = VocabularyMaps(old, new)
    tables = "source_embedding/embeddings", "target_embedding/embeddings"
    for name, own in zip(tables, new.sides, strict=True):
        found = maps.between("embedding/embeddings", name)
        assert (found.old_size, len(found.sources)) == (shared.size, own.size)
        assert found is maps.between("embedding/embeddings", name)
        back = VocabularyMaps(new, old).between(name, "embedding/embeddings")
        assert (back.old_size, len(back.sources)) == (own.size, shared.size)
    assert maps.between("e", tables[1]) is maps.between("e", "decoder/projection/kernel")
    assert maps.between("e", tables[1]) is not maps.between("e", tables[0])
    assert VocabularyMaps(new, new).between(tables[0], tables[0]).is_identity


@pytest.mark.parametrize(
    ("data_fields", "model_fields", "pair", "message"),
    [
        ({"source_vocabulary": {"size": 900}}, {}, {}, "tie_embeddings = true: one table for"),
        ({"source_vocabulary": {"model_type": "bpe"}}, {}, {}, "has neither size nor model_file"),
        (
            {"source_vocabulary": {"size": 261}},
            {"tie_embeddings": False},
            {},
            "source_vocabulary.size = 261: .*1 language tags need at least 262",
        ),
        (
            {"source_vocabulary": {"size": 900, "model_type": "word"}},
            {"tie_embeddings": False},
            {},
            "source_vocabulary.model_type = 'word' is unknown",
        ),
        (
            {"source_vocabulary": {"size": 900}},
            {"tie_embeddings": False},
            {"kind": "denoising", "noise": {"method": "mass"}},
            r"pairs\[0\].noise.method = 'mass' masks a span of pieces",
        ),
        (
            {"source_vocabulary": {"size": 900}},
            {
                "tie_embeddings": False,
                "tie_projection": True,
                "sharing": "by_stack",
                "stacks": {"projection": {"per": "target"}},
            },
            {},
            "tie_projection = true, the stacks are encoder, decoder, source_embedding, target_emb",
        ),
    ],
)
def test_what_two_vocabularies_cannot_have(data_fields, model_fields, pair, message):
    values = {
        "task": {
            "pairs": [{"source": "en", "target": "fr", **pair}],
            "data": {"corpora": [{"reader": "cldr"}], **data_fields},
            "model": model_fields,
        }
    }
    with pytest.raises(errors.ConfigError, match=message):
        load_experiment(params_override=[json.dumps(values)])
