"""Adam for the custom loop: skips what has no valid gradient, averages the weights on the way."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_mtl")
class Adam(keras.optimizers.Optimizer):
    """Adam (arXiv 1412.6980) with decoupled weight decay, masked updates and an average of weights.

    A gradient element that is NaN leaves its weight, moments and average untouched. The training
    step relies on this twice: a step with a non-finite norm is turned to NaN as a whole and so is
    skipped, and the gradients of decoders that a batch does not use are set to NaN, because a zero
    gradient would still move them by their momentum. The rule is elementwise, so it compiles and
    survives the sum over replicas, which a condition around ``apply`` does not.

    Gradients must arrive clipped and summed: Keras clips before the sum over replicas, which is
    another norm, so its clipping arguments are refused here.

    Args:
        learning_rate: float or `keras.optimizers.schedules.LearningRateSchedule`.
        beta_1: float in [0, 1), decay of the first moment.
        beta_2: float in [0, 1), decay of the second moment.
        epsilon: float > 0, added to the root of the second moment.
        decoupled_weight_decay: float >= 0; weights of rank 2 and more lose ``learning_rate`` times
            this share of themselves at each update (arXiv 1711.05101).
        average_momentum: float in [0, 1); > 0 keeps an exponential average of the weights with
            momentum ``min(average_momentum, t / (t + 10))`` at update t, so that the first values
            do not stay in it.
        name: name of the optimizer.
    """

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.98,
        epsilon=1e-9,
        decoupled_weight_decay=0.0,
        average_momentum=0.0,
        name="adam",
        **kwargs,
    ):
        for refused in ("clipnorm", "clipvalue", "global_clipnorm", "use_ema"):
            if kwargs.get(refused):
                raise ValueError(
                    f"{refused}={kwargs[refused]!r} is not supported by keras_mtl's Adam; clip in "
                    "the training step, average with average_momentum"
                )
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.decoupled_weight_decay = decoupled_weight_decay
        self.average_momentum = average_momentum
        self._averages = []

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._momentums, self._velocities = self.add_optimizer_variables(
            variables, ["momentum", "velocity"]
        )
        if self.average_momentum:
            self._averages = self.add_optimizer_variables(variables, "average")

    @property
    def averages(self):
        """Averages of the weights, in the order of the variables; empty when off."""
        return list(self._averages)

    def update_step(self, gradient, variable, learning_rate):
        dtype = variable.dtype
        learning_rate = ops.cast(learning_rate, dtype)
        gradient = ops.cast(gradient, dtype)
        step = ops.cast(self.iterations + 1, dtype)
        valid = ops.logical_not(ops.isnan(gradient))
        index = self._get_variable_index(variable)
        momentum, velocity = self._momentums[index], self._velocities[index]

        new_momentum = momentum + (gradient - momentum) * (1 - self.beta_1)
        new_velocity = velocity + (ops.square(gradient) - velocity) * (1 - self.beta_2)
        correction = ops.sqrt(1 - ops.power(ops.cast(self.beta_2, dtype), step)) / (
            1 - ops.power(ops.cast(self.beta_1, dtype), step)
        )
        change = learning_rate * correction * new_momentum / (ops.sqrt(new_velocity) + self.epsilon)
        if self.decoupled_weight_decay and len(variable.shape) > 1:
            change = change + learning_rate * self.decoupled_weight_decay * variable
        new_variable = ops.where(valid, variable - change, variable)

        self.assign(momentum, ops.where(valid, new_momentum, momentum))
        self.assign(velocity, ops.where(valid, new_velocity, velocity))
        self.assign(variable, new_variable)
        if self._averages:
            average = self._averages[index]
            keep = ops.minimum(self.average_momentum, (step - 1) / (step + 9))
            # The first update copies the weights, whatever it skips, so no average stays at zero.
            follow = ops.logical_or(valid, step <= 1)
            new_average = keep * average + (1 - keep) * new_variable
            self.assign(average, ops.where(follow, new_average, average))

    def get_config(self):
        config = super().get_config()
        for inherited in ("clipnorm", "clipvalue", "global_clipnorm", "use_ema"):
            config.pop(inherited, None)
        config.update(
            {
                "beta_1": self.beta_1,
                "beta_2": self.beta_2,
                "epsilon": self.epsilon,
                "decoupled_weight_decay": self.decoupled_weight_decay,
                "average_momentum": self.average_momentum,
            }
        )
        return config
