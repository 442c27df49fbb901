"""The lowest layer of the RNMT+ decoder: an LSTM whose outputs ask the memory at each step."""

from typing import Any

import keras
import tensorflow as tf

from keras_mtl.layers.additive_attention import (
    AdditiveAttention,
    additive_weights,
    bias_of,
    weighted,
)
from keras_mtl.layers.dense import Dense
from keras_mtl.layers.dropout import seed_config
from keras_mtl.layers.layer_norm_lstm import add_gate_norm, lstm_cell
from keras_mtl.layers.recurrence import States, unroll

State = dict[str, tf.Tensor]


@keras.saving.register_keras_serializable(package="keras_mtl")
class AttentionLSTM(keras.layers.Layer):
    """A layer-normalized LSTM with additive attention to a memory.

    At step t, the LSTM reads the input and the context of the step before, and its output is the
    query of attention:

        h_t, c_t = LSTM([x_t, z_(t-1)], h_(t-1), c_(t-1))
        z_t = attention(h_t)

    The context before the first step is that of a query of zeros. `LayerNormLSTM` has the equations
    of the LSTM, `AdditiveAttention` those of attention.

    Args:
        units: width of the output and of the context.
        num_heads: number of heads of attention.
        attention_dropout: dropout rate on attention weights, in [0, 1).
        seed: an integer, or a `keras.random.SeedGenerator` that is shared with other layers.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `[batch, time, dim]`.
        memory: float `[batch, source_time, memory_dim]`.
        memory_mask: bool `[batch, source_time]`, false on padding; or bool
            `[batch, time, source_time]`, true if a step may attend to a key; None means no mask.
        starts: float `[batch, time]`, 1 where a sequence begins; None means only at position 0.
        training: whether dropout is active.

    Returns:
        The outputs h and the contexts z, both float `[batch, time, units]`.

    Reference: Chen et al., arXiv 1804.09849, section 3.1.
    """

    def __init__(
        self,
        units: int,
        num_heads: int,
        attention_dropout: float = 0.0,
        seed: int | keras.random.SeedGenerator | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = units
        self._config = {
            "units": units,
            "num_heads": num_heads,
            "attention_dropout": attention_dropout,
            "seed": seed_config(seed),
        }
        self.attention = AdditiveAttention(
            units, num_heads, attention_dropout, seed, dtype=self.dtype_policy, name="attention"
        )

    def build(self, inputs_shape: Any, memory_shape: Any) -> None:
        units, gates = self.units, 4 * self.units
        self.attention.build((None, units), memory_shape)
        self.input_projection = Dense(
            gates, use_bias=False, dtype=self.dtype_policy, name="input",
            kernel_initializer=keras.initializers.VarianceScaling(
                scale=1.0, mode="fan_in", distribution="uniform"
            ),
        )  # fmt: skip
        self.input_projection.build((None, inputs_shape[-1]))
        limit = (3 / units) ** 0.5
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel",  # Rows of the output, then of the context.
            shape=(2 * units, gates),
            initializer=keras.initializers.RandomUniform(-limit, limit),
        )
        self.gamma, self.beta = add_gate_norm(self, (1, 4, units))
        self.built = True

    def call(
        self,
        inputs: tf.Tensor,
        memory: tf.Tensor,
        memory_mask: tf.Tensor | None = None,
        starts: tf.Tensor | None = None,
        training: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        attention = self.attention
        found, bias = attention.start(memory), bias_of(memory_mask)
        keys, values, scorer = found["keys"], found["values"], attention.scorer()
        batch = inputs.shape[0] or tf.shape(inputs)[0]
        time = inputs.shape[1] or tf.shape(inputs)[1]
        kernel = self._kernel()
        first = self._first_context(found, bias)  # [batch, 1 or time, units]
        entering = tf.matmul(tf.reshape(first, [-1, self.units]), kernel[self.units :])
        entering = tf.reshape(entering, [batch, -1, 4 * self.units])
        begins = tf.one_hot(0, time)[None] if starts is None else tf.cast(starts, tf.float32)
        gates = self.input_projection(inputs)
        gates += tf.cast(begins, gates.dtype)[..., None] * entering
        drops = training and attention.dropout > 0
        sequences = []
        if drops:  # Drawn before the loop, because its backward pass computes steps again.
            shape = [time, batch, attention.num_heads, keys.shape[1] or tf.shape(keys)[1]]
            sequences.append(
                attention.attention_dropout(tf.ones(shape, gates.dtype), training=True)
            )
        if bias is not None and bias.shape[1] != 1:
            sequences.append(tf.transpose(bias, [1, 0, 2, 3]))
        same = None if bias is None or bias.shape[1] != 1 else bias[:, 0]

        def cell(gates: tf.Tensor, states: States, now: Any, weights: Any) -> States:
            gamma, beta, keys, values, scorer, query_kernel = weights
            output, cell_memory = lstm_cell(gates, states[-1], gamma, beta)
            own = now[-1] if len(now) > drops else same
            query = tf.matmul(output, query_kernel)
            shares = tf.cast(additive_weights(query, keys, scorer, own), gates.dtype)
            shares = shares * now[0] if drops else shares
            context = weighted(shares[:, None], values)[:, 0]
            return [output, context, cell_memory]

        state = [tf.zeros([batch, self.units], dtype) for dtype in (*[gates.dtype] * 2, tf.float32)]
        outputs, contexts, _ = unroll(
            cell,
            kernel,
            tf.transpose(gates, [1, 0, 2]),
            state,
            [*self._gate_norm(), keys, values, scorer, self._query_kernel()],
            sequences,
            None if starts is None else tf.transpose(1.0 - begins)[..., None],
        )
        return tf.transpose(outputs, [1, 0, 2]), tf.transpose(contexts, [1, 0, 2])

    def start(self, memory: tf.Tensor, memory_mask: tf.Tensor | None, beams: Any) -> State:
        """Returns the state before the first step.

        Args:
            memory: float `[batch, source_time, memory_dim]`.
            memory_mask: bool `[batch, source_time]`.
            beams: number of hypotheses of each sentence, k.

        Returns:
            `keys` and `values` of `AdditiveAttention.start`, which the beams of a sentence share;
            `output`, `context` and `memory`, `[batch, k, units]`.
        """
        found = self.attention.start(memory)
        first = self._first_context(found, bias_of(memory_mask))
        shape = [memory.shape[0] or tf.shape(memory)[0], beams, self.units]
        return {
            **found,
            "output": tf.zeros(shape, self.compute_dtype),
            "context": tf.broadcast_to(first, shape),
            "memory": tf.zeros(shape),
        }

    def step(
        self, inputs: tf.Tensor, state: State, memory_mask: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, State]:
        """Computes one step.

        Args:
            inputs: float `[batch, beams, dim]`.
            state: from `start` or the previous step.
            memory_mask: bool `[batch, source_time]`.

        Returns:
            The output and the context, float `[batch, beams, units]`; the attention weights,
            averaged over heads, float32 `[batch, beams, source_time]`; and the new state.
        """
        gates = self.input_projection(inputs)
        gates += tf.tensordot(tf.concat([state["output"], state["context"]], -1), self._kernel(), 1)
        output, memory = lstm_cell(gates, state["memory"], *self._gate_norm())
        weights = self.attention.weights_of(output, state, memory_mask)
        context = weighted(tf.cast(weights, output.dtype), state["values"])
        new = {**state, "output": output, "context": context, "memory": memory}
        return output, context, tf.reduce_mean(weights, 2), new

    def _first_context(self, found: State, bias: tf.Tensor | None) -> tf.Tensor:
        """Returns the contexts of a query of zeros, `[batch, 1 or time, units]`."""
        keys, scorer = found["keys"][:, None], self.attention.scorer()
        weights = additive_weights(tf.zeros_like(keys[:, :, 0]), keys, scorer, bias)
        return weighted(tf.cast(weights, keys.dtype), found["values"])

    def _kernel(self) -> tf.Tensor:
        return tf.cast(tf.convert_to_tensor(self.recurrent_kernel), self.compute_dtype)

    def _query_kernel(self) -> tf.Tensor:
        kernel = tf.convert_to_tensor(self.attention.query.kernel)
        return tf.cast(kernel, self.compute_dtype)

    def _gate_norm(self) -> list[tf.Tensor]:
        return [tf.convert_to_tensor(each) for each in (self.gamma, self.beta)]

    def compute_output_shape(self, inputs_shape: Any, memory_shape: Any) -> Any:
        shape = (*inputs_shape[:-1], self.units)
        return shape, shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._config}
