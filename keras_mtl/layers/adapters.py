"""The weights of single adapters, and their computation for rows that use different ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

_EPSILON = 1e-6


class Bottleneck(keras.layers.Layer):
    """The weights of a bottleneck adapter; `bottleneck` computes with them.

    The projection up starts at zero, so a new adapter changes nothing.

    Args:
        dim: width of the bottleneck.
        **kwargs: arguments of `keras.layers.Layer`.

    Reference: Bapna and Firat, arXiv 1909.08478, section 2.
    """

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim = dim

    def build(self, input_shape: Any) -> None:
        width = input_shape[-1]
        # Not rounded to bfloat16: the normalization is computed in float32.
        self.gamma = self.add_weight((width,), "ones", name="gamma", autocast=False)
        self.beta = self.add_weight((width,), "zeros", name="beta", autocast=False)
        self.down_kernel = self.add_weight((width, self.dim), name="down_kernel")
        self.down_bias = self.add_weight((self.dim,), "zeros", name="down_bias")
        self.up_kernel = self.add_weight((self.dim, width), "zeros", name="up_kernel")
        self.up_bias = self.add_weight((width,), "zeros", name="up_bias")
        self.built = True


class LowRank(keras.layers.Layer):
    """The weights of a LoRA adapter for some dense layers; `low_rank` computes with them.

    A dense layer with the kernel W has W + alpha / rank * down @ up. `up` starts at zero.

    Args:
        rank: the rank.
        **kwargs: arguments of `keras.layers.Layer`.

    Reference: Hu et al., arXiv 2106.09685, section 4.1.
    """

    def __init__(self, rank: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rank = rank
        self._of: dict[str, tuple[str, str]] = {}

    def build(self, kernel_shapes: Mapping[str, Sequence[int]]) -> None:
        """Creates the weights.

        Args:
            kernel_shapes: (inputs, outputs) of each dense layer, by name.
        """
        for name, (inputs, outputs) in kernel_shapes.items():
            down, up = (f"{name.replace('/', '_')}_{part}" for part in ("down", "up"))
            setattr(self, down, self.add_weight((inputs, self.rank), name=down))
            setattr(self, up, self.add_weight((self.rank, outputs), "zeros", name=up))
            self._of[name] = down, up
        self.built = True

    def pair(self, name: str) -> tuple[Any, Any]:
        """Returns `down` `[inputs, rank]` and `up` `[rank, outputs]` of a dense layer."""
        down, up = self._of[name]
        return getattr(self, down), getattr(self, up)


def bottleneck(x: tf.Tensor, members: Sequence[Bottleneck], index: tf.Tensor) -> tf.Tensor:
    """Adds to each row what its adapter computes.

    Args:
        x: float `[batch, time, dim]`.
        members: the adapters of a set.
        index: see `AdapterRows`.

    Returns:
        Float `[batch, time, dim]`; rows without an adapter are unchanged.
    """
    float_x = tf.cast(x, tf.float32)
    centered = float_x - tf.reduce_mean(float_x, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centered), axis=-1, keepdims=True)
    normal = centered * tf.math.rsqrt(variance + _EPSILON)
    gamma, beta = (_vectors([getattr(m, n) for m in members], index) for n in ("gamma", "beta"))
    normal = tf.cast(normal * gamma + beta, x.dtype)
    y = _two_products(
        normal,
        [(each.down_kernel, each.up_kernel) for each in members],
        index,
        tf.nn.relu,
        [each.down_bias for each in members],
    )
    y += tf.cast(_vectors([each.up_bias for each in members], index), x.dtype)
    return tf.where(_used(index), x + y, x)


def add_vectors(x: tf.Tensor, vectors: Sequence[Any], index: tf.Tensor) -> tf.Tensor:
    """Adds to each row the vector of its adapter.

    Args:
        x: float `[batch, time, dim]`.
        vectors: the vectors of a set, `[dim]` each.
        index: see `AdapterRows`.
    """
    return tf.where(_used(index), x + tf.cast(_vectors(vectors, index), x.dtype), x)


def low_rank(
    x: tf.Tensor, pairs: Sequence[tuple[Any, Any]], index: tf.Tensor, factor: float
) -> tf.Tensor:
    """Returns what LoRA adds to the output of a dense layer.

    Args:
        x: float `[batch, time, inputs]`, the input of the dense layer.
        pairs: `down` `[inputs, rank]` and `up` `[rank, outputs]` of each adapter of a set.
        index: see `AdapterRows`.
        factor: alpha / rank.

    Returns:
        Float `[batch, time, outputs]`; 0 in rows without an adapter.
    """
    y = _two_products(x, pairs, index, lambda hidden: hidden * tf.cast(factor, hidden.dtype))
    return tf.where(_used(index), y, tf.zeros([], y.dtype))


def _two_products(
    x: tf.Tensor,
    kernels: Sequence[tuple[Any, Any]],
    index: tf.Tensor,
    between: Any,
    biases: Sequence[Any] | None = None,
) -> tf.Tensor:
    """Returns `between(x @ down + bias) @ up` with the kernels of each row.

    Rows of several adapters gather their kernels. Positions of several adapters would need too many
    copies, so the hidden values of all adapters are computed in one product, and those of other
    adapters are set to 0.
    """
    downs, ups = (_values(each, x.dtype) for each in zip(*kernels, strict=True))
    bias = None if biases is None else _values(biases, x.dtype)
    if index.shape.rank == 1:
        down, up = (_take(stack, index) for stack in (downs, ups))
        hidden = _matmul(x, down)
        if bias is not None:
            hidden += _broadcast(_take(bias, index), index)
        return _matmul(between(hidden), up)
    count, size = downs.shape[0], downs.shape[2]
    wide = tf.reshape(tf.transpose(downs, [1, 0, 2]), [-1, count * size])
    hidden = _matmul(x, wide)
    if bias is not None:
        hidden += tf.reshape(bias, [-1])
    hidden = between(hidden)
    own = tf.repeat(tf.range(count), size) == index[..., None]
    hidden = tf.where(own, hidden, tf.zeros([], hidden.dtype))
    return _matmul(hidden, tf.reshape(ups, [count * size, -1]))


def _values(variables: Sequence[Any], dtype: tf.DType) -> tf.Tensor:
    return tf.stack([tf.cast(tf.convert_to_tensor(each), dtype) for each in variables])


def _take(stack: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Returns the entries of an index `[batch]`, or one entry without the axis for `[1]`."""
    found = tf.gather(stack, tf.maximum(index, 0))
    return found[0] if index.shape[0] == 1 else found


def _broadcast(values: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Adds an axis for the time to values `[batch, dim]`."""
    one = index.shape.rank == 1 and index.shape[0] == 1
    return values if one or index.shape.rank == 2 else values[:, None]


def _vectors(variables: Sequence[Any], index: tf.Tensor) -> tf.Tensor:
    """Returns vectors of the adapters that broadcast to `[batch, time, dim]`, float32."""
    return _broadcast(_take(_values(variables, tf.float32), index), index)


def _used(index: tf.Tensor) -> tf.Tensor:
    """Returns which rows have an adapter: bool that broadcasts to `[batch, time, dim]`."""
    used = index >= 0
    return used[..., None] if index.shape.rank == 2 else used[:, None, None]


def _matmul(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Returns `x @ kernel` for a kernel of all rows `[in, out]`, or of each `[batch, in, out]`."""
    if kernel.shape.rank == 3:
        return tf.matmul(x, kernel)
    rows = tf.matmul(tf.reshape(x, [-1, x.shape[-1]]), kernel)
    return ops.reshape(rows, (*ops.shape(x)[:-1], kernel.shape[-1]))
