"""The stack of encoder layers."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_mtl.configuration.sublayers import STANDARD
from keras_mtl.layers import Dropout, TransformerEncoderLayer
from keras_mtl.layers.dropout import make_seed_generator, seed_config, track_state
from keras_mtl.layers.registry import create_norm


@keras.saving.register_keras_serializable(package="keras_mtl")
class TransformerEncoder(keras.layers.Layer):
    """Dropout on the embeddings, encoder layers, a final layer normalization.

    Args:
        num_layers: encoder layers.
        intermediate_dim: width inside the feed-forward blocks.
        num_heads: attention heads.
        dropout: dropout on embeddings and on each sublayer's output.
        attention_dropout: dropout on attention weights.
        activation_dropout: dropout inside the feed-forward blocks.
        activation: `relu`, `gelu` or `silu`.
        seed: an integer or a `keras.random.SeedGenerator` to share.
        feed_forward: registered feed-forward block.
        feed_forward_parameters: parameters of the layer itself.
        norm: registered normalization.
        norm_parameters: parameters of the layer itself.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `[batch, time, dim]`: embeddings with positions.
        mask: bool `[batch, time]`, false on padding; None when nothing is padded.
        training: whether dropout drops.

    Returns:
        Float `[batch, time, dim]`.
    """

    def __init__(
        self,
        num_layers: int,
        intermediate_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        activation: str = "relu",
        seed: int | keras.random.SeedGenerator | None = None,
        feed_forward: str = STANDARD["feed_forward"],
        feed_forward_parameters: Mapping[str, Any] | None = None,
        norm: str = STANDARD["norm"],
        norm_parameters: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        sublayers: dict[str, Any] = {
            "feed_forward": feed_forward,
            "feed_forward_parameters": dict(feed_forward_parameters or {}),
            "norm": norm,
            "norm_parameters": dict(norm_parameters or {}),
        }
        self._config = {
            "num_layers": num_layers,
            "intermediate_dim": intermediate_dim,
            "num_heads": num_heads,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "activation_dropout": activation_dropout,
            "activation": activation,
            "seed": seed_config(seed),
            **sublayers,
        }
        self.supports_masking = True
        policy = self.dtype_policy
        generator = make_seed_generator(seed)
        track_state(self, generator, seed)
        self.embedding_dropout = Dropout(dropout, seed=generator, dtype=policy, name="dropout")
        self.layers = [
            TransformerEncoderLayer(
                intermediate_dim,
                num_heads,
                dropout,
                attention_dropout,
                activation_dropout,
                activation,
                seed=generator,
                **sublayers,
                dtype=policy,
                name=f"layer_{i}",
            )
            for i in range(num_layers)
        ]
        # tf.train.Checkpoint follows attributes and, with Keras 3, not the members of a list.
        for i, layer in enumerate(self.layers):
            setattr(self, f"layer_{i}", layer)
        self.final_norm = create_norm(norm, norm_parameters, dtype=policy, name="final_norm")

    def build(self, input_shape: Any) -> None:
        for layer in self.layers:
            layer.build(input_shape)
        self.final_norm.build(input_shape)
        self.built = True

    def call(
        self, inputs: tf.Tensor, mask: tf.Tensor | None = None, training: bool = False
    ) -> tf.Tensor:
        x = self.embedding_dropout(inputs, training=training)
        for layer in self.layers:
            x = layer(x, mask=mask, training=training)
        return self.final_norm(x)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._config}
