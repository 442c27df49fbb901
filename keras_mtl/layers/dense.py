"""A dense layer that computes one matrix product for inputs of any rank."""

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable(package="keras_mtl")
class Dense(keras.layers.Dense):
    """`keras.layers.Dense` on inputs flattened to `[rows, features]`.

    One large matrix product replaces a batch of small ones. The gradient of the kernel is also one
    product, instead of the sum of a product for each batch row.

    Args:
        units: width of the output.
        **kwargs: arguments of `keras.layers.Dense`.

    Call arguments:
        inputs: float `[..., features]`.

    Returns:
        Float `[..., units]`.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if inputs.shape.rank == 2:
            return super().call(inputs, training=training)
        shape = ops.shape(inputs)
        rows = ops.reshape(inputs, (-1, inputs.shape[-1]))
        outputs = super().call(rows, training=training)
        return ops.reshape(outputs, (*shape[:-1], self.units))
