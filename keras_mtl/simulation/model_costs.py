"""Parameters, operations and memory of a Transformer, by arithmetic from its configuration.

A sub-layer of a plug-in is counted as the standard one.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from keras_mtl.configuration.model_sizes import resolved
from keras_mtl.configuration.schema import TransformerConfig
from keras_mtl.configuration.stack_sharing import BY_STACK

# A training step multiplies each matrix once in the forward pass and twice in the backward pass.
_PASSES = 3
# How often a training step reads or writes an activation that the backward pass needs. Fitted to
# one program: the TPU compiler counts 279 GB of memory access for a step of the size `base` with
# 256 rows of 128 source and 128 target tokens, a vocabulary of 32,000 and mixed_bfloat16.
_ACCESSES = 19
# Reads and writes of each parameter in a step: weights, gradient and two moments, in float32.
_WEIGHT_ACCESSES = 9


@dataclasses.dataclass(frozen=True)
class Batch:
    """The cells of a batch, padding included.

    Attributes:
        source_cells: number of source cells.
        target_cells: number of target cells.
        source_length: source cells of a row, which limit what a cell attends to.
        target_length: target cells of a row.
    """

    source_cells: float
    target_cells: float
    source_length: float
    target_length: float

    def share(self, replicas: int) -> "Batch":
        """Returns the part of one replica."""
        cells = self.source_cells / replicas, self.target_cells / replicas
        return Batch(*cells, self.source_length, self.target_length)


class ModelCosts:
    """The costs of a Transformer.

    Args:
        config: the section `task.model`.
        vocabulary_size: number of ids.
        copies: names of the copies of each stack that has several, from
            `keras_mtl.configuration.stack_sharing.copies_of_stacks`.
        source_vocabulary_size: number of ids of sources; None if it is `vocabulary_size`.

    Attributes:
        parameters: number of trainable parameters.
    """

    def __init__(
        self,
        config: TransformerConfig,
        vocabulary_size: int,
        copies: Mapping[str, Sequence[str]],
        source_vocabulary_size: int | None = None,
    ) -> None:
        size = resolved(config)
        self._dim = d = size["hidden_dim"]
        self._wide = f = size["intermediate_dim"]
        # Products of the feed-forward block; a gate is one more.
        self._products = 3 if config.feed_forward == "gated" else 2
        self._heads = size["num_heads"]
        self._layers = size["encoder_layers"], size["decoder_layers"]
        self._chunk = config.logits_chunk
        # What is computed again in the backward pass costs one more forward pass.
        self._layer_passes = _PASSES + (config.recompute == "layer")
        self._logits_passes = _PASSES + (config.logits_chunk > 0)
        self._vocabulary = vocabulary_size
        self._dense = 4 * d * d + self._products * d * f
        encoder, decoder, positions = self._stack_parameters(config)
        # Number of ids of each table that is not the one of the targets.
        others = {"source_embedding": source_vocabulary_size or vocabulary_size}
        # Unless sharing is by stack, each decoder has its own projection.
        projection = "projection" if config.sharing == BY_STACK else "decoder"
        tables: tuple[str, ...] = ("source_embedding", "target_embedding", projection)
        if config.tie_embeddings:
            tables = ("embeddings",)
        elif config.tie_projection:
            tables = tables[:2]
        count = {stack: len(names) for stack, names in copies.items()}
        self.parameters = count.get("encoder", 1) * encoder + count.get("decoder", 1) * decoder
        ids = sum(count.get(name, 1) * others.get(name, vocabulary_size) for name in tables)
        self.parameters += ids * d + positions

    def _stack_parameters(self, config: TransformerConfig) -> tuple[int, int, int]:
        """Returns the parameters of encoder, decoder without projection, and positions."""
        d, f = self._dim, self._wide
        norm = d if config.norm == "rms_norm" else 2 * d
        final_norm = norm if config.norm_position == "pre" else 0
        attention = 4 * d * d + 4 * d
        feed_forward = self._products * d * f + d + (self._products - 1) * f
        encoder = self._layers[0] * (attention + feed_forward + 2 * norm) + final_norm
        decoder = self._layers[1] * (2 * attention + feed_forward + 3 * norm) + final_norm
        if config.transparent_attention:
            encoder += (self._layers[0] + 1) * self._layers[1]
        positions = 2 * config.max_length * d if config.positions == "learned" else 0
        return encoder, decoder, positions

    def _multiplications(self, batch: Batch) -> tuple[float, float]:
        """Returns the multiplications of matrix products of a forward pass: layers and logits."""
        d, s, t = self._dim, batch.source_cells, batch.target_cells
        # Each query is multiplied by the keys and the weights by the values.
        own, other = 2 * d * batch.source_length, 2 * d * batch.target_length
        encoder = self._encoder_multiplications(batch)
        # The keys and values of cross-attention are computed once for each source cell.
        decoder = t * (self._dense + 2 * d * d + other + own) + s * 2 * d * d
        logits = t * d * self._vocabulary
        return self._layers[0] * encoder + self._layers[1] * decoder, logits

    def _encoder_multiplications(self, batch: Batch) -> float:
        """Returns the multiplications of an encoder layer."""
        return batch.source_cells * (self._dense + 2 * self._dim * batch.source_length)

    def training_flops(self, batch: Batch) -> float:
        """Returns the floating-point operations of the matrix products of a training step."""
        layers, logits = self._multiplications(batch)
        return 2 * (self._layer_passes * layers + self._logits_passes * logits)

    def decoding_multiplications(
        self, source_length: float, target_length: float, beam_size: int
    ) -> float:
        """Returns the multiplications of matrix products that translate one sentence."""
        target = beam_size * target_length
        return sum(
            self._multiplications(Batch(source_length, target, source_length, target_length / 2))
        )

    def activations(self, batch: Batch, value: int) -> float:
        """Estimates the bytes that a forward pass keeps for the backward pass.

        With `recompute: layer`, these are the inputs of all layers and the activations of one. With
        `logits_chunk`, logits are those of one chunk.

        Args:
            batch: the batch of one replica.
            value: bytes of a value: 2 in 16 bits, else 4.
        """
        encoder, decoder, logits = self._activations(batch, value)
        counts = self._layers
        layers = counts[0] * encoder + counts[1] * decoder
        if self._layer_passes > _PASSES:
            inputs = counts[0] * batch.source_cells + counts[1] * batch.target_cells
            layers = inputs * self._dim * value + max(encoder, decoder)
        if self._chunk:
            logits *= min(1.0, self._chunk / batch.target_cells)
        return layers + logits

    def _activations(self, batch: Batch, value: int) -> tuple[float, float, float]:
        """Returns the bytes of an encoder layer, a decoder layer and the logits.

        Attention weights are in float32, and masks of dropout have one byte. Each of two sub-layers
        keeps its normalized input, its input and its dropout mask; attention also queries, keys,
        values and contexts.
        """
        d, f, s, t = self._dim, self._wide, batch.source_cells, batch.target_cells
        attention = self._heads * (4 + 1)  # One weight and its mask for each key.
        sublayer = 2 * d * value + d
        wide = (2 * self._products - 3) * f * value + f  # A gate and its values are kept, too.
        encoder = s * (2 * sublayer + 4 * d * value + wide + attention * batch.source_length)
        decoder = t * (
            3 * sublayer
            + 6 * d * value
            + wide
            + attention * (batch.source_length + batch.target_length)
        )
        memory = s * 2 * d * value
        logits = t * 2 * value * self._vocabulary  # Logits and their exponentials.
        return encoder, decoder + memory, logits

    def memory_access(self, batch: Batch, value: int, replicas: int) -> float:
        """Estimates the bytes that a training step reads and writes, on all replicas.

        Args:
            batch: the batch of all replicas.
            value: bytes of a value: 2 in 16 bits, else 4.
            replicas: number of copies of the weights.
        """
        weights = replicas * _WEIGHT_ACCESSES * 4 * self.parameters
        encoder, decoder, logits = self._activations(batch, value)
        layers = (self._layers[0] * encoder + self._layers[1] * decoder) * self._layer_passes
        return _ACCESSES * (layers + logits * self._logits_passes) / _PASSES + weights
