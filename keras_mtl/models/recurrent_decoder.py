"""The decoder of RNMT+, for whole sequences and step by step."""

from typing import Any

import keras
import tensorflow as tf

from keras_mtl.layers import Dense, Dropout
from keras_mtl.layers.adapter_rows import AdapterRows
from keras_mtl.layers.attention_lstm import AttentionLSTM
from keras_mtl.layers.dropout import make_seed_generator, seed_config, track_state
from keras_mtl.layers.layer_norm_lstm import LayerNormLSTM
from keras_mtl.models.recurrent_encoder import FIRST_RESIDUAL

_SHARED = ("keys", "values")  # What the beams of a sentence share.


@keras.saving.register_keras_serializable(package="keras_mtl")
class RecurrentDecoder(keras.layers.Layer):
    """A stack of layer-normalized LSTMs with one attention to the encoder's output.

    The lowest layer computes the context of each step. Every other layer reads the output of the
    layer below and this context, and so does the projection to logits. From the third layer, the
    output of the layer below is added to the output.

    Args:
        num_layers: number of layers, >= 1.
        dim: width of each layer.
        num_heads: number of heads of attention.
        dropout: dropout rate on embeddings and on the output of each layer, in [0, 1).
        attention_dropout: dropout rate on attention weights, in [0, 1).
        vocabulary_size: width of the decoder's own projection to logits. With None, the decoder
            projects output and context to `dim` and returns that, for the table of embeddings.
        seed: an integer, or a `keras.random.SeedGenerator` that is shared with other layers.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `[batch, time, dim]`: embeddings.
        memory: float `[batch, source_time, memory_dim]`.
        memory_mask: bool `[batch, source_time]`, false on padding; or bool
            `[batch, time, source_time]`, true if a step may attend to a key; None means no mask.
        mask: not used, because `positions` say which steps belong to one sentence.
        positions: int32 `[batch, time]`: 0 where a sentence of a row begins and on padding; None
            if rows hold one sentence.
        training: whether dropout is active.
        project: whether to apply the projection to logits, if there is one.
        rows: not used; such a stack has no adapters.

    Returns:
        Float `[batch, time, vocabulary_size]`; without a projection to logits `[batch, time, dim]`,
        or with `project=False` output and context, `[batch, time, 2 * dim]`.

    Reference: Chen et al., arXiv 1804.09849, section 3.1.
    """

    def __init__(
        self,
        num_layers: int,
        dim: int,
        num_heads: int,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        vocabulary_size: int | None = None,
        seed: int | keras.random.SeedGenerator | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dim = dim
        self._config = {
            "num_layers": num_layers,
            "dim": dim,
            "num_heads": num_heads,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "vocabulary_size": vocabulary_size,
            "seed": seed_config(seed),
        }
        self.supports_masking = True
        policy = self.dtype_policy
        generator = make_seed_generator(seed)
        track_state(self, generator, seed)
        self.dropout = Dropout(dropout, seed=generator, dtype=policy, name="dropout")
        self.layer_0 = AttentionLSTM(
            dim, num_heads, attention_dropout, generator, dtype=policy, name="layer_0"
        )
        self.upper = [
            LayerNormLSTM(dim, dtype=policy, name=f"layer_{i}") for i in range(1, num_layers)
        ]
        # tf.train.Checkpoint tracks attributes but, with Keras 3, not the members of a list.
        for layer in self.upper:
            setattr(self, layer.name, layer)
        self.output_projection = self.projection = None
        if vocabulary_size is None:
            self.output_projection = Dense(dim, dtype=policy, name="output")
        else:
            self.projection = Dense(
                vocabulary_size, use_bias=False, dtype=policy, name="projection"
            )

    def build(self, inputs_shape: Any, memory_shape: Any) -> None:
        dim = self.dim
        self.layer_0.build(inputs_shape, memory_shape)
        for layer in self.upper:
            layer.build((None, None, 2 * dim))
        for projection in (self.output_projection, self.projection):
            if projection is not None:
                projection.build((None, 2 * dim))
        self.built = True

    def call(
        self,
        inputs: tf.Tensor,
        memory: tf.Tensor,
        memory_mask: tf.Tensor | None = None,
        mask: tf.Tensor | None = None,
        positions: tf.Tensor | None = None,
        training: bool = False,
        project: bool = True,
        rows: AdapterRows | None = None,
    ) -> tf.Tensor:
        del mask, rows
        starts = None if positions is None else tf.cast(tf.equal(positions, 0), tf.float32)
        x = self.dropout(inputs, training=training)
        x, context = self.layer_0(
            x, memory, memory_mask=memory_mask, starts=starts, training=training
        )
        x = self.dropout(x, training=training)
        for i, layer in enumerate(self.upper, 1):
            y = self.dropout(layer(tf.concat([x, context], -1), starts=starts), training=training)
            x = x + y if i >= FIRST_RESIDUAL else y
        return self._finish(x, context, project)

    def start(
        self,
        memory: tf.Tensor,
        beams: int | tf.Tensor,
        max_length: int | tf.Tensor,
        rows: AdapterRows | None = None,
        memory_mask: tf.Tensor | None = None,
    ) -> dict[str, dict]:
        """Returns the states of each layer by name, whose size does not depend on `max_length`."""
        del max_length, rows
        batch = memory.shape[0] or tf.shape(memory)[0]
        states = {"layer_0": self.layer_0.start(memory, memory_mask, beams)}
        for layer in self.upper:
            states[layer.name] = layer.start([batch, beams])
        return states

    def step(
        self,
        inputs: tf.Tensor,
        index: tf.Tensor,
        caches: dict[str, dict],
        memory_mask: tf.Tensor | None,
        weights: list[tf.Tensor] | None = None,
        rows: AdapterRows | None = None,
    ) -> tuple[tf.Tensor, dict[str, dict]]:
        """Computes one step in all layers; see `TransformerDecoder.step`.

        The weights that are appended are those of the only attention, averaged over heads.
        """
        del index, rows
        new = {}
        x = tf.cast(inputs, self.compute_dtype)
        x, context, found, new["layer_0"] = self.layer_0.step(x, caches["layer_0"], memory_mask)
        if weights is not None:
            weights.append(found)
        for i, layer in enumerate(self.upper, 1):
            y, new[layer.name] = layer.step(tf.concat([x, context], -1), caches[layer.name])
            x = x + y if i >= FIRST_RESIDUAL else y
        return self._finish(x, context, True), new

    def reorder(self, caches: dict[str, dict], beam_index: tf.Tensor) -> dict[str, dict]:
        """Reorders the beams; those of a sentence share keys and values of the memory.

        Args:
            caches: from `start` or `step`.
            beam_index: int32 `[batch, k]`: beam i of a sentence continues beam `beam_index[:, i]`.
        """
        return {
            name: {
                key: value if key in _SHARED else tf.gather(value, beam_index, axis=1, batch_dims=1)
                for key, value in state.items()
            }
            for name, state in caches.items()
        }

    def _finish(self, x: tf.Tensor, context: tf.Tensor, project: bool) -> tf.Tensor:
        x = tf.concat([x, context], -1)
        if self.output_projection is not None:
            return self.output_projection(x)
        assert self.projection is not None
        return self.projection(x) if project else x

    def compute_output_shape(self, inputs_shape: Any, memory_shape: Any) -> Any:
        return (*inputs_shape[:-1], self._config["vocabulary_size"] or self.dim)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._config}
