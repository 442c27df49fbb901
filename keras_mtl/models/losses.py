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
    chunk: int = 0,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Projects to logits and returns the smoothed cross-entropy of each row of a batch.

    The correct token has the target probability 1 - ε, and each of the V - 1 other tokens has
    ε / (V - 1). With logits x = `table` h and log-sum-exp Z, the loss of a token is
    Z - (1 - ε - o) x[label] - o Σ x, with o = ε / (V - 1). Logits are the largest tensor of a
    training step, so the function reads them as few times as possible: Σ x is h times the sum of
    the rows of the table, and exp(x - max) is the only tensor of their size that is kept for the
    gradient. All other terms of the gradient have the size of `states` or `table`. With `chunk`,
    no tensor of their size is kept: the logits of each chunk of tokens are computed once for the
    loss and once more for the gradient. Each chunk runs in a loop of static shape that XLA can
    compile.

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
        chunk: largest number of tokens whose logits are in memory at once; 0 for no limit.

    Returns:
        Three float32 `[batch]`: the loss summed over tokens, the number of tokens, and the negative
        log-likelihood in nats summed over tokens. With `by_token`, they are not summed: `[batch,
        time]`, 0 on padding.

    Raises:
        ValueError: `smoothing` is outside [0, 1), or `chunk` is negative.

    Reference: Szegedy et al., arXiv 1512.00567, section 7, with the off-value of
    tensor2tensor.
    """
    if not 0.0 <= smoothing < 1.0:
        raise ValueError(f"smoothing must be in [0, 1), not {smoothing}")
    if chunk < 0:
        raise ValueError(f"chunk must be at least 0, not {chunk}")
    labels = tf.cast(labels, tf.int32)
    counted = tf.not_equal(labels, pad_id)
    rows = tf.reshape(states, [-1, states.shape[-1]])
    flat = tf.reshape(labels, [-1])
    table = tf.cast(table, states.dtype)
    losses: Sequence[tf.Tensor]
    if drop_padding:
        places = tf.where(tf.reshape(counted, [-1]))
        losses = _token_losses(
            tf.gather(rows, places[:, 0]), table, tf.gather(flat, places[:, 0]), smoothing, chunk
        )
        size = tf.size(labels, tf.int64)[None]
        losses = [tf.scatter_nd(places, values, size) for values in losses]
    else:
        losses = _token_losses(rows, table, flat, smoothing, chunk)
    zero = tf.zeros([], tf.float32)
    loss, nll = (tf.where(counted, tf.reshape(values, tf.shape(labels)), zero) for values in losses)
    count = tf.cast(counted, tf.float32)
    if not by_token:
        loss, count, nll = (tf.reduce_sum(values, axis=1) for values in (loss, count, nll))
    return loss, count, nll


def _token_losses(
    rows: tf.Tensor, table: tf.Tensor, labels: tf.Tensor, smoothing: float, chunk: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the loss and the negative log-likelihood of each token, float32 `[tokens]`.

    Args:
        rows: float `[tokens, dim]`.
        table: float `[vocabulary, dim]` of the same dtype.
        labels: int32 `[tokens]`.
        smoothing: ε in [0, 1).
        chunk: as in `projected_cross_entropy`.
    """
    off = smoothing / (table.shape[0] - 1)
    chunked = bool(chunk) and (rows.shape[0] is None or rows.shape[0] > chunk)

    @tf.custom_gradient
    def losses(rows: tf.Tensor, table: tf.Tensor) -> Any:
        softmax = _ChunkedSoftmax(chunk) if chunked else _Softmax()
        right, peak, total = softmax.forward(rows, table, labels)
        normalizer = tf.math.log(total) + peak
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
            scaled = tf.cast(share * wide, rows.dtype)
            product, by_token = softmax.products(rows, table, peak, scaled)
            by_row = share * product
            by_row -= at_label * tf.cast(tf.gather(table, labels), tf.float32)
            by_token = tf.tensor_scatter_nd_sub(by_token, labels[:, None], at_label * wide)
            if off:
                everywhere = off * loss_gradient[:, None]
                by_row -= everywhere * table_sum
                by_token -= tf.reduce_sum(everywhere * wide, axis=0)
            return tf.cast(by_row, rows.dtype), tf.cast(by_token, table.dtype)

        return (loss, nll), gradient

    return losses(rows, table)


class _Softmax:
    """The part of the loss that reads logits. It keeps exp(x - max) for the gradient."""

    def forward(
        self, rows: tf.Tensor, table: tf.Tensor, labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns x[label], max x and Σ exp(x - max), float32 `[tokens]`."""
        right, peak, total, exponentials = _exponentials(rows, table, labels)
        self._exponentials = tf.cast(exponentials, rows.dtype)
        return right, peak, total

    def products(
        self, rows: tf.Tensor, table: tf.Tensor, peak: tf.Tensor, scaled: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the products of exp(x - max) with the table and with scaled rows.

        Args:
            rows: as in `forward`.
            table: as in `forward`.
            peak: from `forward`.
            scaled: float `[tokens, dim]`.

        Returns:
            Float32 `[tokens, dim]` and `[vocabulary, dim]`.
        """
        del rows, peak
        return _products(self._exponentials, table, scaled)


class _ChunkedSoftmax:
    """Like `_Softmax`, in chunks of tokens. It computes logits twice instead of keeping them.

    Chunks are equal: the last one is filled with rows of zeros.

    Args:
        size: largest number of tokens of a chunk, >= 1.
    """

    def __init__(self, size: int) -> None:
        self._size = size

    def forward(
        self, rows: tf.Tensor, table: tf.Tensor, labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        # Otherwise a persistent tape would make the loop keep the logits of every chunk.
        rows, table = tf.stop_gradient(rows), tf.stop_gradient(table)
        chunks, of_labels = self._split(rows), self._split(labels)

        def body(number: tf.Tensor, arrays: Sequence[tf.TensorArray]) -> Any:
            found = _exponentials(chunks[number], table, of_labels[number])[:3]
            return number + 1, [
                array.write(number, value) for array, value in zip(arrays, found, strict=True)
            ]

        count = _size(chunks, 0)
        shape = chunks.shape[1:2]
        arrays = [tf.TensorArray(tf.float32, count, element_shape=shape) for _ in range(3)]
        _, arrays = _repeat(count, body, arrays)
        right, peak, total = (self._join(array.stack(), rows) for array in arrays)
        return right, peak, total

    def products(
        self, rows: tf.Tensor, table: tf.Tensor, peak: tf.Tensor, scaled: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        chunks, of_peaks, of_scaled = (self._split(values) for values in (rows, peak, scaled))

        def body(number: tf.Tensor, state: Any) -> Any:
            array, by_token = state
            x = tf.cast(tf.matmul(chunks[number], table, transpose_b=True), tf.float32)
            exponentials = tf.cast(tf.exp(x - of_peaks[number][:, None]), rows.dtype)
            by_row, more = _products(exponentials, table, of_scaled[number])
            return number + 1, (array.write(number, by_row), by_token + more)

        count = _size(chunks, 0)
        array = tf.TensorArray(tf.float32, count, element_shape=chunks.shape[1:])
        _, (array, by_token) = _repeat(count, body, (array, tf.zeros(table.shape)))
        return self._join(array.stack(), rows), by_token

    def _split(self, values: tf.Tensor) -> tf.Tensor:
        """Returns `[chunks, tokens of a chunk, ...]` for `[tokens, ...]`."""
        tokens = _size(values, 0)
        count = -(-tokens // self._size)
        count = max(1, count) if isinstance(count, int) else tf.maximum(1, count)
        length = -(-tokens // count)
        padding = [[0, count * length - tokens]] + [[0, 0]] * (values.shape.rank - 1)
        return tf.reshape(tf.pad(values, padding), [count, length, *values.shape[1:]])

    def _join(self, chunks: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """Reverses `_split` for tensors with as many tokens as `values`."""
        return tf.reshape(chunks, [-1, *chunks.shape[2:]])[: _size(values, 0)]


def _exponentials(
    rows: tf.Tensor, table: tf.Tensor, labels: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns x[label], max x, Σ exp(x - max) and exp(x - max), in float32."""
    x = tf.cast(tf.matmul(rows, table, transpose_b=True), tf.float32)
    # Subtracting the maximum keeps the exponentials finite.
    peak = tf.reduce_max(x, axis=-1, keepdims=True)
    right = tf.gather(x, labels, batch_dims=1)
    # The logits are not used after this, so the exponentials can reuse their memory.
    with tf.control_dependencies([right]):
        exponentials = tf.exp(x - peak)
    return right, peak[:, 0], tf.reduce_sum(exponentials, axis=-1), exponentials


def _products(
    exponentials: tf.Tensor, table: tf.Tensor, scaled: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns both products of `_Softmax.products`."""
    return (
        tf.cast(tf.matmul(exponentials, table), tf.float32),
        tf.cast(tf.matmul(exponentials, scaled, transpose_a=True), tf.float32),
    )


def _repeat(count: int | tf.Tensor, body: Any, state: Any) -> Any:
    """Calls `body(number, state)` for each number below `count`, one at a time."""
    return tf.while_loop(
        lambda number, _: number < count,
        body,
        (tf.constant(0), state),
        # Iterations in parallel would each have their own logits.
        parallel_iterations=1,
    )


def _size(values: tf.Tensor, axis: int) -> int | tf.Tensor:
    """Returns the size of an axis, an int if it is static."""
    size = values.shape[axis]
    return tf.shape(values)[axis] if size is None else size
