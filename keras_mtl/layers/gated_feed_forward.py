"""The position-wise feed-forward block with a gated linear unit."""

from typing import Any

import keras
import tensorflow as tf

from keras_mtl.layers.dense import Dense
from keras_mtl.layers.feed_forward import FeedForward
from keras_mtl.layers.registry import register_feed_forward


@register_feed_forward("gated")
@keras.saving.register_keras_serializable(package="keras_mtl")
class GatedFeedForward(FeedForward):
    """Computes (activation(x W + a) ⊙ (x V + b)) U + c, with dropout before the last product.

    With the activation `relu` it is ReGLU, with `gelu` GEGLU, and with `silu` SwiGLU. It has three
    matrices, so it has the number of parameters of `FeedForward` if `intermediate_dim` is two
    thirds. The paper has no biases.

    Args:
        intermediate_dim: width of the gate and of the values.
        activation: activation of the gate: `relu`, `gelu` or `silu`.
        dropout: dropout rate on the gated values, in [0, 1).
        seed: an integer, or a `keras.random.SeedGenerator` that is shared with other layers.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `[batch, time, dim]`.
        training: whether dropout is active.

    Returns:
        Float `[batch, time, dim]`.

    Raises:
        ValueError: the activation is unknown.

    Example:
        ```python
        import keras
        from keras_mtl.layers import GatedFeedForward

        block = GatedFeedForward(intermediate_dim=24, activation="silu")
        block(keras.ops.ones([2, 5, 16])).shape  # TensorShape([2, 5, 16])
        ```

    Reference: Shazeer, arXiv 2002.05202, equation 6.
    """

    def build(self, input_shape: Any) -> None:
        dim, width, policy = input_shape[-1], self.intermediate_dim, self.dtype_policy
        self.gate = Dense(width, activation=self.activation, dtype=policy, name="gate")
        self.gate.build((None, dim))
        self.value = Dense(width, dtype=policy, name="value")
        self.value.build((None, dim))
        self.output_projection = Dense(dim, dtype=policy, name="output")
        self.output_projection.build((None, width))
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        hidden = self.gate(inputs) * self.value(inputs)
        return self.output_projection(self.activation_dropout(hidden, training=training))
