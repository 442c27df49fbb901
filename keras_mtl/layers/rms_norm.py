"""Root mean square normalization in float32."""

from typing import Any

import keras
import tensorflow as tf

from keras_mtl.layers.registry import register_norm


@register_norm("rms_norm")
@keras.saving.register_keras_serializable(package="keras_mtl")
class RMSNorm(keras.layers.Layer):
    """Computes x / sqrt(mean(x²) + epsilon) · gamma over the last axis, in float32.

    Args:
        epsilon: value that is added to the mean square, > 0.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `[..., dim]`.

    Returns:
        Float `[..., dim]` in the layer's compute dtype.

    Example:
        ```python
        import keras
        from keras_mtl.layers import RMSNorm

        RMSNorm()(keras.ops.convert_to_tensor([[3.0, -4.0]]))  # [[0.8485, -1.1314]]
        ```

    Reference: Zhang and Sennrich, arXiv 1910.07467, equation 4.
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        # autocast=False: rounding the scale to bfloat16 would defeat the float32 arithmetic.
        self.gamma = self.add_weight(
            name="gamma", shape=(input_shape[-1],), initializer="ones", autocast=False
        )
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        x = tf.cast(inputs, tf.float32)
        square = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True)
        outputs = x * tf.math.rsqrt(square + self.epsilon) * tf.cast(self.gamma, tf.float32)
        return tf.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}
