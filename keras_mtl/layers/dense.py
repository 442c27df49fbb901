"""A dense layer that computes one matrix product for inputs of any rank."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_mtl.quantization.construction import add_quantizer
from keras_mtl.quantization.quantizer import Quantizer


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
        quantizer: what quantizes the inputs and the kernel; None does not quantize them.
    """

    term: Callable[[tf.Tensor], tf.Tensor] | None = None
    quantizer: Quantizer | None = None

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.quantizer = add_quantizer(self, self.kernel)

    def save_own_variables(self, store: Any) -> None:
        # Keras' layer saves the variables that it knows.
        if self.quantizer is None:
            super().save_own_variables(store)
        else:
            keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: Any) -> None:
        if self.quantizer is None:
            super().load_own_variables(store)
        else:
            keras.layers.Layer.load_own_variables(self, store)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if self.term is not None or self.quantizer is not None:
            return self._in_parts(inputs, bool(training))
        if inputs.shape.rank == 2:
            return super().call(inputs, training=training)
        shape = ops.shape(inputs)
        rows = ops.reshape(inputs, (-1, inputs.shape[-1]))
        outputs = super().call(rows, training=training)
        return ops.reshape(outputs, (*shape[:-1], self.units))

    def _in_parts(self, inputs: tf.Tensor, training: bool) -> tf.Tensor:
        shape = ops.shape(inputs)
        rows = ops.reshape(inputs, (-1, inputs.shape[-1]))
        if self.quantizer is None:
            outputs = ops.matmul(rows, self.kernel)
        else:
            kernel = tf.convert_to_tensor(self.kernel)
            outputs = self.quantizer.product(rows, kernel, training)
        if self.bias is not None:
            outputs = ops.add(outputs, self.bias)
        outputs = ops.reshape(outputs, (*shape[:-1], self.units))
        if self.term is not None:
            outputs += self.term(inputs)
        return outputs if self.activation is None else self.activation(outputs)
