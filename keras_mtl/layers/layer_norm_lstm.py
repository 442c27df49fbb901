"""Long short-term memory with a normalization of each gate, in one or both directions."""

from typing import Any

import keras
import tensorflow as tf

from keras_mtl.layers.dense import Dense
from keras_mtl.layers.recurrence import States, unroll

# Lingvo caps memory cells there. It bounds the output, which has no tanh.
CELL_CAP = 10.0
_EPSILON = 1e-6


def normalized_gates(gates: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> list[tf.Tensor]:
    """Normalizes each of four gates, in float32.

    Args:
        gates: float `[..., 4 * dim]`.
        gamma: scales that broadcast to `[..., 4, dim]`.
        beta: offsets of the same shape.

    Returns:
        Four float32 `[..., dim]`.
    """
    shape = [*_lead(gates), 4, gates.shape[-1] // 4]
    x = tf.reshape(tf.cast(gates, tf.float32), shape)
    centered = x - tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centered), -1, keepdims=True)
    gamma, beta = tf.cast(gamma, tf.float32), tf.cast(beta, tf.float32)
    return tf.unstack(centered * tf.math.rsqrt(variance + _EPSILON) * gamma + beta, axis=-2)


def lstm_cell(
    gates: tf.Tensor, memory: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes one step of a layer-normalized LSTM.

    Args:
        gates: float `[..., 4 * dim]`, pre-activations in the order candidate, input gate, forget
            gate, output gate.
        memory: float32 `[..., dim]`, the memory cell c.
        gamma: see `normalized_gates`.
        beta: see `normalized_gates`.

    Returns:
        The output h `[..., dim]` in the dtype of `gates`, and the new memory cell.
    """
    candidate, enter, forget, leave = normalized_gates(gates, gamma, beta)
    memory = tf.sigmoid(forget) * memory + tf.sigmoid(enter) * tf.tanh(candidate)
    memory = tf.clip_by_value(memory, -CELL_CAP, CELL_CAP)
    return tf.cast(tf.sigmoid(leave) * memory, gates.dtype), memory


@keras.saving.register_keras_serializable(package="keras_mtl")
class LayerNormLSTM(keras.layers.Layer):
    """A layer of LSTM cells with a normalization of each gate.

    With pre-activations a = x W + h U of the gates, and LN(a) = γ (a - mean) / √(variance + ε) + β:

        c' = σ(LN(a_f)) c + σ(LN(a_i)) tanh(LN(a_g)), limited to [-10, 10]
        h' = σ(LN(a_o)) c'

    The product x W of all steps is one matrix product before the loop over time. A bidirectional
    layer runs both directions in one loop.

    Args:
        units: width of the output of a direction.
        bidirectional: whether a second LSTM reads from right to left; outputs are concatenated.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `[batch, time, dim]`.
        starts: float `[batch, time]`, 1 where a sequence begins; None means only at position 0.
        ends: float `[batch, time]`, 1 where a sequence ends, for a bidirectional layer; None means
            only at the last position.

    Returns:
        Float `[batch, time, units]`, or `[batch, time, 2 * units]` if bidirectional.

    Reference: Hochreiter and Schmidhuber, 1997; Ba et al., arXiv 1607.06450; Chen et al., arXiv
    1804.09849, section 3.1.
    """

    def __init__(self, units: int, bidirectional: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.bidirectional = bidirectional
        self.supports_masking = True

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def build(self, input_shape: Any) -> None:
        gates, directions = 4 * self.units, self._directions
        # Pre-activations are normalized, so these matrices need no bias.
        self.input_projection = Dense(
            directions * gates, use_bias=False, dtype=self.dtype_policy, name="input",
            kernel_initializer=keras.initializers.VarianceScaling(
                scale=1.0, mode="fan_in", distribution="uniform"
            ),
        )  # fmt: skip
        self.input_projection.build((None, input_shape[-1]))
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel",
            shape=(directions, self.units, gates),
            initializer=keras.initializers.RandomUniform(
                -((3 / self.units) ** 0.5), (3 / self.units) ** 0.5
            ),
        )
        self.gamma, self.beta = add_gate_norm(self, (directions, 1, 4, self.units))
        self.built = True

    def call(
        self, inputs: tf.Tensor, starts: tf.Tensor | None = None, ends: tf.Tensor | None = None
    ) -> tf.Tensor:
        batch = inputs.shape[0] or tf.shape(inputs)[0]
        time = inputs.shape[1] or tf.shape(inputs)[1]
        gates = tf.reshape(
            self.input_projection(inputs), [batch, time, self._directions, 4 * self.units]
        )
        gates = self._in_order(tf.transpose(gates, [1, 2, 0, 3]))
        shape = [self._directions, batch, self.units]
        initial = [tf.zeros(shape, gates.dtype), tf.zeros(shape, tf.float32)]
        outputs, _ = unroll(
            _cell,
            tf.cast(tf.convert_to_tensor(self.recurrent_kernel), gates.dtype),
            gates,
            initial,
            [tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)],
            keep=self._keep(starts, ends),
        )
        outputs = tf.transpose(self._in_order(outputs), [2, 0, 1, 3])
        return tf.reshape(outputs, [batch, time, self._directions * self.units])

    def _in_order(self, values: tf.Tensor) -> tf.Tensor:
        """Reverses the time of the second direction of `[time, directions, ...]`."""
        if not self.bidirectional:
            return values
        return tf.stack([values[:, 0], tf.reverse(values[:, 1], [0])], 1)

    def _keep(self, starts: tf.Tensor | None, ends: tf.Tensor | None) -> tf.Tensor | None:
        first = [starts, ends][: self._directions]
        if all(each is None for each in first):
            return None
        like = next(each for each in first if each is not None)
        marks = [tf.zeros_like(like) if each is None else each for each in first]
        values = tf.transpose(1.0 - tf.cast(tf.stack(marks), tf.float32), [2, 0, 1])
        return self._in_order(values)[..., None]

    def start(self, shape: Any) -> dict[str, tf.Tensor]:
        """Returns the state before the first step.

        Args:
            shape: the leading axes, such as `[batch, beams]`.
        """
        return {
            "output": tf.zeros([*shape, self.units], self.compute_dtype),
            "memory": tf.zeros([*shape, self.units]),
        }

    def step(
        self, inputs: tf.Tensor, state: dict[str, tf.Tensor]
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Computes one step of a layer with one direction.

        Args:
            inputs: float `[batch, beams, dim]`.
            state: from `start` or the previous step.

        Returns:
            Float `[batch, beams, units]`, and the new state.
        """
        kernel = tf.cast(tf.convert_to_tensor(self.recurrent_kernel)[0], self.compute_dtype)
        gates = self.input_projection(inputs)
        gates += tf.tensordot(state["output"], kernel, 1)
        gamma, beta = (tf.convert_to_tensor(each)[0] for each in (self.gamma, self.beta))
        output, memory = lstm_cell(gates, state["memory"], gamma, beta)
        return output, {"output": output, "memory": memory}

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self._directions * self.units)

    def get_config(self) -> dict[str, Any]:
        own = {"units": self.units, "bidirectional": self.bidirectional}
        return {**super().get_config(), **own}


def add_gate_norm(layer: keras.layers.Layer, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Creates the scales and offsets of the gates of a layer, float32 of this shape."""
    gamma, beta = (
        layer.add_weight(name=name, shape=shape, initializer=initializer, autocast=False)
        for name, initializer in (("gamma", "ones"), ("beta", "zeros"))
    )
    return gamma, beta


def _cell(gates: tf.Tensor, states: States, sequences: Any, weights: Any) -> States:
    del sequences
    output, memory = lstm_cell(gates, states[-1], *weights)
    return [output, memory]


def _lead(values: tf.Tensor) -> list[Any]:
    """Returns all sizes but the last, those that are known as integers."""
    dynamic = tf.shape(values)
    return [dynamic[i] if size is None else size for i, size in enumerate(values.shape[:-1])]
