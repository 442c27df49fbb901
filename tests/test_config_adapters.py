"""The section `task.model.adapters`, and which task uses which adapter."""

import dataclasses
import json

import pytest

import keras_mtl
from keras_mtl.cli.inspect_adapters import adapter_lines
from keras_mtl.configuration.adapters import (
    AdapterConfig,
    AdapterSet,
    adapter_choices,
    adapter_sets,
    route_of,
    split_route,
)
from keras_mtl.decoding.tasks import TranslationTask, find_task
from keras_mtl.errors import ConfigError

TASKS = [
    TranslationTask("en-fr", "en", "fr"),
    TranslationTask("en-ca", "en", "ca"),
    TranslationTask("it-gl", "it", "gl"),
]
SETTINGS = [
    AdapterConfig("language", dim=4),
    AdapterConfig("from", per="source"),
    AdapterConfig("low", kind="lora", per="task", rank=2, groups={"x": ["en-ca", "it-gl"]}),
]


def config(**model):
    pairs = [{"source": task.source, "target": task.target} for task in TASKS]
    data = {"corpora": [{"reader": "cldr"}]}
    return keras_mtl.load_config(
        overrides=json.dumps({"task": {"pairs": pairs, "data": data, "model": model}})
    )


def test_members_and_choices():
    language, source, low = adapter_sets(SETTINGS, TASKS)
    assert (language.members, language.size) == (("fr", "ca", "gl"), 4)
    assert (source.members, source.size) == (("en", "it"), 64)
    assert (low.members, low.size, low.alpha) == (("x",), 2, 16.0)
    chosen = [[choice.index for choice in row] for row in adapter_choices(SETTINGS, TASKS)]
    assert chosen == [[0, 0, -1], [1, 0, 0], [2, 1, 0]]
    copied = json.loads(json.dumps(dataclasses.asdict(low)))
    assert AdapterSet.of_mapping(copied) == low


def test_a_route_stands_for_a_decoder_and_an_adapter_of_each_set():
    counts = [3, 2, 1]
    routes = set()
    for choices in adapter_choices(SETTINGS, TASKS):
        for decoder in range(3):
            route = route_of(decoder, choices)
            assert split_route(route, counts) == (decoder, [each.index for each in choices])
            routes.add(route)
            task = TranslationTask("a", "b", "c", decoder, adapters=choices)
            sets = [(each.per, each.count) for each in choices]
            assert TranslationTask.of_route("a", "b", "c", route, sets) == task
    assert len(routes) == 9
    assert route_of(5, ()) == TranslationTask("a", "b", "c", 5).route == 5


def test_a_zero_shot_task_uses_the_adapters_of_its_languages():
    chosen = adapter_choices(SETTINGS, TASKS)
    tasks = [dataclasses.replace(t, adapters=c) for t, c in zip(TASKS, chosen, strict=True)]
    found = find_task(tasks, "it-fr")
    assert [choice.index for choice in found.adapters] == [0, 1, -1]
    assert find_task(tasks, "it-gl") is tasks[2]


def test_a_configuration_with_adapters():
    found = config(adapters=[dataclasses.asdict(each) for each in SETTINGS])
    lines = adapter_lines(found)
    assert lines[0] == "adapters language: bottleneck per target, dim 4, in encoder and decoder"
    assert lines[1:4] == ["  fr: en-fr", "  ca: en-ca", "  gl: it-gl"]
    assert lines[-4].startswith("adapters low: lora per task, rank 2, alpha 16, in encoder and dec")
    assert lines[-3:-1] == ["  no adapter: en-fr", "  x: en-ca, it-gl"]
    assert "ctranslate2 does not support them" in lines[-1]
    assert adapter_lines(config()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": ""}, r"adapters\[0\].name = '': give a name"),
        ({"kind": "lorra"}, r"adapters\[0\].kind = 'lorra' is unknown; did you mean 'lora'"),
        ({"per": "language"}, r"adapters\[0\].per = 'language' is unknown"),
        ({"rank": 4}, r"rank = 4: only kind: lora has this field"),
        ({"kind": "lora", "dim": 4}, r"dim = 4: only kind: bottleneck has this field"),
        ({"kind": "lora", "match": "("}, r"match = '\(' is not a regular expression"),
        ({"kind": "embedding", "dim": 4}, r"dim = 4: only kind: bottleneck has this field"),
        ({"dim": 0}, r"dim = 0: must be >= 1"),
        ({"stacks": []}, r"stacks is empty"),
        ({"stacks": ["encodr"]}, r"stacks\[0\] = 'encodr' is unknown; did you mean 'encoder'"),
        ({"groups": {"x": ["xx"]}}, r"groups.x has 'xx', which is no target language"),
        ({"groups": {"x": "ca"}}, r"groups.x = 'ca': expected a list of names"),
        ({"groups": {"x": ["ca"], "y": ["ca"]}}, r"groups.y has 'ca', which is also in x"),
    ],
)
def test_wrong_values(values, message):
    with pytest.raises(ConfigError, match=message):
        config(adapters=[{"name": "language", **values}])


def test_names_are_unique():
    with pytest.raises(ConfigError, match=r"adapters\[1\].name = 'a' is also the name"):
        config(adapters=[{"name": "a"}, {"name": "a"}])
    both = [{"name": "a", "groups": {"b_c": ["ca"]}}, {"name": "a_b", "groups": {"c": ["ca"]}}]
    with pytest.raises(ConfigError, match=r"two adapters 'a_b_c', of 'a' and of 'a_b'"):
        config(adapters=both)


def test_decoders_of_their_own_need_no_adapters():
    with pytest.raises(ConfigError, match=r"has its own decoder, which needs no adapter"):
        config(adapters=[{"name": "a"}], sharing="encoder")
    config(adapters=[{"name": "a", "stacks": ["encoder"], "per": "source"}], sharing="encoder")
