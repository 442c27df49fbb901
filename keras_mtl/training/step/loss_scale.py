"""Dynamic loss scaling, which keeps float16 gradients between underflow and overflow."""

import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

# Initial scale of a token's mean loss: half of the range of float16, as its gradient is at most 1.
_INITIAL_SCALE_OF_MEAN = 2.0**15
# Bounds of the scale of the sum over tokens. Outside of them, float16 is not the cause of overflow.
_MIN_SCALE, _MAX_SCALE = 2.0**-24, 2.0**24
# Updates without overflow after which the scale is doubled, as in the paper's implementation.
_UPDATES_TO_GROW = 2000


class DynamicLossScale:
    """A loss scale that is halved after an overflow and doubled after many updates without one.

    Multiply the loss by the scale, and divide the gradients by it in float32. Both are exact,
    because the scale is a power of two. The caller must skip updates with non-finite gradients.

    Make it under the strategy's scope.

    Args:
        tokens: int >= 1, maximum of target tokens in an update; the loss is their sum.
        updates_to_grow: int >= 1, updates without overflow after which the scale is doubled.

    Reference:
        Micikevicius et al. 2018, arXiv:1710.03740, section 3.2.
    """

    def __init__(self, tokens: int, updates_to_grow: int = _UPDATES_TO_GROW):
        initial = _INITIAL_SCALE_OF_MEAN / 2 ** math.ceil(math.log2(tokens))
        self._updates_to_grow = updates_to_grow
        self._scale = self._variable(initial, tf.float32, "loss_scale")
        self._updates = self._variable(0, tf.int64, "loss_scale_updates")

    @staticmethod
    def _variable(value: float, dtype: tf.DType, name: str) -> tf.Variable:
        return tf.Variable(
            tf.cast(value, dtype),
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            name=name,
        )

    @property
    def value(self) -> tf.Tensor:
        """The scale of the current update, float32 []."""
        return tf.identity(self._scale)

    def update(self, finite: tf.Tensor) -> None:
        """Adapts the scale after an update; call it in a replica's context.

        Args:
            finite: bool [], whether the update's gradient was finite; the same on all replicas.
        """
        updates = tf.where(finite, self._updates + 1, tf.zeros([], tf.int64))
        grows = updates >= self._updates_to_grow
        scale = tf.where(finite, tf.where(grows, 2.0, 1.0), 0.5) * self._scale
        self._scale.assign(tf.clip_by_value(scale, _MIN_SCALE, _MAX_SCALE))
        self._updates.assign(tf.where(grows, tf.zeros([], tf.int64), updates))

    def collect(self) -> dict[str, np.ndarray]:
        """Returns arrays for `restore`."""
        return {
            "loss_scale/value": self._scale.numpy(),
            "loss_scale/updates": self._updates.numpy(),
        }

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restores the state, or keeps the initial one if the run had another precision.

        Args:
            arrays: the arrays from `collect`, possibly among others.
        """
        if "loss_scale/value" in arrays:
            self._scale.assign(arrays["loss_scale/value"])
            self._updates.assign(arrays["loss_scale/updates"])
