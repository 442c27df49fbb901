"""Builds the model of a configuration."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_mtl.configuration.adapters import adapter_sets
from keras_mtl.configuration.architectures import HYBRID, TRANSFORMER
from keras_mtl.configuration.architectures import RNMT as RECURRENT
from keras_mtl.configuration.model_sizes import resolved
from keras_mtl.configuration.stack_sharing import BY_STACK, SHARING, copies_of_stacks
from keras_mtl.configuration.sublayers import BUILT_IN, NORM_POSITIONS, POSITIONS
from keras_mtl.errors import ConfigError, nearest
from keras_mtl.layers.contract import (
    attention_problems,
    check_sublayer,
    position_wise_problems,
)
from keras_mtl.layers.feed_forward import ACTIVATIONS
from keras_mtl.layers.recomputation import RECOMPUTE
from keras_mtl.layers.registry import create_feed_forward, create_norm, create_self_attention
from keras_mtl.models.encoder_decoder import EncoderDecoder
from keras_mtl.models.rnmt import RNMT
from keras_mtl.models.transformer import Transformer

# Fields of `task.model` that are also arguments of the encoder of a Transformer.
_OF_ENCODERS = (
    "activation",
    "self_attention",
    "self_attention_parameters",
    "feed_forward",
    "feed_forward_parameters",
    "norm",
    "norm_parameters",
    "norm_position",
    "positions",
    "recompute",
)


def build_model(
    model_config: Any,
    vocabulary_size: int,
    decoders: Sequence[str] = (),
    seed: int | None = None,
    tasks: Sequence[Any] = (),
    source_vocabulary_size: int | None = None,
) -> EncoderDecoder:
    """Builds the model of a configuration, of any architecture; see `build_transformer`."""
    if model_config.architecture == TRANSFORMER:
        return build_transformer(
            model_config, vocabulary_size, decoders, seed, tasks, source_vocabulary_size
        )
    size = resolved(model_config)
    _check_fields(model_config, size, decoders)
    own = {name: size.pop(name) for name in ("intermediate_dim", "activation_dropout")}
    transformer_encoder = None
    if model_config.architecture == HYBRID:
        transformer_encoder = own | {name: getattr(model_config, name) for name in _OF_ENCODERS}
    return RNMT(
        vocabulary_size=vocabulary_size,
        source_vocabulary_size=source_vocabulary_size,
        seed=seed,
        transformer_encoder=transformer_encoder,
        name=model_config.architecture,
        **_shared_arguments(model_config, decoders, tasks),
        **size,
    )


def build_transformer(
    model_config: Any,
    vocabulary_size: int,
    decoders: Sequence[str] = (),
    seed: int | None = None,
    tasks: Sequence[Any] = (),
    source_vocabulary_size: int | None = None,
) -> Transformer:
    """Builds the Transformer of a configuration, with its variables.

    Call it inside `strategy.scope()` and under the dtype policy of the run.

    Args:
        model_config: a `keras_mtl.configuration.schema.TransformerConfig`; fields that are None
            come from its size.
        vocabulary_size: number of ids.
        decoders: target languages in the order of the decoder index; used if sharing is `encoder`.
        seed: seed of dropout; None derives it from Keras' global seed.
        tasks: the tasks of the run, with `name`, `source` and `target`; used if there are adapters,
            or if sharing is `by_stack`.
        source_vocabulary_size: number of ids of sources; None if it is `vocabulary_size`.

    Returns:
        A built model.

    Raises:
        ConfigError: the value of a field is invalid.
    """
    size = resolved(model_config)
    _check_fields(model_config, size, decoders)
    return Transformer(
        vocabulary_size=vocabulary_size,
        source_vocabulary_size=source_vocabulary_size,
        activation=model_config.activation,
        positions=model_config.positions,
        seed=seed,
        self_attention=model_config.self_attention,
        self_attention_parameters=model_config.self_attention_parameters,
        transparent_attention=model_config.transparent_attention,
        feed_forward=model_config.feed_forward,
        feed_forward_parameters=model_config.feed_forward_parameters,
        norm=model_config.norm,
        norm_parameters=model_config.norm_parameters,
        norm_position=model_config.norm_position,
        recompute=model_config.recompute,
        adapters=adapter_sets(model_config.adapters, tasks),
        quantization=model_config.quantization,
        name="transformer",
        **_shared_arguments(model_config, decoders, tasks),
        **size,
    )


def _shared_arguments(
    model_config: Any, decoders: Sequence[str], tasks: Sequence[Any]
) -> dict[str, Any]:
    """Returns the arguments that all models take from the configuration under the same names."""
    names = ("max_length", "tie_embeddings", "tie_projection", "sharing", "logits_chunk")
    return {
        **{name: getattr(model_config, name) for name in names},
        "decoders": tuple(decoders) if model_config.sharing == "encoder" else (),
        "copies": copies_of_stacks(model_config, tasks)
        if model_config.sharing == BY_STACK
        else None,
    }


def _check_fields(model_config: Any, size: Mapping[str, Any], decoders: Sequence[str]) -> None:
    """Raises ConfigError if the value of a field of the model is invalid."""
    for field, known in (
        ("activation", ACTIVATIONS),
        ("positions", POSITIONS),
        ("norm_position", NORM_POSITIONS),
        ("sharing", SHARING),
        ("recompute", RECOMPUTE),
    ):
        value = getattr(model_config, field)
        if value not in known:
            raise ConfigError(
                f"task.model.{field} = {value!r} is unknown{nearest(str(value), known)}"
            )
    recurrent = model_config.architecture != TRANSFORMER
    least = dict.fromkeys(("hidden_dim", "num_heads", "intermediate_dim"), 1)
    least |= dict.fromkeys(("encoder_layers", "decoder_layers"), int(recurrent))
    if model_config.architecture == RECURRENT:
        del least["intermediate_dim"]
    for field, smallest in least.items():
        if size[field] < smallest:
            raise ConfigError(f"task.model.{field} must be at least {smallest}, not {size[field]}")
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
    if size["hidden_dim"] // size["num_heads"] % 2 and model_config.positions == "rotary":
        raise ConfigError(
            f"task.model.hidden_dim {size['hidden_dim']} gives each of the {size['num_heads']} "
            "heads an odd width; rotary positions need an even one"
        )
    if model_config.max_length < 1:
        raise ConfigError(
            f"task.model.max_length must be at least 1, not {model_config.max_length}"
        )
    if model_config.logits_chunk < 0:
        raise ConfigError(
            f"task.model.logits_chunk must be at least 0, not {model_config.logits_chunk}"
        )
    if model_config.sharing == "encoder" and not decoders:
        raise ConfigError(
            "task.model.sharing = 'encoder' needs the target languages, but `decoders` is empty; "
            "pass the target language of each decoder"
        )


def check_sublayers(model_config: Any, dtype: str = "float32") -> None:
    """Checks the sub-layers that a configuration names, and runs those of plug-ins.

    Call it before data is prepared, and outside the scope of a strategy.

    Args:
        model_config: a `keras_mtl.configuration.schema.TransformerConfig`.
        dtype: dtype policy of the run.

    Raises:
        ConfigError: a name or a parameter is unknown, or a layer breaks the contract of
            docs/how-to/extending.md.
    """
    size = resolved(model_config)
    dim = size["hidden_dim"]

    def self_attention(seed: keras.random.SeedGenerator) -> keras.layers.Layer:
        return create_self_attention(
            model_config.self_attention,
            model_config.self_attention_parameters,
            num_heads=size["num_heads"],
            dropout=size["attention_dropout"],
            rotary=model_config.positions == "rotary",
            seed=seed,
            dtype=policy,
            name="self_attention",
        )

    def feed_forward(seed: keras.random.SeedGenerator) -> keras.layers.Layer:
        return create_feed_forward(
            model_config.feed_forward,
            model_config.feed_forward_parameters,
            intermediate_dim=size["intermediate_dim"],
            activation=model_config.activation,
            dropout=size["activation_dropout"],
            seed=seed,
            dtype=policy,
            name="feed_forward",
        )

    def norm(seed: keras.random.SeedGenerator) -> keras.layers.Layer:
        del seed
        parameters = model_config.norm_parameters
        return create_norm(model_config.norm, parameters, dtype=policy, name="norm")

    before = keras.config.dtype_policy()
    policy = keras.DTypePolicy(dtype)
    keras.config.set_dtype_policy(policy)
    try:
        for field, make, problems in (
            ("self_attention", self_attention, attention_problems),
            ("feed_forward", feed_forward, position_wise_problems),
            ("norm", norm, position_wise_problems),
        ):
            name = getattr(model_config, field)
            if name not in BUILT_IN[field]:
                check_sublayer(f"task.model.{field} {name!r}", make, dim, problems)
            elif getattr(model_config, f"{field}_parameters"):
                make(keras.random.SeedGenerator(0))  # Raises an error: it has no parameters.
    finally:
        keras.config.set_dtype_policy(before)
