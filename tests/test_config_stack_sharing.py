"""The section `task.model.stacks`, and which task uses which copy of a stack."""

import json

import pytest

import keras_mtl
from keras_mtl.cli.inspect_adapters import stack_lines
from keras_mtl.configuration import sublayers
from keras_mtl.errors import ConfigError
from keras_mtl.evaluation.tasks import translation_tasks

PAIRS = [("en", "fr"), ("en", "de"), ("it", "fr")]


def config(stacks, sharing="by_stack", **model):
    pairs = [{"source": source, "target": target} for source, target in PAIRS]
    data = {"corpora": [{"reader": "cldr"}]}
    model = {"sharing": sharing, "stacks": stacks, **model}
    return keras_mtl.load_config(
        overrides=json.dumps({"task": {"pairs": pairs, "data": data, "model": model}})
    )


def test_copies_and_tasks():
    loaded = config(
        {
            "encoder": {"per": "source"},
            "decoder": {"per": "target", "groups": {"romance": ["fr"], "other": ["de"]}},
            "embeddings": {"per": "target", "groups": {"one": ["fr", "de"]}},
        }
    )
    assert stack_lines(loaded) == [
        "encoder: 2 copies, per source",
        "  en: en-fr, en-de",
        "  it: it-fr",
        "decoder: 2 copies, per target",
        "  romance: en-fr, it-fr",
        "  other: en-de",
        "embeddings: one copy for all tasks",
    ]
    tasks = translation_tasks(loaded.task.model, loaded.task.pairs)
    assert [task.decoder for task in tasks] == [0, 1, 0]
    assert [[choice.index for choice in task.stacks] for task in tasks] == [[0], [0], [1]]
    assert len({task.route for task in tasks}) == 3
    reason = "task.model.sharing is 'by_stack', and only TensorFlow runs such models"
    assert sublayers.only_tensorflow(loaded.task.model) == reason


@pytest.mark.parametrize(
    ("stacks", "model", "message"),
    [
        ({"encoder": {"per": "both"}}, {}, "stacks.encoder.per = 'both' is unknown"),
        (
            {"encoder": {"groups": {"x": ["fr"]}}},
            {},
            "stacks.encoder.groups is set, but per: all has one copy for all tasks",
        ),
        (
            {"decoder": {"per": "target", "groups": {"x": ["fr"]}}},
            {},
            "stacks.decoder.groups has no group of de; every task needs a copy",
        ),
        (
            {"decoder": {"per": "target", "groups": {"x": ["fr", "de"], "y": ["de"]}}},
            {},
            "stacks.decoder.groups.y has 'de', which is also in x; a task uses one copy",
        ),
        (
            {"decoder": {"per": "source", "groups": {"x": ["en", "et"]}}},
            {},
            "stacks.decoder.groups.x has 'et', which is no source language of a task",
        ),
        (
            {"projection": {"per": "target"}},
            {},
            "stacks.projection = per target: with task.model.tie_embeddings = true, the stacks "
            "are encoder, decoder, embeddings",
        ),
        (
            {"embeddings": {"per": "target"}},
            {"tie_embeddings": False},
            "the stacks are encoder, decoder, source_embedding, target_embedding, projection",
        ),
        (
            {"encoder": {"per": "source"}},
            {"sharing": "full"},
            "task.model.stacks is set, but task.model.sharing = 'full'; set sharing: by_stack",
        ),
        (
            {"decoder": {"per": "target"}},
            {"adapters": [{"name": "own"}]},
            "adapters[0].stacks = ['encoder', 'decoder']: task.model.stacks.decoder gives tasks "
            "their own decoder",
        ),
    ],
)
def test_what_does_not_fit_is_refused(stacks, model, message):
    with pytest.raises(ConfigError) as error:
        config(stacks, **model)
    assert message in str(error.value)


def test_batches_must_be_of_one_task():
    stacks = {"encoder": {"per": "source"}}
    overrides = {"task": {"model": {"sharing": "by_stack", "stacks": stacks}}}
    overrides["task"]["data"] = {"granularity": "example", "corpora": [{"reader": "cldr"}]}
    overrides["task"]["pairs"] = [{"source": s, "target": t} for s, t in PAIRS]
    with pytest.raises(ConfigError, match="has copies of encoder, so each batch must be of one"):
        keras_mtl.load_config(overrides=json.dumps(overrides))
