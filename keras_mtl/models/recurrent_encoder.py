"""The encoder of RNMT+."""

from typing import Any

import keras
import tensorflow as tf

from keras_mtl.layers import Dense, Dropout
from keras_mtl.layers.adapter_rows import AdapterRows
from keras_mtl.layers.dropout import make_seed_generator, seed_config, track_state
from keras_mtl.layers.layer_norm_lstm import LayerNormLSTM

FIRST_RESIDUAL = 2
"""Index of the first layer of a stack to whose output its input is added, as in the paper."""


@keras.saving.register_keras_serializable(package="keras_mtl")
class RecurrentEncoder(keras.layers.Layer):
    """A stack of bidirectional layer-normalized LSTMs, and a projection of the last output.

    Each layer reads the outputs of both directions of the layer below. From the third layer, the
    input is added to the output.

    Args:
        num_layers: number of layers, >= 1.
        dim: width of each direction and of the output.
        dropout: dropout rate on embeddings and on the output of each layer, in [0, 1).
        seed: an integer, or a `keras.random.SeedGenerator` that is shared with other layers.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `[batch, time, dim]`: embeddings.
        mask: bool `[batch, time]`, false on padding; or, if rows hold several sentences,
            `[batch, time, time]`, which `positions` replace; None means no mask.
        positions: int32 `[batch, time]`: 0 where a sentence of a row begins and on padding; None
            if rows hold one sentence.
        training: whether dropout is active.
        rows: not used; such a stack has no adapters.

    Returns:
        Float `[batch, time, dim]`. Outputs at padding are arbitrary but finite; no other output
        depends on padding.

    Reference: Chen et al., arXiv 1804.09849, section 3.1.
    """

    def __init__(
        self,
        num_layers: int,
        dim: int,
        dropout: float = 0.0,
        seed: int | keras.random.SeedGenerator | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self._config = {
            "num_layers": num_layers,
            "dim": dim,
            "dropout": dropout,
            "seed": seed_config(seed),
        }
        self.supports_masking = True
        policy = self.dtype_policy
        generator = make_seed_generator(seed)
        track_state(self, generator, seed)
        self.dropout = Dropout(dropout, seed=generator, dtype=policy, name="dropout")
        self.layers = [
            LayerNormLSTM(dim, bidirectional=True, dtype=policy, name=f"layer_{i}")
            for i in range(num_layers)
        ]
        # tf.train.Checkpoint tracks attributes but, with Keras 3, not the members of a list.
        for i, layer in enumerate(self.layers):
            setattr(self, f"layer_{i}", layer)
        self.projection = Dense(dim, dtype=policy, name="projection")

    def build(self, input_shape: Any) -> None:
        shape = input_shape
        for layer in self.layers:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.projection.build((None, shape[-1]))
        self.built = True

    def call(
        self,
        inputs: tf.Tensor,
        mask: tf.Tensor | None = None,
        positions: tf.Tensor | None = None,
        training: bool = False,
        rows: AdapterRows | None = None,
    ) -> tf.Tensor:
        del rows
        starts, ends = boundaries(mask, positions)
        x = self.dropout(inputs, training=training)
        for i, layer in enumerate(self.layers):
            y = self.dropout(layer(x, starts=starts, ends=ends), training=training)
            x = x + y if i >= FIRST_RESIDUAL else y
        return self.projection(x)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.dim)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._config}


def boundaries(
    mask: tf.Tensor | None, positions: tf.Tensor | None
) -> tuple[tf.Tensor | None, tf.Tensor | None]:
    """Returns where sentences begin and end.

    A sentence ends before the position at which the next one, or padding, begins: an LSTM that
    reads from right to left then forgets what it read in padding.

    Args:
        mask: bool `[batch, time]`, false on padding; not read if there are positions.
        positions: int32 `[batch, time]`, 0 where a sentence begins and on padding.

    Returns:
        Float32 `[batch, time]`, 1 at the first and at the last token of each sentence; None means
        only at the first and the last position.
    """
    if positions is not None:
        starts = tf.cast(tf.equal(positions, 0), tf.float32)
        return starts, _before(starts)
    if mask is None:
        return None, None
    return None, _before(1.0 - tf.cast(mask, tf.float32))


def _before(marks: tf.Tensor) -> tf.Tensor:
    """Moves marks one position to the left; the last position is marked."""
    return tf.concat([marks[:, 1:], tf.ones_like(marks[:, :1])], 1)
