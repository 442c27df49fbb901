"""Multi-head attention from the decoder to the encoder's output."""

from typing import Any

import keras
import tensorflow as tf

from keras_mtl.layers import attention
from keras_mtl.layers.dense import Dense
from keras_mtl.layers.dropout import Dropout, seed_config


@keras.saving.register_keras_serializable(package="keras_mtl")
class CrossAttention(keras.layers.Layer):
    """Multi-head attention from one sequence to another.

    Key and value come from one matrix product with a kernel `[memory_dim, 2 * dim]`, whose columns
    are ordered key, value, and by head within each.

    Args:
        num_heads: number of heads; must divide the last dimension of the input.
        dropout: dropout rate on the attention weights, in [0, 1).
        use_bias: whether the projections have a bias.
        seed: an integer, or a `keras.random.SeedGenerator` that is shared with other layers.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `[batch, time, dim]`.
        memory: float `[batch, source_time, memory_dim]`.
        memory_mask: bool `[batch, source_time]`, false on padding; or bool
            `[batch, time, source_time]`, true if a query may attend to a key; None means no mask.
        training: whether dropout is active.

    Returns:
        Float `[batch, time, dim]`.

    Raises:
        ValueError: `dim` is not a multiple of `num_heads`.

    Reference: Vaswani et al., arXiv 1706.03762, section 3.2.3.
    """

    def __init__(
        self,
        num_heads: int,
        dropout: float = 0.0,
        use_bias: bool = True,
        seed: int | keras.random.SeedGenerator | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_heads < 1:
            raise ValueError(f"{self.name}: num_heads must be at least 1, not {num_heads}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.use_bias = use_bias
        self._seed = seed_config(seed)
        self.attention_dropout = Dropout(
            dropout, seed=seed, dtype=self.dtype_policy, name="attention_dropout"
        )
        self.supports_masking = True

    def build(self, inputs_shape: Any, memory_shape: Any) -> None:
        dim = inputs_shape[-1]
        if dim % self.num_heads:
            raise ValueError(f"{self.name}: num_heads={self.num_heads} does not divide {dim}")
        options = {"use_bias": self.use_bias, "dtype": self.dtype_policy}
        self.query = Dense(dim, name="query", **options)
        self.query.build((None, dim))
        self.key_value = Dense(
            2 * dim, kernel_initializer=attention.glorot(2), name="key_value", **options
        )
        self.key_value.build((None, memory_shape[-1]))
        self.output_projection = Dense(dim, name="output", **options)
        self.output_projection.build((None, dim))
        self.built = True

    def call(
        self,
        inputs: tf.Tensor,
        memory: tf.Tensor,
        memory_mask: tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        (query,) = attention.split_heads(self.query(inputs), 1, self.num_heads)
        key, value = self._keys_and_values(memory)
        bias = attention.mask_bias(memory_mask)
        context = attention.attend(query, key, value, bias, self.attention_dropout, training)
        return self.output_projection(attention.merge_heads(context))

    def _keys_and_values(self, memory: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        key, value = attention.split_heads(self.key_value(memory), 2, self.num_heads)
        return attention.stored(self.key_value, key), attention.stored(self.key_value, value)

    def start(self, memory: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the keys and values of a memory: `[batch, heads, source_time, head_dim]`."""
        key, value = self._keys_and_values(memory)
        return {"key": key, "value": value}

    def step(
        self, inputs: tf.Tensor, cache: dict[str, tf.Tensor], memory_mask: tf.Tensor | None
    ) -> tf.Tensor:
        """Computes the attention of the beams of each sentence to its memory, which they share.

        Args:
            inputs: float `[batch, beams, dim]`.
            cache: from `start`.
            memory_mask: bool `[batch, source_time]`.

        Returns:
            Float `[batch, beams, dim]`.
        """
        (query,) = attention.split_heads(self.query(inputs), 1, self.num_heads)
        bias = attention.mask_bias(memory_mask)
        context = attention.attend(query, cache["key"], cache["value"], bias)
        return self.output_projection(attention.merge_heads(context))

    def step_weights(
        self, inputs: tf.Tensor, cache: dict[str, tf.Tensor], memory_mask: tf.Tensor | None
    ) -> tf.Tensor:
        """Returns the attention weights of `step`, averaged over heads.

        Args:
            inputs: as for `step`.
            cache: as for `step`.
            memory_mask: as for `step`.

        Returns:
            Float32 `[batch, beams, source_time]`; each row sums to 1 and is 0 on padding.
        """
        (query,) = attention.split_heads(self.query(inputs), 1, self.num_heads)
        bias = attention.mask_bias(memory_mask)
        return tf.reduce_mean(attention.attention_weights(query, cache["key"], bias), 1)

    def compute_output_shape(self, inputs_shape: Any, memory_shape: Any) -> Any:
        return inputs_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "seed": self._seed,
        }
