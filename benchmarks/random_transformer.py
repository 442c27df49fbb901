"""A Transformer of random weights in NumPy, so that decoding can be measured without TensorFlow.

The exporters read it like a `keras_mtl.models.Transformer`.
"""

from types import SimpleNamespace

import numpy as np


class RandomTransformer:
    """Weights as Keras initializes them, with normalizations that differ enough for the beam.

    Args:
        config: sizes, as arguments of `keras_mtl.models.Transformer`.
        seed: seed of the weights.
    """

    architecture, sharing = "transformer", "full"
    tie_embeddings = tie_projection = True
    decoder_names = ()
    max_length = 256
    self_attention, feed_forward, norm = "multi_head", "standard", "layer_norm"
    adapter_sets = ()

    def __init__(self, config, seed):
        self._config = {**config, "max_length": self.max_length, "tie_embeddings": True}
        self._config |= {"activation": "relu", "feed_forward": self.feed_forward, "norm": self.norm}
        self._config |= {"norm_position": "pre", "positions": "sinusoidal"}
        self._config["transparent_attention"] = False
        self.vocabulary_size, self.hidden_dim = config["vocabulary_size"], config["hidden_dim"]
        self.source_vocabulary_size = self.vocabulary_size
        self._random = np.random.default_rng(seed)
        d = self.hidden_dim
        table = self._random.normal(0, d**-0.5, [self.vocabulary_size, d]).astype(np.float32)
        self.source_embedding = SimpleNamespace(embeddings=table)
        self.encoder = SimpleNamespace(
            layers=[self._layer("attention") for _ in range(config["encoder_layers"])],
            final_norm=self._norm(),
            adapters=[],
            adapter_inputs=None,
        )
        layers = range(config["decoder_layers"])
        decoder = SimpleNamespace(
            layers=[self._layer("self_attention", "cross_attention") for _ in layers],
            final_norm=self._norm(),
            projection=None,
            adapters=[],
            adapter_inputs=None,
        )
        self.decoders = [decoder]

    def get_config(self):
        """Returns the arguments of a `keras_mtl.models.Transformer` of the same shape."""
        return dict(self._config)

    def position_tables(self):
        """Returns sinusoids, like `keras_mtl.models.Transformer.position_tables`."""
        half = self.hidden_dim // 2
        rate = np.exp(np.arange(half) * -(np.log(10_000.0) / (half - 1)))
        angle = np.arange(self.max_length)[:, None] * rate
        table = np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)
        return {"source_positions": table, "target_positions": table}

    def _layer(self, *attentions):
        d, inner = self.hidden_dim, self._config["intermediate_dim"]
        block = SimpleNamespace(
            intermediate=self._dense(d, inner), output_projection=self._dense(inner, d)
        )
        layer = SimpleNamespace(feed_forward_norm=self._norm(), feed_forward=block)
        for name in attentions:
            output = self._dense(d, d)
            if name == "cross_attention":
                query, key_value = self._dense(d, d), self._dense(d, 2 * d)
                part = SimpleNamespace(query=query, key_value=key_value, output_projection=output)
            else:
                part = SimpleNamespace(qkv=self._dense(d, 3 * d), output_projection=output)
            setattr(layer, name, part)
            setattr(layer, f"{name}_norm", self._norm())
        return layer

    def _dense(self, inputs, outputs):
        limit = (6 / (inputs + outputs)) ** 0.5
        kernel = self._random.uniform(-limit, limit, [inputs, outputs]).astype(np.float32)
        return SimpleNamespace(kernel=kernel, bias=np.zeros(outputs, np.float32), use_bias=True)

    def _norm(self):
        d = self.hidden_dim
        gamma = self._random.normal(1, 0.3, d).astype(np.float32)
        return SimpleNamespace(gamma=gamma, beta=np.zeros(d, np.float32), epsilon=1e-6)


def keras_transformer(model):
    """Returns a `keras_mtl.models.Transformer` with the weights of a `RandomTransformer`."""
    from keras_mtl.models import Transformer

    made = Transformer(**model.get_config())
    for part in ("source_embedding", "encoder", "decoders"):
        _assign(getattr(model, part), getattr(made, part))
    return made


def _assign(source, target):
    if isinstance(source, list):
        for ours, theirs in zip(source, target, strict=True):
            _assign(ours, theirs)
    elif isinstance(source, np.ndarray):
        target.assign(source)
    elif isinstance(source, SimpleNamespace):
        for name, value in vars(source).items():
            _assign(value, getattr(target, name))
