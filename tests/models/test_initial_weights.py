"""Variables take weights from other models by rules, and can be frozen."""

import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.configuration.initial_weights import InitConfig, InitRuleConfig
from keras_mtl.data.vocabulary_map import VocabularyMap
from keras_mtl.errors import ConfigError
from keras_mtl.models import Transformer
from keras_mtl.models.initial_weights import assign, choose, final_entries, table
from keras_mtl.models.variables import freeze, variables_by_name

NAMES = ["embedding/embeddings", "encoder/layer_0/a/kernel", "encoder/layer_1/a/kernel"]


class Maps:
    """Has the same map for all tables, instead of `VocabularyMaps`."""

    def __init__(self, rows):
        self._rows = rows

    def between(self, origin, name):
        return self._rows


SAME = Maps(VocabularyMap(20, [[i] for i in range(20)], 20, 0, 0))


def make(decoders=("fr",), vocabulary=20, layers=1, **kwargs):
    return Transformer(
        vocabulary_size=vocabulary,
        hidden_dim=8,
        num_heads=2,
        intermediate_dim=16,
        encoder_layers=layers,
        decoder_layers=1,
        sharing="encoder",
        decoders=decoders,
        name="transformer",
        **kwargs,
    )


def settings(*rules, exclude=()):
    return InitConfig("runs/old", [InitRuleConfig(*rule) for rule in rules], list(exclude))


def test_rules_choose():
    assert choose(NAMES, NAMES[:2], settings(), "f") == {
        NAMES[0]: (NAMES[0], ""),
        NAMES[1]: (NAMES[1], ""),
        NAMES[2]: ("", f"the source has no {NAMES[2]}"),
    }
    # The first rule that matches counts, and a variable that no rule matches takes nothing.
    rules = [(r"encoder/layer_1/(.*)", r"encoder/layer_0/\1"), (r"encoder/.*", r"\g<0>")]
    assert choose(NAMES, NAMES[:2], settings(*rules), "f") == {
        NAMES[0]: ("", "no rule matches"),
        NAMES[1]: (NAMES[1], ""),
        NAMES[2]: (NAMES[1], ""),
    }
    excluded = choose(NAMES, NAMES, settings(exclude=["emb.*"]), "f")
    assert excluded[NAMES[0]] == ("", "excluded")
    assert excluded[NAMES[2]] == (NAMES[2], "")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (settings(exclude=["encodr/.*"]), r"f.exclude\[0\] = 'encodr/\.\*' .*mean 'encoder/\.\*'"),
        (settings(("encoder", "x")), r"f.rules\[0\].match = 'encoder' matches no variable"),
        (settings(("enc.*", "encoder/layer_7/a/kernel")), r"f.rules\[0\].to = .*layer_7.*no such"),
        (settings(exclude=[".*"]), r"f: no variable of this model takes weights from runs/old"),
    ],
)
def test_rules_that_do_not_fit(given, message):
    with pytest.raises(ConfigError, match=message):
        choose(NAMES, NAMES, given, "f")


def test_a_new_decoder_takes_the_weights_of_another():
    old, new = make(["fr"], layers=2), make(["fr", "ca"])
    source = {name: value.numpy() for name, value in variables_by_name(old).items()}
    rules = settings((r"decoder_ca/(.*)", r"decoder_fr/\1"), (r".*", r"\g<0>"))
    before = {name: value.numpy() for name, value in variables_by_name(new).items()}
    assign(new, source, rules, SAME, write=False)
    for name, value in variables_by_name(new).items():
        np.testing.assert_array_equal(value.numpy(), before[name])
    entries = assign(new, source, rules, SAME)
    for name, value in variables_by_name(new).items():
        origin = name.replace("decoder_ca", "decoder_fr")
        np.testing.assert_array_equal(value.numpy(), source[origin])
    rows = table(entries, dict.fromkeys(before, 1))
    assert ("decoder_ca/layer_0", "20", "20", "loaded from [0]", "from decoder_fr/layer_0") in rows


def test_other_shapes_are_left_out():
    old, new = make(vocabulary=12), make(vocabulary=20)
    source = {name: value.numpy() for name, value in variables_by_name(old).items()}
    entries = assign(new, source, settings(), SAME)
    (left,) = [entry for entry in entries if entry.status != "loaded"]
    assert left.name == "embedding/embeddings"
    assert left.reason == "the shape [12, 8] in the source is not [20, 8]"
    source["encoder/final_norm/gamma"][3] = np.nan
    with pytest.raises(ConfigError, match=r"init\[1\].from: .*encoder/final_norm/gamma.*diverged"):
        assign(new, source, settings(), SAME, number=1)


def test_rows_follow_a_map():
    old, new = make(vocabulary=20, tie_embeddings=False), make(vocabulary=3, tie_embeddings=False)
    source = {name: value.numpy() for name, value in variables_by_name(old).items()}
    rows = Maps(VocabularyMap(20, [[7], [1, 3], []], 1, 1, 0))
    first = new.decoders[0].projection.kernel.numpy()
    entries = assign(new, source, settings(), rows)
    for name, axis in (("source_embedding/embeddings", 0), ("decoder_fr/projection/kernel", 1)):
        given = np.moveaxis(source[name], axis, 0)
        found = np.moveaxis(variables_by_name(new)[name].numpy(), axis, 0)
        np.testing.assert_array_equal(found[0], given[7])
        np.testing.assert_allclose(found[1], (given[1] + given[3]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(found[2], first[:, 2])
    assert {e.name for e in entries if e.status == "remapped"} == {
        "source_embedding/embeddings",
        "target_embedding/embeddings",
        "decoder_fr/projection/kernel",
    }


def test_later_sources_override():
    model = make()
    values = {name: value.numpy() for name, value in variables_by_name(model).items()}
    first = assign(model, {n: v + 1 for n, v in values.items()}, settings(), SAME, 0)
    encoder = settings((r"encoder/.*", r"\g<0>"))
    second = assign(model, {n: v + 2 for n, v in values.items()}, encoder, SAME, 1)
    for entry in final_entries([first, second]):
        added = 2 if entry.name.startswith("encoder") else 1
        assert entry.source == added - 1
        np.testing.assert_array_equal(
            variables_by_name(model)[entry.name].numpy(), values[entry.name] + added
        )


def test_freezing():
    model = make(["fr", "ca"])
    count = len(model.trainable_variables)
    frozen = freeze(model, ["encoder/.*", "embedding/.*"])
    assert len(model.trainable_variables) == count - len(frozen) > 0
    assert all(
        variable.path.startswith("transformer/decoder_") for variable in model.trainable_variables
    )
    with pytest.raises(ConfigError, match=r"freeze\[1\] = 'encoders/.*mean 'encoder/\.\*'\? The"):
        freeze(make(), ["encoder/.*", "encoders/.*"])
    with pytest.raises(ConfigError, match="nothing is left to train"):
        freeze(make(), [".*"])


@pytest.mark.parametrize("recompute", ["none", "layer"])
def test_a_frozen_decoder_is_still_the_chosen_one(recompute):
    rates = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), 0.0)
    model = make(["fr", "ca"], recompute=recompute, **rates)
    ids = np.array([[5, 6, 7, 2]], np.int32)

    def gradients(decoder):
        """Returns the loss and its gradients by variable."""
        inputs = {"source": ids, "target": ids, "decoder": np.array([decoder], np.int32)}
        variables = model.trainable_variables
        with tf.GradientTape() as tape:
            loss, _, _ = model.token_losses(inputs, training=True)
        found = tape.gradient(loss, [v.value for v in variables], unconnected_gradients="zero")
        values = {v.path: tf.convert_to_tensor(g) for v, g in zip(variables, found, strict=True)}
        return loss.numpy(), values

    expected, all_gradients = gradients(1)
    assert not np.allclose(gradients(0)[0], expected)
    freeze(model, ["decoder_.*/layer_0/.*", "embedding/.*"])
    loss, trained = gradients(1)
    np.testing.assert_array_equal(loss, expected)
    assert 0 < len(trained) < len(all_gradients)
    for name, value in trained.items():
        np.testing.assert_allclose(value, all_gradients[name], atol=1e-6, err_msg=name)
