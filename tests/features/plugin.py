"""A plug-in with a normalization of its own."""

import keras

from keras_mtl.layers import register_norm


@register_norm("scale_only")
class ScaleOnly(keras.layers.Layer):
    """Multiplies each channel by a learned number."""

    def build(self, input_shape):
        self.gamma = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="gamma")

    def call(self, inputs):
        return inputs * keras.ops.cast(self.gamma, inputs.dtype)
