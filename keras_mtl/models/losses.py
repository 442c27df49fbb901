"""The training loss, fused with the projection to the vocabulary."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def projected_cross_entropy(
    states: tf.Tensor,
    table: tf.Tensor,
    labels: tf.Tensor,
    smoothing: float,
    pad_id: int = 0,
    drop_padding: bool = False,
    by_token: bool = False,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Projects to logits and returns the smoothed cross-entropy of each row of a batch.

    The correct token has the target probability 1 - ε, and each of the V - 1 other tokens has
    ε / (V - 1). With logits x = `table` h and log-sum-exp Z, the loss of a token is
    Z - (1 - ε - o) x[label] - o Σ x, with o = ε / (V - 1). Logits are the largest tensor of a
    training step, so the function reads them as few times as possible: Σ x is h times the sum of
    the rows of the table, and exp(x - max) is the only tensor of their size that is kept for the
    gradient. All other terms of the gradient have the size of `states` or `table`.

    Args:
        states: float `[batch, time, dim]` of any precision. Matrix products have this dtype; the
            arithmetic between them is in float32.
        table: float `[vocabulary, dim]`, one row for each token; cast to the dtype of `states`.
        labels: int `[batch, time]`, each in [0, vocabulary).
        smoothing: ε in [0, 1).
        pad_id: label of positions that do not count.
        drop_padding: remove those positions before the projection. This saves their share of the
            work, but XLA cannot compile it, because the sizes are known only at run time.
        by_token: whether to return tokens instead of sums over the tokens of a row.

    Returns:
        Three float32 `[batch]`: the loss summed over tokens, the number of tokens, and the negative
        log-likelihood in nats summed over tokens. With `by_token`, they are not summed: `[batch,
        time]`, 0 on padding.

    Raises:
        ValueError: `smoothing` is outside [0, 1).

    Reference: Szegedy et al., arXiv 1512.00567, section 7, with the off-value of
    tensor2tensor.
    """
    if not 0.0 <= smoothing < 1.0:
        raise ValueError(f"smoothing must be in [0, 1), not {smoothing}")
    labels = tf.cast(labels, tf.int32)
    counted = tf.not_equal(labels, pad_id)
    rows = tf.reshape(states, [-1, states.shape[-1]])
    flat = tf.reshape(labels, [-1])
    table = tf.cast(table, states.dtype)
    losses: Sequence[tf.Tensor]
    if drop_padding:
        places = tf.where(tf.reshape(counted, [-1]))
        losses = _token_losses(
            tf.gather(rows, places[:, 0]), table, tf.gather(flat, places[:, 0]), smoothing
        )
        size = tf.size(labels, tf.int64)[None]
        losses = [tf.scatter_nd(places, values, size) for values in losses]
    else:
        losses = _token_losses(rows, table, flat, smoothing)
    zero = tf.zeros([], tf.float32)
    loss, nll = (tf.where(counted, tf.reshape(values, tf.shape(labels)), zero) for values in losses)
    count = tf.cast(counted, tf.float32)
    if not by_token:
        loss, count, nll = (tf.reduce_sum(values, axis=1) for values in (loss, count, nll))
    return loss, count, nll


def _token_losses(
    rows: tf.Tensor, table: tf.Tensor, labels: tf.Tensor, smoothing: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the loss and the negative log-likelihood of each token, float32 `[tokens]`.

    Args:
        rows: float `[tokens, dim]`.
        table: float `[vocabulary, dim]` of the same dtype.
        labels: int32 `[tokens]`.
        smoothing: ε in [0, 1).
    """
    off = smoothing / (table.shape[0] - 1)

    @tf.custom_gradient
    def losses(rows: tf.Tensor, table: tf.Tensor) -> Any:
        x = tf.cast(tf.matmul(rows, table, transpose_b=True), tf.float32)
        # Subtracting the maximum keeps the exponentials finite.
        peak = tf.reduce_max(x, axis=-1, keepdims=True)
        right = tf.gather(x, labels, batch_dims=1)
        # The logits are not used after this, so the exponentials can reuse their memory.
        with tf.control_dependencies([right]):
            exponentials = tf.exp(x - peak)
        total = tf.reduce_sum(exponentials, axis=-1)
        exponentials = tf.cast(exponentials, rows.dtype)
        normalizer = tf.math.log(total) + peak[:, 0]
        nll = normalizer - right
        wide = tf.cast(rows, tf.float32)
        table_sum = tf.reduce_sum(tf.cast(table, tf.float32), axis=0)
        loss = normalizer - (1.0 - smoothing - off) * right
        if off:
            loss -= off * tf.linalg.matvec(wide, table_sum)

        def gradient(
            loss_gradient: tf.Tensor, nll_gradient: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor]:
            # d loss / d x = exp(x - Z) g - (1 - ε - o) g at the label - o g everywhere.
            share = ((loss_gradient + nll_gradient) / total)[:, None]
            at_label = ((1.0 - smoothing - off) * loss_gradient + nll_gradient)[:, None]
            by_row = share * tf.cast(tf.matmul(exponentials, table), tf.float32)
            by_row -= at_label * tf.cast(tf.gather(table, labels), tf.float32)
            by_token = tf.cast(
                tf.matmul(exponentials, tf.cast(share * wide, rows.dtype), transpose_a=True),
                tf.float32,
            )
            by_token = tf.tensor_scatter_nd_sub(by_token, labels[:, None], at_label * wide)
            if off:
                everywhere = off * loss_gradient[:, None]
                by_row -= everywhere * table_sum
                by_token -= tf.reduce_sum(everywhere * wide, axis=0)
            return tf.cast(by_row, rows.dtype), tf.cast(by_token, table.dtype)

        return (loss, nll), gradient

    return losses(rows, table)
