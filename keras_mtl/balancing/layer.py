"""A balancing method with its state in variables, for any training loop."""

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
    """Balances the tasks of a step.

    A layer without inputs: an attribute of a model, it is saved with the model's weights by Keras
    and by `tf.train.Checkpoint`. Its variables are the state of the method and the number of steps,
    which random draws depend on; a step whose losses or gradients are not finite changes neither.
    Build it under the strategy's scope.

    Args:
        method: registered name, for example `pcgrad`.
        num_tasks: int, number of tasks N.
        parameters: the method's parameters; None takes the defaults.
        seed: int, seed of random draws.
        name: name of the layer.

    Attributes:
        balancer: the `Balancer`.

    Raises:
        ConfigError: the method or a parameter is not known or out of range.
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
        # The state is float32 whatever the model computes in.
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
            # Every replica computes the same from what has been summed over all.
            aggregation="only_first_replica",
        )
        # A separate attribute: checkpoints of TensorFlow skip what is in a dict.
        setattr(self, f"state_{name}", variable)
        return variable

    def state(self) -> dict[str, tf.Tensor]:
        """The state of the method as it is now."""
        return {key: tf.convert_to_tensor(value) for key, value in self._state.items()}

    def seen(
        self,
        shares: tf.Tensor,
        losses: tf.Tensor | None = None,
        gram: tf.Tensor | None = None,
    ) -> Seen:
        """What this step has seen, with whatever stands in the place of absent tasks taken out."""
        present = shares > 0
        if losses is not None:
            losses = tf.where(present, losses, 1.0)
        if gram is not None:
            gram = tf.where(present[:, None] & present[None, :], gram, 0.0)
        return Seen(tf.convert_to_tensor(self._step), shares, losses, gram)

    def weights_of(self, seen: Seen) -> tf.Tensor:
        """Weight of each task in this step, float32 [N]; 0 for an absent task."""
        return tf.where(seen.present, self.balancer.weights(self.state(), seen), 0.0)

    def combine(
        self,
        parts: Sequence[tf.Tensor],
        assignment: tf.Tensor,
        shares: tf.Tensor,
        losses: tf.Tensor,
        shared: Sequence[bool] | None = None,
    ) -> tuple[list[tf.Tensor], tf.Tensor, Seen]:
        """Makes one gradient of those of P parts of a batch, each of one task.

        Args:
            parts: for each variable the gradients of the parts, float32 [P, ...].
            assignment: float32 [N, P]; Σ_p assignment[i, p] · part_p is task i's contribution
                q_i g_i to the plain step.
            shares: q, float32 [N], >= 0.
            losses: mean loss of each task, float32 [N].
            shared: for each variable whether all tasks share it; None: they share all.

        Returns:
            The gradient of each variable, the weights float32 [N], and what was seen, for `learn`.
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
        """Puts the state and the number of steps forward.

        Args:
            seen: with losses, and the Gram matrix where the method uses gradients.
            valid: bool []; False leaves everything as it is, as what is not finite does.
        """
        self._assign(self.balancer.update(self.state(), seen), valid & _finite(seen))
        self._step.assign_add(tf.cast(valid & _finite(seen), tf.int32))

    def look_back(
        self, seen: Seen, losses_after: tf.Tensor, valid: tf.Tensor | bool = True
    ) -> None:
        """Learns from the losses of the same batch after the update, where the method does.

        Args:
            seen: of the step, with its losses.
            losses_after: float32 [N].
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
        """Gradients of a step from the losses of all tasks; moves the state forward.

        Under a strategy call it in replica context. The losses are those of the replica's rows,
        scaled so that their sum over replicas is the loss of the task (Keras' loss objects do
        that), and so are the gradients: the optimizer sums them.

        Args:
            tape: `tf.GradientTape` that recorded the losses; `persistent=True` where the method
                uses gradients.
            losses: for each task a scalar, or a tensor [N]; what stands for a task with a share
                of 0 does not matter as long as it is finite.
            variables: variables of the model.
            shared: those of them that all tasks share; None: all.
            shares: q, float [N]; weights of the tasks in the plain step, 0 for absent ones; None:
                1 each, the plain step descends the sum of the losses.

        Returns:
            The gradients of the variables, and what was seen, for `look_back`.
        """
        if shares is None:
            shares = tf.ones([self.num_tasks])
        shares = tf.cast(shares, tf.float32)
        count = losses.shape[0] if tf.is_tensor(losses) else len(losses)
        if count != self.num_tasks:
            raise ValueError(f"{count} losses for {self.num_tasks} tasks; give one for each")
        values = [v.value if isinstance(v, keras.Variable) else v for v in variables]

        def pull(target: Any, factors: Any) -> list[tf.Tensor]:
            """Gradient of Σ factors · target, without an operation that the tape has not seen."""
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
        """The state and the number of steps as arrays; every axis is one of tasks."""
        arrays = {key: np.asarray(value.numpy()) for key, value in self._state.items()}
        return {"step": np.asarray(self._step.numpy()), **arrays}

    def load_state_dict(
        self, arrays: Mapping[str, np.ndarray], index_map: np.ndarray | None = None
    ) -> None:
        """Takes up a saved state, also another method's or one of other tasks.

        Tasks that were known keep what the state says of them, new ones start afresh, and so does
        an entry that the saved state has not.

        Args:
            arrays: from `state_dict`.
            index_map: int64 [N], the old index of each present task, -1 for a new one; None: the
                tasks are the same.

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
                        f"{np.shape(saved)}, the task list saved with it has at least "
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
    """Inner products of P gradients over all variables.

    Args:
        parts: for each variable float32 [P, ...]; at least one.

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
    """Sum over the replicas of the strategy; call it in replica context.

    Args:
        value: tensor or structure of tensors.

    Returns:
        The same structure.
    """
    if _replicas() == 1:
        return value
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)
