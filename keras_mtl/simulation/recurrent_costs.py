"""Parameters, operations and memory of RNMT+ and the hybrid, by arithmetic."""

from collections.abc import Mapping, Sequence

from keras_mtl.configuration.architectures import HYBRID, TRANSFORMER
from keras_mtl.configuration.schema import TransformerConfig
from keras_mtl.configuration.stack_sharing import BY_STACK
from keras_mtl.simulation.model_costs import Batch, ModelCosts


class RecurrentCosts(ModelCosts):
    """The costs of a model with an LSTM decoder. The arguments are those of `ModelCosts`."""

    def __init__(
        self,
        config: TransformerConfig,
        vocabulary_size: int,
        copies: Mapping[str, Sequence[str]],
        source_vocabulary_size: int | None = None,
    ) -> None:
        self._hybrid = config.architecture == HYBRID
        # Whether output and context are projected to the width of a table.
        tied = config.tie_embeddings or config.tie_projection
        self._narrow = tied or config.sharing == BY_STACK
        super().__init__(config, vocabulary_size, copies, source_vocabulary_size)

    def _stack_parameters(self, config: TransformerConfig) -> tuple[int, int, int]:
        encoder, _, positions = super()._stack_parameters(config)
        d, (encoder_layers, decoder_layers) = self._dim, self._layers
        gates = 4 * d
        norm = 2 * gates
        if not self._hybrid:
            first, other = 2 * (2 * d * gates + norm), 2 * (3 * d * gates + norm)
            encoder = first + (encoder_layers - 1) * other + 2 * d * d + d
        # The score vectors have d numbers in all; keys and values have biases.
        attention = d * d + 2 * d * d + 2 * d + d
        decoder = decoder_layers * (3 * d * gates + norm) + attention
        # A projection of output and context has twice the rows of a table.
        decoder += 2 * d * d + d if self._narrow else d * self._vocabulary
        return encoder, decoder, positions // 2 if self._hybrid else 0

    def _multiplications(self, batch: Batch) -> tuple[float, float]:
        d, s, t = self._dim, batch.source_cells, batch.target_cells
        encoder_layers, decoder_layers = self._layers
        if self._hybrid:
            encoder = encoder_layers * self._encoder_multiplications(batch)
        else:
            encoder = s * (16 * d * d + (encoder_layers - 1) * 24 * d * d + 2 * d * d)
        decoder = t * decoder_layers * 12 * d * d + s * 2 * d * d
        # Queries; scores and contexts of each source cell.
        decoder += t * (d * d + 2 * d * batch.source_length)
        width = d if self._narrow else 2 * d
        output = t * 2 * d * d if self._narrow else 0
        return encoder + decoder + output, t * width * self._vocabulary

    def _activations(self, batch: Batch, value: int) -> tuple[float, float, float]:
        encoder, _, logits = super()._activations(batch, value)
        d, s, t = self._dim, batch.source_cells, batch.target_cells
        # Of each direction: the input, pre-activations, the output, the memory cell in float32, and
        # a mask of dropout.
        layer = 6 * d * value + 4 * d + d
        if not self._hybrid:
            encoder = s * 2 * layer
        masks = t * self._heads * batch.source_length * value
        return encoder, t * layer + masks / max(1, self._layers[1]), logits


def model_costs(
    config: TransformerConfig,
    vocabulary_size: int,
    copies: Mapping[str, Sequence[str]],
    source_vocabulary_size: int | None = None,
) -> ModelCosts:
    """Returns the costs of a model of any architecture; see `ModelCosts`."""
    kind = ModelCosts if config.architecture == TRANSFORMER else RecurrentCosts
    return kind(config, vocabulary_size, copies, source_vocabulary_size)
