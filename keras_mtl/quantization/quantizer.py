"""Quantizes the inputs and the weights of a layer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mtl.configuration.quantization import (
    BITS,
    DYNAMIC,
    PASSIVE_ASYMMETRIC,
    SCHEDULED_CLIP,
    STATIC,
    QuantizationDomainConfig,
)
from keras_mtl.quantization import int8, ranges
from keras_mtl.quantization.clipping import FLOAT, QUANTIZE, FakeQuantizationSchedule

_EMA_DECAY = 0.99


class Quantizer:
    """Quantizes the inputs and the weights of a layer, as its domain says.

    Its state is a variable of the layer, float32 [3]: the phase (see
    `keras_mtl.quantization.clipping`) and the least and greatest value of the inputs, 0 and 0
    before they are known. A forward pass only reads it; the trainer updates it after each step.

    Args:
        name: name of the layer.
        domain: how it is quantized.
    """

    def __init__(self, name: str, domain: QuantizationDomainConfig) -> None:
        self.name = name
        self.domain = domain
        self.kind = domain.kind
        self.state: Any = None
        end = domain.start_step if domain.clip_end_step is None else domain.clip_end_step
        self.schedule = FakeQuantizationSchedule(
            domain.clip_start_step or 0,
            end,
            domain.start_step,
            8.0 if domain.start_cap is None else domain.start_cap,
            1.0 if domain.end_cap is None else domain.end_cap,
            domain.bits or BITS,
        )

    def add_state(self, layer: Any) -> Any:
        """Creates and returns the variable of the layer that holds the state."""
        first = self.next_state(tf.zeros([3]), tf.zeros([3]), 0, True)
        self.state = layer.add_weight(
            name="quantization",
            shape=(3,),
            dtype="float32",
            initializer=lambda shape, dtype: tf.cast(first, dtype),
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )
        return self.state

    @property
    def measures(self) -> bool:
        """Whether the domain needs the ranges of the inputs."""
        return self.kind in (STATIC, PASSIVE_ASYMMETRIC)

    @property
    def changes(self) -> bool:
        """Whether the state ever changes."""
        return self.kind != DYNAMIC or self.domain.start_step > 0

    def next_state(
        self, state: tf.Tensor, measured: tf.Tensor, step: tf.Tensor | int, accepted: Any
    ) -> tf.Tensor:
        """Returns the state for the next forward pass.

        Args:
            state: the current state.
            measured: float32 [3]: sums over batches of the least value of the inputs and of the
                greatest, and the number of batches.
            step: the number of steps so far.
            accepted: whether the last step was made; ranges of other steps are ignored.
        """
        if self.kind == SCHEDULED_CLIP:
            limit = self.schedule.limit(step)
            return tf.stack([self.schedule.phase(step), -limit, limit])
        phase = tf.where(step >= self.domain.start_step, QUANTIZE, FLOAT)
        low_high = state[1:]
        if self.measures:
            count = measured[2]
            mean = tf.math.divide_no_nan(measured[:2], count)
            counts = tf.reduce_all(tf.math.is_finite(mean)) & (count > 0) & accepted
            if self.domain.freeze_step is not None:
                counts &= step <= self.domain.freeze_step
            decay = _EMA_DECAY if self.domain.ema_decay is None else self.domain.ema_decay
            moved = decay * low_high + (1.0 - decay) * mean
            moved = tf.where(tf.reduce_any(low_high != 0.0), moved, mean)
            low_high = tf.where(counts, moved, low_high)
        return tf.concat([phase[None], low_high], axis=0)

    def mean_state(self, states: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the state for the mean of the weights of several checkpoints.

        Measured ranges are averaged over the checkpoints that have them. The phase and the limit of
        `scheduled_clip` depend only on the step, so those of the newest checkpoint are kept.

        Args:
            states: float32 [3] each, of the newest checkpoint first.
        """
        mean = np.array(states[0], np.float32)
        known = [state[1:] for state in states if state[1:].any()]
        if self.measures and known:
            mean[1:] = np.mean(known, axis=0, dtype=np.float64)
        return mean

    def product(self, x: tf.Tensor, kernel: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns the product of inputs and weights, computed in float32.

        Args:
            x: float [..., K].
            kernel: float32 [K, N], not rounded to the compute dtype.
            training: whether the model is trained; ranges are measured then.

        Returns:
            [..., N] with the dtype of `x`. If the domain is int8 as in the engine, sums of integers
            are exact.
        """
        self._measure(x, training)
        state = tf.convert_to_tensor(self.state)
        wide = tf.cast(x, tf.float32)
        if self.kind == PASSIVE_ASYMMETRIC:
            y = tf.linalg.matmul(self._passive(wide, state, training), self._weights(kernel, state))
        else:
            wide, kernel = self._clipped(wide, state), self._clipped(kernel, state)
            limits = self._limits(wide, state)
            y = int8.trained_product(wide, kernel, *limits, self._levels, self._active(state))
        return tf.cast(y, x.dtype)

    def inputs(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns the inputs of the layer after rounding, float [..., K] of the same dtype."""
        self._measure(x, training)
        state = tf.convert_to_tensor(self.state)
        wide = tf.cast(x, tf.float32)
        if self.kind == PASSIVE_ASYMMETRIC:
            return tf.cast(self._passive(wide, state, training), x.dtype)
        wide = self._clipped(wide, state)
        limit, _ = self._limits(wide, state)
        wide = int8.rounded(wide, -1, limit, self._levels, self._active(state))
        return tf.cast(wide, x.dtype)

    def rows(self, table: tf.Tensor) -> tf.Tensor:
        """Returns rows of weights, of which each is an output, after rounding.

        Args:
            table: float32 [..., K].
        """
        state = tf.convert_to_tensor(self.state)
        if self.kind == PASSIVE_ASYMMETRIC:
            return self._weights(table, state)
        limit = state[2] if self.kind == SCHEDULED_CLIP else None
        table = self._clipped(table, state)
        return int8.rounded(table, -1, limit, self._levels, self._active(state))

    def cached(self, x: tf.Tensor) -> tf.Tensor:
        """Returns keys or values of the decoder after rounding: the engine stores them in int8.

        Args:
            x: float [..., head_dim], which have a scale for each head and position.
        """
        if self.kind == PASSIVE_ASYMMETRIC:
            return x
        active = self._active(tf.convert_to_tensor(self.state))
        return tf.cast(int8.rounded(tf.cast(x, tf.float32), -1, active=active), x.dtype)

    def _active(self, state: tf.Tensor) -> tf.Tensor | None:
        """Returns whether values are rounded, bool []; None if they always are."""
        return state[0] == QUANTIZE if self.changes else None

    @property
    def _levels(self) -> int:
        return int(2 ** (self.schedule.bits - 1)) - 1

    def _measure(self, x: tf.Tensor, training: bool) -> None:
        if self.measures and training:
            ranges.measure(self, x)

    def _limits(self, x: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        """Returns the limits of inputs and weights for `int8.trained_product`."""
        if self.kind == SCHEDULED_CLIP:
            return state[2], state[2]
        if self.kind == DYNAMIC:
            return None, None
        # Before a range is known, each row has its own.
        own = tf.reduce_max(tf.abs(x), axis=-1, keepdims=True)
        return tf.where(state[2] > 0, state[2], tf.stop_gradient(own)), None

    def _clipped(self, x: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        """Returns values clipped to the range of `scheduled_clip`, if clipping has begun."""
        if self.kind != SCHEDULED_CLIP:
            return x
        limit = tf.where(state[0] == FLOAT, tf.float32.max, state[2])
        return tf.clip_by_value(x, -limit, limit)

    def _passive(self, x: tf.Tensor, state: tf.Tensor, training: bool) -> tf.Tensor:
        low, high = ranges.least_and_greatest(x) if training else (state[1], state[2])
        return self._fake_quantized(x, low, high, state)

    def _weights(self, weights: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        return self._fake_quantized(weights, *ranges.least_and_greatest(weights), state)

    def _fake_quantized(
        self, x: tf.Tensor, low: tf.Tensor, high: tf.Tensor, state: tf.Tensor
    ) -> tf.Tensor:
        used = (state[0] == QUANTIZE) & (high > low)
        low, high = tf.where(used, low, -1.0), tf.where(used, high, 1.0)
        rounded = tf.quantization.fake_quant_with_min_max_vars(x, low, high, self.schedule.bits)
        return tf.where(used, rounded, x)
