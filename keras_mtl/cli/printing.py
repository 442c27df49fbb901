"""Output that several subcommands share: tables, fields, sizes."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_mtl.configuration import sublayers
from keras_mtl.configuration.architectures import HYBRID, RNMT, TRANSFORMER
from keras_mtl.messages import table_lines

_RECURRENT_DECODER = "in the decoder LSTM layers and additive attention"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table; columns of numbers are right-aligned."""
    print("\n".join(table_lines(header, rows)))


def print_fields(*fields: tuple[str, str]) -> None:
    """Prints one line for each (name, value)."""
    for name, value in fields:
        print(f"{name + ':':14}{value}")


def file_size(size: int) -> str:
    """Returns a number of bytes as text, such as `1.2 MB` or `3.4 kB`."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"


def describe_sublayers(about: Mapping[str, Any]) -> str:
    """Returns a line that describes the sub-layers of a model.

    Args:
        about: the fields of `task.model`, or the hyperparameters of an engine file. Files of older
            versions lack some.
    """
    architecture = about.get("architecture")
    if architecture == RNMT:
        return f"bidirectional LSTM layers in the encoder, {_RECURRENT_DECODER}"
    if architecture == HYBRID:
        encoder = describe_sublayers({**about, "architecture": TRANSFORMER})
        return f"in the encoder {encoder}; {_RECURRENT_DECODER}"
    names = {**sublayers.STANDARD, "norm_position": "pre", "positions": "added", **about}
    attention = f"{names['self_attention']} self-attention"
    if names.get("transparent_attention"):
        attention += " and transparent attention"
    return (
        f"{names['norm_position']}-norm with {names['norm']}, {attention}, {names['feed_forward']} "
        f"feed-forward blocks with {names['activation']}, positions {names['positions']}"
    )


def describe_architecture(about: Mapping[str, Any]) -> str:
    """Returns a line that describes the Transformer of an engine file's hyperparameters."""
    return (
        f"Transformer {about['encoder_layers']} + {about['decoder_layers']} layers, "
        f"hidden_dim {about['hidden_dim']}, intermediate_dim {about['intermediate_dim']}, "
        f"{about['num_heads']} heads, vocabulary {about['vocabulary_size']:,}, "
        f"weights {about['weight_type']}"
    )
