"""Optimizers of Keras, by name, under the rules of the training step.

`keras_mtl.training.step.optimizers.Adam` describes the rules: gradients arrive clipped and summed,
a gradient with a non-finite element changes nothing of its variable, and weights are averaged. The
classes here are made from those of Keras. They intercept `assign`, with which every optimizer of
Keras writes its variables.
"""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_mtl.configuration.optimizer_sections import ADAM, is_adam
from keras_mtl.configuration.schema import OptimizerConfig
from keras_mtl.errors import ConfigError, nearest
from keras_mtl.training.step.rate_factors import Rules, rate_factors

# Classes of `keras.optimizers` that are no optimizers on their own, or that train other weights
# than those to evaluate.
_REFUSED = {
    "optimizer": "is a base class",
    "lossscaleoptimizer": "is not needed: set runtime.mixed_precision_dtype: mixed_float16",
    "multioptimizer": (
        "cannot be configured; trainer.optimizer.learning_rate_factors gives variables other "
        "learning rates, and trainer.freeze none"
    ),
    "schedulefreeadamw": (
        "evaluates other weights than it trains; trainer.optimizer.ema_momentum averages weights "
        "with any optimizer"
    ),
}
# What the training step does itself.
_STEP = {
    "learning_rate": "trainer.optimizer.learning_rate",
    "clipnorm": "trainer.optimizer.global_clipnorm",
    "clipvalue": "trainer.optimizer.global_clipnorm",
    "global_clipnorm": "trainer.optimizer.global_clipnorm",
    "use_ema": "trainer.optimizer.ema_momentum",
    "ema_momentum": "trainer.optimizer.ema_momentum",
    "ema_overwrite_frequency": "trainer.optimizer.ema_momentum",
    "gradient_accumulation_steps": "trainer.optimizer.gradient_accumulation_steps",
    "loss_scale_factor": "runtime.mixed_precision_dtype",
    "name": "",
}


class KerasOptimizer(keras.optimizers.Optimizer):
    """Base class of the optimizers that `create_keras_optimizer` makes.

    Attributes:
        num_tasks: 0: the optimizer does not know the tasks of updates.
        moments: `shared`.
    """

    num_tasks = 0
    moments = "shared"
    average_momentum = 0.0
    learning_rate_factors: Rules = ()

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self._valid: tf.Tensor | None = None
        self._averages: list[keras.Variable] = []
        self._factors = rate_factors(
            variables, self.learning_rate_factors, "trainer.optimizer.learning_rate_factors"
        )
        self._decays = [self._decay_of(variable) for variable in variables]
        others = (id(self._iterations), id(self._learning_rate))
        self._own_slots = [each for each in self.variables if id(each) not in others]
        if self.average_momentum:
            self._averages = self.add_optimizer_variables(variables, "average")

    def _decay_of(self, variable: keras.Variable) -> float:
        """Returns the decay of a variable: as with our Adam, only of weights of rank 2 or more."""
        if len(variable.shape) < 2:
            return 0.0
        # Muon has another decay for the variables that it gives to Adam.
        by_adam = getattr(self, "_should_use_adamw", lambda variable: False)(variable)
        decay = self.adam_weight_decay if by_adam else self.weight_decay
        return float(decay or 0.0)

    @property
    def averages(self) -> list[Any]:
        """Averages of the weights, in the order of the variables; empty if averaging is off."""
        return list(self._averages)

    @property
    def slots(self) -> list[Any]:
        """The state except iterations and averages, in the order in which Keras made it."""
        return list(self._own_slots)

    def apply(
        self,
        grads: Sequence[tf.Tensor],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """Applies gradients; see `keras.optimizers.Optimizer.apply`."""
        # For variables that belong to no weight, such as a product of momentums.
        self._valid = tf.reduce_any([_is_valid(gradient) for gradient in grads])
        try:
            super().apply(grads, trainable_variables)
        finally:
            self._valid = None

    def _apply_weight_decay(self, variables: Sequence[keras.Variable]) -> None:
        """Does nothing: `update_step` applies the decay, because it knows whether to update."""

    def update_step(self, gradient: tf.Tensor, variable: Any, learning_rate: tf.Tensor) -> None:
        dtype = variable.dtype
        index = self._get_variable_index(variable)
        gradient = tf.cast(tf.convert_to_tensor(gradient), dtype)
        before, self._valid = self._valid, _is_valid(gradient)
        gradient = tf.where(self._valid, gradient, tf.zeros([], dtype))
        rate = ops.cast(learning_rate, dtype)
        if self._factors[index] != 1.0:
            rate = rate * self._factors[index]
        if self._decays[index]:
            self.assign_sub(variable, variable * (rate * self._decays[index]))
        super().update_step(gradient, variable, rate)
        if self._averages:
            self._update_average(index, variable)
        self._valid = before

    def _update_average(self, index: int, variable: Any) -> None:
        """Updates an average as our Adam does."""
        step = ops.cast(self.iterations + 1, variable.dtype)
        keep = ops.minimum(self.average_momentum, (step - 1) / (step + 9))
        average = self._averages[index]
        value = keep * average + (1 - keep) * variable
        # The first update always copies the weights, even if it is skipped.
        super().assign(average, tf.where(self._now() | (step <= 1), value, average))

    def _now(self) -> tf.Tensor:
        return tf.constant(True) if self._valid is None else self._valid

    def assign(self, variable: Any, value: Any) -> None:
        old = tf.convert_to_tensor(variable)
        super().assign(variable, tf.where(self._now(), tf.cast(value, old.dtype), old))

    def assign_add(self, variable: Any, value: Any) -> None:
        super().assign_add(variable, self._or_zero(variable, value))

    def assign_sub(self, variable: Any, value: Any) -> None:
        super().assign_sub(variable, self._or_zero(variable, value))

    def _or_zero(self, variable: Any, value: Any) -> tf.Tensor:
        value = tf.cast(value, variable.dtype)
        return tf.where(self._now(), value, tf.zeros([], value.dtype))


def _is_valid(gradient: Any) -> tf.Tensor:
    """Returns whether a gradient is finite, bool []: one pass, as in our Adam."""
    return tf.math.is_finite(tf.reduce_sum(tf.convert_to_tensor(gradient)))


@functools.cache
def _classes() -> dict[str, type]:
    """Returns the optimizers of this Keras by name in lower case."""
    return {
        name.lower(): cls
        for name, cls in vars(keras.optimizers).items()
        if isinstance(cls, type)
        and issubclass(cls, keras.optimizers.Optimizer)
        and name.lower() not in {*_REFUSED, ADAM}
    }


def parameters_of(name: str) -> list[str]:
    """Returns the parameters that `trainer.optimizer.parameters` may have.

    Args:
        name: name of an optimizer in lower case.
    """
    known = inspect.signature(_classes()[name]).parameters
    return [key for key in known if key not in {*_STEP, "kwargs"}]


def check_optimizer(settings: OptimizerConfig) -> None:
    """Checks the name and the parameters of an optimizer of Keras.

    Raises:
        ConfigError: the name or a parameter is unknown, or a value is not accepted.
    """
    if is_adam(settings):
        return
    field, name = "trainer.optimizer.name", settings.name.lower()
    if name in _REFUSED:
        raise ConfigError(f"{field} = {settings.name!r} {_REFUSED[name]}")
    if name not in _classes():
        known = [ADAM, *(cls.__name__ for cls in _classes().values())]
        raise ConfigError(f"{field} = {settings.name!r} is unknown{nearest(settings.name, known)}")
    field = "trainer.optimizer.parameters"
    for key in settings.parameters:
        if key in _STEP:
            remedy = f"set {_STEP[key]}" if _STEP[key] else "remove it"
            raise ConfigError(f"{field}.{key}: the training step does this itself; {remedy}")
        if key not in parameters_of(name):
            raise ConfigError(
                f"{field}.{key} is not a parameter of {_classes()[name].__name__}"
                f"{nearest(key, parameters_of(name))}"
            )
    optimizer = create_keras_optimizer(name, settings.parameters, 0.1)
    # Keras looks at most values only when it updates a weight.
    try:
        with tf.device("CPU"):
            weight = keras.Variable(tf.zeros([2, 2]), name="weight")
            optimizer.build([weight])
            optimizer.apply([tf.zeros([2, 2])])
    except Exception as error:  # TypeError, ValueError, AttributeError, those of TensorFlow, ...
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(
            f"{field} = {dict(settings.parameters)}: {_classes()[name].__name__} cannot update a "
            f"weight with them: {reason}"
        ) from error


def create_keras_optimizer(
    name: str,
    parameters: Mapping[str, Any],
    learning_rate: Any,
    average_momentum: float = 0.0,
    learning_rate_factors: Rules = (),
) -> KerasOptimizer:
    """Creates an optimizer of Keras. Build it in the strategy's scope.

    Args:
        name: name of a class of `keras.optimizers`, in any case.
        parameters: arguments of its constructor.
        learning_rate: float or `keras.optimizers.schedules.LearningRateSchedule`.
        average_momentum: float in [0, 1), momentum of averages of the weights; 0 is off.
        learning_rate_factors: factors on the learning rates of variables.

    Raises:
        ConfigError: Keras does not accept a value.
    """
    cls = _classes()[name.lower()]
    made = type(
        cls.__name__,
        (KerasOptimizer, cls),
        {
            "average_momentum": average_momentum,
            "learning_rate_factors": tuple(learning_rate_factors),
        },
    )
    try:
        return made(learning_rate=learning_rate, **parameters)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"trainer.optimizer.parameters: {cls.__name__}: {error}") from error
