"""The position-wise feed-forward block."""

from typing import Any

import keras
import tensorflow as tf

from keras_mtl.configuration.sublayers import STANDARD
from keras_mtl.layers.dense import Dense
from keras_mtl.layers.dropout import Dropout, seed_config
from keras_mtl.layers.registry import register_feed_forward

ACTIVATIONS = ("relu", "gelu", "silu")


@register_feed_forward(STANDARD["feed_forward"])
@keras.saving.register_keras_serializable(package="keras_mtl")
class FeedForward(keras.layers.Layer):
    """Two dense layers with an activation and dropout between them.

    Args:
        intermediate_dim: width between the two dense layers.
        activation: `relu`, `gelu` or `silu`.
        dropout: dropout rate after the activation, in [0, 1).
        seed: an integer, or a `keras.random.SeedGenerator` that is shared with other layers.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `[batch, time, dim]`.
        training: whether dropout is active.

    Returns:
        Float `[batch, time, dim]`.

    Raises:
        ValueError: the activation is unknown.

    Reference: Vaswani et al., arXiv 1706.03762, section 3.3.
    """

    def __init__(
        self,
        intermediate_dim: int,
        activation: str = "relu",
        dropout: float = 0.0,
        seed: int | keras.random.SeedGenerator | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"{self.name}: activation must be one of {', '.join(ACTIVATIONS)}, "
                f"not {activation!r}"
            )
        self.intermediate_dim = intermediate_dim
        self.activation = activation
        self.dropout = dropout
        self._seed = seed_config(seed)
        self.activation_dropout = Dropout(
            dropout, seed=seed, dtype=self.dtype_policy, name="activation_dropout"
        )
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        dim = input_shape[-1]
        self.intermediate = Dense(
            self.intermediate_dim,
            activation=self.activation,
            dtype=self.dtype_policy,
            name="intermediate",
        )
        self.intermediate.build((None, dim))
        self.output_projection = Dense(dim, dtype=self.dtype_policy, name="output")
        self.output_projection.build((None, self.intermediate_dim))
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        hidden = self.activation_dropout(self.intermediate(inputs), training=training)
        return self.output_projection(hidden)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "intermediate_dim": self.intermediate_dim,
            "activation": self.activation,
            "dropout": self.dropout,
            "seed": self._seed,
        }
