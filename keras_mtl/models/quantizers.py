"""The quantizers of a model, and the factors of its projection to logits."""

from typing import Any

import tensorflow as tf

from keras_mtl.quantization.construction import layer_of
from keras_mtl.quantization.quantizer import Quantizer
from keras_mtl.quantization.ranges import ModelRanges


def quantizers(part: Any) -> list[Quantizer]:
    """Returns the quantizers of a model or of a part of it, in a fixed order.

    Args:
        part: a built model, or another Keras layer.
    """
    found = {id(each): getattr(each, "quantizer", None) for each in part._flatten_layers()}
    return [each for each in found.values() if isinstance(each, Quantizer)]


def quantizable_layers(model: Any) -> list[str]:
    """Returns the names of the layers of a model that can be quantized, in a fixed order.

    Args:
        model: a built `keras_mtl.models.Transformer`.
    """
    weights = {
        id(each): each.embeddings if hasattr(each, "embeddings") else each.kernel
        for each in model._flatten_layers()
        if hasattr(each, "quantizer")
    }
    return [layer_of(weight) for weight in weights.values()]


def model_ranges(model: Any) -> ModelRanges:
    """Returns what updates the states of all quantizers of a model."""
    stacks = model.stacks_with_copies() if hasattr(model, "stacks_with_copies") else {}
    copies = {stack: [quantizers(each) for each in layers] for stack, layers in stacks.items()}
    own = {id(each) for layers in copies.values() for layer in layers for each in layer}
    return ModelRanges([each for each in quantizers(model) if id(each) not in own], copies)


def projection_factors(
    layer: Any, states: tf.Tensor, training: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the factors of the logits, rounded if the layer is quantized.

    Args:
        layer: a `TokenEmbedding`, or a `Dense` without bias.
        states: float `[batch, time, dim]`, the inputs of the layer.
        training: whether the model is trained.

    Returns:
        The states, and the table `[vocabulary, dim]` whose rows are the outputs.
    """
    if hasattr(layer, "embeddings"):
        table = tf.convert_to_tensor(layer.embeddings)
    else:
        table = tf.transpose(tf.convert_to_tensor(layer.kernel))
    if layer.quantizer is None:
        return states, table
    return layer.quantizer.inputs(states, training), layer.quantizer.rows(table)
