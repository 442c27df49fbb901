"""Finds updates whose gradient is far larger than usual."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

# Decay of the running moments, as in Lingvo's GradNormTracker.
_DECAY = 0.995
# Updates before the first one can be an outlier: half of the memory of the moments.
_FIRST = 100
# Smallest standard deviation of log norms: 2 % of the norm. Equal norms have none.
_MIN_DEVIATION = 0.02
_SMALLEST_NORM = 1e-30


class GradientNormTracker:
    """Running mean and variance of the logarithm of the gradient norm.

    An outlier enters them with the largest value that is none, so the mean follows if norms stay
    large.

    Make it under the strategy's scope.

    Args:
        max_deviation: an update is an outlier if its logarithm exceeds the mean by more than this
            number of standard deviations; > 0.

    Reference:
        Chen et al. 2018, arXiv 1804.09849 ("adaptive gradient clipping"): 4 standard deviations.
    """

    def __init__(self, max_deviation: float) -> None:
        self._max_deviation = max_deviation
        self._moments = self._variable(np.zeros(2, np.float32), "gradient_norm_moments")
        self._counts = self._variable(np.zeros(2, np.int64), "gradient_norm_counts")

    @staticmethod
    def _variable(value: np.ndarray, name: str) -> tf.Variable:
        return tf.Variable(
            value,
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            name=name,
        )

    @property
    def outliers(self) -> int:
        """Number of outliers so far."""
        return int(self._counts.numpy()[1])

    def accepts(self, norm: tf.Tensor) -> tf.Tensor:
        """Returns whether an update is no outlier, bool []; call it in a replica's context.

        Args:
            norm: float32 [], the gradient norm before clipping; the same on all replicas. If it is
                not finite, the update is not counted.
        """
        finite = tf.math.is_finite(norm)
        value = tf.math.log(tf.maximum(tf.where(finite, norm, 1.0), _SMALLEST_NORM))
        moments, counts = tf.identity(self._moments), tf.identity(self._counts)
        mean, variance = moments[0], moments[1]
        deviation = tf.maximum(tf.sqrt(variance), _MIN_DEVIATION)
        limit = mean + self._max_deviation * deviation
        outlier = finite & (counts[0] >= _FIRST) & (value > limit)
        value = tf.where(outlier, limit, value)
        # A plain average at first, then an exponential one.
        weight = tf.maximum(1.0 - _DECAY, 1.0 / (tf.cast(counts[0], tf.float32) + 1.0))
        change = value - mean
        updated = tf.stack(
            [mean + weight * change, (1.0 - weight) * (variance + weight * change * change)]
        )
        self._moments.assign(tf.where(finite, updated, moments))
        self._counts.assign(counts + tf.cast(tf.stack([finite, outlier]), tf.int64))
        return tf.logical_not(outlier)

    def collect(self) -> dict[str, np.ndarray]:
        """Returns arrays for `restore`."""
        return {
            "gradient_norm/moments": self._moments.numpy(),
            "gradient_norm/counts": self._counts.numpy(),
        }

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restores the state, or keeps the initial one if the run had no tracker.

        Args:
            arrays: the arrays from `collect`, possibly among others.
        """
        if "gradient_norm/moments" in arrays:
            self._moments.assign(arrays["gradient_norm/moments"])
            self._counts.assign(arrays["gradient_norm/counts"])
