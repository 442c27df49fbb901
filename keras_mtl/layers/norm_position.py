"""Where a sub-layer and its residual connection are normalized.

With pre-norm, a sub-layer f adds f(norm(x)) to its input x. With post-norm, as in the original
Transformer, the result is norm(x + f(x)).

Reference: Vaswani et al., arXiv 1706.03762, section 3.1; Xiong et al., arXiv 2002.04745, table 1.
"""

import keras
import tensorflow as tf

from keras_mtl.configuration.sublayers import NORM_POSITIONS


def check_norm_position(layer_name: str, norm_position: str) -> None:
    """Raises ValueError if a norm position is unknown."""
    if norm_position not in NORM_POSITIONS:
        raise ValueError(
            f"{layer_name}: norm_position must be one of {', '.join(NORM_POSITIONS)}, "
            f"not {norm_position!r}"
        )


def sublayer_input(norm_position: str, norm: keras.layers.Layer, inputs: tf.Tensor) -> tf.Tensor:
    """Returns what a sub-layer reads: the inputs, normalized with pre-norm."""
    return norm(inputs) if norm_position == "pre" else inputs


def residual_sum(norm_position: str, norm: keras.layers.Layer, total: tf.Tensor) -> tf.Tensor:
    """Returns the output of a residual connection: the sum, normalized with post-norm."""
    return norm(total) if norm_position == "post" else total
