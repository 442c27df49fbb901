"""The named sizes of the Transformer, which fill the fields of `task.model` that are None."""

import dataclasses
from typing import Any

from keras_mtl.configuration.schema import TransformerConfig
from keras_mtl.errors import ConfigError, nearest


@dataclasses.dataclass(frozen=True)
class Size:
    """Dimensions and dropout rates of a named size, by their names in `TransformerConfig`."""

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


def resolved(model_config: TransformerConfig) -> dict[str, Any]:
    """Fills the fields of a `TransformerConfig` that are None from its size.

    Args:
        model_config: the section `task.model`.

    Returns:
        {field: value} for the eight fields of `Size`.

    Raises:
        ConfigError: the size is unknown.
    """
    name = model_config.size
    if name not in SIZES:
        raise ConfigError(f"task.model.size: unknown size {name!r}{nearest(name, SIZES)}")
    size = dataclasses.asdict(SIZES[name])
    for field in size:
        value = getattr(model_config, field)
        if value is not None:
            size[field] = value
    return size
