"""How the Transformer knows the positions of tokens."""

from typing import Any

import keras
import numpy as np

from keras_mtl.layers import PositionEmbedding, SinePositionEncoding
from keras_mtl.layers.rotary import rotary_rates


def position_layers(
    positions: str, max_length: int, dtype: Any
) -> tuple[keras.layers.Layer | None, keras.layers.Layer | None]:
    """Creates the layers that add positions to the embeddings of source and target.

    Args:
        positions: one of `keras_mtl.configuration.sublayers.POSITIONS`.
        max_length: number of learned positions.
        dtype: dtype policy of the layers.

    Returns:
        Two layers; None if the model adds nothing to embeddings.
    """
    names = ("source_positions", "target_positions")
    if positions == "sinusoidal":
        source, target = (SinePositionEncoding(dtype=dtype, name=name) for name in names)
    elif positions == "learned":
        source, target = (PositionEmbedding(max_length, dtype=dtype, name=name) for name in names)
    else:
        source, target = None, None
    return source, target


def position_tables(model: Any) -> dict[str, np.ndarray]:
    """Returns the numbers that a model uses for positions, learned or not.

    Args:
        model: a built `keras_mtl.models.Transformer`.

    Returns:
        float32 arrays: `source_positions` and `target_positions` `[max_length, hidden_dim]`, which
        are added to embeddings; or `rotary_positions` `[max_length, head_dim]`, the cosines and
        then the sines of the angles of each position; or nothing.
    """
    config = model.get_config()
    length, dim = config["max_length"], config["hidden_dim"]
    if config["positions"] == "rotary":
        rates = rotary_rates(dim // config["num_heads"])
        angles = np.arange(length, dtype=np.float32)[:, None] * rates
        return {"rotary_positions": np.concatenate([np.cos(angles), np.sin(angles)], axis=1)}
    if model.source_positions is None:
        return {}
    nothing = np.zeros([1, length, dim], np.float32)
    return {
        "source_positions": np.asarray(model.source_positions(nothing)[0], np.float32),
        "target_positions": np.asarray(model.target_positions(nothing)[0], np.float32),
    }
