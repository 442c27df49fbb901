"""A Keras layer that holds a balancing method and its state, for any training loop."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_mtl.balancing.base import GRADIENTS, Combiner, Seen
from keras_mtl.balancing.registry import create
from keras_mtl.errors import CheckpointError


@keras.saving.register_keras_serializable(package="keras_mtl")
class Balancing(keras.layers.Layer):
    """Combines the losses or gradients of the tasks of a step by a balancing method.

    The layer has no inputs. As an attribute of a model it is saved with the model's weights, by
    Keras and by `tf.train.Checkpoint`. Its variables are the state of the method and the number of
    steps, on which random draws depend. A step whose losses or gradients are not finite changes
    neither. Create the layer in the scope of the strategy.

    Args:
        method: registered name, for example `pcgrad`.
        num_tasks: number of tasks N, >= 1.
        parameters: parameters of the method; None takes the defaults.
        seed: seed of random draws.
        name: name of the layer.
        **kwargs: arguments of `keras.layers.Layer`; the dtype is always float32.

    Attributes:
        balancer: the `Balancer`.

    Raises:
        ConfigError: the method is unknown, or a parameter is unknown or out of range.

    Example:
        ```python
        import keras
        import tensorflow as tf
        from keras_mtl import Balancing

        dense = keras.layers.Dense(2)
        dense.build((None, 3))
        balancing = Balancing("pcgrad", num_tasks=2)
        optimizer = keras.optimizers.SGD(0.1)
        with tf.GradientTape(persistent=True) as tape:
            outputs = dense(tf.ones([4, 3]))
            losses = [tf.reduce_mean((outputs[:, 0] - 1) ** 2), tf.reduce_mean(outputs[:, 1] ** 2)]
        variables = dense.trainable_variables
        gradients, seen = balancing.gradients(tape, losses, variables)
        optimizer.apply_gradients(zip(gradients, variables))
        ```
    """

    def __init__(
        self,
        method: str,
        num_tasks: int,
        parameters: Mapping[str, Any] | None = None,
        seed: int = 0,
        name: str = "balancing",
        **kwargs: Any,
    ) -> None:
        # The state is float32 under every dtype policy.
        super().__init__(name=name, trainable=False, **{**kwargs, "dtype": "float32"})
        self.method = method
        self.num_tasks = num_tasks
        self.parameters = dict(parameters or {})
        self.seed = seed
        self.balancer = create(method, num_tasks, seed, **self.parameters)
        self._step = self._variable("step", np.zeros([], np.int32))
        self._state = {
            key: self._variable(key, value) for key, value in self.balancer.init().items()
        }
        self.built = True

    def _variable(self, name: str, value: np.ndarray) -> keras.Variable:
        variable = self.add_weight(
            name=name,
            shape=value.shape,
            dtype=value.dtype.name,
            initializer=keras.initializers.Constant(value),
            trainable=False,
            autocast=False,
            # Every replica computes the same values from sums over all replicas.
            aggregation="only_first_replica",
        )
        # A separate attribute, because TensorFlow's checkpoints skip variables in a dict.
        setattr(self, f"state_{name}", variable)
        return variable

    def state(self) -> dict[str, tf.Tensor]:
        """Returns the current state of the method as tensors by name."""
        return {key: tf.convert_to_tensor(value) for key, value in self._state.items()}

    def seen(
        self,
        shares: tf.Tensor,
        losses: tf.Tensor | None = None,
        gram: tf.Tensor | None = None,
    ) -> Seen:
        """Returns the data of this step, with neutral values for absent tasks.

        Args:
            shares: float32 [N], >= 0; 0 for an absent task.
            losses: float32 [N], mean loss of each task, or None.
            gram: float32 [N, N], inner products of the gradients of the losses, or None.

        Returns:
            A `Seen`.
        """
        present = shares > 0
        if losses is not None:
            losses = tf.where(present, losses, 1.0)
        if gram is not None:
            gram = tf.where(present[:, None] & present[None, :], gram, 0.0)
        return Seen(tf.convert_to_tensor(self._step), shares, losses, gram)

    def weights_of(self, seen: Seen) -> tf.Tensor:
        """Returns the weight of each task in this step, float32 [N]; 0 for an absent task."""
        return tf.where(seen.present, self.balancer.weights(self.state(), seen), 0.0)

    def combine(
        self,
        parts: Sequence[tf.Tensor],
        assignment: tf.Tensor,
        shares: tf.Tensor,
        losses: tf.Tensor,
        shared: Sequence[bool] | None = None,
    ) -> tuple[list[tf.Tensor], tf.Tensor, Seen]:
        """Combines the gradients of P parts of a batch, each of one task, into one gradient.

        Args:
            parts: the gradients of the parts for each variable, float32 [P, ...].
            assignment: float32 [N, P]; Σ_p assignment[i, p] · part_p is the contribution q_i g_i of
                task i to the plain step.
            shares: q, float32 [N], >= 0.
            losses: mean loss of each task, float32 [N].
            shared: whether all tasks share each variable; None means that they share all.

        Returns:
            The gradient of each variable, the weights, float32 [N], and the data of the step, for
            `learn`.
        """
        shared = [True] * len(parts) if shared is None else list(shared)
        seen = self.seen(shares, losses)
        combiner = self.balancer if isinstance(self.balancer, Combiner) else None
        if self.balancer.uses == GRADIENTS and combiner is None:
            products = gram_matrix(
                [part for part, is_shared in zip(parts, shared, strict=True) if is_shared]
            )
            means = tf.math.divide_no_nan(assignment, shares[:, None])
            gram = tf.matmul(means, tf.matmul(products, means, transpose_b=True))
            seen = self.seen(shares, losses, gram)
        weights = self.weights_of(seen)
        plain = tf.reduce_sum(assignment, axis=0)
        weighted = tf.reduce_sum(weights[:, None] * assignment, axis=0)
        gradients = []
        for number, (part, is_shared) in enumerate(zip(parts, shared, strict=True)):
            if self.balancer.shared_only and not is_shared:
                gradient = tf.tensordot(plain, part, 1)
            elif combiner is not None:
                contributions = tf.tensordot(assignment, part, 1)
                gradient = combiner.combine(contributions, seen, number)
            else:
                gradient = tf.tensordot(weighted, part, 1)
            gradients.append(gradient)
        return gradients, weights, seen

    def learn(self, seen: Seen, valid: tf.Tensor | bool = True) -> None:
        """Updates the state and counts the step.

        Args:
            seen: data of the step, with losses, and with the Gram matrix if the method uses
                gradients. If they are not finite, nothing changes.
            valid: bool []; if False, nothing changes.
        """
        self._assign(self.balancer.update(self.state(), seen), valid & _finite(seen))
        self._step.assign_add(tf.cast(valid & _finite(seen), tf.int32))

    def look_back(
        self, seen: Seen, losses_after: tf.Tensor, valid: tf.Tensor | bool = True
    ) -> None:
        """Updates the state from the losses of the same batch after the update of the model.

        It has an effect only if `balancer.looks_back` is true.

        Args:
            seen: data of the step, with its losses.
            losses_after: float32 [N], losses of the same batch with the updated model.
            valid: as for `learn`.
        """
        losses_after = tf.where(seen.present, losses_after, 1.0)
        valid &= _finite(seen) & tf.reduce_all(tf.math.is_finite(losses_after))
        self._assign(self.balancer.update_after(self.state(), seen, losses_after), valid)

    def gradients(
        self,
        tape: tf.GradientTape,
        losses: Any,
        variables: Sequence[Any],
        shared: Sequence[Any] | None = None,
        shares: tf.Tensor | Sequence[float] | None = None,
    ) -> tuple[list[tf.Tensor], Seen]:
        """Returns the gradients of a step from the losses of all tasks, and updates the state.

        With a strategy, call it in replica context. The losses are those of the replica's rows,
        scaled so that their sum over replicas is the loss of the task, as Keras' loss objects do.
        The gradients are scaled in the same way, because the optimizer sums them.

        Args:
            tape: `tf.GradientTape` that recorded the losses; it must be `persistent=True` if the
                method uses gradients.
            losses: a scalar for each task, or a tensor [N]. The value for a task with a share of 0
                is ignored, but must be finite.
            variables: variables of the model.
            shared: variables that all tasks share; None means all.
            shares: q, float [N], weights of the tasks in the plain step, 0 for absent tasks. None
                means 1 for each task, so that the plain step descends the sum of the losses.

        Returns:
            The gradients of the variables, and the data of the step, for `look_back`.

        Raises:
            ValueError: the number of losses is not the number of tasks.
        """
        if shares is None:
            shares = tf.ones([self.num_tasks])
        shares = tf.cast(shares, tf.float32)
        count = losses.shape[0] if tf.is_tensor(losses) else len(losses)
        if count != self.num_tasks:
            raise ValueError(f"{count} losses for {self.num_tasks} tasks; give one for each")
        values = [v.value if isinstance(v, keras.Variable) else v for v in variables]

        def pull(target: Any, factors: Any) -> list[tf.Tensor]:
            """Returns the gradient of Σ factors · target, using only operations on the tape."""
            return tape.gradient(
                target,
                values,
                output_gradients=factors,
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )

        if tf.is_tensor(losses):
            totals = tf.cast(losses, tf.float32)
        else:
            totals = tf.stack([tf.cast(loss, tf.float32) for loss in losses])
        totals = sum_over_replicas(totals)
        seen = self.seen(shares, totals)
        if self.balancer.uses != GRADIENTS:
            factors = shares * self.weights_of(seen)
            if not tf.is_tensor(losses):
                pairs = zip(tf.unstack(factors), losses, strict=True)
                factors = [tf.cast(factor, loss.dtype) for factor, loss in pairs]
            gradients = pull(losses, factors)
        else:
            if tf.is_tensor(losses):
                rows = np.eye(self.num_tasks)
                by_task = [pull(losses, tf.constant(row, losses.dtype)) for row in rows]
            else:
                by_task = [pull(loss, None) for loss in losses]
            parts = [tf.stack(list(part)) for part in zip(*by_task, strict=True)]
            parts = [sum_over_replicas(part) for part in parts]
            chosen = None if shared is None else {id(variable) for variable in shared}
            is_shared = [chosen is None or id(variable) in chosen for variable in variables]
            gradients, _, seen = self.combine(
                parts, tf.linalg.diag(shares), shares, totals, is_shared
            )
            gradients = [gradient / _replicas() for gradient in gradients]
        self.learn(seen)
        return gradients, seen

    def state_dict(self) -> dict[str, np.ndarray]:
        """Returns the state and the number of steps as arrays; all axes are axes of tasks."""
        arrays = {key: np.asarray(value.numpy()) for key, value in self._state.items()}
        return {"step": np.asarray(self._step.numpy()), **arrays}

    def load_state_dict(
        self, arrays: Mapping[str, np.ndarray], index_map: np.ndarray | None = None
    ) -> None:
        """Restores a saved state, possibly of another method or other tasks.

        Known tasks keep their values. New tasks, and entries that the saved state does not have,
        start as in `Balancer.init`.

        Args:
            arrays: from `state_dict`.
            index_map: int64 [N], the old index of each present task, -1 for a new one; None means
                that the tasks are the same.

        Raises:
            CheckpointError: an array does not fit the map.
        """
        if index_map is None:
            index_map = np.arange(self.num_tasks)
        kept = np.flatnonzero(index_map >= 0)
        old = index_map[kept]
        if "step" in arrays:
            self._step.assign(arrays["step"])
        for key, value in self.balancer.init().items():
            saved = arrays.get(key)
            if saved is not None and np.ndim(saved) == value.ndim:
                if old.size and min(np.shape(saved), default=math.inf) <= old.max():
                    raise CheckpointError(
                        f"balancing {self.method!r}: the saved {key!r} has shape "
                        f"{np.shape(saved)}, but the saved list of tasks has at least "
                        f"{old.max() + 1} tasks; the checkpoint is damaged: resume from an earlier "
                        "one"
                    )
                value[np.ix_(*[kept] * value.ndim)] = saved[np.ix_(*[old] * value.ndim)]
            self._state[key].assign(value)

    def _assign(self, new: Mapping[str, tf.Tensor], valid: tf.Tensor) -> None:
        for key, value in new.items():
            variable = self._state[key]
            variable.assign(tf.where(valid, value, tf.convert_to_tensor(variable)))

    def get_config(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "num_tasks": self.num_tasks,
            "parameters": self.parameters,
            "seed": self.seed,
            "name": self.name,
        }


def gram_matrix(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the inner products of P gradients over all variables.

    Args:
        parts: the gradients for each variable, float32 [P, ...]; at least one variable.

    Returns:
        float32 [P, P].
    """
    products = []
    for part in parts:
        flat = tf.reshape(part, [part.shape[0], -1])
        products.append(tf.matmul(flat, flat, transpose_b=True))
    return tf.add_n(products)


def _finite(seen: Seen) -> tf.Tensor:
    finite = tf.constant(True)
    for values in (seen.losses, seen.gram):
        if values is not None:
            finite &= tf.reduce_all(tf.math.is_finite(values))
    return finite


def _replicas() -> int:
    return tf.distribute.get_strategy().num_replicas_in_sync


def sum_over_replicas(value: Any) -> Any:
    """Returns the sum over the replicas of the strategy; call it in replica context.

    Args:
        value: tensor or structure of tensors.

    Returns:
        The same structure.
    """
    if _replicas() == 1:
        return value
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)
