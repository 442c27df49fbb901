"""Selects the best few of very many candidates by the tie rule of beam search."""

import tensorflow as tf

# For fewer values, a single top_k is as fast.
_FEW = 1024
# About sqrt(values / count) for a beam of 4 and 8,000 to 32,000 tokens. Then the number of blocks
# equals the number of values in the selected blocks.
_BLOCK = 64


def top_candidates(values: tf.Tensor, count: int | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the highest values of each row; ties: lower index first.

    The result is that of `tf.math.top_k`, except that 0 and -0 are ties under XLA, too. For
    `top_k`, XLA sorts the whole row on a CPU. So the row is first divided into blocks: the `count`
    highest values are in the `count` blocks with the highest maxima (ties: lower index first).

    Args:
        values: float32[rows, n]. The result for a row with NaN is unspecified.
        count: number of values to return, in [1, n]. If it or n is not static, a single `top_k`
            selects the values.

    Returns:
        float32[rows, count] in descending order, and int32[rows, count], their indices.
    """
    # XLA sorts -0 below +0.
    values = tf.where(tf.equal(values, 0.0), 0.0, values)
    size = values.shape[1]
    if size is None or tf.is_tensor(count):
        best, index = tf.math.top_k(values, count)
        return best, index
    blocks = -(-size // _BLOCK)
    if size <= _FEW or blocks <= count:
        best, index = tf.math.top_k(values, count)
        return best, index
    # The padding of the last block has the highest indices, so it loses every tie.
    filled = tf.pad(values, [[0, 0], [0, blocks * _BLOCK - size]], constant_values=-float("inf"))
    filled = tf.reshape(filled, [-1, blocks, _BLOCK])
    _, chosen = tf.math.top_k(tf.reduce_max(filled, 2), count)
    chosen = tf.sort(chosen, axis=1)  # In the order of indices, for correct ties.
    kept = tf.reshape(tf.gather(filled, chosen, batch_dims=1), [-1, count * _BLOCK])
    best, place = tf.math.top_k(kept, count)
    block = tf.gather(chosen, place // _BLOCK, batch_dims=1)
    # If the row has a NaN, the padding can win. Its index must still be valid.
    return best, tf.minimum(block * _BLOCK + place % _BLOCK, size - 1)


def continuing_ranks(ends: tf.Tensor, k: int | tf.Tensor) -> tf.Tensor:
    """Clause 4: selects the rank that continues in each slot.

    Args:
        ends: bool[batch, 2k], whether the candidate of a rank is an end of sentence; at most k are.
        k: number of slots.

    Returns:
        int32[batch, k]. Slot j keeps rank j. If that rank has ended, it gets the next rank >= k
        that has not ended.
    """
    first, second = ends[:, :k], ~ends[:, k:]
    refill = tf.cumsum(tf.cast(first, tf.int32), axis=1, exclusive=True)  # [batch, slot]
    place = tf.cumsum(tf.cast(second, tf.int32), axis=1, exclusive=True)  # [batch, rank - k]
    match = second[:, None] & tf.equal(place[:, None], refill[..., None])  # [batch, slot, rank - k]
    replacement = k + tf.reduce_sum(tf.where(match, tf.range(k), 0), -1)
    return tf.where(first, replacement, tf.range(k))
