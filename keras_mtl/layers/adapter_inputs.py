"""Vectors that are added to the inputs of a stack, such as embeddings of tasks."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_mtl.configuration.adapters import EMBEDDING, AdapterSet
from keras_mtl.layers.adapter_rows import AdapterRows
from keras_mtl.layers.adapters import add_vectors


class AdapterInputs(keras.layers.Layer):
    """Adds to each row of the inputs of a stack the vector of its adapter.

    Args:
        sets: the sets of adapters of the model.
        stack: `encoder` or `decoder`.
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(self, sets: Sequence[AdapterSet], stack: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.members: list[list[Any]] = []
        for each in sets:
            names = each.members if each.kind == EMBEDDING and stack in each.stacks else ()
            found = [Vector(dtype=self.dtype_policy, name=f"{each.name}_{name}") for name in names]
            # tf.train.Checkpoint tracks attributes but, with Keras 3, not the members of a list.
            for member in found:
                setattr(self, f"adapter_{member.name}", member)
            self.members.append(found)

    def build(self, input_shape: Any) -> None:
        for members in self.members:
            for member in members:
                member.build(input_shape)
        self.built = True

    def call(self, inputs: tf.Tensor, rows: AdapterRows | None = None) -> tf.Tensor:
        assert rows is not None
        x = inputs
        for members, index in zip(self.members, rows.own, strict=True):
            if members:
                x = add_vectors(x, [member.vector for member in members], index)
        return x

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


class Vector(keras.layers.Layer):
    """A vector that is added to inputs; it starts at zero."""

    def build(self, input_shape: Any) -> None:
        self.vector = self.add_weight((input_shape[-1],), "zeros", name="vector")
        self.built = True


def make_adapter_inputs(sets: Sequence[AdapterSet], stack: str, dtype: Any) -> AdapterInputs | None:
    """Creates the vectors of a stack; None if no set has some."""
    if not any(each.kind == EMBEDDING and stack in each.stacks for each in sets):
        return None
    return AdapterInputs(sets, stack, dtype=dtype, name="adapters_input")
