"""Arguments of the Transformer: known values, and which of them its stacks share."""

from collections.abc import Sequence
from typing import Any

from keras_mtl.configuration.stack_sharing import SHARING
from keras_mtl.configuration.sublayers import NORM_POSITIONS, POSITIONS
from keras_mtl.errors import InputError
from keras_mtl.layers.recomputation import RECOMPUTE

STACK_ARGUMENTS = (
    "intermediate_dim",
    "num_heads",
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "activation",
    "self_attention",
    "self_attention_parameters",
    "feed_forward",
    "feed_forward_parameters",
    "norm",
    "norm_parameters",
    "norm_position",
    "recompute",
    "adapters",
)
"""Arguments of the model that its encoder and its decoders share."""


def check_arguments(
    positions: str, norm_position: str, sharing: str, recompute: str, decoders: Sequence[str]
) -> None:
    """Raises ValueError if an argument of the Transformer has an unknown value."""
    for name, value, known in (
        ("recompute", recompute, RECOMPUTE),
        ("positions", positions, POSITIONS),
        ("norm_position", norm_position, NORM_POSITIONS),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
    check_decoders(sharing, decoders)


def check_decoders(sharing: str, decoders: Sequence[str]) -> None:
    """Raises ValueError if the sharing is unknown, or if it needs names of decoders."""
    if sharing not in SHARING:
        raise ValueError(f"sharing must be one of {', '.join(SHARING)}, not {sharing!r}")
    if sharing == "encoder" and not decoders:
        raise ValueError("sharing='encoder' needs the names of the decoders; give `decoders`")


def check_tables(tie_embeddings: bool, target_size: int, source_size: int) -> None:
    """Raises ValueError if one table would serve vocabularies of different sizes."""
    if tie_embeddings and source_size != target_size:
        raise ValueError(
            f"tie_embeddings=True needs one vocabulary, but source_vocabulary_size is {source_size}"
            f" and vocabulary_size is {target_size}; give tie_embeddings=False, and "
            "tie_projection=True to keep one table for target and projection"
        )


def check_length(ids: Any, side: str, max_length: int) -> None:
    """Raises InputError if ids `[batch, time]` of a side exceed the positions of the model."""
    length = ids.shape[1]
    if length is not None and length > max_length:
        raise InputError(
            f"a {side} of {length} tokens is longer than the model's max_length {max_length}; "
            "shorten it, or set task.model.max_length"
        )
