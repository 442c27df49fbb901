"""The training loss, together with the projection to the vocabulary that precedes it."""

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
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Projects to logits and compares them with smoothed labels, for each row of a batch.

    The right token has the target probability 1 - ε and each of the V - 1 others ε / (V - 1). With
    logits x = `table` h and log-sum-exp Z the loss of a token is Z - (1 - ε - o) x[label] - o Σ x,
    where o = ε / (V - 1). Logits are the largest tensor of a training step, so they are passed over
    as rarely as can be: Σ x is h times the sum of the table's rows, and of tensors with an element
    for each token and each entry of the vocabulary only exp(x - max) is kept for the gradient,
    whose other terms have the size of `states` or `table`.

    Args:
        states: float `[batch, time, dim]` of any precision; the products are of that type, the
            arithmetic between them is float32.
        table: float `[vocabulary, dim]`, cast to the type of `states`; its rows are the tokens'.
        labels: int `[batch, time]`, each in [0, vocabulary).
        smoothing: ε in [0, 1).
        pad_id: label of positions that do not count.
        drop_padding: leave those positions out before projecting. It saves their share of the work,
            and gives tensors of a size that is known only at run time: not for XLA.

    Returns:
        Loss summed over tokens, number of tokens, negative log-likelihood in nats summed over
        tokens: each float32 `[batch]`.

    Raises:
        ValueError: `smoothing` is outside [0, 1).

    Reference: Szegedy et al., arXiv 1512.00567, section 7, with the off-value of tensor2tensor.
    """
    if not 0.0 <= smoothing < 1.0:
        raise ValueError(f"smoothing must be in [0, 1), not {smoothing}")
    labels = tf.cast(labels, tf.int32)
    counted = tf.not_equal(labels, pad_id)
    rows = tf.reshape(states, [-1, states.shape[-1]])
    flat = tf.reshape(labels, [-1])
    table = tf.cast(table, states.dtype)
    if drop_padding:
        places = tf.where(tf.reshape(counted, [-1]))
        losses: Sequence[tf.Tensor] = _token_losses(
            tf.gather(rows, places[:, 0]), table, tf.gather(flat, places[:, 0]), smoothing
        )
        size = tf.size(labels, tf.int64)[None]
        losses = [tf.scatter_nd(places, values, size) for values in losses]
    else:
        losses = _token_losses(rows, table, flat, smoothing)
    zero = tf.zeros([], tf.float32)
    loss, nll = (
        tf.reduce_sum(tf.where(counted, tf.reshape(values, tf.shape(labels)), zero), axis=1)
        for values in losses
    )
    return loss, tf.reduce_sum(tf.cast(counted, tf.float32), axis=1), nll


def _token_losses(
    rows: tf.Tensor, table: tf.Tensor, labels: tf.Tensor, smoothing: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Loss and negative log-likelihood of each token, float32 `[tokens]`.

    Args:
        rows: float `[tokens, dim]`.
        table: of the same type, `[vocabulary, dim]`.
        labels: int32 `[tokens]`.
        smoothing: ε in [0, 1).
    """
    off = smoothing / (table.shape[0] - 1)

    @tf.custom_gradient
    def losses(rows: tf.Tensor, table: tf.Tensor) -> Any:
        x = tf.cast(tf.matmul(rows, table, transpose_b=True), tf.float32)
        # The maximum is shifted out, as in any stable log-sum-exp.
        peak = tf.reduce_max(x, axis=-1, keepdims=True)
        right = tf.gather(x, labels, batch_dims=1)
        # After the last use of the logits, their memory is reused for what follows.
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
