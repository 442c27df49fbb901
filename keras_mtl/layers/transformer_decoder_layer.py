"""The decoder layer of the Transformer, for whole sequences and step by step."""

import functools
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_mtl.configuration.sublayers import STANDARD
from keras_mtl.layers.cross_attention import CrossAttention
from keras_mtl.layers.dropout import Dropout, seed_config
from keras_mtl.layers.norm_position import check_norm_position, residual_sum, sublayer_input
from keras_mtl.layers.registry import create_feed_forward, create_norm, create_self_attention


@keras.saving.register_keras_serializable(package="keras_mtl")
class TransformerDecoderLayer(keras.layers.Layer):
    """Causal self-attention, cross-attention and a feed-forward block, with residuals and norms.

    Padding at the end of the target needs no mask: a position never attends to later positions.

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
        memory: float `[batch, source_time, memory_dim]`.
        memory_mask: bool `[batch, source_time]`, false on padding; or bool
            `[batch, time, source_time]`, true if a query may attend to a key; None means no mask.
        mask: bool `[batch, time, time]`, true if a query (second axis) may attend to a key, in
            addition to causality; None means only causality.
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
        heads: dict[str, Any] = {"num_heads": num_heads, "dropout": attention_dropout, "seed": seed}
        self.self_attention_norm = make_norm(name="self_attention_norm")
        self.self_attention = create_self_attention(
            self_attention,
            self_attention_parameters,
            **heads,
            rotary=rotary,
            dtype=policy,
            name="self_attention",
        )
        self.cross_attention_norm = make_norm(name="cross_attention_norm")
        self.cross_attention = CrossAttention(**heads, dtype=policy, name="cross_attention")
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

    def build(self, inputs_shape: Any, memory_shape: Any) -> None:
        self.self_attention_norm.build(inputs_shape)
        self.self_attention.build(inputs_shape)
        self.cross_attention_norm.build(inputs_shape)
        self.cross_attention.build(inputs_shape, memory_shape)
        self.feed_forward_norm.build(inputs_shape)
        self.feed_forward.build(inputs_shape)
        self.built = True

    def call(
        self,
        inputs: tf.Tensor,
        memory: tf.Tensor,
        memory_mask: tf.Tensor | None = None,
        mask: tf.Tensor | None = None,
        positions: tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        x = self.self_attention(
            self._input(self.self_attention_norm, inputs),
            mask=mask,
            use_causal_mask=True,
            positions=positions,
            training=training,
        )
        x = inputs + self.residual_dropout(x, training=training)
        x = self._sum(self.self_attention_norm, x)
        y = self.cross_attention(
            self._input(self.cross_attention_norm, x),
            memory,
            memory_mask=memory_mask,
            training=training,
        )
        x += self.residual_dropout(y, training=training)
        x = self._sum(self.cross_attention_norm, x)
        y = self.feed_forward(self._input(self.feed_forward_norm, x), training=training)
        return self._sum(self.feed_forward_norm, x + self.residual_dropout(y, training=training))

    def start(
        self, memory: tf.Tensor, beams: int | tf.Tensor, max_length: int | tf.Tensor
    ) -> dict[str, dict[str, tf.Tensor]]:
        """Returns the caches of incremental decoding.

        Args:
            memory: float `[batch, source_time, memory_dim]`.
            beams: number of hypotheses of each sentence.
            max_length: largest number of positions that will be decoded.

        Returns:
            `self`: keys and values `[batch, beams, heads, max_length, head_dim]`, all zero.
            `cross`: keys and values of the memory, `[batch, heads, source_time, head_dim]`.
        """
        batch = memory.shape[0] or tf.shape(memory)[0]
        return {
            "self": self.self_attention.start(batch, beams, max_length),
            "cross": self.cross_attention.start(memory),
        }

    def step(
        self,
        inputs: tf.Tensor,
        index: tf.Tensor,
        cache: dict[str, dict[str, tf.Tensor]],
        memory_mask: tf.Tensor | None,
        weights: list[tf.Tensor] | None = None,
    ) -> tuple[tf.Tensor, dict[str, dict[str, tf.Tensor]]]:
        """Computes one position.

        Args:
            inputs: float `[batch, beams, dim]`, the inputs at position `index`.
            index: int32 scalar, in [0, max_length).
            cache: from `start` or the previous step.
            memory_mask: bool `[batch, source_time]`.
            weights: list to which the weights of cross-attention are appended, float32
                `[batch, beams, source_time]`; None does not compute them.

        Returns:
            Float `[batch, beams, dim]` and the new cache.
        """
        x, self_cache = self.self_attention.step(
            self._input(self.self_attention_norm, inputs), index, cache["self"]
        )
        x = self._sum(self.self_attention_norm, inputs + x)
        y = self._input(self.cross_attention_norm, x)
        x += self.cross_attention.step(y, cache["cross"], memory_mask)
        if weights is not None:
            weights.append(self.cross_attention.step_weights(y, cache["cross"], memory_mask))
        x = self._sum(self.cross_attention_norm, x)
        x += self.feed_forward(self._input(self.feed_forward_norm, x))
        return self._sum(self.feed_forward_norm, x), {"self": self_cache, "cross": cache["cross"]}

    def compute_output_shape(self, inputs_shape: Any, memory_shape: Any) -> Any:
        return inputs_shape

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
