"""Multi-head additive attention from the decoder to the encoder's output."""

from typing import Any

import keras
import tensorflow as tf

from keras_mtl.layers import attention
from keras_mtl.layers.dense import Dense
from keras_mtl.layers.dropout import Dropout, seed_config


@keras.saving.register_keras_serializable(package="keras_mtl")
class AdditiveAttention(keras.layers.Layer):
    """Attention whose scores come from a layer with a tanh for each pair of query and key.

    With queries q W, keys M K + b and values M V + c, each split into heads, the score of a key
    under head h is v_h · tanh((M K + b)_h + (q W)_h). The softmax of the scores weights the values;
    the results of the heads are concatenated.

    Args:
        dim: width of queries, keys and values; a multiple of `num_heads`.
        num_heads: number of heads.
        dropout: dropout rate on the attention weights, in [0, 1).
        seed: an integer, or a `keras.random.SeedGenerator` that is shared with other layers.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `[batch, time, query_dim]`.
        memory: float `[batch, source_time, memory_dim]`.
        memory_mask: bool `[batch, source_time]`, false on padding; or bool
            `[batch, time, source_time]`, true if a query may attend to a key; None means no mask.
        training: whether dropout is active.

    Returns:
        Float `[batch, time, dim]`.

    Raises:
        ValueError: `dim` is not a multiple of `num_heads`.

    Reference: Bahdanau et al., arXiv 1409.0473, appendix A.1.2; Chen et al., arXiv 1804.09849,
    section 3.1.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        dropout: float = 0.0,
        seed: int | keras.random.SeedGenerator | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"{self.name}: num_heads={num_heads} does not divide {dim}")
        self.dim = dim
        self.num_heads = num_heads
        self.dropout = dropout
        self._seed = seed_config(seed)
        self.attention_dropout = Dropout(
            dropout, seed=seed, dtype=self.dtype_policy, name="attention_dropout"
        )
        self.supports_masking = True

    def build(self, inputs_shape: Any, memory_shape: Any) -> None:
        # The bias of the keys is that of the queries, too: a score depends only on their sum.
        self.query = Dense(self.dim, use_bias=False, dtype=self.dtype_policy, name="query")
        self.query.build((None, inputs_shape[-1]))
        self.key_value = Dense(
            2 * self.dim,
            kernel_initializer=attention.glorot(2),
            dtype=self.dtype_policy,
            name="key_value",
        )
        self.key_value.build((None, memory_shape[-1]))
        width = self.dim // self.num_heads
        limit = (3 / width) ** 0.5  # Variance 1 / width, so scores have a variance below 1.
        self.score = self.add_weight(
            name="score",
            shape=(self.num_heads, width),
            initializer=keras.initializers.RandomUniform(-limit, limit),
        )
        self.built = True

    def call(
        self,
        inputs: tf.Tensor,
        memory: tf.Tensor,
        memory_mask: tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        found = self.weights_of(inputs, self.start(memory), memory_mask)
        dropped = self.attention_dropout(tf.cast(found, self.compute_dtype), training=training)
        return weighted(dropped, self.start(memory)["values"])

    def start(self, memory: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns what queries need of a memory.

        Args:
            memory: float `[batch, source_time, memory_dim]`.

        Returns:
            `keys`, float `[batch, source_time, dim]`, and `values`, float
            `[batch, heads, source_time, dim / heads]`.
        """
        keys, values = tf.split(self.key_value(memory), 2, -1)
        (values,) = attention.split_heads(values, 1, self.num_heads)
        return {"keys": keys, "values": values}

    def weights_of(
        self, inputs: tf.Tensor, cache: dict[str, tf.Tensor], memory_mask: tf.Tensor | None
    ) -> tf.Tensor:
        """Returns attention weights.

        Args:
            inputs: float `[batch, time, query_dim]`; in decoding, time are the beams.
            cache: from `start`.
            memory_mask: as for `call`.

        Returns:
            Float32 `[batch, time, heads, source_time]`; each row sums to 1 and is 0 on padding.
        """
        keys = cache["keys"][:, None]
        return additive_weights(self.query(inputs), keys, self.scorer(), bias_of(memory_mask))

    def scorer(self) -> tf.Tensor:
        """Returns the vectors v as one matrix `[dim, heads]`, in the compute dtype.

        Column h holds v_h at the channels of head h, and 0 elsewhere: a product with this matrix
        reads the tanh of all heads once.
        """
        score = tf.cast(tf.convert_to_tensor(self.score), self.compute_dtype)
        blocks = tf.eye(self.num_heads, dtype=score.dtype)[:, None] * score[:, :, None]
        return tf.reshape(blocks, [self.dim, self.num_heads])

    def compute_output_shape(self, inputs_shape: Any, memory_shape: Any) -> Any:
        return (*inputs_shape[:-1], self.dim)

    def get_config(self) -> dict[str, Any]:
        own = {"dim": self.dim, "num_heads": self.num_heads, "dropout": self.dropout}
        return {**super().get_config(), **own, "seed": self._seed}


def bias_of(memory_mask: tf.Tensor | None) -> tf.Tensor | None:
    """Returns what `additive_weights` adds to scores: float32 `[batch, 1 or time, 1, keys]`."""
    if memory_mask is None:
        return None
    bias = tf.where(memory_mask, 0.0, attention.MASKED)
    return bias[:, :, None] if memory_mask.shape.rank == 3 else bias[:, None, None]


def additive_weights(
    query: tf.Tensor, keys: tf.Tensor, scorer: tf.Tensor, bias: tf.Tensor | None
) -> tf.Tensor:
    """Returns attention weights, with the softmax in float32.

    Args:
        query: float `[..., dim]`.
        keys: float that broadcasts to `[..., source_time, dim]`.
        scorer: float `[dim, heads]`; see `AdditiveAttention.scorer`.
        bias: float32 that broadcasts to `[..., heads, source_time]`, or None.

    Returns:
        Float32 `[..., heads, source_time]`.
    """
    scores = tf.tensordot(tf.tanh(keys + query[..., None, :]), scorer, 1)
    scores = tf.cast(tf.linalg.matrix_transpose(scores), tf.float32)
    return tf.nn.softmax(scores if bias is None else scores + bias)


def weighted(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Returns the contexts of several queries.

    Args:
        weights: float `[batch, time, heads, source_time]`.
        values: float `[batch, heads, source_time, head_dim]`.

    Returns:
        Float `[batch, time, heads * head_dim]`.
    """
    contexts = tf.matmul(tf.transpose(weights, [0, 2, 1, 3]), values)
    return attention.merge_heads(contexts)
