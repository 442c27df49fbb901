"""What benchmarks measure is what they say."""

import importlib.util
from pathlib import Path

import numpy as np

from keras_mtl.engine.arrays import transformer_arrays


def test_random_weights_are_those_of_the_keras_model():
    path = Path(__file__).parents[1] / "benchmarks/random_transformer.py"
    spec = importlib.util.spec_from_file_location("random_transformer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sizes = {"vocabulary_size": 50, "hidden_dim": 16, "num_heads": 2, "intermediate_dim": 32}
    model = module.RandomTransformer({**sizes, "encoder_layers": 1, "decoder_layers": 2}, seed=1)
    have = transformer_arrays(model)
    want = transformer_arrays(module.keras_transformer(model))
    assert list(have) == list(want)
    for name, array in have.items():
        np.testing.assert_allclose(array, want[name], atol=3e-5, err_msg=name)
