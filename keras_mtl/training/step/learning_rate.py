"""Learning rate schedules with a linear warm-up."""

import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_mtl.configuration.learning_rates import problems
from keras_mtl.errors import ConfigError


@keras.saving.register_keras_serializable(package="keras_mtl")
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up followed by a shape.

    With t = update + 1, w = `warmup_steps`, p = (update - w) / (total_steps - w) in [0, 1], and f
    the parameter `final`:

    * `transformer`: `learning_rate * hidden_dim^-0.5 * min(t^-0.5, t * w^-1.5)`
    * `inverse_sqrt`: `learning_rate * min(t / w, (t / w)^-0.5)`
    * `linear`: `learning_rate * min(t / w, (total_steps - update) / (total_steps - w))`
    * `cosine`: `learning_rate * min(t / w, f + (1 - f) * (1 + cos(pi * p)) / 2)`
    * `polynomial`: `learning_rate * min(t / w, f + (1 - f) * (1 - p)^power)`
    * `piecewise`: `learning_rate * min(t / w, 1)`, times `factors[i]` from update `steps[i]` on
    * `constant`: `learning_rate * min(t / w, 1)`

    Args:
        shape: one of them.
        learning_rate: float > 0, the factor for `transformer`, the peak for the other shapes.
        warmup_steps: int >= 1, number of updates of the warm-up.
        hidden_dim: int >= 1, width of the model; only `transformer` uses it.
        total_steps: int, number of updates of the whole run; `linear`, `cosine` and `polynomial`
            use it, and it must then exceed `warmup_steps`.
        parameters: parameters of the shape: `final` (0) of `cosine` and `polynomial`, `power` (1)
            of `polynomial`, `steps` and `factors` of `piecewise`.
        decay: float32 variable [], a factor that is changed while training; None for none. It is
            not a part of the configuration.

    Raises:
        ConfigError: the shape or a parameter is unknown, or a number is out of range.

    Example:
        >>> schedule = WarmupSchedule("constant", learning_rate=0.001, warmup_steps=100)
        >>> round(float(schedule(49)), 6)
        0.0005

    Reference:
        Vaswani et al. 2017, arXiv:1706.03762, equation 3 (`transformer`); Loshchilov and Hutter
        2017, arXiv:1608.03983, equation 5 (`cosine`).
    """

    def __init__(
        self,
        shape: str,
        learning_rate: float,
        warmup_steps: int,
        hidden_dim: int = 1,
        total_steps: int = 0,
        parameters: Mapping[str, Any] | None = None,
        decay: tf.Variable | None = None,
    ) -> None:
        self.parameters = dict(parameters or {})
        for field, text in problems(shape, warmup_steps, total_steps, self.parameters):
            raise ConfigError(f"trainer.optimizer.{field} {text}")
        if not learning_rate > 0:
            raise ConfigError(
                f"trainer.optimizer.learning_rate is {learning_rate}; give a number > 0"
            )
        if warmup_steps < 1:
            raise ConfigError(f"trainer.optimizer.warmup_steps is {warmup_steps}; give at least 1")
        self.shape = shape
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.hidden_dim = hidden_dim
        self.total_steps = total_steps
        self.decay = decay

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        update = ops.cast(step, "float32")
        rate = self._rate(update)
        return rate if self.decay is None else rate * tf.identity(self.decay)

    def _rate(self, update: tf.Tensor) -> tf.Tensor:
        warm = (update + 1.0) / self.warmup_steps
        if self.shape in ("transformer", "inverse_sqrt"):
            decay = ops.rsqrt(update + 1.0) * float(self.warmup_steps) ** 0.5
            peak = self.learning_rate
            if self.shape == "transformer":
                peak = peak * float(self.hidden_dim * self.warmup_steps) ** -0.5
            return peak * ops.minimum(warm, decay)
        if self.shape == "linear":
            left = (self.total_steps - update) / float(self.total_steps - self.warmup_steps)
            return self.learning_rate * ops.maximum(ops.minimum(warm, left), 0.0)
        return self.learning_rate * ops.minimum(warm, 1.0) * self._factor(update)

    def _factor(self, update: tf.Tensor) -> Any:
        """Returns the factor on the rate after the warm-up."""
        if self.shape == "piecewise":
            factor = ops.ones_like(update)
            for start, value in zip(
                self.parameters["steps"], self.parameters["factors"], strict=True
            ):
                factor = ops.where(update >= float(start), float(value), factor)
            return factor
        if self.shape == "constant":
            return 1.0
        span = float(self.total_steps - self.warmup_steps)
        place = ops.clip((update - self.warmup_steps) / span, 0.0, 1.0)
        if self.shape == "cosine":
            left = 0.5 * (1.0 + ops.cos(math.pi * place))
        else:
            left = ops.power(1.0 - place, float(self.parameters.get("power", 1.0)))
        final = float(self.parameters.get("final", 0.0))
        return final + (1.0 - final) * left

    def get_config(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
            "hidden_dim": self.hidden_dim,
            "total_steps": self.total_steps,
            "parameters": self.parameters,
        }


def last_rate(optimizer: Any) -> float:
    """Returns the learning rate of the last update; before the first one, that of the first.

    `learning_rate` of a Keras optimizer is that of the next update.

    Args:
        optimizer: a Keras optimizer.
    """
    rate = getattr(optimizer, "_learning_rate", None)
    if not isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return float(optimizer.learning_rate)
    return float(rate(tf.maximum(tf.convert_to_tensor(optimizer.iterations) - 1, 0)))


def decay_of(optimizer: Any) -> Any:
    """Returns the variable that multiplies an optimizer's learning rate; None without one.

    Args:
        optimizer: a Keras optimizer, or None.
    """
    return getattr(getattr(optimizer, "_learning_rate", None), "decay", None)
