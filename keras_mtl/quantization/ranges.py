"""Ranges of the inputs of layers: measured by a forward pass, updated after each step."""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_mtl.configuration.quantization import STATIC

# What the forward passes of a thread measure: the replicas of a strategy run in threads.
_open = threading.local()

Measured = dict[int, tf.Tensor]


@contextlib.contextmanager
def measuring() -> Iterator[Measured]:
    """Yields a mapping that gets the ranges of a forward pass in the context.

    Keys are the `id` of quantizers, values float32 [3] as in `Quantizer.next_state`.
    """
    outer = getattr(_open, "found", None)
    found: Measured = {}
    _open.found = found
    try:
        yield found
    finally:
        _open.found = outer


def measure(quantizer: Any, x: tf.Tensor) -> None:
    """Adds the range of inputs to the mapping of the current `measuring`, if there is one."""
    found = getattr(_open, "found", None)
    if found is not None:
        low, high = least_and_greatest(tf.cast(x, tf.float32))
        if quantizer.kind == STATIC:
            high = tf.maximum(high, -low)
            low = -high
        found[id(quantizer)] = tf.stack([low, high, tf.ones([])])


def least_and_greatest(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the least value, at most 0, and the greatest value, at least 0, without gradients."""
    x = tf.stop_gradient(x)
    return tf.minimum(tf.reduce_min(x), 0.0), tf.maximum(tf.reduce_max(x), 0.0)


class ModelRanges:
    """The quantizers of a model, whose states change during training.

    Args:
        quantizers: the quantizers of the parts of the model that all tasks share.
        copies: the quantizers of each copy of the other stacks, by stack. The model traces the
            first copies with the weights of those that a batch uses.
    """

    def __init__(
        self, quantizers: Sequence[Any], copies: Mapping[str, Sequence[Sequence[Any]]]
    ) -> None:
        self._common = [each for each in quantizers if each.changes]
        self._copies = {
            stack: [[each for each in own if each.changes] for own in layers]
            for stack, layers in copies.items()
        }
        rest = [each for layers in self._copies.values() for own in layers for each in own]
        self._all = [*self._common, *rest]

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of `sums`."""
        return len(self._all), 3

    def sums(self, found: Measured, used: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns what a forward pass measured.

        Args:
            found: from `measuring`.
            used: int32 [] by stack, the index of the copy that the batch uses.

        Returns:
            Float32 of `shape`, which adds up over batches and replicas.
        """
        zero = tf.zeros([3])
        rows = [found.get(id(each), zero) for each in self._common]
        for stack, layers in self._copies.items():
            measured = [found.get(id(each), zero) for each in layers[0]]
            for number in range(len(layers)):
                # A value that is not finite becomes NaN elsewhere, too; such steps are skipped.
                factor = tf.cast(used[stack] == number, tf.float32)
                rows += [factor * each for each in measured]
        return tf.stack(rows)

    def advance(self, sums: tf.Tensor, step: tf.Tensor, accepted: tf.Tensor) -> None:
        """Updates all states after a step.

        Args:
            sums: from `sums`, over all batches and replicas of the step.
            step: int64 [], the number of steps including this one.
            accepted: bool [], whether the step was made.
        """
        for number, each in enumerate(self._all):
            state = tf.convert_to_tensor(each.state)
            each.state.assign(each.next_state(state, sums[number], step, accepted))
