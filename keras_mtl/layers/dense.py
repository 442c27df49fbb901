"""A dense layer that computes one matrix product for inputs of any rank."""

from collections.abc import Callable

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable(package="keras_mtl")
class Dense(keras.layers.Dense):
    """`keras.layers.Dense` on inputs flattened to `[rows, features]`, with an optional term.

    One large matrix product replaces a batch of small ones. The gradient of the kernel is also one
    product, instead of the sum of a product for each batch row.

    Args:
        units: width of the output.
        **kwargs: arguments of `keras.layers.Dense`.

    Call arguments:
        inputs: float `[..., features]`.

    Returns:
        Float `[..., units]`.

    Attributes:
        term: function of the inputs `[batch, time, features]` whose result is added before the
            activation; None adds nothing.
    """

    term: Callable[[tf.Tensor], tf.Tensor] | None = None

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if self.term is not None:
            return self._with_term(inputs)
        if inputs.shape.rank == 2:
            return super().call(inputs, training=training)
        shape = ops.shape(inputs)
        rows = ops.reshape(inputs, (-1, inputs.shape[-1]))
        outputs = super().call(rows, training=training)
        return ops.reshape(outputs, (*shape[:-1], self.units))

    def _with_term(self, inputs: tf.Tensor) -> tf.Tensor:
        assert self.term is not None
        shape = ops.shape(inputs)
        outputs = ops.matmul(ops.reshape(inputs, (-1, inputs.shape[-1])), self.kernel)
        if self.bias is not None:
            outputs = ops.add(outputs, self.bias)
        outputs = ops.reshape(outputs, (*shape[:-1], self.units)) + self.term(inputs)
        return outputs if self.activation is None else self.activation(outputs)
