"""The encoder of the Transformer."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_mtl.configuration.adapters import AdapterSet
from keras_mtl.configuration.sublayers import STANDARD
from keras_mtl.layers import Dropout, TransformerEncoderLayer, TransparentAttention
from keras_mtl.layers.adapter_inputs import make_adapter_inputs
from keras_mtl.layers.adapter_rows import AdapterRows
from keras_mtl.layers.dropout import make_seed_generator, seed_config, track_state
from keras_mtl.layers.layer_adapters import make_layer_adapters
from keras_mtl.layers.recomputation import call_recomputed
from keras_mtl.layers.registry import create_norm


@keras.saving.register_keras_serializable(package="keras_mtl")
class TransformerEncoder(keras.layers.Layer):
    """A stack of encoder layers, with dropout on the embeddings and, if pre-norm, a final norm.

    Args:
        num_layers: number of encoder layers.
        intermediate_dim: width inside the feed-forward blocks.
        num_heads: number of attention heads.
        dropout: dropout rate on embeddings and on the output of each sub-layer, in [0, 1).
        attention_dropout: dropout rate on attention weights, in [0, 1).
        activation_dropout: dropout rate inside the feed-forward blocks, in [0, 1).
        activation: `relu`, `gelu` or `silu`.
        seed: an integer, or a `keras.random.SeedGenerator` that is shared with other layers.
        self_attention: name of a registered self-attention layer.
        self_attention_parameters: parameters of that layer.
        feed_forward: name of a registered feed-forward block.
        feed_forward_parameters: parameters of that block.
        norm: name of a registered normalization.
        norm_parameters: parameters of that normalization.
        norm_position: `pre` or `post`; with `post` there is no final normalization.
        memories: number of outputs of transparent attention, one for each decoder layer; 0 is a
            plain encoder, whose only output is that of the last layer.
        rotary: whether self-attention has rotary position embeddings.
        recompute: `none` or `layer`: whether the backward pass computes each layer again, instead
            of keeping its activations in memory.
        adapters: the sets of adapters of the model.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: float `[batch, time, dim]`: embeddings with positions.
        mask: bool `[batch, time]`, false on padding; or bool `[batch, time, time]`, true if a query
            (second axis) may attend to a key; None means no mask.
        positions: int32 `[batch, time]`, the position of each step for rotary embeddings, if they
            do not count up from 0.
        training: whether dropout is active.
        rows: which adapters the rows use; required if the stack has some.

    Returns:
        Float `[batch, time, dim]`, or `[batch, memories, time, dim]`.
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
        seed: int | keras.random.SeedGenerator | None = None,
        self_attention: str = STANDARD["self_attention"],
        self_attention_parameters: Mapping[str, Any] | None = None,
        feed_forward: str = STANDARD["feed_forward"],
        feed_forward_parameters: Mapping[str, Any] | None = None,
        norm: str = STANDARD["norm"],
        norm_parameters: Mapping[str, Any] | None = None,
        norm_position: str = "pre",
        memories: int = 0,
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
            "seed": seed_config(seed),
            **sublayers,
            "memories": memories,
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
            TransformerEncoderLayer(
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
        self._make_outputs(generator)

    def _make_outputs(self, generator: keras.random.SeedGenerator) -> None:
        """Creates what follows the last layer."""
        config, policy = self._config, self.dtype_policy
        memories = config["memories"]
        self.transparent_attention = self.final_norm = None
        if memories:
            self.transparent_attention = TransparentAttention(
                memories,
                config["attention_dropout"],
                generator,
                dtype=policy,
                name="transparent_attention",
            )
        if config["norm_position"] == "pre":
            # Another name, so that no older engine takes a sum for the output of the last layer.
            name = "memory_norm" if memories else "final_norm"
            self.final_norm = create_norm(
                config["norm"], config["norm_parameters"], dtype=policy, name=name
            )

    def _make_adapters(self, sets: Sequence[AdapterSet]) -> None:
        policy = self.dtype_policy
        self.adapter_inputs = make_adapter_inputs(sets, "encoder", policy)
        self.adapters = make_layer_adapters(sets, "encoder", self.layers, policy)
        for i, each in enumerate(self.adapters):
            setattr(self, f"adapters_{i}", each)

    def build(self, input_shape: Any) -> None:
        for layer in self.layers:
            layer.build(input_shape)
        if self.adapter_inputs is not None:
            self.adapter_inputs.build(input_shape)
        for each in self.adapters:
            each.build(input_shape)
        if self.transparent_attention is not None:
            batch, *rest = input_shape
            self.transparent_attention.build((batch, len(self.layers) + 1, *rest))
        if self.final_norm is not None:
            self.final_norm.build(input_shape)
        self.built = True

    def call(
        self,
        inputs: tf.Tensor,
        mask: tf.Tensor | None = None,
        positions: tf.Tensor | None = None,
        training: bool = False,
        rows: AdapterRows | None = None,
    ) -> tf.Tensor:
        if self.adapter_inputs is not None:
            inputs = self.adapter_inputs(inputs, rows=rows)
        x = self.embedding_dropout(inputs, training=training)
        options = {"mask": mask, "positions": positions, "training": training}
        outputs = [x]
        for layer in self._adapted(rows):
            if training and self._config["recompute"] == "layer":
                x = self._recomputed(layer, x, **options)
            else:
                x = layer(x, **options)
            outputs.append(x)
        if self.transparent_attention is not None:
            x = self.transparent_attention(tf.stack(outputs, axis=1), training=training)
        return x if self.final_norm is None else self.final_norm(x)

    def _adapted(self, rows: AdapterRows | None) -> Iterator[Any]:
        """Yields the layers, with their adapters if there are some."""
        if not self.adapters:
            yield from self.layers
            return
        assert rows is not None
        for layer, adapters in zip(self.layers, self.adapters, strict=True):
            yield adapters.around(layer, rows)

    def compute_output_shape(self, input_shape: Any) -> Any:
        if self.transparent_attention is None:
            return input_shape
        batch, *rest = input_shape
        return (batch, self.transparent_attention.memories, *rest)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._config}
