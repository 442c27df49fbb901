"""The engine runs adapters by sentence; files of adapters are added to engine files."""

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf
from engine_case import SIZES

from keras_mtl.cli import main
from keras_mtl.configuration.adapters import AdapterConfig, adapter_choices, adapter_sets
from keras_mtl.decoding.adapter_file import add_adapters, write_adapter_file
from keras_mtl.decoding.engine_file import TextSide, write_engine_file
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.engine import Engine, open_model_file, write_model_file
from keras_mtl.engine.arrays import variable_arrays
from keras_mtl.errors import ExportError, InputError
from keras_mtl.models import Transformer
from keras_mtl.models.variables import variables_by_name
from tests.decoding.tiny_model import make_vocabulary
from tests.training.tiny_run import OTHER_SUBLAYERS

LANGUAGES = ("fr", "uk", "ja")
SETTINGS = [
    AdapterConfig("language", dim=5, groups={"uk": ["uk"], "ja": ["ja"]}),
    AdapterConfig("low", kind="lora", rank=3, match=".*", groups={"x": ["fr", "ja"]}),
    AdapterConfig("task", kind="embedding", per="task", groups={"ja": ["en-ja"]}),
]
OPTIONS = {"beam_size": 3, "max_length": 10, "num_hypotheses": 2}


def tasks_of(languages, settings=SETTINGS):
    tasks = [TranslationTask(f"en-{target}", "en", target) for target in languages]
    choices = adapter_choices(settings, tasks)
    return [dataclasses.replace(t, adapters=c) for t, c in zip(tasks, choices, strict=True)]


def make_model(vocabulary, tasks, settings, activation="gelu", base=None, **fields):
    """A model with random adapters; its other weights are those of `base` if there is one."""
    tf.keras.utils.set_random_seed(2)
    sizes = {**SIZES, "vocabulary_size": vocabulary.size, "activation": activation, **fields}
    model = Transformer(**sizes, adapters=adapter_sets(settings, tasks))
    random = np.random.default_rng(4)
    theirs = {} if base is None else variables_by_name(base)
    for name, variable in variables_by_name(model).items():
        if name in theirs and tuple(theirs[name].shape) == tuple(variable.shape):
            variable.assign(theirs[name])
        elif "adapters_" in name:
            change = random.normal(size=variable.shape) * 0.3
            variable.assign(variable.numpy() + change.astype(np.float32))
    return model


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A vocabulary, a model, its tasks, and its engine files by type of the weights."""
    directory = tmp_path_factory.mktemp("adapters")
    vocabulary, tasks = make_vocabulary(), tasks_of(LANGUAGES)
    model = make_model(vocabulary, tasks, SETTINGS)
    plain = make_model(vocabulary, tasks, [], base=model)
    files = {}
    for weight_type in ("float32", "int8"):
        for name, each, own in (
            ("adapted", model, tasks),
            ("base", plain, tasks_of(LANGUAGES, [])),
        ):
            files[name, weight_type] = write_engine_file(
                each, vocabulary, own, directory / f"{name}-{weight_type}", weight_type=weight_type
            )
    return vocabulary, model, tasks, files


def sentences(vocabulary, count=24):
    random = np.random.default_rng(7)
    return [
        [int(random.integers(4, 7)), *random.integers(8, vocabulary.size, n).tolist(), 2]
        for n in random.integers(1, 14, count)
    ]


def test_float32_equals_keras(case):
    vocabulary, model, tasks, files = case
    check_scores(vocabulary, model, tasks, files["adapted", "float32"])


@pytest.mark.nightly
@pytest.mark.parametrize("norm_position", ["pre", "post"])
def test_float32_equals_keras_with_other_sub_layers(norm_position, tmp_path):
    vocabulary, tasks = make_vocabulary(), tasks_of(LANGUAGES)
    fields = {**OTHER_SUBLAYERS, "norm_position": norm_position}
    model = make_model(vocabulary, tasks, SETTINGS, **fields)
    check_scores(
        vocabulary, model, tasks, write_engine_file(model, vocabulary, tasks, tmp_path / "m")
    )


def check_scores(vocabulary, model, tasks, file):
    sources, targets = sentences(vocabulary, 6), sentences(vocabulary, 6)[::-1]
    routes = [task.route for task in tasks] * 2
    assert len(set(routes)) == 3
    found = Engine(file).score(sources, targets, decoders=routes)
    for source, target, route, scores in zip(sources, targets, routes, found, strict=True):
        data = {"source": [source], "target": [target], "decoder": [route]}
        logits = model({name: tf.constant(ids, tf.int32) for name, ids in data.items()})[0]
        want = tf.gather(tf.nn.log_softmax(logits), target, batch_dims=1)
        np.testing.assert_allclose(scores, want, atol=2e-4)


@pytest.mark.parametrize("weight_type", ["float32", "int8"])
def test_a_result_does_not_depend_on_the_batch(case, weight_type):
    vocabulary, _, tasks, files = case
    engine = Engine(files["adapted", weight_type])
    generic = Engine(files["adapted", weight_type], workers=2, threads=2, isa="generic")
    base = Engine(files["base", weight_type])
    none = 0  # The route without any adapter.
    sources = sentences(vocabulary)
    routes = [[*(task.route for task in tasks), none][i % 4] for i in range(len(sources))]
    together = engine.translate(sources, OPTIONS, decoders=routes)
    assert together == generic.translate(sources, OPTIONS, decoders=routes, max_batch_size=5)
    encoded = engine.encode(sources, decoders=routes)
    for i, (source, route) in enumerate(zip(sources, routes, strict=True)):
        assert engine.translate([source], OPTIONS, decoders=[route]) == [together[i]]
        np.testing.assert_array_equal(engine.encode([source], decoders=[route])[0], encoded[i])
        same = base.translate([source], OPTIONS) == [together[i]]
        assert same == (route == none)


def test_int8_is_close_to_float32(case):
    vocabulary, _, tasks, files = case
    sources = sentences(vocabulary, 9)
    routes = [task.route for task in tasks] * 3
    exact, rounded, plain = (
        np.concatenate(Engine(files[name]).encode(sources, decoders=own))
        for name, own in (
            (("adapted", "float32"), routes),
            (("adapted", "int8"), routes),
            (("base", "float32"), None),
        )
    )
    assert np.abs(exact - rounded).mean() < 0.2 * np.abs(exact - plain).mean()


def test_the_file_gives_tasks_and_variables(case):
    _, model, tasks, files = case
    file = open_model_file(files["adapted", "float32"], verify=True)
    assert list(TextSide.read(file).tasks) == tasks
    arrays = variable_arrays(file)
    for name, variable in variables_by_name(model).items():
        if not name.endswith("_positions/positions"):
            np.testing.assert_allclose(arrays[name], variable, rtol=1e-6, err_msg=name)
    with pytest.raises(InputError, match="decoder of sentence 0=12: give a whole number from 0 to"):
        Engine(files["adapted", "float32"]).translate([[4, 9, 2]], OPTIONS, decoders=[12])


@pytest.mark.parametrize(
    ("values", "dropped", "message"),
    [
        ({"adapter_counts": [3, 1, 1]}, "", "adapter.0.2"),
        ({"adapter_counts": [0, 1, 1]}, "", r"adapter_counts: 0 is not in \[1"),
        ({"adapter_counts": [4096, 4096 * 128, 1]}, "", "adapter_counts: "),
        (
            {"adapter_counts": [4096, 4096, 4096]},
            "",
            "adapter_counts: there are too many combinations",
        ),
        ({"adapter_sizes": [6, 3, 1]}, "", "adapter.0.0"),
        ({"adapter_sizes": [5, -1, 1]}, "", r"adapter_sizes: -1 is not in \[1"),
        ({"adapter_sizes": [5]}, "", r"the lists adapter_\* differ in length"),
        ({"adapter_kinds": ["bottleneck", "prompt", "lora"]}, "", "'prompt' is not one of"),
        ({"adapter_kinds": "lora"}, "", "adapter_kinds: it is not a list of texts"),
        ({"task_decoders": [0, 0, 12]}, "", "task_decoders: route 12 does not exist"),
        ({}, "encoder.layer.1.adapter.0.1.up.bias", "encoder.layer.1.adapter.0.1.up.bias: it is m"),
        ({}, "encoder.layer.0.attention.qkv.lora.1.0.up.weight", "lora.1.0.up.weight: it is miss"),
        ({"adapters": "{"}, "", "does not contain a vocabulary and tasks"),
    ],
)
def test_damaged_files(case, tmp_path, values, dropped, message):
    file = open_model_file(case[3]["adapted", "float32"])
    tensors = {name: np.array(file.tensor(name)) for name in file.tensor_names if name != dropped}
    path = write_model_file(tmp_path / "bad", {**file.hyperparameters, **values}, tensors)
    with pytest.raises(ExportError, match=message):
        TextSide.read(Engine(path).file)


@pytest.mark.parametrize(
    "weight_type", ["int8", pytest.param("float32", marks=pytest.mark.nightly)]
)
def test_adapters_are_added_later(case, tmp_path, weight_type, capsys):
    """Two runs add a language each to a base; its translations stay the same."""
    vocabulary, model, _, files = case
    base = files["base", weight_type]
    plain = [TranslationTask(f"en-{target}", "en", target) for target in LANGUAGES]
    exported = []
    for language in ("gl", "ca"):
        own = vocabulary.with_languages([language])
        settings = [
            AdapterConfig("language", dim=5, groups={language: [language]}),
            AdapterConfig("low", kind="lora", rank=3, groups={f"x{language}": [language]}),
            AdapterConfig("task", kind="embedding", groups={language: [language]}),
        ]
        tasks = tasks_of([*LANGUAGES, language], settings)
        bigger = make_model(own, tasks, settings, base=model)
        table, old = bigger.source_embedding.embeddings, model.source_embedding.embeddings
        ids = [next(i for i in range(own.size) if own.piece(i) == vocabulary.piece(j))
               for j in range(vocabulary.size)]  # fmt: skip
        rows = table.numpy()
        rows[ids] = old.numpy()
        table.assign(rows)
        whole = write_engine_file(
            bigger, own, tasks, tmp_path / f"whole-{language}", weight_type=weight_type
        )
        path = write_adapter_file(bigger, own, tasks, base, tmp_path / f"{language}.adapters")
        exported.append((language, path, whole))
    both = add_adapters(base, [path for _, path, _ in exported], tmp_path / "both")
    text = TextSide.read(open_model_file(both, verify=True))
    assert [task.name for task in text.tasks] == [*(t.name for t in plain), "en-gl", "en-ca"]
    engine = Engine(both)
    for language, _, whole in [(None, None, base), *exported]:
        before = Engine(whole)
        known = TextSide.read(before.file)
        for task in text.tasks:
            if task.name in {t.name for t in plain} or task.target == language:
                same = next(t for t in known.tasks if t.name == task.name)
                for line in ("one red house", "two trees"):
                    found = []
                    for each, own, t in ((engine, text, task), (before, known, same)):
                        tag = own.vocabulary.tag_id(t.target)
                        ids = [tag, *own.vocabulary.encode(line), 2]
                        options = {**OPTIONS, "suppress": each.hyperparameters["not_text"]}
                        (got,) = each.translate([ids], options, decoders=[t.route])
                        found.append([own.vocabulary.decode(h.ids) for h in got])
                        found[-1].append(each.encode([ids], decoders=[t.route])[0].tobytes())
                    assert found[0] == found[1], (language, task)
    with pytest.raises(ExportError, match="already has the adapter 'ca' of 'language'"):
        add_adapters(both, [exported[1][1]], tmp_path / "again")
    other = files["base", "int8" if weight_type == "float32" else "float32"]
    with pytest.raises(ExportError, match="was exported for a base with base_weights"):
        add_adapters(other, [exported[0][1]], tmp_path / "other")
    with pytest.raises(ExportError, match=r"this file has only adapters. Add them to the engine"):
        Engine(exported[0][1])
    assert main.main(["inspect", "--model", str(exported[0][1])]) == 0
    assert re.search(r"en-gl +en -> gl +gl +xgl", capsys.readouterr().out)
    assert main.main(["inspect", "--model", str(both)]) == 0
    assert re.search(r"en-ca +en -> ca +\d+ +all +ca +xca", capsys.readouterr().out)


def test_a_base_with_other_weights_is_refused(case, tmp_path):
    vocabulary, model, tasks, files = case
    settings = [AdapterConfig("more", dim=3)]
    other = make_model(vocabulary, tasks, settings)  # Its gamma of one layer differs.
    other.encoder.final_norm.gamma.assign_add(np.ones([SIZES["hidden_dim"]], np.float32))
    own = tasks_of(LANGUAGES, settings)
    with pytest.raises(ExportError, match=r"differ from those of the model\. Freeze all weights"):
        write_adapter_file(other, vocabulary, own, files["base", "float32"], tmp_path / "a")
    with pytest.raises(
        ExportError, match="has the task 'en-fr' without the adapter 'x' that it us"
    ):
        write_adapter_file(model, vocabulary, tasks, files["base", "float32"], tmp_path / "a")
    with pytest.raises(ExportError, match="has all tasks of the model, so there is nothing"):
        write_adapter_file(model, vocabulary, tasks, files["adapted", "float32"], tmp_path / "a")
    assert not (tmp_path / "a").exists()
