"""Learned position embeddings."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="keras_mtl")
class PositionEmbedding(keras.layers.Layer):
    """Adds a learned vector to each position.

    Args:
        max_length: number of positions.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `[batch, time, dim]`, with `start_index + time <= max_length`.
        start_index: position of the first time step; an integer or an int32 scalar.
        positions: int32 `[batch, time]`, each in [0, max_length): the position of each step, if
            they do not count up from `start_index`.

    Returns:
        Float `[batch, time, dim]`.
    """

    def __init__(self, max_length: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_length = max_length
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        dim = input_shape[-1]
        self.positions = self.add_weight(
            name="positions",
            shape=(self.max_length, dim),
            initializer=keras.initializers.RandomNormal(stddev=dim**-0.5),
        )
        self.built = True

    def call(
        self,
        inputs: tf.Tensor,
        start_index: tf.Tensor | int = 0,
        positions: tf.Tensor | None = None,
    ) -> tf.Tensor:
        table = tf.convert_to_tensor(self.positions)
        if positions is not None:
            return inputs + tf.cast(tf.gather(table, positions), inputs.dtype)
        # A slice of fixed length, which XLA accepts with a start that is a tensor.
        length = inputs.shape[1] or tf.shape(inputs)[1]
        rows = tf.slice(table, [start_index, 0], [length, table.shape[1]])
        return inputs + tf.cast(rows, inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "max_length": self.max_length}
