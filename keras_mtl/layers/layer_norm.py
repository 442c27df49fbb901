"""Layer normalization in float32."""

from typing import Any

import keras
import tensorflow as tf

from keras_mtl.configuration.sublayers import STANDARD
from keras_mtl.layers.registry import register_norm


@register_norm(STANDARD["norm"])
@keras.saving.register_keras_serializable(package="keras_mtl")
class LayerNorm(keras.layers.Layer):
    """Normalizes the last axis, in float32 under every dtype policy.

    Args:
        epsilon: value that is added to the variance, > 0.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `[..., dim]`.

    Returns:
        Float `[..., dim]` in the layer's compute dtype.

    Reference: Ba et al., arXiv 1607.06450.
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        shape = (input_shape[-1],)
        # autocast=False: rounding the scale to bfloat16 would defeat the float32 arithmetic.
        self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones", autocast=False)
        self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros", autocast=False)
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        x = tf.cast(inputs, tf.float32)
        centered = x - tf.reduce_mean(x, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centered), axis=-1, keepdims=True)
        normal = centered * tf.math.rsqrt(variance + self.epsilon)
        outputs = normal * tf.cast(self.gamma, tf.float32) + tf.cast(self.beta, tf.float32)
        return tf.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}
