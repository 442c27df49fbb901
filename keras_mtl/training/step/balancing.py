"""Balancing of tasks in the training step: computes the required gradients at the lowest cost."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mtl.balancing import Balancing, create, sum_over_replicas
from keras_mtl.balancing.base import GRADIENTS, LOSSES, STATE, Seen
from keras_mtl.configuration.components import UnknownName
from keras_mtl.configuration.schema import BalancingConfig
from keras_mtl.errors import ConfigError
from keras_mtl.training.step.batches import columns_of
from keras_mtl.training.step.update_plan import UpdatePlan


def check_balancing(settings: BalancingConfig, plan: UpdatePlan) -> None:
    """Checks the method of `trainer.balancing` and whether the updates provide its inputs.

    Args:
        settings: the section `trainer.balancing`.
        plan: the plan of the updates.

    Raises:
        ConfigError: the method or a parameter is invalid, or an update has nothing to balance.
    """
    if not settings.name:
        return
    count = plan.num_tasks
    try:
        balancer = create(settings.name, count, **settings.parameters)
    except UnknownName as error:
        raise ConfigError(f"trainer.balancing.name {error.text}") from error
    except ConfigError as error:
        raise ConfigError(f"trainer.balancing.parameters: {error}") from error
    if balancer.uses != STATE and not plan.mixed and plan.accumulation == 1:
        raise ConfigError(
            f"trainer.balancing.name = {settings.name!r} compares the tasks of an update, but "
            "every update has one batch of one task. Set "
            f"trainer.optimizer.gradient_accumulation_steps: {count} (then the gradient of each "
            "task costs nothing extra), or task.data.granularity: example"
        )


def check_shared_variables(
    settings: BalancingConfig, model: Any, trained: Sequence[Any], num_tasks: int
) -> None:
    """Checks that a method that compares gradients has variables whose gradients it can compare.

    Args:
        settings: the section `trainer.balancing`.
        model: the model, with frozen variables.
        trained: for each trainable variable which tasks train it; None: all do.
        num_tasks: number of tasks.

    Raises:
        ConfigError: no variable is trained by all tasks.
    """
    if not settings.name:
        return
    owners = zip(model.variable_decoder_index(), trained, strict=True)
    if any(owner is None and row is None for owner, row in owners):
        return
    try:
        uses = create(settings.name, num_tasks, **settings.parameters).uses
    except ConfigError:
        return  # `check_balancing` reports this.
    if uses == GRADIENTS:
        raise ConfigError(
            f"trainer.balancing.name = {settings.name!r} compares the gradients of variables that "
            "all tasks train, but there are none: trainer.freeze, task.pairs[].train_only and "
            "task.model.sharing leave only variables of single tasks. Leave it empty"
        )


def build_balancing(settings: BalancingConfig, num_tasks: int, seed: int) -> Balancing | None:
    """Creates the method of `trainer.balancing`. Call it in the strategy's scope."""
    if not settings.name:
        return None
    return Balancing(settings.name, num_tasks, settings.parameters, seed=seed)


def collect(balancing: Balancing | None) -> dict[str, np.ndarray]:
    """Returns the state of balancing for a checkpoint: arrays by name."""
    if balancing is None:
        return {}
    prefix = f"balancing/{balancing.method}/"
    return {f"{prefix}{name}": value for name, value in balancing.state_dict().items()}


def restore(
    balancing: Balancing | None, arrays: Mapping[str, np.ndarray], index_map: np.ndarray
) -> None:
    """Restores the state from `collect`; a method that has changed keeps its initial state.

    Args:
        balancing: the method; None restores nothing.
        arrays: arrays of the checkpoint; those of other objects are ignored.
        index_map: int64 [num_tasks], the saved index of each current task, -1 for a new one.

    Raises:
        CheckpointError: the shape of an array does not match the map.
    """
    if balancing is None:
        return
    prefix = f"balancing/{balancing.method}/"
    own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    balancing.load_state_dict(own, index_map)


def mean_weights(
    sums: Mapping[str, np.ndarray], task_names: Sequence[str]
) -> dict[str, float] | None:
    """Returns the mean weight of each task over the steps that had it; None without balancing.

    Args:
        sums: sums of a loop, from the trainer; with balancing they include `weights` and
            `weighted_steps`.
        task_names: names of the tasks, in their order.
    """
    if "weights" not in sums:
        return None
    counts = sums["weighted_steps"]
    return {
        name: float(sums["weights"][task] / counts[task])
        for task, name in enumerate(task_names)
        if counts[task] > 0
    }


class BalancedStep:
    """Computes the gradient of an update from the batches of several tasks.

    Methods that depend only on their state weight the losses before a single backward pass. Other
    methods need the gradient of each task. If each accumulated batch has one task, these gradients
    are already available; if batches are mixed, one forward pass is followed by one backward pass
    per task. FAMO needs only the losses: on one device without accumulation, it needs a single
    backward pass.

    Args:
        balancing: the method and its state.
        trainer: the trainer, with `model`, `strategy`, `accumulation`, `rows_of_batch`,
            `sums_of_rows`, `gradients_of_batch` and `present_loss_scale`.
        mixed: whether a batch has several tasks.
        jit_compile: whether to compile forward and backward passes with XLA.
    """

    def __init__(self, balancing: Balancing, trainer: Any, mixed: bool, jit_compile: bool) -> None:
        self.balancing = balancing
        self.num_tasks = balancing.num_tasks
        self._trainer = trainer
        self._mixed = mixed
        uses = balancing.balancer.uses
        one_pass = mixed and trainer.accumulation == trainer.strategy.num_replicas_in_sync == 1
        self._inside = uses == LOSSES and one_pass
        self._apart = uses != STATE and not self._inside
        owners = zip(trainer.model.variable_decoder_index(), trainer.trained_by, strict=True)
        self._shared = [owner is None and row is None for owner, row in owners]
        jit = jit_compile or None
        self._whole = tf.function(self._gradients, jit_compile=jit, autograph=False)
        self._by_task = tf.function(self._gradients_by_task, jit_compile=jit, autograph=False)
        self._sums = tf.function(self._sums_of_batch, jit_compile=jit, autograph=False)

    @property
    def looks_back(self) -> bool:
        """Whether an update ends with `look_back`."""
        return self.balancing.balancer.looks_back

    @property
    def stacks(self) -> bool:
        """Whether the gradients of an update's batches are stacked instead of summed."""
        return self._apart and not self._mixed

    def leading_shape(self, accumulation: int) -> tuple[int, ...]:
        """Returns the axes of an update's gradients before those of the variables."""
        if not self._apart:
            return ()
        return (self.num_tasks if self._mixed else accumulation,)

    def gradients_of_batch(self, batch: dict[str, tf.Tensor], scales: tf.Tensor) -> Any:
        """Computes a batch's part of the gradients of an update; the state does not change.

        Args:
            batch: the replica's batch, a dict with `source`, `target` and `task`.
            scales: float32 [num_tasks], the schedule's factors on the losses.

        Returns:
            The gradients of the sum over the replica's tokens, with a leading axis of tasks if the
            batch is of several and they are kept apart; the sums by task.
        """
        loss_scale = self._trainer.present_loss_scale()
        if self._apart:
            compute = self._by_task if self._mixed else self._whole
            return compute(columns_of(batch), scales, loss_scale)
        factors = scales
        if not self._inside:
            all_present = self.balancing.seen(tf.ones([self.num_tasks]))
            factors = scales * self.balancing.weights_of(all_present)
        return self._whole(columns_of(batch), factors, loss_scale)

    def merge(self, found: Sequence[Any]) -> Any:
        """Merges what `gradients_of_batch` returned for each batch of an update.

        Returns:
            Gradients, summed or stacked, and sums.
        """
        gradients, sums = zip(*found, strict=True)
        return (
            [_merged(parts, self.stacks) for parts in zip(*gradients, strict=True)],
            tf.nest.map_structure(lambda *parts: tf.add_n(parts), *sums),
        )

    def update_gradients(
        self, gradients: Sequence[tf.Tensor], sums: Any, tasks: tf.Tensor, scales: tf.Tensor
    ) -> Any:
        """Computes the gradient of an update; the state does not change.

        Args:
            gradients: from `merge`.
            sums: from `merge`.
            tasks: int32 [accumulation], the task of each batch if each is of one.
            scales: float32 [num_tasks], the schedule's factors on the losses.

        Returns:
            The gradients of the sum over tokens, summed over replicas; the weights of the tasks,
            float32 [num_tasks], 0 for an absent one; what was seen.
        """
        seen = self._seen(sum_over_replicas([sums["loss"], sums["tokens"]]), scales)
        gradients = sum_over_replicas(gradients)
        if not self._apart:
            return gradients, self.balancing.weights_of(seen), seen
        if self._mixed:
            assignment = tf.eye(self.num_tasks)
        else:
            assignment = tf.one_hot(tasks, self.num_tasks, axis=0)
        return self.balancing.combine(gradients, assignment, seen.shares, seen.losses, self._shared)

    def learn(self, seen: Seen, valid: tf.Tensor) -> dict[str, tf.Tensor]:
        """Advances the state, after the weights of the model are updated.

        Args:
            seen: from `update_gradients`.
            valid: bool [], whether the update was made.

        Returns:
            What `look_back` needs.
        """
        self.balancing.learn(seen, valid)
        known = {field.name: getattr(seen, field.name) for field in dataclasses.fields(seen)}
        return {name: value for name, value in known.items() if value is not None} | {
            "valid": valid
        }

    def look_back(self, outcome: dict[str, tf.Tensor], sums: Any) -> None:
        """Learns from the losses of the same batches after the update.

        Args:
            outcome: from `learn`.
            sums: losses and tokens of the replica's batches by task, each float32 [num_tasks].
        """
        known = dict(outcome)
        valid = known.pop("valid")
        loss, tokens = sum_over_replicas(list(sums))
        self.balancing.look_back(Seen(**known), tf.math.divide_no_nan(loss, tokens), valid)

    def _seen(self, totals: Any, scales: tf.Tensor) -> Any:
        """Returns the observations: mean losses, and as shares the tokens times the factors."""
        loss, tokens = totals
        return self.balancing.seen(scales * tokens, tf.math.divide_no_nan(loss, tokens))

    def _gradients(
        self,
        batch: dict[str, tf.Tensor],
        scales: tf.Tensor,
        loss_scale: tf.Tensor | None,
    ) -> Any:
        reweight = self._reweight if self._inside else None
        return self._trainer.gradients_of_batch(batch, scales, loss_scale, reweight)

    def _reweight(self, sums: Any, scales: tf.Tensor) -> Any:
        """Returns the factors of the losses, computed from the losses."""
        return scales * self.balancing.weights_of(
            self._seen([sums["loss"], sums["tokens"]], scales)
        )

    def _gradients_by_task(
        self,
        batch: dict[str, tf.Tensor],
        scales: tf.Tensor,
        loss_scale: tf.Tensor | None,
    ) -> Any:
        """Same as the trainer's `gradients_of_batch`, but [num_tasks, ...] for each variable."""
        variables = [variable.value for variable in self._trainer.model.trainable_variables]
        with tf.GradientTape(persistent=True) as tape:
            rows = self._trainer.rows_of_batch(batch)
            scaled = rows["loss"] * tf.gather(scales, batch["task"])
            if loss_scale is not None:
                scaled *= loss_scale
        by_task = [
            tape.gradient(
                scaled,
                variables,
                output_gradients=tf.cast(batch["task"] == task, tf.float32),
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            for task in range(self.num_tasks)
        ]
        # convert_to_tensor makes the sparse gradients of embeddings dense.
        gradients = [
            tf.stack([tf.convert_to_tensor(g) for g in part]) for part in zip(*by_task, strict=True)
        ]
        if loss_scale is not None:
            gradients = [gradient / loss_scale for gradient in gradients]
        return gradients, self._trainer.sums_of_rows(rows, batch)

    def sums_of_batch(self, batch: dict[str, tf.Tensor]) -> Any:
        """Returns losses and tokens of a batch by task, each float32 [num_tasks]."""
        return self._sums(columns_of(batch))

    def _sums_of_batch(self, batch: dict[str, tf.Tensor]) -> Any:
        rows = self._trainer.rows_of_batch(batch)
        sums = self._trainer.sums_of_rows(rows, batch)
        return sums["loss"], sums["tokens"]


def _merged(parts: Sequence[tf.Tensor], stack: bool) -> tf.Tensor:
    return tf.stack(list(parts)) if stack else tf.add_n(list(parts))
