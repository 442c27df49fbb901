"""From the configuration to a built model."""

from collections.abc import Sequence
from typing import Any

from keras_mtl.errors import ConfigError, nearest
from keras_mtl.layers.feed_forward import ACTIVATIONS
from keras_mtl.models import catalog
from keras_mtl.models.transformer import POSITIONS, SHARING, Transformer


def build_transformer(
    model_config: Any, vocabulary_size: int, decoders: Sequence[str] = (), seed: int | None = None
) -> Transformer:
    """Builds the Transformer of a configuration, with its variables.

    Call it inside `strategy.scope()`, and under the dtype policy of the run.

    Args:
      model_config: a `keras_mtl.config.TransformerConfig`; fields that are None come from its size.
      vocabulary_size: number of ids.
      decoders: target languages in the order of the decoder index; used when sharing is `encoder`.
      seed: seed of dropout; None takes one from Keras' global seed.

    Returns:
      A built model.

    Raises:
      ConfigError: a field has a value that the model cannot have.
    """
    size = catalog.resolve(model_config)
    for field, known in (
        ("activation", ACTIVATIONS),
        ("positions", POSITIONS),
        ("sharing", SHARING),
    ):
        value = getattr(model_config, field)
        if value not in known:
            raise ConfigError(f"task.model.{field}: unknown {value!r}{nearest(str(value), known)}")
    for field in ("hidden_dim", "num_heads", "intermediate_dim"):
        if size[field] < 1:
            raise ConfigError(f"task.model.{field} must be at least 1, not {size[field]}")
    for field in ("encoder_layers", "decoder_layers"):
        if size[field] < 0:
            raise ConfigError(f"task.model.{field} must be at least 0, not {size[field]}")
    for field in ("dropout", "attention_dropout", "activation_dropout"):
        if not 0.0 <= size[field] < 1.0:
            raise ConfigError(f"task.model.{field} must be in [0, 1), not {size[field]}")
    if size["hidden_dim"] % size["num_heads"]:
        raise ConfigError(
            f"task.model.hidden_dim {size['hidden_dim']} is not a multiple of "
            f"task.model.num_heads {size['num_heads']}"
        )
    if size["hidden_dim"] % 2 and model_config.positions == "sinusoidal":
        raise ConfigError(
            f"task.model.hidden_dim must be even for sinusoidal positions, not {size['hidden_dim']}"
        )
    if model_config.max_length < 1:
        raise ConfigError(
            f"task.model.max_length must be at least 1, not {model_config.max_length}"
        )
    if model_config.sharing == "encoder" and not decoders:
        raise ConfigError(
            "task.model.sharing is 'encoder': it needs the target languages, and none are given"
        )
    return Transformer(
        vocabulary_size=vocabulary_size,
        activation=model_config.activation,
        positions=model_config.positions,
        max_length=model_config.max_length,
        tie_embeddings=model_config.tie_embeddings,
        sharing=model_config.sharing,
        decoders=tuple(decoders) if model_config.sharing == "encoder" else (),
        seed=seed,
        name="transformer",
        **size,
    )
