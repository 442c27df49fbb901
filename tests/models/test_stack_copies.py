"""Models of which tasks have their own copies of stacks: `sharing: by_stack`."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.configuration.schema import TransformerConfig
from keras_mtl.configuration.stack_sharing import StackConfig, StacksConfig
from keras_mtl.decoding.tasks import find_task
from keras_mtl.errors import InputError
from keras_mtl.evaluation.tasks import translation_tasks
from keras_mtl.models import Transformer, build_transformer
from keras_mtl.models.variables import variables_by_name

TASKS = translation_tasks(
    TransformerConfig(),
    [
        type("Pair", (), {"name": f"{source}-{target}", "source": source, "target": target})
        for source, target in (("en", "fr"), ("en", "de"), ("it", "fr"))
    ],
)
PER = StackConfig("source"), StackConfig("target"), StackConfig("task")
# The settings of the stacks, and the copies that each task uses.
TIED = (
    {"encoder": PER[0], "decoder": PER[1], "embeddings": PER[2]},
    [
        {"encoder": "en", "decoder": "fr", "embedding": "en-fr"},
        {"encoder": "en", "decoder": "de", "embedding": "en-de"},
        {"encoder": "it", "decoder": "fr", "embedding": "it-fr"},
    ],
)
UNTIED = (
    {
        "decoder": StackConfig("target", {"romance": ["fr"], "other": ["de"]}),
        "source_embedding": PER[0],
        "projection": PER[2],
    },
    [
        {"decoder": "romance", "source_embedding": "en", "projection": "en-fr"},
        {"decoder": "other", "source_embedding": "en", "projection": "en-de"},
        {"decoder": "romance", "source_embedding": "it", "projection": "it-fr"},
    ],
)


def make(stacks, tie):
    """A model with copies, and its tasks."""
    config = TransformerConfig(
        size="tiny",
        hidden_dim=16,
        num_heads=2,
        intermediate_dim=24,
        encoder_layers=1,
        decoder_layers=1,
        tie_embeddings=tie,
        sharing="by_stack",
        stacks=StacksConfig(**stacks),
        max_length=16,
    )
    keras.utils.set_random_seed(1)
    model = build_transformer(config, 23, seed=3, tasks=TASKS)
    return model, translation_tasks(config, TASKS)


def plain_model(model, copies):
    """A model with one copy of each stack, which has the weights of a task."""
    own = {"sharing": "full", "copies": None, "name": "plain"}
    plain = Transformer(**{**model.get_config(), **own})
    known = variables_by_name(model)
    for name, variable in variables_by_name(plain).items():
        # The projection of a plain model is a part of its decoder.
        name = name.replace("decoder/projection", "projection")
        stack, _, rest = name.partition("/")
        copy = f"{stack}_{copies[stack]}" if stack in copies else stack
        variable.assign(known[f"{copy}/{rest}"])
    return plain


def batch(route):
    generator = np.random.default_rng(1)
    source, target = generator.integers(3, 23, (2, 4, 7)).astype(np.int32)
    source[1, 4:] = 0
    target[2, 5:] = 0
    inputs = {"source": tf.constant(source), "target": tf.constant(target)}
    return {**inputs, "decoder": tf.fill([4], tf.constant(route, tf.int32))}


@pytest.mark.parametrize(
    "case",
    # Nightly repeats it with other stacks.
    [pytest.param(TIED, id="tied"), pytest.param(UNTIED, id="untied", marks=pytest.mark.nightly)],
)
def test_each_task_computes_with_its_own_copies(case):
    stacks, copies = case
    model, tasks = make(stacks, tie=case is TIED)
    users = model.variable_users([task.route for task in tasks])
    owners = model.variable_decoder_index()
    names = [variable.path.partition("/")[2] for variable in model.trainable_variables]
    for number, (task, own) in enumerate(zip(tasks, copies, strict=True)):
        plain = plain_model(model, own)
        inputs = batch(task.route)
        with tf.GradientTape() as tape:
            loss, _, nll = model.token_losses(inputs, 0.1)
        gradients = tape.gradient(loss, model.trainable_variables)
        with tf.GradientTape() as tape:
            expected_loss, _, expected_nll = plain.token_losses(inputs, 0.1)
        expected = dict(
            zip(
                variables_by_name(plain),
                tape.gradient(expected_loss, plain.trainable_variables),
                strict=True,
            )
        )
        np.testing.assert_array_equal(nll, expected_nll)
        np.testing.assert_allclose(model(inputs), plain(inputs), atol=1e-6)
        for name, gradient, rows, owner in zip(names, gradients, users, owners, strict=True):
            stack, _, rest = name.partition("/")
            kind = re.sub(r"_(en|it|fr|de|en-fr|en-de|it-fr|romance|other)$", "", stack)
            used = kind not in own or stack == f"{kind}_{own[kind]}"
            assert used == ((rows is None or rows[number]) and owner in (None, task.decoder)), name
            gradient = tf.convert_to_tensor(gradient) if used or gradient is not None else 0.0
            if not used:
                assert not np.any(gradient), name
                continue
            plain_name = f"{kind}/{rest}".replace("projection/", "decoder/projection/")
            wanted = tf.convert_to_tensor(expected[plain_name])
            np.testing.assert_allclose(gradient, wanted, atol=1e-5, err_msg=name)
        check_steps(model, plain, inputs)


def check_steps(model, plain, inputs):
    states = [each.start(each.encode(inputs["source"], decoder=inputs["decoder"]),
                         inputs["decoder"], 2, 5) for each in (model, plain)]  # fmt: skip
    for index in range(3):
        ids = tf.fill([4, 2], 1 + index)
        steps = [
            each.step(ids, tf.constant(index), state)
            for each, state in zip((model, plain), states, strict=True)
        ]
        np.testing.assert_allclose(steps[0][0], steps[1][0], atol=1e-5)
        states = [state for _, state in steps]


def test_a_model_needs_the_route_and_can_be_made_again():
    model, tasks = make(TIED[0], tie=True)
    inputs = batch(tasks[0].route)
    with pytest.raises(InputError, match=r"2 encoders and 3 copies of embeddings, but"):
        model({key: inputs[key] for key in ("source", "target")})
    again = Transformer.from_config(model.get_config())
    assert list(variables_by_name(again)) == list(variables_by_name(model))
    axes = model.vocabulary_axes()
    assert sorted(axes.values()) == [0, 0, 0]


def test_zero_shot_tasks_take_the_copies_of_their_languages():
    languages = {"encoder": StackConfig("source"), "decoder": StackConfig("target")}
    _, tasks = make(languages, tie=True)
    task = find_task(tasks, "it-de")
    assert (task.decoder, task.stacks) == (tasks[1].decoder, tasks[2].stacks)
    assert task.route not in {other.route for other in tasks}
    _, tasks = make({"encoder": StackConfig("task")}, tie=True)
    with pytest.raises(InputError, match="unknown task 'it-de'"):
        find_task(tasks, "it-de")
