"""Adam for multi-task training: skips invalid gradients and can average the weights."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_mtl.errors import nearest
from keras_mtl.training.step.rate_factors import Rules, rate_factors
from keras_mtl.training.step.scaling import MOMENTS

# Maximum number of updates whose tasks `Adam.plan_tasks` can set at once.
PLANNED_UPDATES = 512


@keras.saving.register_keras_serializable(package="keras_mtl")
class Adam(keras.optimizers.Optimizer):
    """Adam with per-task factors or moments, decoupled weight decay and averaged weights.

    If a gradient has a non-finite element, its variable, moments and average do not change. The
    training step uses this twice: it sets all gradients of a step with a non-finite norm to NaN,
    which skips the step, and it sets the gradients of decoders that a batch does not use to NaN,
    because a zero gradient would still move them by their momentum. The rule is implemented by
    arithmetic, so it can be compiled and distributed over replicas, unlike a condition around
    `apply`.

    Gradients must already be clipped and summed. Keras clips before the sum over replicas, which
    uses another norm, so its clipping arguments are rejected here.

    With `num_tasks`, every update belongs to one task, and every task has a factor
    (`set_factors`). What the factor multiplies depends on `moments`:

    * `scaled`: the gradient in the first moment; the second moment uses the unscaled gradient. Sums
      of updates are then weighted by the factors, as with plain SGD and a learning rate per task.
    * `shared`: the update, which consists mostly of the momentum of other tasks.
    * `per_task`: the update, which uses only the moments of its own task. The bias correction
      counts the updates of that task. This trains every task with its own Adam on common weights.
      If a task is drawn every N updates, its momentum is N times as old.

    The caller must set the task of each update: with `set_task` inside a training step, or with
    `plan_tasks` outside of it.

    The optimizer stores two arrays of each weight's shape, or `2 * num_tasks` with `per_task`. An
    update reads and writes only those of its task.

    Args:
        learning_rate: float or `keras.optimizers.schedules.LearningRateSchedule`.
        beta_1: float in [0, 1), decay rate of the first moment.
        beta_2: float in [0, 1), decay rate of the second moment.
        epsilon: float > 0, added to the square root of the second moment.
        decoupled_weight_decay: float >= 0. Each update subtracts `learning_rate *
            decoupled_weight_decay * weight` from weights of rank 2 or more.
        average_momentum: float in [0, 1). If it is > 0, the optimizer keeps an exponential average
            of the weights with momentum `min(average_momentum, t / (t + 10))` at update t, so that
            the initial weights fade quickly.
        num_tasks: int >= 0, number of tasks; 0 disables all per-task features.
        moments: `shared`, `scaled` or `per_task`; the last two require `num_tasks`.
        learning_rate_factors: pairs (regular expression, factor >= 0). The learning rate of a
            variable is multiplied by the factor of the first expression that matches its name as a
            whole. The name is the path without the model, such as
            `encoder/layer_0/attention/qkv/kernel`.
        name: name of the optimizer.

    Raises:
        ValueError: an argument is out of range or is not supported in combination with others.

    Example:
        >>> import keras
        >>> import keras_mtl
        >>> optimizer = keras_mtl.Adam(learning_rate=0.1, num_tasks=2, moments="scaled")
        >>> weight = keras.Variable([1.0, 2.0])
        >>> optimizer.build([weight])
        >>> optimizer.set_factors([1.5, 0.5])
        >>> optimizer.plan_tasks([0, 1])  # the tasks of the next two updates
        >>> optimizer.apply([keras.ops.ones(2)], [weight])
        >>> optimizer.task_updates.numpy().tolist()
        [1, 0]

    Reference:
        Kingma and Ba 2015, arXiv:1412.6980, algorithm 1; Loshchilov and Hutter 2019,
        arXiv:1711.05101, algorithm 2 (weight decay).
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.98,
        epsilon: float = 1e-9,
        decoupled_weight_decay: float = 0.0,
        average_momentum: float = 0.0,
        num_tasks: int = 0,
        moments: str = "shared",
        learning_rate_factors: Rules = (),
        name: str = "adam",
        **kwargs: Any,
    ) -> None:
        for unsupported in ("clipnorm", "clipvalue", "global_clipnorm", "use_ema"):
            if kwargs.get(unsupported):
                raise ValueError(
                    f"{unsupported}={kwargs[unsupported]!r} is not supported by keras_mtl's Adam: "
                    "clip in the training step; use average_momentum to average weights"
                )
        if moments not in MOMENTS:
            raise ValueError(f"moments={moments!r}{nearest(str(moments), MOMENTS)}")
        if num_tasks < 0 or (moments != "shared" and num_tasks < 1):
            raise ValueError(
                f"num_tasks={num_tasks} with moments={moments!r}: give the number of tasks, at "
                "least 1"
            )
        if num_tasks and kwargs.get("gradient_accumulation_steps"):
            raise ValueError(
                f"num_tasks={num_tasks} with gradient_accumulation_steps="
                f"{kwargs['gradient_accumulation_steps']}: an accumulated update would have "
                "several tasks. Use larger batches instead"
            )
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.decoupled_weight_decay = decoupled_weight_decay
        self.average_momentum = average_momentum
        self.num_tasks = num_tasks
        self.moments = moments
        self.learning_rate_factors = tuple((str(p), float(f)) for p, f in learning_rate_factors)
        self._averages: list[keras.Variable] = []

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self._rate_factors = rate_factors(variables, self.learning_rate_factors)
        if self.num_tasks:
            self._build_tasks()
        if self.moments == "per_task":
            self._momentums = [self._task_slot(v, "momentum") for v in variables]
            self._velocities = [self._task_slot(v, "velocity") for v in variables]
        else:
            self._momentums, self._velocities = self.add_optimizer_variables(
                variables, ["momentum", "velocity"]
            )
        if self.average_momentum:
            self._averages = self.add_optimizer_variables(variables, "average")

    def _build_tasks(self) -> None:
        kept = {"aggregation": "only_first_replica"}
        count = (self.num_tasks,)
        self._factors = self.add_variable(count, "ones", "float32", name="task_factors", **kept)
        self._updates = self.add_variable(count, "zeros", "int64", name="task_updates", **kept)
        self._plan = self.add_variable(
            (PLANNED_UPDATES,), "zeros", "int32", name="task_plan", **kept
        )
        self._plan_start = self.add_variable((), "zeros", "int64", name="task_plan_start", **kept)

    def _task_slot(self, variable: Any, name: str) -> Any:
        """Adds a slot [num_tasks, *variable.shape] on the variable's devices."""
        with self._distribution_strategy.extended.colocate_vars_with(variable.value):
            return self.add_variable(
                (self.num_tasks, *variable.shape),
                dtype=variable.dtype,
                name=f"{variable.path.replace('/', '_')}_{name}",
            )

    @property
    def averages(self) -> list[Any]:
        """Averages of the weights, in the order of the variables; empty if averaging is off."""
        return list(self._averages)

    @property
    def momentums(self) -> list[Any]:
        """First moments in the order of the variables; with `per_task`, axis 0 is the task."""
        return list(self._momentums)

    @property
    def velocities(self) -> list[Any]:
        """Second moments in the order of the variables; with `per_task`, axis 0 is the task."""
        return list(self._velocities)

    @property
    def factors(self) -> Any:
        """The factor of each task, a float32 variable [num_tasks]."""
        return self._factors

    @property
    def task_updates(self) -> Any:
        """The number of updates of each task so far, an int64 variable [num_tasks]."""
        return self._updates

    def set_factors(self, factors: Any) -> None:
        """Sets the factor of each task.

        Args:
            factors: float [num_tasks], >= 0.
        """
        self._factors.assign(ops.cast(factors, "float32"))

    def set_task(self, task: tf.Tensor) -> None:
        """Sets the task of all following updates.

        Args:
            task: int tensor [], the same on every replica.
        """
        self._plan.assign(tf.fill([PLANNED_UPDATES], tf.cast(task, tf.int32)))

    def plan_tasks(self, tasks: Sequence[int] | np.ndarray) -> None:
        """Sets the tasks of the next updates, starting at `iterations`.

        Use it for training steps that cannot call `set_task`, such as those of `model.fit`. Call it
        between training steps, and again after the last update of the plan.

        Args:
            tasks: ints [n], 1 <= n <= PLANNED_UPDATES.

        Raises:
            ValueError: the number of tasks is out of range.
        """
        if not 0 < len(tasks) <= PLANNED_UPDATES:
            raise ValueError(f"tasks has {len(tasks)} entries; give 1 to {PLANNED_UPDATES}")
        plan = np.full([PLANNED_UPDATES], tasks[-1], np.int32)
        plan[: len(tasks)] = tasks
        self._plan.assign(plan)
        self._plan_start.assign(self.iterations)

    def _task(self) -> Any:
        """Returns the task of the current update, int32 []."""
        place = tf.cast(tf.identity(self.iterations) - tf.identity(self._plan_start), tf.int32)
        return tf.gather(self._plan.value, tf.clip_by_value(place, 0, PLANNED_UPDATES - 1))

    def apply(
        self,
        grads: Sequence[tf.Tensor],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """Applies gradients; see `keras.optimizers.Optimizer.apply`."""
        if self.num_tasks and not self.built and trainable_variables is not None:
            self.build(list(trainable_variables))
        if self.num_tasks and self.built:
            # Counted before the update: the task's first update uses a count of 1.
            self._updates.assign_add(tf.one_hot(self._task(), self.num_tasks, dtype=tf.int64))
        super().apply(grads, trainable_variables)

    def update_step(self, gradient: tf.Tensor, variable: Any, learning_rate: tf.Tensor) -> None:
        dtype = variable.dtype
        learning_rate = ops.cast(learning_rate, dtype)
        gradient = tf.cast(tf.convert_to_tensor(gradient), dtype)
        step = ops.cast(self.iterations + 1, dtype)
        # A non-finite element makes the sum non-finite. One pass; testing each element takes three.
        valid = tf.math.is_finite(tf.reduce_sum(gradient))
        gradient = tf.where(valid, gradient, tf.zeros([], dtype))
        index = self._get_variable_index(variable)
        if self._rate_factors[index] != 1.0:
            learning_rate = learning_rate * self._rate_factors[index]
        updates = step
        if self.num_tasks:
            task = self._task()
            factor = ops.cast(tf.gather(self._factors.value, task), dtype)
            if self.moments != "scaled":
                learning_rate = learning_rate * factor
        if self.moments == "per_task":
            updates = ops.cast(tf.gather(self._updates.value, task), dtype)
        learning_rate = tf.where(valid, learning_rate, tf.zeros([], dtype))
        if self.decoupled_weight_decay and len(variable.shape) > 1:
            self.assign_sub(variable, learning_rate * self.decoupled_weight_decay * variable)
        # With a decay rate of 1, a moment does not change.
        beta_1, beta_2 = (
            tf.where(valid, tf.constant(beta, dtype), tf.ones([], dtype))
            for beta in (self.beta_1, self.beta_2)
        )
        power_1, power_2 = (
            ops.power(ops.cast(beta, dtype), updates) for beta in (self.beta_1, self.beta_2)
        )
        rate = learning_rate * ops.sqrt(1 - power_2) / (1 - power_1)
        betas = (beta_1, beta_2)
        if self.moments == "scaled":
            self._update_scaled(index, variable, gradient, rate, betas, factor)
        elif self.moments == "per_task":
            self._update_of_task(index, variable, gradient, rate, betas, task)
        else:
            self._update_shared(index, variable, gradient, learning_rate, betas, power_1, power_2)
        if self._averages:
            self._update_average(index, variable, step, valid)

    def _update_scaled(
        self,
        index: int,
        variable: keras.Variable,
        gradient: tf.Tensor,
        rate: tf.Tensor,
        betas: tuple[tf.Tensor, tf.Tensor],
        factor: tf.Tensor,
    ) -> None:
        momentum, velocity = self._momentums[index], self._velocities[index]
        new_momentum = momentum + (factor * gradient - momentum) * (1 - betas[0])
        new_velocity = velocity + (ops.square(gradient) - velocity) * (1 - betas[1])
        self.assign(momentum, new_momentum)
        self.assign(velocity, new_velocity)
        self.assign_sub(variable, rate * new_momentum / (ops.sqrt(new_velocity) + self.epsilon))

    def _update_of_task(
        self,
        index: int,
        variable: keras.Variable,
        gradient: tf.Tensor,
        rate: tf.Tensor,
        betas: tuple[tf.Tensor, tf.Tensor],
        task: tf.Tensor,
    ) -> None:
        momentum, velocity = self._momentums[index], self._velocities[index]
        # Gather and scatter only this task's slices, so an update costs the same as without tasks.
        old_momentum = tf.gather(momentum.value, task)
        old_velocity = tf.gather(velocity.value, task)
        new_momentum = old_momentum + (gradient - old_momentum) * (1 - betas[0])
        new_velocity = old_velocity + (ops.square(gradient) - old_velocity) * (1 - betas[1])
        self.assign(momentum, tf.IndexedSlices(new_momentum[None], task[None]))
        self.assign(velocity, tf.IndexedSlices(new_velocity[None], task[None]))
        self.assign_sub(variable, rate * new_momentum / (ops.sqrt(new_velocity) + self.epsilon))

    def _update_shared(
        self,
        index: int,
        variable: keras.Variable,
        gradient: tf.Tensor,
        learning_rate: tf.Tensor,
        betas: tuple[tf.Tensor, tf.Tensor],
        power_1: tf.Tensor,
        power_2: tf.Tensor,
    ) -> None:
        """Updates with a fused operation: one pass over weights, moments and gradient."""
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=power_1,
            beta2_power=power_2,
            lr=learning_rate,
            beta1=betas[0],
            beta2=betas[1],
            epsilon=tf.constant(self.epsilon, variable.dtype),
            grad=gradient,
        )

    def _update_average(
        self, index: int, variable: keras.Variable, step: tf.Tensor, valid: tf.Tensor
    ) -> None:
        average = self._averages[index]
        keep = ops.minimum(self.average_momentum, (step - 1) / (step + 9))
        # The first update always copies the weights, even if it is skipped, so that no average
        # stays at zero.
        keep = tf.where(valid | (step <= 1), keep, tf.ones([], variable.dtype))
        self.assign(average, keep * average + (1 - keep) * variable)

    def get_config(self) -> dict[str, Any]:
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
                "num_tasks": self.num_tasks,
                "moments": self.moments,
                "learning_rate_factors": self.learning_rate_factors,
            }
        )
        return config
