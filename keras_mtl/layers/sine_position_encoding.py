"""Sinusoidal position encodings."""

import math
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="keras_mtl")
class SinePositionEncoding(keras.layers.Layer):
    """Adds sinusoids of the position: sines in the first half of the channels, then cosines.

    Channel i of each half has the wavelength 2π · max_wavelength^(i / (dim / 2 - 1)). Positions
    count from 0. This is tensor2tensor's layout; it is a permutation of the channels of the paper's
    interleaved layout.

    Args:
        max_wavelength: longest wavelength divided by 2π.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `[batch, time, dim]`; dim must be even.
        start_index: position of the first time step; an integer or an int32 scalar.
        positions: int32 `[batch, time]`, each in [0, time): the position of each step, if they do
            not count up from `start_index`, which is 0 then.

    Returns:
        Float `[batch, time, dim]`.

    Raises:
        ValueError: dim is odd.

    Reference: tensor2tensor, `add_timing_signal_1d`; Vaswani et al., arXiv 1706.03762, section 3.5.
    """

    def __init__(self, max_wavelength: float = 10_000.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_wavelength = max_wavelength
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        if input_shape[-1] % 2:
            raise ValueError(f"{self.name}: the width must be even, not {input_shape[-1]}")
        self.built = True

    def call(
        self,
        inputs: tf.Tensor,
        start_index: tf.Tensor | int = 0,
        positions: tf.Tensor | None = None,
    ) -> tf.Tensor:
        half = inputs.shape[-1] // 2
        length = inputs.shape[1] or tf.shape(inputs)[1]
        position = tf.cast(tf.range(length) + start_index, tf.float32)
        increment = math.log(self.max_wavelength) / max(half - 1, 1)
        rate = tf.exp(tf.range(half, dtype=tf.float32) * -increment)
        angle = position[:, None] * rate[None, :]
        signal = tf.concat([tf.sin(angle), tf.cos(angle)], axis=1)
        if positions is not None:
            signal = tf.gather(signal, positions)
        return inputs + tf.cast(signal, inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "max_wavelength": self.max_wavelength}
