"""The named sizes of models, which fill the fields of `task.model` that are None."""

import dataclasses
from typing import Any

from keras_mtl.configuration.architectures import ARCHITECTURES, HYBRID, RNMT, TRANSFORMER
from keras_mtl.configuration.schema import TransformerConfig
from keras_mtl.errors import ConfigError, nearest


@dataclasses.dataclass(frozen=True)
class Size:
    """Dimensions and dropout rates of a named size, by their names in `TransformerConfig`.

    RNMT+ has no feed-forward blocks, so its `intermediate_dim` and `activation_dropout` are 0.
    """

    hidden_dim: int
    num_heads: int
    intermediate_dim: int
    encoder_layers: int
    decoder_layers: int
    dropout: float
    attention_dropout: float
    activation_dropout: float


# base and big: Vaswani et al., arXiv 1706.03762, table 3. The paper drops residuals and embeddings;
# tensor2tensor's transformer_base also drops attention weights and activations, at a rate of 0.1.
SIZES: dict[str, Size] = {
    "tiny": Size(128, 4, 512, 2, 2, 0.1, 0.1, 0.1),
    "small": Size(256, 4, 1024, 3, 3, 0.1, 0.1, 0.1),
    "base": Size(512, 8, 2048, 6, 6, 0.1, 0.1, 0.1),
    "big": Size(1024, 16, 4096, 6, 6, 0.3, 0.1, 0.1),
    # Kasai et al., arXiv 2006.10369: almost all the parameters of base, but a decoder that costs a
    # sixth. Each of its steps runs one layer, and the encoder runs once for each sentence.
    "deep_shallow": Size(512, 8, 2048, 12, 1, 0.1, 0.1, 0.1),
}
"""Sizes of the Transformer."""

# base: RNMT+ of Chen et al., arXiv 1804.09849, with the numbers of Lingvo's WmtEnDeRNMT. The paper
# has 6 encoder and 8 decoder layers of width 1024.
_RNMT_SIZES = {
    "tiny": Size(128, 4, 0, 2, 2, 0.1, 0.1, 0.0),
    "base": Size(1024, 4, 0, 6, 8, 0.3, 0.3, 0.0),
}
# base: the encoder of the big Transformer with the decoder of RNMT+, section 5 of the paper.
_HYBRID_SIZES = {
    "tiny": Size(128, 4, 512, 2, 2, 0.1, 0.1, 0.1),
    "base": Size(1024, 16, 4096, 6, 8, 0.3, 0.1, 0.1),
}
_SIZES_OF = {TRANSFORMER: SIZES, RNMT: _RNMT_SIZES, HYBRID: _HYBRID_SIZES}


def sizes_of(architecture: str) -> dict[str, Size]:
    """Returns the sizes of an architecture by name.

    Raises:
        ConfigError: the architecture is unknown.
    """
    if architecture not in ARCHITECTURES:
        raise ConfigError(
            f"task.model.architecture: unknown architecture {architecture!r}"
            f"{nearest(architecture, ARCHITECTURES)}"
        )
    return _SIZES_OF[architecture]


def resolved(model_config: TransformerConfig) -> dict[str, Any]:
    """Fills the fields of a `TransformerConfig` that are None from its size.

    Args:
        model_config: the section `task.model`.

    Returns:
        {field: value} for the eight fields of `Size`.

    Raises:
        ConfigError: the size or the architecture is unknown.
    """
    name, sizes = model_config.size, sizes_of(model_config.architecture)
    if name not in sizes:
        raise ConfigError(f"task.model.size: unknown size {name!r}{nearest(name, sizes)}")
    size = dataclasses.asdict(sizes[name])
    for field in size:
        value = getattr(model_config, field)
        if value is not None:
            size[field] = value
    return size
