"""Philox4x64-10 in TensorFlow: random numbers that depend only on a key and a counter.

Reference: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from typing import NamedTuple

import tensorflow as tf

_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_KEY_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)


def philox(key0: tf.Tensor, key1: tf.Tensor, counter0: tf.Tensor, counter1: tf.Tensor) -> tf.Tensor:
    """Returns the first of the four words, uint64 of the common shape of the arguments.

    It equals `numpy.random.Philox(key=[key0, key1], counter=[counter0, counter1, 0,
    0]).random_raw()` and `cc/engine/random.h`: NumPy increments the counter before the first draw.

    Args:
        key0: uint64.
        key1: uint64.
        counter0: uint64, below 2^64 - 1.
        counter1: uint64.
    """
    words = tf.broadcast_to(counter0 + _words(1), tf.shape(counter1 + key1 + key0))
    zero = tf.zeros_like(words)
    # Words 0 and 2, and words 1 and 3, so that one operation computes both.
    even, odd = tf.stack([words, zero]), tf.stack([zero + counter1, zero])
    keys = tf.stack([zero + key0, zero + key1])
    rank = [2] + [1] * words.shape.rank
    steps = tf.reshape(_words(*_KEY_STEPS), rank)
    factors = _Factors.of(tf.reshape(_words(*_MULTIPLIERS), rank))
    for _ in range(10):
        high, low = factors.multiply(even)
        even = tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(high[::-1], odd), keys)
        odd = low[::-1]
        keys += steps
    return even[0]


def uniform(bits: tf.Tensor) -> tf.Tensor:
    """Returns float64 in [0, 1): the upper 53 of 64 random bits."""
    return tf.cast(tf.bitwise.right_shift(bits, _words(11)), tf.float64) * 2.0**-53


def _words(*values: int) -> tf.Tensor:
    """Returns uint64[n], or uint64[] for one value."""
    return tf.constant(values[0] if len(values) == 1 else values, tf.uint64)


class _Factors(NamedTuple):
    """Factors of products of 64-bit words, and the constants that their computation needs."""

    whole: tf.Tensor
    low: tf.Tensor  # The lower 32 bits.
    high: tf.Tensor  # The upper 32 bits.
    mask: tf.Tensor
    half: tf.Tensor

    @classmethod
    def of(cls, factors: tf.Tensor) -> "_Factors":
        mask, half = _words((1 << 32) - 1), _words(32)
        low = tf.bitwise.bitwise_and(factors, mask)
        return cls(factors, low, tf.bitwise.right_shift(factors, half), mask, half)

    def multiply(self, words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the upper and the lower 64 bits of the products with `words`."""

        def low(value: tf.Tensor) -> tf.Tensor:
            return tf.bitwise.bitwise_and(value, self.mask)

        def high(value: tf.Tensor) -> tf.Tensor:
            return tf.bitwise.right_shift(value, self.half)

        words_low, words_high = low(words), high(words)
        first, second = self.low * words_high, self.high * words_low
        middle = high(self.low * words_low) + low(first) + low(second)
        upper = self.high * words_high + high(first) + high(second) + high(middle)
        return upper, self.whole * words
