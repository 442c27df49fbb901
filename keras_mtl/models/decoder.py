"""The decoder of the Transformer, for whole sequences and step by step."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_mtl.configuration.adapters import AdapterSet
from keras_mtl.configuration.sublayers import STANDARD
from keras_mtl.layers import Dense, Dropout, TransformerDecoderLayer
from keras_mtl.layers.adapter_inputs import make_adapter_inputs
from keras_mtl.layers.adapter_rows import AdapterRows
from keras_mtl.layers.dropout import make_seed_generator, seed_config, track_state
from keras_mtl.layers.layer_adapters import make_layer_adapters
from keras_mtl.layers.recomputation import call_recomputed
from keras_mtl.layers.registry import create_norm


@keras.saving.register_keras_serializable(package="keras_mtl")
class TransformerDecoder(keras.layers.Layer):
    """A stack of decoder layers, with a final norm if pre-norm, and an optional projection.

    Args:
        num_layers: number of decoder layers.
        intermediate_dim: width inside the feed-forward blocks.
        num_heads: number of attention heads.
        dropout: dropout rate on embeddings and on the output of each sub-layer, in [0, 1).
        attention_dropout: dropout rate on attention weights, in [0, 1).
        activation_dropout: dropout rate inside the feed-forward blocks, in [0, 1).
        activation: `relu`, `gelu` or `silu`.
        vocabulary_size: width of the decoder's own projection to logits; with None, the decoder
            has no projection and returns hidden states.
        seed: an integer, or a `keras.random.SeedGenerator` that is shared with other layers.
        self_attention: name of a registered self-attention layer.
        self_attention_parameters: parameters of that layer.
        feed_forward: name of a registered feed-forward block.
        feed_forward_parameters: parameters of that block.
        norm: name of a registered normalization.
        norm_parameters: parameters of that normalization.
        norm_position: `pre` or `post`; with `post` there is no final normalization.
        rotary: whether self-attention has rotary position embeddings.
        recompute: `none` or `layer`: whether the backward pass computes each layer again, instead
            of keeping its activations in memory.
        adapters: the sets of adapters of the model.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `[batch, time, dim]`: embeddings with positions.
        memory: float `[batch, source_time, memory_dim]`, or `[batch, num_layers, source_time,
            memory_dim]` if each layer attends to its own memory.
        memory_mask: bool `[batch, source_time]`, false on padding; or bool
            `[batch, time, source_time]`, true if a query may attend to a key; None means no mask.
        mask: bool `[batch, time, time]`, true if a query (second axis) may attend to a key, in
            addition to causality; None means only causality.
        positions: int32 `[batch, time]`, the position of each step for rotary embeddings, if they
            do not count up from 0.
        training: whether dropout is active.
        rows: which adapters the rows use; required if the stack has some.
        project: whether to apply the projection, if there is one.

    Returns:
        Float `[batch, time, dim]`, or `[batch, time, vocabulary_size]`.
    """

    def __init__(
        self,
        num_layers: int,
        intermediate_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        activation: str = "relu",
        vocabulary_size: int | None = None,
        seed: int | keras.random.SeedGenerator | None = None,
        self_attention: str = STANDARD["self_attention"],
        self_attention_parameters: Mapping[str, Any] | None = None,
        feed_forward: str = STANDARD["feed_forward"],
        feed_forward_parameters: Mapping[str, Any] | None = None,
        norm: str = STANDARD["norm"],
        norm_parameters: Mapping[str, Any] | None = None,
        norm_position: str = "pre",
        rotary: bool = False,
        recompute: str = "none",
        adapters: Sequence[AdapterSet] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        sublayers: dict[str, Any] = {
            "self_attention": self_attention,
            "self_attention_parameters": dict(self_attention_parameters or {}),
            "feed_forward": feed_forward,
            "feed_forward_parameters": dict(feed_forward_parameters or {}),
            "norm": norm,
            "norm_parameters": dict(norm_parameters or {}),
            "norm_position": norm_position,
            "rotary": rotary,
        }
        self._config = {
            "num_layers": num_layers,
            "intermediate_dim": intermediate_dim,
            "num_heads": num_heads,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "activation_dropout": activation_dropout,
            "activation": activation,
            "vocabulary_size": vocabulary_size,
            "seed": seed_config(seed),
            **sublayers,
            "recompute": recompute,
            "adapters": [dataclasses.asdict(AdapterSet.of_mapping(each)) for each in adapters],
        }
        self.supports_masking = True
        policy = self.dtype_policy
        generator = make_seed_generator(seed)
        track_state(self, generator, seed)
        # An attribute that is a generator would list its state again among the variables.
        self._recomputed = functools.partial(call_recomputed, generator)
        self.embedding_dropout = Dropout(dropout, seed=generator, dtype=policy, name="dropout")
        self.layers = [
            TransformerDecoderLayer(
                intermediate_dim,
                num_heads,
                dropout,
                attention_dropout,
                activation_dropout,
                activation,
                seed=generator,
                **sublayers,
                dtype=policy,
                name=f"layer_{i}",
            )
            for i in range(num_layers)
        ]
        # tf.train.Checkpoint tracks attributes but, with Keras 3, not the members of a list.
        for i, layer in enumerate(self.layers):
            setattr(self, f"layer_{i}", layer)
        self._make_adapters([AdapterSet.of_mapping(each) for each in adapters])
        self.final_norm = None
        if norm_position == "pre":
            self.final_norm = create_norm(norm, norm_parameters, dtype=policy, name="final_norm")
        self.projection = self._make_projection(vocabulary_size)

    def _make_projection(self, vocabulary_size: int | None) -> Dense | None:
        if vocabulary_size is None:
            return None
        options = {"dtype": self.dtype_policy, "name": "projection"}
        return Dense(vocabulary_size, use_bias=False, **options)

    def _make_adapters(self, sets: Sequence[AdapterSet]) -> None:
        policy = self.dtype_policy
        self.adapter_inputs = make_adapter_inputs(sets, "decoder", policy)
        self.adapters = make_layer_adapters(sets, "decoder", self.layers, policy)
        for i, each in enumerate(self.adapters):
            setattr(self, f"adapters_{i}", each)

    def build(self, inputs_shape: Any, memory_shape: Any) -> None:
        for layer in self.layers:
            layer.build(inputs_shape, memory_shape)
        if self.adapter_inputs is not None:
            self.adapter_inputs.build(inputs_shape)
        for each in self.adapters:
            each.build(inputs_shape)
        if self.final_norm is not None:
            self.final_norm.build(inputs_shape)
        if self.projection is not None:
            self.projection.build((None, inputs_shape[-1]))
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
        if self.adapter_inputs is not None:
            inputs = self.adapter_inputs(inputs, rows=rows)
        x = self.embedding_dropout(inputs, training=training)
        options: dict[str, Any] = {"memory_mask": memory_mask, "mask": mask}
        options |= {"positions": positions, "training": training}
        for layer, own_memory in zip(self._adapted(rows), self._memories(memory), strict=True):
            if training and self._config["recompute"] == "layer":
                x = self._recomputed(layer, x, own_memory, **options)
            else:
                x = layer(x, own_memory, **options)
        return self._finish(x, project)

    def start(
        self,
        memory: tf.Tensor,
        beams: int | tf.Tensor,
        max_length: int | tf.Tensor,
        rows: AdapterRows | None = None,
    ) -> dict[str, dict]:
        """Returns the caches of each layer by name; see `TransformerDecoderLayer.start`."""
        return {
            layer.name: layer.start(own_memory, beams, max_length)
            for layer, own_memory in zip(self._adapted(rows), self._memories(memory), strict=True)
        }

    def step(
        self,
        inputs: tf.Tensor,
        index: tf.Tensor,
        caches: dict[str, dict],
        memory_mask: tf.Tensor | None,
        weights: list[tf.Tensor] | None = None,
        rows: AdapterRows | None = None,
    ) -> tuple[tf.Tensor, dict[str, dict]]:
        """Computes one position in all layers.

        Args:
            inputs: float `[batch, beams, dim]`, embeddings of the tokens at position `index`.
            index: int32 scalar, in [0, max_length).
            caches: from `start` or the previous step.
            memory_mask: bool `[batch, source_time]`.
            weights: list to which the last layer's weights of attention to the memory are appended,
                float32 `[batch, beams, source_time]`; None does not compute them.
            rows: see `call`.

        Returns:
            The result of `call` for this position, `[batch, beams, ...]`, and the new caches.
        """
        x = tf.cast(inputs, self.compute_dtype)
        if self.adapter_inputs is not None:
            x = self.adapter_inputs(x, rows=rows)
        new = {}
        for layer in self._adapted(rows):
            wanted = weights if layer.name == self.layers[-1].name else None
            x, new[layer.name] = layer.step(x, index, caches[layer.name], memory_mask, wanted)
        return self._finish(x), new

    def reorder(self, caches: dict[str, dict], beam_index: tf.Tensor) -> dict[str, dict]:
        """Reorders the beams of self-attention; the beams of a sentence share the memory.

        Args:
            caches: from `start` or `step`.
            beam_index: int32 `[batch, k]`: beam i of a sentence continues beam `beam_index[:, i]`.
        """
        return {
            name: {
                **layer,
                "self": {
                    key: tf.gather(value, beam_index, axis=1, batch_dims=1)
                    for key, value in layer["self"].items()
                },
            }
            for name, layer in caches.items()
        }

    def _memories(self, memory: tf.Tensor) -> list[tf.Tensor]:
        """Returns the memory of each layer."""
        if memory.shape.rank == 3:
            return [memory] * len(self.layers)
        return tf.unstack(memory, num=len(self.layers), axis=1)

    def _finish(self, x: tf.Tensor, project: bool = True) -> tf.Tensor:
        if self.final_norm is not None:
            x = self.final_norm(x)
        return self.projection(x) if project and self.projection is not None else x

    def _adapted(self, rows: AdapterRows | None) -> Iterator[Any]:
        """Yields the layers, with their adapters if there are some."""
        if not self.adapters:
            yield from self.layers
            return
        assert rows is not None
        for layer, adapters in zip(self.layers, self.adapters, strict=True):
            yield adapters.around(layer, rows)

    def compute_output_shape(self, inputs_shape: Any, memory_shape: Any) -> Any:
        return (*inputs_shape[:-1], self._config["vocabulary_size"] or inputs_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._config}
