"""Token embeddings, which can also project to logits."""

from typing import Any

import keras
import tensorflow as tf

from keras_mtl.quantization.construction import add_quantizer
from keras_mtl.quantization.quantizer import Quantizer


@keras.saving.register_keras_serializable(package="keras_mtl")
class TokenEmbedding(keras.layers.Layer):
    """Looks up ids in a table and scales by √hidden_dim; `logits` multiplies by the same table.

    The initial table has a normal distribution with standard deviation hidden_dim^-0.5, so scaled
    embeddings have unit variance, and tied logits start near unit variance too.

    Args:
        vocabulary_size: number of ids.
        hidden_dim: width of an embedding.
        mask_id: id of padding, for which `compute_mask` returns false; None masks nothing.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: int `[batch, time]`, each in [0, vocabulary_size).

    Returns:
        Float `[batch, time, hidden_dim]`.

    Attributes:
        quantizer: what quantizes the table and the inputs of `logits`; None does not.

    Reference: Press and Wolf, arXiv 1608.05859; Vaswani et al., arXiv 1706.03762, section 3.4.
    """

    quantizer: Quantizer | None = None

    def __init__(
        self, vocabulary_size: int, hidden_dim: int, mask_id: int | None = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.hidden_dim = hidden_dim
        self.mask_id = mask_id
        # Ids must not be cast to the compute dtype: float16 and bfloat16 cannot represent them all.
        self.autocast = False

    def build(self, input_shape: Any = None) -> None:
        self.embeddings = self.add_weight(
            name="embeddings",
            shape=(self.vocabulary_size, self.hidden_dim),
            initializer=keras.initializers.RandomNormal(stddev=self.hidden_dim**-0.5),
        )
        self.quantizer = add_quantizer(self, self.embeddings)
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        # Gather before casting: only the rows in use are cast and scaled.
        rows = tf.gather(tf.convert_to_tensor(self.embeddings), tf.cast(inputs, tf.int32))
        if self.quantizer is not None:
            rows = self.quantizer.rows(rows)
        return tf.cast(rows, self.compute_dtype) * tf.cast(self.hidden_dim**0.5, self.compute_dtype)

    def logits(self, inputs: tf.Tensor) -> tf.Tensor:
        """Projects float `[..., hidden_dim]` to `[..., vocabulary_size]`, without scale or bias."""
        table = tf.convert_to_tensor(self.embeddings)
        rows = tf.reshape(tf.cast(inputs, self.compute_dtype), [-1, self.hidden_dim])
        if self.quantizer is None:
            outputs = tf.matmul(rows, tf.cast(table, self.compute_dtype), transpose_b=True)
        else:
            outputs = self.quantizer.product(rows, tf.transpose(table), training=False)
        static = inputs.shape.as_list()[:-1]
        dynamic = tf.shape(inputs)
        lead = [dynamic[i] if size is None else size for i, size in enumerate(static)]
        return tf.reshape(outputs, [*lead, self.vocabulary_size])

    def compute_mask(
        self, inputs: tf.Tensor, previous_mask: tf.Tensor | None = None
    ) -> tf.Tensor | None:
        return None if self.mask_id is None else tf.not_equal(inputs, self.mask_id)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape, self.hidden_dim)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "hidden_dim": self.hidden_dim,
            "mask_id": self.mask_id,
        }
