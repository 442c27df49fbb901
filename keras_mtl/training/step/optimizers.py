"""Adam for the custom loop: skips what has no valid gradient, averages the weights on the way."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_mtl.errors import nearest

#: Whether the tasks share Adam's moments; whether the first of them takes each gradient times its
#: task's factor; or whether each task has its own moments.
MOMENTS = ("shared", "scaled", "per_task")
#: Number of updates whose tasks `Adam.plan_tasks` can set at once.
PLANNED_UPDATES = 512


@keras.saving.register_keras_serializable(package="keras_mtl")
class Adam(keras.optimizers.Optimizer):
    """Adam (arXiv 1412.6980) with decoupled weight decay, masked updates and an average of weights.

    A gradient with an element that is not finite leaves its variable, moments and average
    untouched. The training step relies on this twice: a step with a non-finite norm is turned to
    NaN as a whole and so is skipped, and the gradients of decoders that a batch does not use are
    set to NaN, because a zero gradient would still move them by their momentum. The rule is
    arithmetic, so it compiles and survives the sum over replicas, which a condition around
    `apply` does not.

    Gradients must arrive clipped and summed: Keras clips before the sum over replicas, which is
    another norm, so its clipping arguments are refused here.

    With `num_tasks` every update belongs to one task, which has a factor (`set_factors`). What
    the factor multiplies depends on `moments`:

    * `scaled`: what the task's gradient adds to the first moment, while the second takes the
      gradient as it is. Sums of updates are then weighted by the factors, as those of plain SGD
      with a learning rate for each task are.
    * `shared`: the update, most of which is the momentum of other tasks.
    * `per_task`: the update, which moves the weights by only the moments of its own task,
      corrected for how many updates that task has had: each task is trained by its own Adam, on
      common weights. If a task comes up every N updates, its momentum is N times as old.

    The caller says whose gradients it applies: `set_task` inside a training step, `plan_tasks`
    outside of it.

    Memory: two arrays of each weight's shape, `2 * num_tasks` with moments per task; an update
    reads and writes only those of its task.

    Args:
        learning_rate: float or `keras.optimizers.schedules.LearningRateSchedule`.
        beta_1: float in [0, 1), decay of the first moment.
        beta_2: float in [0, 1), decay of the second moment.
        epsilon: float > 0, added to the root of the second moment.
        decoupled_weight_decay: float >= 0; weights of rank 2 and more lose `learning_rate` times
            this share of themselves at each update (arXiv 1711.05101).
        average_momentum: float in [0, 1); > 0 keeps an exponential average of the weights with
            momentum `min(average_momentum, t / (t + 10))` at update t, so that the first values
            do not stay in it.
        num_tasks: int >= 0, number of tasks; 0 knows of no tasks.
        moments: `shared`, `scaled` or `per_task`; the last two need `num_tasks`.
        name: name of the optimizer.
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
        name: str = "adam",
        **kwargs: Any,
    ) -> None:
        for refused in ("clipnorm", "clipvalue", "global_clipnorm", "use_ema"):
            if kwargs.get(refused):
                raise ValueError(
                    f"{refused}={kwargs[refused]!r} is not supported by keras_mtl's Adam; clip in "
                    "the training step, average with average_momentum"
                )
        if moments not in MOMENTS:
            raise ValueError(f"moments={moments!r}{nearest(str(moments), MOMENTS)}")
        if num_tasks < 0 or (moments != "shared" and num_tasks < 1):
            raise ValueError(
                f"num_tasks={num_tasks} with moments={moments!r}: give the number of tasks, >= 1"
            )
        if num_tasks and kwargs.get("gradient_accumulation_steps"):
            raise ValueError(
                f"num_tasks={num_tasks} with gradient_accumulation_steps="
                f"{kwargs['gradient_accumulation_steps']}: an accumulated update is of several "
                "tasks; take larger batches instead"
            )
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.decoupled_weight_decay = decoupled_weight_decay
        self.average_momentum = average_momentum
        self.num_tasks = num_tasks
        self.moments = moments
        self._averages: list[keras.Variable] = []

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
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
        """Adds a slot [num_tasks, *shape of the variable] on the variable's devices."""
        with self._distribution_strategy.extended.colocate_vars_with(variable.value):
            return self.add_variable(
                (self.num_tasks, *variable.shape),
                dtype=variable.dtype,
                name=f"{variable.path.replace('/', '_')}_{name}",
            )

    @property
    def averages(self) -> list[Any]:
        """Averages of the weights, in the order of the variables; empty when off."""
        return list(self._averages)

    @property
    def momentums(self) -> list[Any]:
        """First moments in the order of the variables; per task with a leading axis of tasks."""
        return list(self._momentums)

    @property
    def velocities(self) -> list[Any]:
        """Second moments in the order of the variables; per task with a leading axis of tasks."""
        return list(self._velocities)

    @property
    def factors(self) -> Any:
        """Factor of each task, float32 variable [num_tasks]."""
        return self._factors

    @property
    def task_updates(self) -> Any:
        """Updates of each task so far, int64 variable [num_tasks]."""
        return self._updates

    def set_factors(self, factors: Any) -> None:
        """Sets the factor of each task, float [num_tasks] >= 0."""
        self._factors.assign(ops.cast(factors, "float32"))

    def set_task(self, task: tf.Tensor) -> None:
        """Sets the task of all further updates.

        Args:
            task: int tensor [], the same on every replica.
        """
        self._plan.assign(tf.fill([PLANNED_UPDATES], tf.cast(task, tf.int32)))

    def plan_tasks(self, tasks: Sequence[int] | np.ndarray) -> None:
        """Sets the tasks of the next updates, counted from `iterations`.

        For training steps that cannot call `set_task`, such as those of `model.fit`. Call it
        outside of them, and again after the last update of the plan.

        Args:
            tasks: ints [n], 1 <= n <= PLANNED_UPDATES.
        """
        if not 0 < len(tasks) <= PLANNED_UPDATES:
            raise ValueError(f"a plan of {len(tasks)} updates; it may have 1 to {PLANNED_UPDATES}")
        plan = np.full([PLANNED_UPDATES], tasks[-1], np.int32)
        plan[: len(tasks)] = tasks
        self._plan.assign(plan)
        self._plan_start.assign(self.iterations)

    def _task(self) -> Any:
        """Returns the task of the present update, int32 []."""
        place = tf.cast(tf.identity(self.iterations) - tf.identity(self._plan_start), tf.int32)
        return tf.gather(self._plan.value, tf.clip_by_value(place, 0, PLANNED_UPDATES - 1))

    def apply(
        self,
        grads: Sequence[tf.Tensor],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """Applies gradients; see Keras."""
        if self.num_tasks and not self.built and trainable_variables is not None:
            self.build(list(trainable_variables))
        if self.num_tasks and self.built:
            # Before the update, which is the task's first when the count is 1.
            self._updates.assign_add(tf.one_hot(self._task(), self.num_tasks, dtype=tf.int64))
        super().apply(grads, trainable_variables)

    def update_step(self, gradient: tf.Tensor, variable: Any, learning_rate: tf.Tensor) -> None:
        dtype = variable.dtype
        learning_rate = ops.cast(learning_rate, dtype)
        gradient = tf.cast(tf.convert_to_tensor(gradient), dtype)
        step = ops.cast(self.iterations + 1, dtype)
        # One value that is not finite shows in the sum; one pass, where a test of each takes three.
        valid = tf.math.is_finite(tf.reduce_sum(gradient))
        gradient = tf.where(valid, gradient, tf.zeros([], dtype))
        index = self._get_variable_index(variable)
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
        # With a decay of 1 a moment stays as it is.
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
        # Gathered and scattered, never read whole: an update costs what it does without tasks.
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
        """The same in one pass over weights, moments and gradient."""
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
        # The first update copies the weights, whatever it skips, so no average stays at zero.
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
            }
        )
        return config
