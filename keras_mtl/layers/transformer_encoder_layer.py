"""The encoder layer of the Transformer."""

import functools
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_mtl.configuration.sublayers import STANDARD
from keras_mtl.layers.dropout import Dropout, seed_config
from keras_mtl.layers.norm_position import check_norm_position, residual_sum, sublayer_input
from keras_mtl.layers.registry import create_feed_forward, create_norm, create_self_attention


@keras.saving.register_keras_serializable(package="keras_mtl")
class TransformerEncoderLayer(keras.layers.Layer):
    """Self-attention and a feed-forward block, each with dropout, a residual and a norm.

    Args:
        intermediate_dim: width inside the feed-forward block.
        num_heads: number of attention heads; must divide the width of the input.
        dropout: dropout rate on the output of each sub-layer, in [0, 1).
        attention_dropout: dropout rate on attention weights, in [0, 1).
        activation_dropout: dropout rate inside the feed-forward block, in [0, 1).
        activation: `relu`, `gelu` or `silu`.
        layer_norm_epsilon: `epsilon` of the norms `layer_norm` and `rms_norm`.
        self_attention: name of a registered self-attention layer.
        self_attention_parameters: parameters of that layer.
        feed_forward: name of a registered feed-forward block.
        feed_forward_parameters: parameters of that block.
        norm: name of a registered normalization.
        norm_parameters: parameters of that normalization.
        norm_position: `pre` or `post`; see `keras_mtl.layers.norm_position`.
        rotary: whether self-attention has rotary position embeddings.
        seed: an integer, or a `keras.random.SeedGenerator` that is shared with other layers.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `[batch, time, dim]`.
        mask: bool `[batch, time]`, false on padding; or bool `[batch, time, time]`, true if a query
            (second axis) may attend to a key; None means no mask.
        positions: int32 `[batch, time]`, the position of each step for rotary embeddings, if they
            do not count up from 0.
        training: whether dropout is active.

    Returns:
        Float `[batch, time, dim]`.

    Reference: Vaswani et al., arXiv 1706.03762; pre-norm: Xiong et al., arXiv 2002.04745.
    """

    def __init__(
        self,
        intermediate_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        activation: str = "relu",
        layer_norm_epsilon: float = 1e-6,
        self_attention: str = STANDARD["self_attention"],
        self_attention_parameters: Mapping[str, Any] | None = None,
        feed_forward: str = STANDARD["feed_forward"],
        feed_forward_parameters: Mapping[str, Any] | None = None,
        norm: str = STANDARD["norm"],
        norm_parameters: Mapping[str, Any] | None = None,
        norm_position: str = "pre",
        rotary: bool = False,
        seed: int | keras.random.SeedGenerator | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.intermediate_dim = intermediate_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.activation_dropout = activation_dropout
        self.activation = activation
        self.layer_norm_epsilon = layer_norm_epsilon
        self._sublayers = {
            "self_attention": self_attention,
            "self_attention_parameters": dict(self_attention_parameters or {}),
            "feed_forward": feed_forward,
            "feed_forward_parameters": dict(feed_forward_parameters or {}),
            "norm": norm,
            "norm_parameters": dict(norm_parameters or {}),
            "norm_position": norm_position,
            "rotary": rotary,
        }
        check_norm_position(self.name, norm_position)
        self._input = functools.partial(sublayer_input, norm_position)
        self._sum = functools.partial(residual_sum, norm_position)
        self._seed = seed_config(seed)
        self.supports_masking = True
        policy = self.dtype_policy
        make_norm = functools.partial(
            create_norm, norm, norm_parameters, layer_norm_epsilon, dtype=policy
        )
        self.attention_norm = make_norm(name="attention_norm")
        self.attention = create_self_attention(
            self_attention,
            self_attention_parameters,
            num_heads=num_heads,
            dropout=attention_dropout,
            rotary=rotary,
            seed=seed,
            dtype=policy,
            name="attention",
        )
        self.feed_forward_norm = make_norm(name="feed_forward_norm")
        self.feed_forward = create_feed_forward(
            feed_forward,
            feed_forward_parameters,
            intermediate_dim=intermediate_dim,
            activation=activation,
            dropout=activation_dropout,
            seed=seed,
            dtype=policy,
            name="feed_forward",
        )
        self.residual_dropout = Dropout(dropout, seed=seed, dtype=policy, name="dropout")

    def build(self, input_shape: Any) -> None:
        self.attention_norm.build(input_shape)
        self.attention.build(input_shape)
        self.feed_forward_norm.build(input_shape)
        self.feed_forward.build(input_shape)
        self.built = True

    def call(
        self,
        inputs: tf.Tensor,
        mask: tf.Tensor | None = None,
        positions: tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        x = self._input(self.attention_norm, inputs)
        x = self.attention(x, mask=mask, positions=positions, training=training)
        x = inputs + self.residual_dropout(x, training=training)
        x = self._sum(self.attention_norm, x)
        y = self.feed_forward(self._input(self.feed_forward_norm, x), training=training)
        return self._sum(self.feed_forward_norm, x + self.residual_dropout(y, training=training))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "intermediate_dim": self.intermediate_dim,
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "attention_dropout": self.attention_dropout,
            "activation_dropout": self.activation_dropout,
            "activation": self.activation,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            **self._sublayers,
            "seed": self._seed,
        }
