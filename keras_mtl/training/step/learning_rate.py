"""Learning rate schedules with a linear warm-up."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_mtl.errors import ConfigError, nearest

SHAPES = ("transformer", "linear", "constant")


@keras.saving.register_keras_serializable(package="keras_mtl")
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up followed by one of three shapes.

    With t = update + 1 and w = `warmup_steps`:

    * `transformer`: `learning_rate * hidden_dim^-0.5 * min(t^-0.5, t * w^-1.5)`
    * `linear`: `learning_rate * min(t / w, (total_steps - update) / (total_steps - w))`
    * `constant`: `learning_rate * min(t / w, 1)`

    Args:
        shape: `transformer`, `linear` or `constant`.
        learning_rate: float > 0, the factor for `transformer`, the peak for the other shapes.
        warmup_steps: int >= 1, number of updates of the warm-up.
        hidden_dim: int >= 1, width of the model; only `transformer` uses it.
        total_steps: int, number of updates of the whole run; only `linear` uses it, and it must
            then exceed `warmup_steps`.

    Raises:
        ConfigError: the shape is unknown or a number is out of range.

    Example:
        >>> schedule = WarmupSchedule("constant", learning_rate=0.001, warmup_steps=100)
        >>> round(float(schedule(49)), 6)
        0.0005

    Reference:
        Vaswani et al. 2017, arXiv:1706.03762, equation 3 (`transformer`).
    """

    def __init__(
        self,
        shape: str,
        learning_rate: float,
        warmup_steps: int,
        hidden_dim: int = 1,
        total_steps: int = 0,
    ) -> None:
        if shape not in SHAPES:
            raise ConfigError(
                f"trainer.optimizer.learning_rate_schedule is {shape!r}"
                f"{nearest(str(shape), SHAPES)}"
            )
        if not learning_rate > 0:
            raise ConfigError(
                f"trainer.optimizer.learning_rate is {learning_rate}; give a number > 0"
            )
        if warmup_steps < 1:
            raise ConfigError(f"trainer.optimizer.warmup_steps is {warmup_steps}; give at least 1")
        if shape == "linear" and total_steps <= warmup_steps:
            raise ConfigError(
                f"trainer.optimizer.warmup_steps is {warmup_steps}; with learning_rate_schedule "
                f"linear, it must be less than trainer.train_steps ({total_steps})"
            )
        self.shape = shape
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.hidden_dim = hidden_dim
        self.total_steps = total_steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        update = ops.cast(step, "float32")
        warm = (update + 1.0) / self.warmup_steps
        if self.shape == "transformer":
            decay = ops.rsqrt(update + 1.0) * float(self.warmup_steps) ** 0.5
            peak = self.learning_rate * float(self.hidden_dim * self.warmup_steps) ** -0.5
            return peak * ops.minimum(warm, decay)
        if self.shape == "linear":
            left = (self.total_steps - update) / float(self.total_steps - self.warmup_steps)
            return self.learning_rate * ops.maximum(ops.minimum(warm, left), 0.0)
        return self.learning_rate * ops.minimum(warm, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
            "hidden_dim": self.hidden_dim,
            "total_steps": self.total_steps,
        }
