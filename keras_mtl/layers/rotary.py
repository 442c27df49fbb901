"""Rotary position embeddings: queries and keys are turned by their position.

The score of a query and a key then depends on their distance, not on their positions.
"""

import numpy as np
import tensorflow as tf

from keras_mtl.configuration.sublayers import ROTARY_WAVELENGTH


def rotary_rates(head_dim: int) -> np.ndarray:
    """Returns the angle of each pair of channels per position: float32 `[head_dim / 2]`."""
    half = head_dim // 2
    return (ROTARY_WAVELENGTH ** (-np.arange(half) / half)).astype(np.float32)


def rotary_table(positions: tf.Tensor, head_dim: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the cosines and sines that `rotate` needs.

    Args:
        positions: int32 `[...]`, >= 0.
        head_dim: width of a head; even.

    Returns:
        Two float32 `[..., head_dim / 2]`.
    """
    angle = tf.cast(positions, tf.float32)[..., None] * rotary_rates(head_dim)
    return tf.cos(angle), tf.sin(angle)


def rotate(inputs: tf.Tensor, cosines: tf.Tensor, sines: tf.Tensor) -> tf.Tensor:
    """Turns the pairs of channels (i, i + head_dim / 2) by the angle of their position.

    The paper pairs channels (2i, 2i + 1), which is the same up to a permutation of the channels.

    Args:
        inputs: float `[..., head_dim]`.
        cosines: float32 that broadcasts to `[..., head_dim / 2]`, from `rotary_table`.
        sines: the same for the sines.

    Returns:
        The shape and dtype of the inputs. The arithmetic is in float32.

    Reference: Su et al., arXiv 2104.09864, equations 14, 15 and 34.
    """
    first, second = tf.split(tf.cast(inputs, tf.float32), 2, axis=-1)
    outputs = [first * cosines - second * sines, second * cosines + first * sines]
    return tf.cast(tf.concat(outputs, axis=-1), inputs.dtype)
