"""Transparent attention: each decoder layer attends to its own mixture of encoder layers."""

from typing import Any

import keras
import tensorflow as tf

from keras_mtl.layers.dropout import Dropout, seed_config


@keras.saving.register_keras_serializable(package="keras_mtl")
class TransparentAttention(keras.layers.Layer):
    """Computes weighted sums of the outputs of encoder layers, one for each decoder layer.

    Sum j is Σᵢ sᵢⱼ hᵢ. The weights sᵢⱼ are a softmax over i of learned scores. The scores are 0 at
    first, so that all layers have the same weight. h₀ are the embeddings. Gradients reach every
    encoder layer directly, which helps to train deep encoders.

    Args:
        memories: number of sums.
        dropout: dropout rate on the weights, in [0, 1).
        seed: an integer, or a `keras.random.SeedGenerator` that is shared with other layers.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `[batch, layers, time, dim]`, the outputs of the encoder layers.
        training: whether dropout is active.

    Returns:
        Float `[batch, memories, time, dim]`.

    Example:
        ```python
        import keras
        from keras_mtl.layers import TransparentAttention

        outputs = keras.ops.ones([2, 7, 5, 16])  # Of the embeddings and six encoder layers.
        TransparentAttention(memories=3)(outputs).shape  # TensorShape([2, 3, 5, 16])
        ```

    Reference: Bapna et al., arXiv 1808.07233, equations 3 to 5.
    """

    def __init__(
        self,
        memories: int,
        dropout: float = 0.0,
        seed: int | keras.random.SeedGenerator | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.memories = memories
        self.dropout = dropout
        self._seed = seed_config(seed)
        self.weight_dropout = Dropout(
            dropout, seed=seed, dtype=self.dtype_policy, name="weight_dropout"
        )

    def build(self, input_shape: Any) -> None:
        self.layer_scores = self.add_weight(
            name="layer_scores",
            shape=(input_shape[1], self.memories),
            initializer="zeros",
            autocast=False,
        )
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        scores = tf.cast(tf.convert_to_tensor(self.layer_scores), tf.float32)
        weights = tf.cast(tf.nn.softmax(scores, axis=0), self.compute_dtype)
        weights = self.weight_dropout(weights, training=training)
        return tf.einsum("ij,bitd->bjtd", weights, inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        batch, _, *rest = input_shape
        return (batch, self.memories, *rest)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "memories": self.memories,
            "dropout": self.dropout,
            "seed": self._seed,
        }
