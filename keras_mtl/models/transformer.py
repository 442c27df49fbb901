"""The Transformer, with one decoder for all tasks or one for each target language."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_mtl.configuration.adapters import AdapterSet
from keras_mtl.configuration.quantization import QuantizationConfig, of_mapping
from keras_mtl.configuration.sublayers import STANDARD
from keras_mtl.layers.dropout import seed_config
from keras_mtl.models.arguments import STACK_ARGUMENTS, check_arguments
from keras_mtl.models.decoder import TransformerDecoder
from keras_mtl.models.encoder import TransformerEncoder
from keras_mtl.models.encoder_decoder import EncoderDecoder
from keras_mtl.models.positions import position_layers, position_tables


@keras.saving.register_keras_serializable(package="keras_mtl")
class Transformer(EncoderDecoder):
    """Encoder-decoder Transformer for one or many translation tasks.

    With `sharing="encoder"` each target language has its own decoder, with its own final
    normalization and, if embeddings are not tied, its own projection. With `sharing="by_stack"`,
    `copies` says of which stacks tasks have their own copies. All rows of a batch use the same
    copies, those of `inputs["decoder"][0]`; see `keras_mtl.models.stack_copies`. The gradient of
    every other copy is exactly 0.

    The constructor builds the model.

    Args:
        vocabulary_size: number of ids; 0 is padding, 1 starts the target.
        hidden_dim: width of the model; a multiple of `num_heads`.
        num_heads: number of attention heads.
        intermediate_dim: width inside the feed-forward blocks.
        encoder_layers: number of encoder layers.
        decoder_layers: number of layers of each decoder.
        dropout: dropout rate on embeddings and on the output of each sub-layer, in [0, 1).
        attention_dropout: dropout rate on attention weights, in [0, 1).
        activation_dropout: dropout rate inside the feed-forward blocks, in [0, 1).
        activation: `relu`, `gelu` or `silu`.
        positions: `sinusoidal`, `learned`, `rotary` or `none`.
        max_length: longest source or target in tokens.
        tie_embeddings: whether to use one table for source, target and output projection.
        sharing: `full`, `encoder` or `by_stack`.
        decoders: names of the decoders, in the order of their index; used if sharing is `encoder`.
        copies: names of the copies of each stack that has several; used if sharing is `by_stack`.
            Stacks are those of `keras_mtl.configuration.stack_sharing.stack_names`.
        seed: seed of dropout; None derives it from Keras' global seed.
        self_attention: name of a registered self-attention layer.
        self_attention_parameters: parameters of that layer.
        feed_forward: name of a registered feed-forward block.
        feed_forward_parameters: parameters of that block.
        norm: name of a registered normalization.
        norm_parameters: parameters of that normalization.
        norm_position: `pre` or `post`; see `keras_mtl.layers.norm_position`.
        transparent_attention: whether each decoder layer attends to its own mixture of the outputs
            of all encoder layers; see `keras_mtl.layers.TransparentAttention`. All decoders share
            the mixtures.
        logits_chunk: largest number of target positions whose logits `token_losses` holds in memory
            at once; 0 for no limit. With a limit, logits are computed twice.
        recompute: `none` or `layer`. With `layer`, training keeps only the inputs of each encoder
            and decoder layer in memory, and the backward pass computes the layer again.
        adapters: sets of adapters, each a `keras_mtl.configuration.adapters.AdapterSet` or a
            mapping of its fields.
        quantization: quantization-aware training; a mapping of its fields, or None for none.
        tie_projection: whether to use the table of the target for the output projection, too, if
            embeddings are not tied.
        source_vocabulary_size: number of ids of sources, if they have a vocabulary of their own;
            embeddings must not be tied then. None means `vocabulary_size`.
        **kwargs: arguments of `keras.Model`.

    Call arguments:
        inputs: dict of `source`, int32 `[batch, source_time]`; `target`, int32 `[batch, time]`, the
            tokens to predict (the model itself inserts the start token and drops the last one); and
            `decoder`, int32 `[batch]` or `[batch, time]`, the index of the decoder, equal
            everywhere, which is not needed if sharing is `full`; with adapters or copies of other
            stacks it is `TranslationTask.route` of each row's task, or `[1]` if all rows are of one
            task. Rows of several sentence pairs also have the tensors of `PackedRows`.
        training: whether dropout is active.

    Returns:
        Float logits `[batch, time, vocabulary_size]` in the compute dtype.

    Raises:
        InputError: a source or target is longer than `max_length`.
        ValueError: an argument is out of range.

    Example:
        ```python
        import numpy as np
        from keras_mtl import Transformer

        model = Transformer(
            vocabulary_size=90,
            hidden_dim=32,
            num_heads=4,
            intermediate_dim=64,
            encoder_layers=2,
            decoder_layers=2,
        )
        ids = np.array([[5, 6, 7, 2], [8, 9, 2, 0]], np.int32)
        model({"source": ids, "target": ids}).shape  # TensorShape([2, 4, 90])
        loss, tokens, nll = model.token_losses({"source": ids, "target": ids}, smoothing=0.1)
        ```

    Reference: Vaswani et al., arXiv 1706.03762; sharing by encoder: Firat et al., arXiv 1601.01073.
    """

    def __init__(
        self,
        vocabulary_size: int,
        hidden_dim: int,
        num_heads: int,
        intermediate_dim: int,
        encoder_layers: int,
        decoder_layers: int,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        activation_dropout: float = 0.1,
        activation: str = "relu",
        positions: str = "sinusoidal",
        max_length: int = 256,
        tie_embeddings: bool = True,
        sharing: str = "full",
        decoders: Sequence[str] = (),
        copies: Mapping[str, Sequence[str]] | None = None,
        seed: int | None = None,
        self_attention: str = STANDARD["self_attention"],
        self_attention_parameters: Mapping[str, Any] | None = None,
        feed_forward: str = STANDARD["feed_forward"],
        feed_forward_parameters: Mapping[str, Any] | None = None,
        norm: str = STANDARD["norm"],
        norm_parameters: Mapping[str, Any] | None = None,
        norm_position: str = "pre",
        transparent_attention: bool = False,
        logits_chunk: int = 0,
        recompute: str = "none",
        adapters: Sequence[AdapterSet | Mapping[str, Any]] = (),
        quantization: QuantizationConfig | Mapping[str, Any] | None = None,
        tie_projection: bool = False,
        source_vocabulary_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_arguments(positions, norm_position, sharing, recompute, decoders)
        config: dict[str, Any] = {
            "vocabulary_size": vocabulary_size,
            "hidden_dim": hidden_dim,
            "num_heads": num_heads,
            "intermediate_dim": intermediate_dim,
            "encoder_layers": encoder_layers,
            "decoder_layers": decoder_layers,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "activation_dropout": activation_dropout,
            "activation": activation,
            "positions": positions,
            "max_length": max_length,
            "tie_embeddings": tie_embeddings,
            "tie_projection": tie_projection,
            "source_vocabulary_size": source_vocabulary_size,
            "sharing": sharing,
            "decoders": tuple(decoders),
            "copies": {stack: tuple(names) for stack, names in (copies or {}).items()},
            "seed": seed_config(seed),
            "self_attention": self_attention,
            "self_attention_parameters": dict(self_attention_parameters or {}),
            "feed_forward": feed_forward,
            "feed_forward_parameters": dict(feed_forward_parameters or {}),
            "norm": norm,
            "norm_parameters": dict(norm_parameters or {}),
            "norm_position": norm_position,
            "transparent_attention": transparent_attention,
            "logits_chunk": logits_chunk,
            "recompute": recompute,
            "adapters": [dataclasses.asdict(AdapterSet.of_mapping(each)) for each in adapters],
            "quantization": dataclasses.asdict(of_mapping(quantization)),
        }
        super().__init__(config, **kwargs)
        self.self_attention = self_attention
        self.transparent_attention = transparent_attention
        self.feed_forward = feed_forward
        self.norm = norm

    def _position_layers(self) -> tuple[keras.layers.Layer | None, keras.layers.Layer | None]:
        return position_layers(self._config["positions"], self.max_length, self.dtype_policy)

    def _make_encoder(self, name: str) -> TransformerEncoder:
        memories = self._config["decoder_layers"] if self._config["transparent_attention"] else 0
        options = self._stack_options()
        return TransformerEncoder(
            self._config["encoder_layers"], memories=memories, **options, name=name
        )

    def _make_decoder(self, name: str, vocabulary_size: int | None) -> TransformerDecoder:
        options = self._stack_options()
        return TransformerDecoder(
            self._config["decoder_layers"], vocabulary_size=vocabulary_size, **options, name=name
        )

    def _stack_options(self) -> dict[str, Any]:
        """Returns the arguments that encoders and decoders share."""
        options: dict[str, Any] = {name: self._config[name] for name in STACK_ARGUMENTS}
        options |= {"seed": self.seed_generator, "dtype": self.dtype_policy}
        return options | {"rotary": self._config["positions"] == "rotary"}

    def position_tables(self) -> dict[str, Any]:
        """See `keras_mtl.models.positions.position_tables`."""
        return position_tables(self)
