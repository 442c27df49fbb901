"""The learned ranges of a model with quantization-aware training, for engine files."""

import dataclasses
import re
from typing import Any

import numpy as np

from keras_mtl.configuration.quantization import SCHEDULED_CLIP, STATIC, not_in_weights, of_mapping
from keras_mtl.errors import ExportError

_QUANTIZE = 2.0


@dataclasses.dataclass(frozen=True)
class LearnedRanges:
    """The ranges that the layers of a model have learned, by name of the layer in an engine file.

    Attributes:
        inputs: magnitude of the inputs that becomes 127.
        weights: the same for the weights of a layer, if all its outputs have one.
    """

    inputs: dict[str, float]
    weights: dict[str, float]


def learned_ranges(model: Any, weight_type: str) -> LearnedRanges:
    """Returns the learned ranges of a model. Layers whose rounding has not begun have none.

    Args:
        model: a built `keras_mtl.models.Transformer`.
        weight_type: `float32` or `int8`: the weights of the file.

    Raises:
        ExportError: the engine does not compute what was trained.
    """
    settings = of_mapping(model.get_config().get("quantization"))
    check_weights(not_in_weights(settings.domains, weight_type))
    inputs, weights = {}, {}
    for layer in model._flatten_layers() if settings.domains else ():
        quantizer = getattr(layer, "quantizer", None)
        if quantizer is None or quantizer.kind not in (STATIC, SCHEDULED_CLIP):
            continue
        phase, _, limit = np.asarray(quantizer.state).tolist()
        if round(phase) != _QUANTIZE or limit <= 0:
            continue
        name = _engine_name(quantizer.name, model.decoder_names)
        inputs[name] = limit
        if quantizer.kind == SCHEDULED_CLIP:
            weights[name] = limit
    return LearnedRanges(inputs, weights)


def check_weights(reason: str) -> None:
    """Raises ExportError with a reason why a format does not compute what was trained, if any."""
    if reason:
        raise ExportError(reason)


def range_array(limit: float) -> np.ndarray:
    """Returns the tensor of a range in an engine file."""
    return np.array([limit], np.float32)


def _engine_name(layer: str, decoder_names: tuple[str, ...]) -> str:
    """Returns the name of a layer in an engine file: `encoder.layer.0.attention.qkv`."""
    stack, _, rest = layer.partition("/")
    if stack.startswith("decoder"):
        own = stack.removeprefix("decoder_")
        stack = f"decoder.{decoder_names.index(own) if own in decoder_names else 0}"
    name = re.sub(r"^layer_(\d+)", r"layer.\1", rest).replace("/", ".")
    return f"{stack}.{name}" if name else stack
