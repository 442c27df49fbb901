"""Functions that self- and cross-attention share: heads, masks and scaled dot products."""

import keras
import tensorflow as tf

# Added to the score of a masked position. Its exponential is exactly 0 in float32, so padding
# cannot change a result, and a row in which every position is masked stays finite.
MASKED = -1e9


def glorot(parts: int) -> keras.initializers.Initializer:
    """Returns the initializer of a kernel `[d, parts * d]` that fuses `parts` kernels `[d, d]`.

    Each part has the variance 1 / d that Glorot's uniform initializer gives a kernel `[d, d]`. For
    the fused shape, that initializer would give 2 / ((parts + 1) d).

    Args:
        parts: number of fused kernels, >= 1.
    """
    return keras.initializers.VarianceScaling(
        scale=(parts + 1) / 2, mode="fan_avg", distribution="uniform"
    )


def split_heads(inputs: tf.Tensor, parts: int, num_heads: int) -> list[tf.Tensor]:
    """Splits `[batch, time, parts * dim]` into `parts` tensors `[batch, heads, time, head_dim]`."""
    shape = tf.shape(inputs)
    batch = inputs.shape[0] or shape[0]
    time = inputs.shape[1] or shape[1]
    head_dim = inputs.shape[2] // (parts * num_heads)
    heads = tf.reshape(inputs, [batch, time, parts, num_heads, head_dim])
    return tf.unstack(tf.transpose(heads, [2, 0, 3, 1, 4]), num=parts)


def merge_heads(inputs: tf.Tensor) -> tf.Tensor:
    """Joins `[batch, heads, time, head_dim]` into `[batch, time, dim]`."""
    shape = tf.shape(inputs)
    batch = inputs.shape[0] or shape[0]
    time = inputs.shape[2] or shape[2]
    dim = inputs.shape[1] * inputs.shape[3]
    return tf.reshape(tf.transpose(inputs, [0, 2, 1, 3]), [batch, time, dim])


def stored(dense: keras.layers.Layer, heads: tf.Tensor) -> tf.Tensor:
    """Returns keys or values of a decoder, rounded if the dense layer that makes them is quantized.

    Args:
        dense: the layer.
        heads: float `[..., head_dim]`.
    """
    quantizer = getattr(dense, "quantizer", None)
    return heads if quantizer is None else quantizer.cached(heads)


def mask_bias(mask: tf.Tensor | None) -> tf.Tensor | None:
    """Returns what `attend` adds to the scores: 0 where `mask` is true, else `MASKED`.

    Args:
        mask: bool `[batch, keys]`, or `[batch, queries, keys]`; None for no bias.

    Returns:
        Float32 `[batch, 1, 1, keys]`, or `[batch, 1, queries, keys]`.
    """
    if mask is None:
        return None
    bias = tf.where(mask, 0.0, MASKED)
    return bias[:, None] if mask.shape.rank == 3 else bias[:, None, None, :]


def causal_bias(length: int | tf.Tensor) -> tf.Tensor:
    """Returns float32 `[1, 1, length, length]` that masks the positions after each query."""
    position = tf.range(length)
    return tf.where(position[:, None] >= position[None, :], 0.0, MASKED)[None, None]


def attend(
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    bias: tf.Tensor | None,
    dropout: keras.layers.Layer | None = None,
    training: bool = False,
) -> tf.Tensor:
    """Computes scaled dot-product attention, with the softmax in float32.

    Args:
        query: float `[..., queries, head_dim]`.
        key: float `[..., keys, head_dim]`.
        value: float `[..., keys, head_dim]`.
        bias: float32 that is added to the scores and broadcasts to `[..., queries, keys]`, or None.
        dropout: layer that is applied to the attention weights, or None.
        training: whether dropout is active.

    Returns:
        `[..., queries, head_dim]` with the dtype of `value`.

    Reference: Vaswani et al., arXiv 1706.03762, equation 1.
    """
    weights = tf.cast(attention_weights(query, key, bias), value.dtype)
    if dropout is not None:
        weights = dropout(weights, training=training)
    return tf.matmul(weights, value)


def attention_weights(query: tf.Tensor, key: tf.Tensor, bias: tf.Tensor | None) -> tf.Tensor:
    """Returns the weights of `attend`: float32 `[..., queries, keys]`; each row sums to 1."""
    query = query * tf.cast(query.shape[-1] ** -0.5, query.dtype)
    scores = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32)
    if bias is not None:
        scores += bias
    return tf.nn.softmax(scores)
