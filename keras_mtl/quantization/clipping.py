"""Schedules that clip values to a shrinking range before they are rounded."""

import dataclasses

import tensorflow as tf

FLOAT, CLIP, QUANTIZE = 0.0, 1.0, 2.0
"""What a schedule does to values: nothing, clip them, or clip and round them."""


@dataclasses.dataclass(frozen=True)
class LinearClippingCap:
    """A limit of magnitudes that moves linearly from one value to another.

    Args:
        start_step: step at which it begins to move; >= 0.
        end_step: step at which it has its final value; >= start_step.
        start_cap: first limit; > 0.
        end_cap: final limit; > 0.

    Reference: `LinearClippingCapSchedule` of Lingvo, `core/quant_utils.py`.
    """

    start_step: int = 0
    end_step: int = 15_000
    start_cap: float = 8.0
    end_cap: float = 1.0

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """Returns the limit at a step, float32 []."""
        length = max(1, self.end_step - self.start_step)
        passed = tf.clip_by_value(step - self.start_step, 0, self.end_step - self.start_step)
        share = tf.cast(passed, tf.float32) / float(length)
        if self.end_step == self.start_step:
            share = tf.cast(step >= self.end_step, tf.float32)
        return share * self.end_cap + (1.0 - share) * self.start_cap


@dataclasses.dataclass(frozen=True)
class FakeQuantizationSchedule:
    """Clips values to a shrinking range, and rounds them when it has its final size.

    Args:
        clip_start_step: step from which on values are clipped; >= 0.
        clip_end_step: step at which the range has its final size; >= clip_start_step.
        quant_start_step: step from which on values are rounded; >= clip_end_step.
        start_cap: first limit of magnitudes; > 0.
        end_cap: final limit; > 0.
        bits: bits of an integer.

    Reference: `FakeQuantizationSchedule` of Lingvo, `core/quant_utils.py`.
    """

    clip_start_step: int = 0
    clip_end_step: int = 15_000
    quant_start_step: int = 15_000
    start_cap: float = 8.0
    end_cap: float = 1.0
    bits: int = 8

    def phase(self, step: tf.Tensor | int) -> tf.Tensor:
        """Returns `FLOAT`, `CLIP` or `QUANTIZE`, float32 []."""
        clips = tf.where(step >= self.clip_start_step, CLIP, FLOAT)
        return tf.where(step >= self.quant_start_step, QUANTIZE, clips)

    def limit(self, step: tf.Tensor | int) -> tf.Tensor:
        """Returns the greatest value at a step, float32 [].

        It is one step of the integers below the cap, as in two's complement. The least value is its
        negative: the engine has no -128. Lingvo's least value is the negative cap.
        """
        cap = LinearClippingCap(
            self.clip_start_step, self.clip_end_step, self.start_cap, self.end_cap
        )(step)
        levels = 2 ** (self.bits - 1)
        return cap * ((levels - 1) / levels)
