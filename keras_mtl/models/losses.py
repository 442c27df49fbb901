"""The training loss."""

import tensorflow as tf


def label_smoothed_cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor, smoothing: float, pad_id: int = 0
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Cross-entropy against labels whose mass is spread by `smoothing`, for each row.

    The right token has the target probability 1 - ε and each of the V - 1 others ε / (V - 1). With
    log-sum-exp Z and logits x the loss of a token is `Z - (1 - ε - o) x[label] - o Σ x`, where
    o = ε / (V - 1): no one-hot tensor is made, and the gradient is the one `[batch, time, V]`
    tensor that is stored besides the logits.

    Args:
      logits: float `[batch, time, vocabulary]` of any precision; the arithmetic is float32.
      labels: int `[batch, time]`, each in [0, vocabulary).
      smoothing: ε in [0, 1).
      pad_id: label of positions that do not count.

    Returns:
      Loss summed over tokens, number of tokens, negative log-likelihood in nats summed over
      tokens: each float32 `[batch]`.

    Raises:
      ValueError: `smoothing` is outside [0, 1).

    Reference: Szegedy et al., arXiv 1512.00567, section 7, with the off-value of tensor2tensor.
    """
    if not 0.0 <= smoothing < 1.0:
        raise ValueError(f"smoothing must be in [0, 1), not {smoothing}")
    vocabulary = logits.shape[-1]
    off = smoothing / (vocabulary - 1) if smoothing else 0.0
    labels = tf.cast(labels, tf.int32)

    @tf.custom_gradient
    def token_losses(logits):
        x = tf.cast(logits, tf.float32)
        # The maximum is shifted out, as in any stable log-sum-exp.
        peak = tf.reduce_max(x, axis=-1, keepdims=True)
        normalizer = tf.math.log(tf.reduce_sum(tf.exp(x - peak), axis=-1, keepdims=True)) + peak
        right = tf.gather(x, labels, batch_dims=2)
        z = normalizer[..., 0]
        nll = z - right
        loss = z - (1.0 - smoothing - off) * right
        if off:
            loss -= off * tf.reduce_sum(x, axis=-1)

        def gradient(loss_gradient, nll_gradient):
            both = (loss_gradient + nll_gradient)[..., None]
            at_label = ((1.0 - smoothing - off) * loss_gradient + nll_gradient)[..., None]
            is_label = tf.range(vocabulary) == labels[..., None]
            result = tf.exp(tf.cast(logits, tf.float32) - normalizer) * both
            if off:
                result -= off * loss_gradient[..., None]
            result -= tf.where(is_label, at_label, 0.0)
            return tf.cast(result, logits.dtype)

        return (loss, nll), gradient

    loss, nll = token_losses(logits)
    counted = tf.not_equal(labels, pad_id)
    zero = tf.zeros([], tf.float32)
    return (
        tf.reduce_sum(tf.where(counted, loss, zero), axis=1),
        tf.reduce_sum(tf.cast(counted, tf.float32), axis=1),
        tf.reduce_sum(tf.where(counted, nll, zero), axis=1),
    )
