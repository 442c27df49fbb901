"""Multi-head self-attention with one fused projection, for whole sequences and step by step."""

from typing import Any

import keras
import tensorflow as tf

from keras_mtl.configuration.sublayers import STANDARD
from keras_mtl.layers import attention
from keras_mtl.layers.dense import Dense
from keras_mtl.layers.dropout import Dropout, seed_config
from keras_mtl.layers.registry import register_self_attention
from keras_mtl.layers.rotary import rotary_table, rotate


@register_self_attention(STANDARD["self_attention"])
@keras.saving.register_keras_serializable(package="keras_mtl")
class SelfAttention(keras.layers.Layer):
    """Multi-head self-attention.

    Query, key and value come from one matrix product with a kernel `[dim, 3 * dim]`, whose columns
    are ordered query, key, value, and by head within each. The query is scaled by head_dim^-0.5 at
    run time, not in its weights.

    Args:
        num_heads: number of heads; must divide the last dimension of the input.
        dropout: dropout rate on the attention weights, in [0, 1).
        use_bias: whether the projections have a bias.
        rotary: whether queries and keys are turned by their position (rotary embeddings).
        seed: an integer, or a `keras.random.SeedGenerator` that is shared with other layers.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `[batch, time, dim]`.
        mask: bool `[batch, time]`, false on padding; or bool `[batch, time, time]`, true if a query
            (second axis) may attend to a key; None means no mask.
        use_causal_mask: whether a position attends only to itself and earlier positions.
        positions: int32 `[batch, time]`, >= 0: the position of each step for rotary embeddings, if
            they do not count up from 0.
        training: whether dropout is active.

    Returns:
        Float `[batch, time, dim]`.

    Raises:
        ValueError: `dim` is not a multiple of `num_heads`, or the width of a head is odd and
            `rotary` is true.

    Example:
        ```python
        import keras
        from keras_mtl.layers import SelfAttention

        attention = SelfAttention(num_heads=4)
        attention(keras.ops.ones([2, 5, 16])).shape  # TensorShape([2, 5, 16])
        ```

    Reference: Vaswani et al., arXiv 1706.03762, section 3.2.2; rotary: Su et al., arXiv 2104.09864.
    """

    def __init__(
        self,
        num_heads: int,
        dropout: float = 0.0,
        use_bias: bool = True,
        rotary: bool = False,
        seed: int | keras.random.SeedGenerator | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_heads < 1:
            raise ValueError(f"{self.name}: num_heads must be at least 1, not {num_heads}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.use_bias = use_bias
        self.rotary = rotary
        self._seed = seed_config(seed)
        self.attention_dropout = Dropout(
            dropout, seed=seed, dtype=self.dtype_policy, name="attention_dropout"
        )
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        dim = input_shape[-1]
        if dim % self.num_heads:
            raise ValueError(f"{self.name}: num_heads={self.num_heads} does not divide {dim}")
        if self.rotary and dim // self.num_heads % 2:
            raise ValueError(
                f"{self.name}: rotary positions need heads of even width, not "
                f"{dim // self.num_heads}"
            )
        self.qkv = Dense(
            3 * dim,
            use_bias=self.use_bias,
            kernel_initializer=attention.glorot(3),
            dtype=self.dtype_policy,
            name="qkv",
        )
        self.qkv.build((None, dim))
        self.output_projection = Dense(
            dim, use_bias=self.use_bias, dtype=self.dtype_policy, name="output"
        )
        self.output_projection.build((None, dim))
        self.built = True

    def call(
        self,
        inputs: tf.Tensor,
        mask: tf.Tensor | None = None,
        use_causal_mask: bool = False,
        positions: tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        query, key, value = attention.split_heads(self.qkv(inputs), 3, self.num_heads)
        if positions is None:
            positions = tf.range(inputs.shape[1] or tf.shape(inputs)[1])[None]
        query, key = self.transform(query, key, positions[:, None])
        bias = attention.mask_bias(mask)
        if use_causal_mask:
            key, value = (attention.stored(self.qkv, heads) for heads in (key, value))
            causal = attention.causal_bias(inputs.shape[1] or tf.shape(inputs)[1])
            bias = causal if bias is None else bias + causal
        context = attention.attend(query, key, value, bias, self.attention_dropout, training)
        return self.output_projection(attention.merge_heads(context))

    def transform(
        self, query: tf.Tensor, key: tf.Tensor, positions: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the queries and keys whose products are the scores; subclasses may change them.

        Args:
            query: float `[..., time, head_dim]`.
            key: float `[..., time, head_dim]`, of the same positions. Later steps use the result.
            positions: int32 that broadcasts to `[..., time]`.

        Returns:
            Query and key, of the same shapes and dtypes.
        """
        if not self.rotary:
            return query, key
        table = rotary_table(positions, query.shape[-1])
        return rotate(query, *table), rotate(key, *table)

    def start(
        self, batch: int | tf.Tensor, beams: int | tf.Tensor, max_length: int | tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Returns empty caches, zeros `[batch, beams, heads, max_length, head_dim]`."""
        head_dim = self.output_projection.units // self.num_heads
        zeros = tf.zeros([batch, beams, self.num_heads, max_length, head_dim], self.compute_dtype)
        return {"key": zeros, "value": zeros}

    def step(
        self, inputs: tf.Tensor, index: tf.Tensor, cache: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Computes one position of causal self-attention.

        Args:
            inputs: float `[batch, beams, dim]`, the inputs at position `index`.
            index: int32 scalar, the position, in [0, max_length).
            cache: keys and values of the earlier positions; see `start`.

        Returns:
            Float `[batch, beams, dim]`, and the cache that includes this position.
        """
        shape = tf.shape(inputs)
        batch, beams = inputs.shape[0] or shape[0], inputs.shape[1] or shape[1]
        head_dim = self.output_projection.units // self.num_heads
        heads = tf.reshape(self.qkv(inputs), [batch, beams, 3, self.num_heads, 1, head_dim])
        query, key, value = tf.unstack(heads, axis=2)
        query, key = self.transform(query, key, index)
        key, value = (attention.stored(self.qkv, heads) for heads in (key, value))
        position = tf.range(cache["key"].shape[3] or tf.shape(cache["key"])[3])
        here = (position == index)[:, None]
        key = tf.where(here, key, cache["key"])
        value = tf.where(here, value, cache["value"])
        bias = tf.where(position <= index, 0.0, attention.MASKED)
        context = attention.attend(query, key, value, bias)
        context = tf.reshape(context, [batch, beams, self.output_projection.units])
        return self.output_projection(context), {"key": key, "value": value}

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "rotary": self.rotary,
            "seed": self._seed,
        }
