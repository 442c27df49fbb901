"""A copy of what a checkpoint saves, so that training continues while the copy is written."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_mtl.errors import CheckpointError


class CheckpointCopy:
    """A copy of the values of a `tf.train.Checkpoint`, in memory of the host.

    The constructor reads all values, so it waits until they are computed. After it, the variables
    may change. The memory of the copy is freed with the object.

    Args:
        checkpoint: the objects to copy: any structure of `tf.Variable`, `keras.Variable` and
            `tf.train.experimental.PythonState`.

    Raises:
        CheckpointError: an object of another kind would be saved, such as a hash table.
    """

    def __init__(self, checkpoint: tf.train.Checkpoint):
        self._view = tf.train.TrackableView(checkpoint)
        self._copies: dict[int, _Node] = {}
        self._children = {
            name: self._copied(child) for name, child in self._view.children(checkpoint).items()
        }
        del self._view, self._copies

    def checkpoint(self) -> tf.train.Checkpoint:
        """Returns a checkpoint of the copied values, with the same names as the original.

        May be called in another thread than the constructor.
        """
        built: dict[int, Any] = {}
        with tf.device("CPU:0"):
            return tf.train.Checkpoint(
                **{name: child.build(built) for name, child in self._children.items()}
            )

    def _copied(self, trackable: Any) -> _Node:
        """Copies an object and all objects below it; each of them once."""
        known = self._copies.get(id(trackable))
        if known:
            return known
        node = self._copies[id(trackable)] = _Node(_value(trackable))
        if node.value is None:
            for name, child in self._view.children(trackable).items():
                node.children[name] = self._copied(child)
        return node


@dataclasses.dataclass
class _Node:
    """An object of the copy.

    Attributes:
        value: its value; None if it only has children.
        children: objects that it refers to, by the names that a checkpoint gives them, in its
            order: the order decides by which path an object with several names is saved.
    """

    value: np.ndarray | bytes | None
    children: dict[str, _Node] = dataclasses.field(default_factory=dict)

    def build(self, built: dict[int, Any]) -> Any:
        """Returns an object that saves the value and the children."""
        if id(self) in built:
            return built[id(self)]
        result: Any
        if isinstance(self.value, bytes):
            result = _CopiedState(self.value)
        elif self.value is not None:
            result = tf.Variable(self.value, trainable=False)
        else:
            result = tf.Module()
        built[id(self)] = result
        for name, child in self.children.items():
            setattr(result, name, child.build(built))
        return result


class _CopiedState(tf.train.experimental.PythonState):
    """Saves the given bytes."""

    def __init__(self, value: bytes):
        self._value = value

    def serialize(self) -> bytes:
        return self._value

    def deserialize(self, string_value: bytes) -> None:
        raise NotImplementedError("a copy is only written")


def _value(trackable: Any) -> np.ndarray | bytes | None:
    """Returns a copy of what an object saves; None if it saves nothing.

    Raises:
        CheckpointError: it cannot be copied.
    """
    if isinstance(trackable, (tf.Variable, keras.Variable)):
        # numpy() of a tensor on the CPU is a view of its memory.
        return np.array(tf.convert_to_tensor(trackable).numpy())
    if isinstance(trackable, tf.train.experimental.PythonState):
        value: bytes = trackable.serialize()
        return value
    for name in ("_serialize_to_tensors", "_gather_saveables_for_checkpoint"):
        own, nothing = getattr(type(trackable), name, None), getattr(tf.Module, name, None)
        if own is not nothing:
            raise CheckpointError(
                f"trainer.async_checkpointing: the model contains a {type(trackable).__name__}, "
                "which cannot be copied while training continues. Set it to false"
            )
    return None
