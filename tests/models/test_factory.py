import dataclasses

import keras
import pytest

from keras_mtl.configuration.model_sizes import resolved
from keras_mtl.configuration.schema import TransformerConfig
from keras_mtl.errors import ConfigError
from keras_mtl.models import SIZES, build_transformer


def test_sizes_and_fields_that_override_them():
    config = TransformerConfig(size="small", dropout=0.0, decoder_layers=1)
    assert resolved(config) == {
        **dataclasses.asdict(SIZES["small"]),
        "dropout": 0.0,
        "decoder_layers": 1,
    }
    assert (SIZES["tiny"].hidden_dim, SIZES["tiny"].encoder_layers) == (128, 2)
    assert (SIZES["base"].intermediate_dim, SIZES["base"].num_heads) == (2048, 8)
    assert (SIZES["big"].hidden_dim, SIZES["big"].dropout) == (1024, 0.3)


def test_a_model_of_a_configuration():
    model = build_transformer(TransformerConfig(size="tiny"), 100)
    assert model.built
    # Embeddings; 2 encoder layers of 12 d^2 + 13 d; 2 decoder layers of 16 d^2 + 19 d; two norms.
    d = 128
    layers = 2 * (12 * d * d + 13 * d) + 2 * (16 * d * d + 19 * d) + 4 * d
    trainable = sum(keras.ops.size(v) for v in model.trainable_variables)
    assert int(trainable) == 100 * d + layers


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": "tinny"}, "task.model.size: unknown size 'tinny'; did you mean 'tiny'?"),
        ({"activation": "relo"}, "task.model.activation = 'relo' is unknown; did you mean 'relu'?"),
        ({"positions": "learnt"}, "did you mean 'learned'?"),
        ({"sharing": "fully"}, "did you mean 'full'?"),
        ({"sharing": "encoder"}, "needs the target languages"),
        ({"hidden_dim": 130}, "hidden_dim 130 is not a multiple of task.model.num_heads 4"),
        ({"hidden_dim": 3, "num_heads": 3}, "must be even for sinusoidal positions, not 3"),
        ({"dropout": 1.0}, "task.model.dropout must be in"),
        ({"encoder_layers": -1}, "task.model.encoder_layers must be at least 0, not -1"),
        ({"num_heads": 0}, "task.model.num_heads must be at least 1, not 0"),
        ({"logits_chunk": -1}, "task.model.logits_chunk must be at least 0, not -1"),
        ({"recompute": "layers"}, "task.model.recompute = 'layers' is unknown; did you mean"),
        ({"max_length": 0}, "task.model.max_length must be at least 1, not 0"),
    ],
)
def test_bad_configurations_name_field_value_and_remedy(change, words):
    config = TransformerConfig(**{"size": "tiny", **change})
    with pytest.raises(ConfigError) as error:
        build_transformer(config, 100)
    assert words in str(error.value)
