"""The factor on the loss that keeps float16 gradients between underflow and overflow."""

import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

# Of the mean loss of a token: half of the range of float16, so that its gradient, at most 1, fits.
_FIRST_OF_MEAN = 2.0**15
# Loss scale of the sum over tokens; beyond these float16 is not what is wrong.
_LOWEST, _HIGHEST = 2.0**-24, 2.0**24
# Updates without an overflow after which a larger scale is tried, as in the paper's implementation.
_UPDATES_TO_GROW = 2000


class DynamicLossScale:
    """A power of two that is halved by each update that overflows, and doubled when none does.

    Multiply the loss, and divide the gradients in float32: both are exact. An update whose gradient
    is not finite must be skipped by the caller.

    Make it under the strategy's scope.

    Args:
        tokens: int >= 1, target tokens of an update at most; the loss is their sum.
        updates_to_grow: int >= 1, updates without an overflow after which the scale is doubled.

    Reference: Micikevicius et al., arXiv 1710.03740, section 3.2.
    """

    def __init__(self, tokens: int, updates_to_grow: int = _UPDATES_TO_GROW):
        first = _FIRST_OF_MEAN / 2 ** math.ceil(math.log2(tokens))
        self._updates_to_grow = updates_to_grow
        self._scale = self._variable(first, tf.float32, "loss_scale")
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
        """The factor of the present update, float32 []."""
        return tf.identity(self._scale)

    def update(self, finite: tf.Tensor) -> None:
        """Learns from an update, in a replica's context.

        Args:
            finite: bool [], whether the update's gradient was finite; the same on all replicas.
        """
        updates = tf.where(finite, self._updates + 1, tf.zeros([], tf.int64))
        grows = updates >= self._updates_to_grow
        scale = tf.where(finite, tf.where(grows, 2.0, 1.0), 0.5) * self._scale
        self._scale.assign(tf.clip_by_value(scale, _LOWEST, _HIGHEST))
        self._updates.assign(tf.where(grows, tf.zeros([], tf.int64), updates))

    def collect(self) -> dict[str, np.ndarray]:
        """Returns arrays for `restore`."""
        return {
            "loss_scale/value": self._scale.numpy(),
            "loss_scale/updates": self._updates.numpy(),
        }

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Goes back to a state; of a run of another precision there is none, and nothing changes.

        Args:
            arrays: of `collect`, maybe with others among them.
        """
        if "loss_scale/value" in arrays:
            self._scale.assign(arrays["loss_scale/value"])
            self._updates.assign(arrays["loss_scale/updates"])
