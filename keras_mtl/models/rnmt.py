"""RNMT+, a recurrent translation model, and the hybrid with the encoder of a Transformer."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_mtl.configuration.architectures import HYBRID
from keras_mtl.configuration.architectures import RNMT as RECURRENT
from keras_mtl.layers.dropout import seed_config
from keras_mtl.models.arguments import check_decoders
from keras_mtl.models.encoder import TransformerEncoder
from keras_mtl.models.encoder_decoder import EncoderDecoder, State
from keras_mtl.models.positions import position_layers
from keras_mtl.models.recurrent_decoder import RecurrentDecoder
from keras_mtl.models.recurrent_encoder import RecurrentEncoder


@keras.saving.register_keras_serializable(package="keras_mtl")
class RNMT(EncoderDecoder):
    """Encoder-decoder model with a decoder of layer-normalized LSTMs.

    The encoder is a stack of bidirectional LSTMs, which is RNMT+, or that of a Transformer, which
    is the hybrid. `Transformer` describes sharing; it works in the same way here.

    The constructor builds the model.

    Args:
        vocabulary_size: number of ids; 0 is padding, 1 starts the target.
        hidden_dim: width of the model, and of each direction of the encoder; a multiple of
            `num_heads`.
        num_heads: number of heads of the attention to the source.
        encoder_layers: number of encoder layers, >= 1.
        decoder_layers: number of layers of each decoder, >= 1.
        dropout: dropout rate on embeddings and on the output of each layer, in [0, 1).
        attention_dropout: dropout rate on attention weights, in [0, 1).
        max_length: longest source or target in tokens.
        tie_embeddings: whether to use one table for source, target and output projection. The
            output of the decoder and the context are then projected to `hidden_dim` first.
        sharing: see `Transformer`.
        decoders: see `Transformer`.
        copies: see `Transformer`.
        seed: seed of dropout; None derives it from Keras' global seed.
        logits_chunk: see `Transformer`.
        transformer_encoder: arguments of `TransformerEncoder` and `positions` of `Transformer`, for
            a hybrid; None means a recurrent encoder.
        tie_projection: see `Transformer`; like `tie_embeddings`, it narrows the output.
        source_vocabulary_size: see `Transformer`.
        **kwargs: arguments of `keras.Model`.

    Call arguments:
        inputs: see `Transformer`.
        training: whether dropout is active.

    Returns:
        Float logits `[batch, time, vocabulary_size]` in the compute dtype.

    Raises:
        InputError: a source or target is longer than `max_length`.
        ValueError: an argument is out of range.

    Example:
        ```python
        import numpy as np
        from keras_mtl import RNMT

        model = RNMT(
            vocabulary_size=90, hidden_dim=32, num_heads=4, encoder_layers=2, decoder_layers=2
        )
        ids = np.array([[5, 6, 7, 2], [8, 9, 2, 0]], np.int32)
        model({"source": ids, "target": ids}).shape  # TensorShape([2, 4, 90])
        ```

    Reference: Chen et al., arXiv 1804.09849, sections 3.1 and 5.
    """

    def __init__(
        self,
        vocabulary_size: int,
        hidden_dim: int,
        num_heads: int,
        encoder_layers: int,
        decoder_layers: int,
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        max_length: int = 256,
        tie_embeddings: bool = True,
        sharing: str = "full",
        decoders: Sequence[str] = (),
        copies: Mapping[str, Sequence[str]] | None = None,
        seed: int | None = None,
        logits_chunk: int = 0,
        transformer_encoder: Mapping[str, Any] | None = None,
        tie_projection: bool = False,
        source_vocabulary_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_decoders(sharing, decoders)
        if min(encoder_layers, decoder_layers) < 1:
            raise ValueError("RNMT needs at least one layer in the encoder and in the decoder")
        config: dict[str, Any] = {
            "vocabulary_size": vocabulary_size,
            "hidden_dim": hidden_dim,
            "num_heads": num_heads,
            "encoder_layers": encoder_layers,
            "decoder_layers": decoder_layers,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "max_length": max_length,
            "tie_embeddings": tie_embeddings,
            "tie_projection": tie_projection,
            "source_vocabulary_size": source_vocabulary_size,
            "sharing": sharing,
            "decoders": tuple(decoders),
            "copies": {stack: tuple(names) for stack, names in (copies or {}).items()},
            "seed": seed_config(seed),
            "logits_chunk": logits_chunk,
            "adapters": [],  # Adapters are parts of Transformer layers.
            "transformer_encoder": None if transformer_encoder is None else {**transformer_encoder},
        }
        super().__init__(config, **kwargs)
        self.architecture = RECURRENT if transformer_encoder is None else HYBRID

    def _position_layers(self) -> tuple[keras.layers.Layer | None, keras.layers.Layer | None]:
        positions = (self._config["transformer_encoder"] or {}).get("positions", "none")
        return position_layers(positions, self.max_length, self.dtype_policy)[0], None

    def _make_encoder(self, name: str) -> keras.layers.Layer:
        config, options = self._config, self._stack_options()
        if config["transformer_encoder"] is None:
            return RecurrentEncoder(config["encoder_layers"], self.hidden_dim, **options, name=name)
        own = dict(config["transformer_encoder"])
        own["rotary"] = own.pop("positions", "none") == "rotary"
        own |= {each: config[each] for each in ("num_heads", "attention_dropout")}
        return TransformerEncoder(config["encoder_layers"], **options, **own, name=name)

    def _make_decoder(self, name: str, vocabulary_size: int | None) -> RecurrentDecoder:
        return RecurrentDecoder(
            self._config["decoder_layers"],
            self.hidden_dim,
            self._config["num_heads"],
            attention_dropout=self._config["attention_dropout"],
            vocabulary_size=vocabulary_size,
            **self._stack_options(),
            name=name,
        )

    def _stack_options(self) -> dict[str, Any]:
        """Returns the arguments that encoders and decoders share."""
        options = {"dropout": self._config["dropout"], "seed": self.seed_generator}
        return options | {"dtype": self.dtype_policy}

    def _start_decoder(self, memory: State, *arguments: Any) -> State:
        return self.decoders[0].start(memory["memory"], *arguments, memory_mask=memory["mask"])

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["adapters"]
        return config
